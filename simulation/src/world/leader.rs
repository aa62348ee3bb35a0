//! What a node does while it believes that it leads: fills the wheel, proposes what is due, keeps leases.
//!
//! A compact stand-in for the actors, without mailboxes; the second tier runs the real ones. Like theirs, the wheel is
//! filled from the last settled instants after a read barrier, and a proposal without a visible effect is made again.

use std::collections::BTreeMap;

use escapement_domain::command::{Due, Request};
use escapement_domain::event::Event;
use escapement_domain::execution::state::Stage;
use escapement_domain::identifier::{ExecutionId, Incarnation, NodeId};
use escapement_domain::limits::STAGE_LIFETIME;
use escapement_domain::record::Record;
use escapement_domain::replica::Replica;
use escapement_domain::replica::placement::Condition;
use escapement_domain::schedule::jitter_of;
use escapement_domain::task::plan::{Timetable, due};
use escapement_domain::task::rules::Timing;
use escapement_domain::task::state::{Phase, Task};
use escapement_domain::timestamp::{Span, Timestamp};
use escapement_domain::wheel::Wheel;

use crate::plants::{Plant, Planted};
use crate::profile::{CLOCK_TOLERANCE_MS, LEASE_MS, WINDOW_MS};

/// A node's dispatcher and its start.
pub(super) type WorkerKey = (NodeId, Incarnation);

/// A proposal whose effect is not seen is made again after so long, in ms.
const AGAIN_MS: u64 = 700;
/// Instants of one task in one batch.
const INSTANTS_MAX: usize = 16;

/// Something to propose.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What.
    pub(super) request: Request,
    /// Whether it must not be committed under any other term: a loss rests on what this leader granted.
    pub(super) bound: bool,
}

/// The leader of a term, or a node that believes it is.
#[derive(Debug)]
pub(super) struct Leader {
    /// The term.
    pub(super) term: u64,
    /// The entry up to which the replica must have applied the log first.
    pub(super) barrier: u64,
    /// Whether it has.
    pub(super) ready: bool,
    wheel: Wheel<u32>,
    armed: BTreeMap<u32, Timestamp>,
    filled_at: Timestamp,
    retries: Wheel<(ExecutionId, u32)>,
    leases: BTreeMap<WorkerKey, u64>,
    losing: BTreeMap<WorkerKey, u64>,
    baseline: i64,
    continue_at: u64,
    window_at: u64,
}

/// When a task is due; `None` when it is not to fire.
#[must_use]
pub(super) fn deadline_of(task: &Task) -> Option<Timestamp> {
    let next = task.next.filter(|_| task.phase == Phase::Active)?;
    Some(next.plus(jitter_of(task.id, next, task.rules.jitter)))
}

/// The timetable of a task. A series without an anchor goes on from its next instant, which is one of it.
#[must_use]
pub(super) fn timetable_of(task: &Task) -> Option<Timetable> {
    let definition = task.definition.open_definition().ok()?;
    Timetable::compile(&definition, task.id, task.next.unwrap_or(task.created_at)).ok()
}

impl Leader {
    /// A leader that has not caught up yet.
    #[must_use]
    pub(super) fn new(term: u64, barrier: u64, wall: Timestamp, monotonic: u64) -> Self {
        Self {
            term,
            barrier,
            ready: false,
            wheel: Wheel::new(wall),
            armed: BTreeMap::new(),
            filled_at: wall,
            retries: Wheel::new(wall),
            leases: BTreeMap::new(),
            losing: BTreeMap::new(),
            baseline: wall.0 - monotonic.cast_signed(),
            continue_at: 0,
            window_at: monotonic + 5_000,
        }
    }

    /// Fills the wheel from the state, and grants every worker a full lease.
    pub(super) fn begin(&mut self, replica: &Replica, wall: Timestamp, monotonic: u64) {
        self.ready = true;
        self.filled_at = wall;
        for task in replica.tasks().iter() {
            self.arm(task.slot, deadline_of(task));
        }
        for open in replica.executions().values() {
            if let Stage::Retrying { until } = open.stage {
                self.retries.insert(until, (open.id, open.attempts));
            }
        }
        for (key, worker) in replica.workers() {
            if worker.condition != Condition::Lost {
                self.leases.insert(*key, monotonic + LEASE_MS);
            }
        }
    }

    fn arm(&mut self, slot: u32, deadline: Option<Timestamp>) {
        match deadline {
            Some(deadline) if self.armed.get(&slot) != Some(&deadline) => {
                self.armed.insert(slot, deadline);
                self.wheel.insert(deadline, slot);
            }
            Some(_) => {}
            None => drop(self.armed.remove(&slot)),
        }
    }

    /// Hears what an entry that was just applied led to.
    pub(super) fn observe(&mut self, records: &[Record], replica: &Replica) {
        if !self.ready {
            return;
        }
        for record in records {
            match &record.event {
                Event::TaskCreated { slot, .. }
                | Event::TaskUpdated { slot, .. }
                | Event::TaskPaused { slot, .. }
                | Event::TaskResumed { slot, .. }
                | Event::TaskDeleted { slot, .. }
                | Event::TaskScheduled { slot, .. }
                | Event::TaskSkipped { slot, .. }
                | Event::TaskMissed { slot, .. } => {
                    self.arm(*slot, replica.tasks().get(*slot).and_then(deadline_of));
                }
                Event::TaskRetry { execution, until, .. } => {
                    if let Some(open) = replica.execution(*execution) {
                        self.retries.insert(*until, (*execution, open.attempts));
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether its clock left its own monotonic clock or its peers.
    #[must_use]
    pub(super) fn clock_is_off(&self, wall: Timestamp, monotonic: u64, median: Timestamp) -> bool {
        let moved = wall.0 - monotonic.cast_signed() - self.baseline;
        moved.abs() > CLOCK_TOLERANCE_MS || (wall.0 - median.0).abs() > CLOCK_TOLERANCE_MS
    }

    /// Renews a lease, if the worker is one to which it may be renewed.
    pub(super) fn renew(&mut self, key: WorkerKey, replica: &Replica, monotonic: u64) -> bool {
        let known = replica.workers().get(&key).is_some_and(|worker| worker.condition != Condition::Lost);
        let may = self.ready && known && !self.losing.contains_key(&key);
        if may {
            self.leases.insert(key, monotonic + LEASE_MS);
        }
        may
    }

    /// What is to be proposed now.
    pub(super) fn tick(
        &mut self,
        replica: &Replica,
        wall: Timestamp,
        monotonic: u64,
        planted: Planted,
    ) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        let free = |request| Wanted { request, bound: false };
        let items = self.due(replica, wall, planted);
        if !items.is_empty() {
            wanted.push(free(Request::Fire(items)));
        }
        let waits = self.waits(replica, wall);
        if !waits.is_empty() {
            wanted.push(free(Request::RetriesDue(waits)));
        }
        if monotonic >= self.continue_at && replica.left_over() {
            self.continue_at = monotonic + 150;
            wanted.push(free(Request::Continue));
        }
        if monotonic >= self.window_at {
            self.window_at = monotonic + 3_000;
            let commands = wall.minus(Span(WINDOW_MS));
            if replica.window().oldest().is_some_and(|oldest| oldest < commands) {
                wanted.push(free(Request::AdvanceWindow { commands, keys: wall.minus(Span(2 * WINDOW_MS)) }));
            }
            let stale = replica.staged().find(|(_, at)| at.plus(STAGE_LIFETIME) <= wall);
            wanted.extend(stale.map(|(bulk, _)| free(Request::AbandonStaged { bulk })));
        }
        wanted.extend(self.losses(replica, monotonic));
        wanted
    }

    fn due(&mut self, replica: &Replica, wall: Timestamp, planted: Planted) -> Vec<Due> {
        let mut slots = Vec::new();
        let armed = &self.armed;
        let _ = self.wheel.advance(wall, 512, &mut |deadline, slot| {
            if armed.get(&slot) == Some(&deadline) {
                slots.push(slot);
            }
        });
        let mut items = Vec::new();
        for slot in slots {
            self.armed.remove(&slot);
            let Some(task) = replica.tasks().get(slot) else { continue };
            let Some(timetable) = timetable_of(task) else { continue };
            let mut found = due(task, &timetable, wall, INSTANTS_MAX);
            self.spoil(&mut found, task, &timetable, wall, planted);
            let again = wall.plus(Span(AGAIN_MS));
            let deadline = if found.is_empty() { deadline_of(task) } else { Some(again) };
            self.arm(slot, deadline.map(|deadline| deadline.max(wall.plus(Span(1)))));
            items.extend(found);
        }
        items
    }

    /// Puts the planted bugs of a proposer in.
    fn spoil(
        &self,
        items: &mut Vec<Due>,
        task: &Task,
        timetable: &Timetable,
        wall: Timestamp,
        planted: Planted,
    ) {
        let recurring = task.rules.timing == Timing::Recurring;
        if planted.has(Plant::ShiftedInstant)
            && recurring
            && let Some(first) = items.first_mut()
            && first.missed_through.is_none()
            && first.due.0 % 11 == 0
        {
            first.next = Some(Timestamp(first.due.0 + 1));
            items.truncate(1);
        }
        if planted.has(Plant::WheelFromNow)
            && recurring
            && let Some(first) = items.first_mut()
            && first.due < self.filled_at
        {
            first.missed_through = None;
            first.next = timetable.next_after(wall);
            items.truncate(1);
        }
    }

    fn waits(&mut self, replica: &Replica, wall: Timestamp) -> Vec<(ExecutionId, u32)> {
        let mut waits = Vec::new();
        let _ = self.retries.advance(wall, 512, &mut |_, wait: (ExecutionId, u32)| waits.push(wait));
        waits.retain(|(execution, attempts)| {
            replica.execution(*execution).is_some_and(|open| {
                matches!(open.stage, Stage::Retrying { .. }) && open.attempts == *attempts
            })
        });
        for wait in &waits {
            self.retries.insert(wall.plus(Span(AGAIN_MS)), *wait);
        }
        waits
    }

    /// Workers whose lease ran out.
    fn losses(&mut self, replica: &Replica, monotonic: u64) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (key, worker) in replica.workers() {
            if worker.condition == Condition::Lost {
                continue;
            }
            let until = *self.leases.entry(*key).or_insert(monotonic + LEASE_MS);
            let again = self.losing.get(key).copied().unwrap_or(0);
            if until <= monotonic && again <= monotonic {
                self.losing.insert(*key, monotonic + AGAIN_MS);
                wanted.push(Wanted {
                    request: Request::LoseWorker { node: key.0, incarnation: key.1 },
                    bound: true,
                });
            }
        }
        wanted
    }
}
