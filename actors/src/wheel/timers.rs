//! What the wheel waits for: the next instant of every active task and the end of every wait for a retry.
//!
//! A timer is never searched for. Each task's slot remembers the deadline that counts; a timer that expires with another
//! one is stale and ignored. Invariants: a task that was taken is not taken again before it is given back;
//! nothing is taken before its deadline. Absent on purpose: clocks, the log, instants after the next one.

use std::collections::{BTreeSet, VecDeque};

use escapement_domain::execution::state::{Execution, Stage};
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

/// A wait for a retry: the execution, and how many attempts it had.
pub(super) type Wait = (ExecutionId, u32);

/// What the wheel waits for.
pub(super) struct Timers {
    tasks: Wheel<u32>,
    /// By slot: the deadline that counts, or [`IDLE`], or [`TAKEN`].
    armed: Vec<i64>,
    /// How many of them have a deadline.
    waiting: usize,
    retries: Wheel<Wait>,
    taken_retries: BTreeSet<Wait>,
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

/// The end of an execution's wait for its next attempt, if it waits.
fn wait_of(execution: &Execution) -> Option<(Timestamp, Wait)> {
    match execution.stage {
        Stage::Retrying { until } => Some((until, (execution.id, execution.attempts))),
        Stage::Held | Stage::Queued | Stage::Running(_) => None,
    }
}

impl Timers {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            tasks: Wheel::new(now),
            armed: Vec::new(),
            waiting: 0,
            retries: Wheel::new(now),
            taken_retries: BTreeSet::new(),
        }
    }

    /// How many timers there are, stale ones included.
    pub(super) fn len(&self) -> usize {
        self.tasks.len() + self.retries.len()
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

    /// Waits for the end of an execution's wait, if it waits.
    pub(super) fn arm_retry(&mut self, execution: &Execution) {
        if let Some((until, wait)) = wait_of(execution)
            && !self.taken_retries.contains(&wait)
        {
            self.retries.insert(until, wait);
        }
    }

    /// Takes waits that have ended, at most `limit` of them.
    pub(super) fn take_retries(&mut self, now: Timestamp, limit: usize, replica: &Replica) -> Vec<Wait> {
        let mut ended = Vec::new();
        while ended.len() < limit {
            let room = limit - ended.len();
            let taken = &mut self.taken_retries;
            let advance = self.retries.advance(now, room, &mut |_, wait| {
                let waits = replica.execution(wait.0).and_then(|open| wait_of(open));
                if waits.is_some_and(|(until, present)| present == wait && until <= now) && taken.insert(wait)
                {
                    ended.push(wait);
                }
            });
            if !advance.more {
                break;
            }
        }
        ended
    }

    /// Gives waits back whose end was proposed: those that still wait are waited for again, not before `earliest`.
    pub(super) fn give_back_retries(&mut self, waits: &[Wait], replica: &Replica, earliest: Timestamp) {
        for wait in waits {
            self.taken_retries.remove(wait);
            let present = replica.execution(wait.0).and_then(|open| wait_of(open));
            if let Some((until, _)) = present.filter(|(_, present)| present == wait) {
                self.retries.insert(until.max(earliest), *wait);
            }
        }
    }

    /// An instant before which nothing is due.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.tasks.next_deadline().into_iter().chain(self.retries.next_deadline()).min()
    }
}
