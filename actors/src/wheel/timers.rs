//! What the wheel waits for: the next instant of every active task, and the end of every wait of an
//! execution.
//!
//! A timer is never searched for. Each task's slot remembers the deadline that counts; a timer that expires with another
//! one is stale and ignored. Invariants: a task that was taken is not taken again before it is given back;
//! nothing is taken before its deadline. Absent on purpose: clocks, the log, instants after the next one.

use std::collections::{BTreeSet, VecDeque};

use escapement_domain::execution::state::Execution;
use escapement_domain::execution::waits::Wait;
use escapement_domain::identifier::ExecutionId;
use escapement_domain::replica::Replica;
use escapement_domain::schedule::jitter_of;
use escapement_domain::task::state::{Phase, Task};
use escapement_domain::timestamp::Timestamp;
use escapement_domain::wheel::Wheel;

/// No timer counts.
const IDLE: i64 = i64::MIN;
/// Taken, and not given back yet.
const TAKEN: i64 = i64::MAX;
/// Stale timers that are not worth a sweep.
const STALE_KEPT: usize = 65_536;
/// Waits, stale ones among them, for each open execution before they are swept.
const WAITS_EACH: usize = 4;

/// A wait of an execution.
pub(super) type Waiting = (ExecutionId, Wait);

/// What the wheel waits for.
pub(super) struct Timers {
    tasks: Wheel<u32>,
    /// By slot: the deadline that counts, or [`IDLE`], or [`TAKEN`].
    armed: Vec<i64>,
    /// How many of them have a deadline.
    waiting: usize,
    waits: Wheel<Waiting>,
    taken_waits: BTreeSet<Waiting>,
}

/// When a task is due; `None` when it is not to fire.
pub(super) fn deadline_of(task: &Task) -> Option<Timestamp> {
    if task.phase() != Phase::Active {
        return None;
    }
    let next = task.next.map(|next| next.plus(jitter_of(task.id, next, task.rules.jitter)));
    let moved = task.next_moved().map(|(to, _)| to);
    next.into_iter().chain(moved).min()
}

/// Until when an execution waits for something, if it still does.
fn until(replica: &Replica, (execution, wait): Waiting) -> Option<Timestamp> {
    replica.execution(execution)?.waits().find(|(_, present)| *present == wait).map(|(until, _)| until)
}

impl Timers {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            tasks: Wheel::new(now),
            armed: Vec::new(),
            waiting: 0,
            waits: Wheel::new(now),
            taken_waits: BTreeSet::new(),
        }
    }

    /// How many timers there are, stale ones included.
    pub(super) fn len(&self) -> usize {
        self.tasks.len() + self.waits.len()
    }

    /// Waits for a task's next instant, unless it is taken.
    pub(super) fn arm_task(&mut self, task: &Task) {
        self.arm(task.slot, deadline_of(task));
    }

    /// Waits for whatever the state says of the task in a slot, unless it is taken.
    pub(super) fn arm_slot(&mut self, slot: u32, replica: &Replica) {
        if self.armed.get(slot as usize) != Some(&TAKEN) {
            self.arm(slot, replica.tasks().get(slot).and_then(deadline_of));
        }
    }

    fn arm(&mut self, slot: u32, deadline: Option<Timestamp>) {
        let index = slot as usize;
        if index >= self.armed.len() {
            self.armed.resize(index + 1, IDLE);
        }
        let wanted = deadline.map_or(IDLE, |deadline| deadline.0);
        let armed = self.armed[index];
        if armed == wanted || armed == TAKEN {
            return;
        }
        self.armed[index] = wanted;
        self.waiting = self.waiting + usize::from(wanted != IDLE) - usize::from(armed != IDLE);
        if let Some(deadline) = deadline {
            self.tasks.insert(deadline, slot);
            self.drop_stale();
        }
    }

    fn drop_stale(&mut self) {
        if self.tasks.len() > 2 * self.waiting + STALE_KEPT {
            let armed = &self.armed;
            self.tasks.retain(|deadline, slot| armed[slot as usize] == deadline.0);
        }
    }

    /// Takes tasks that are due, at most `limit` of them; says whether more may be.
    pub(super) fn take_tasks(&mut self, now: Timestamp, limit: usize, taken: &mut VecDeque<u32>) -> bool {
        let (armed, waiting) = (&mut self.armed, &mut self.waiting);
        let advance = self.tasks.advance(now, limit, &mut |deadline, slot| {
            if armed[slot as usize] == deadline.0 {
                armed[slot as usize] = TAKEN;
                *waiting -= 1;
                taken.push_back(slot);
            }
        });
        advance.more
    }

    /// Gives a task back that was taken, and waits for what the state says of it now, but not before `earliest`.
    pub(super) fn give_back(&mut self, slot: u32, replica: &Replica, earliest: Timestamp) {
        if let Some(armed) = self.armed.get_mut(slot as usize) {
            *armed = IDLE;
        }
        let deadline = replica.tasks().get(slot).and_then(deadline_of);
        self.arm(slot, deadline.map(|deadline| deadline.max(earliest)));
    }

    /// Waits for what an execution waits for: all of it, or what may have begun since it was opened.
    pub(super) fn arm_waits(&mut self, execution: &Execution, opened: bool) {
        for (until, wait) in execution.waits().filter(|(_, wait)| opened || *wait != Wait::Whole) {
            let waiting = (execution.id, wait);
            if !self.taken_waits.contains(&waiting) {
                self.waits.insert(until, waiting);
            }
        }
    }

    /// Forgets waits that are over before their time, when they are many.
    pub(super) fn drop_stale_waits(&mut self, replica: &Replica) {
        if self.waits.len() > WAITS_EACH * replica.executions().len() + STALE_KEPT {
            self.waits.retain(|_, waiting| until(replica, waiting).is_some());
        }
    }

    /// Takes waits that have ended, at most `limit` of them.
    pub(super) fn take_waits(&mut self, now: Timestamp, limit: usize, replica: &Replica) -> Vec<Waiting> {
        let mut ended = Vec::new();
        while ended.len() < limit {
            let room = limit - ended.len();
            let taken = &mut self.taken_waits;
            let advance = self.waits.advance(now, room, &mut |_, waiting| {
                if until(replica, waiting).is_some_and(|until| until <= now) && taken.insert(waiting) {
                    ended.push(waiting);
                }
            });
            if !advance.more {
                break;
            }
        }
        ended
    }

    /// Gives waits back whose end was proposed: those that are not over are waited for again, not before `earliest`.
    pub(super) fn give_back_waits(&mut self, ended: &[Waiting], replica: &Replica, earliest: Timestamp) {
        for waiting in ended {
            self.taken_waits.remove(waiting);
            if let Some(until) = until(replica, *waiting) {
                self.waits.insert(until.max(earliest), *waiting);
            }
        }
    }

    /// An instant before which nothing is due.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.tasks.next_deadline().into_iter().chain(self.waits.next_deadline()).min()
    }
}
