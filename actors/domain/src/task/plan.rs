//! What is due of a task, computed by whoever proposes: the instants and the one that follows, never the decision.
//!
//! The proposer does the zone arithmetic here, once, and the log carries its results; [`decide`](super::decide) only holds
//! them against each other. A long run of missed instants becomes one item with a count.

use super::definition::{Definition, MisfirePolicy};
use super::rules::Timing;
use super::state::{Phase, Task};
use crate::command::Due;
use crate::schedule::{Schedule, ScheduleError, jitter_of};
use crate::timestamp::Timestamp;

/// A task's schedule within the bounds of its definition.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    schedule: Schedule,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
}

impl Timetable {
    /// Compiles the timetable of a definition.
    ///
    /// # Errors
    /// [`ScheduleError`], as [`Schedule::compile`].
    pub fn compile(
        definition: &Definition,
        task: crate::identifier::TaskId,
        created_at: Timestamp,
    ) -> Result<Self, ScheduleError> {
        Ok(Self {
            schedule: Schedule::compile(&definition.trigger, task, created_at)?,
            start_at: definition.start_at,
            end_at: definition.end_at,
        })
    }

    /// The first instant strictly after `after`, within `start_at` and `end_at`.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = match self.start_at {
            Some(start) if start > after => Timestamp(start.0 - 1),
            _ => after,
        };
        self.within(self.schedule.next_after(after))
    }

    /// The first instant of a task that is created or changed now: an instant of a `once` trigger that has passed is
    /// still due when its definition says so.
    #[must_use]
    pub fn first(&self, timing: Timing, now: Timestamp) -> Option<Timestamp> {
        match timing {
            Timing::Once { at, run_if_past: true } => Some(at),
            _ => self.next_after(now),
        }
    }

    fn within(&self, next: Option<Timestamp>) -> Option<Timestamp> {
        next.filter(|next| self.end_at.is_none_or(|end| *next <= end))
    }
}

/// Lists what is due of a task at `now`, oldest first, in at most `limit` items; what is left over is due still.
#[must_use]
pub fn due(task: &Task, timetable: &Timetable, now: Timestamp, limit: usize) -> Vec<Due> {
    let mut items = Vec::new();
    let mut candidate = if task.phase == Phase::Active { task.next } else { None };
    while let Some(instant) = candidate.filter(|_| items.len() < limit) {
        if instant.plus(jitter_of(task.id, instant, task.rules.jitter)) > now {
            break;
        }
        let item = item(task, timetable, instant, now);
        candidate = item.next;
        items.push(item);
    }
    items
}

/// Everything that passed while a task was paused, as one item: to be settled before its definition changes.
#[must_use]
pub fn gap(task: &Task, timetable: &Timetable, now: Timestamp) -> Option<Due> {
    let first = task.next.filter(|next| task.phase == Phase::Paused && *next <= now)?;
    let passed = timetable.schedule.overdue(first, timetable.end_at.map_or(now, |end| end.min(now)));
    let (last, count) = match passed.last {
        Some(last) => (last, u32::try_from(passed.count).unwrap_or(u32::MAX)),
        None => (first, 1),
    };
    let next = timetable.within(passed.next);
    Some(Due {
        slot: task.slot,
        revision: task.revision,
        due: first,
        missed_through: Some((last, count)),
        next,
    })
}

fn item(task: &Task, timetable: &Timetable, instant: Timestamp, now: Timestamp) -> Due {
    let single = || Due {
        slot: task.slot,
        revision: task.revision,
        due: instant,
        missed_through: None,
        next: timetable.next_after(instant),
    };
    let misfire = &task.rules.misfire;
    // Before this instant everything is missed for good, whatever follows.
    let hopeless = match misfire.policy {
        MisfirePolicy::Skip | MisfirePolicy::RunLatest => now.minus(misfire.grace),
        MisfirePolicy::RunAll => now.minus(misfire.window.max(misfire.grace)),
    };
    if task.rules.timing != Timing::Recurring || instant >= hopeless {
        return single();
    }
    let before_hopeless = Timestamp(hopeless.0 - 1);
    // What lies after the task's end is not an instant of it, and so was never missed.
    let bound = timetable.end_at.map_or(before_hopeless, |end| end.min(before_hopeless));
    let run = timetable.schedule.overdue(instant, bound);
    let next = timetable.within(run.next);
    let latest_is_run = misfire.policy == MisfirePolicy::RunLatest && next.is_none_or(|next| next > now);
    let (Some(mut last), mut count) = (run.last, run.count) else { return single() };
    let mut next = next;
    if latest_is_run {
        // The last of the run is made good: it comes after the run, by itself.
        let Some(before) = previous(timetable, instant, last) else { return single() };
        next = Some(last);
        last = before;
        count -= 1;
    }
    Due {
        slot: task.slot,
        revision: task.revision,
        due: instant,
        missed_through: Some((last, u32::try_from(count).unwrap_or(u32::MAX))),
        next,
    }
}

/// The instant before `last` in the series that begins with `first`; `None` if `last` is the first.
fn previous(timetable: &Timetable, first: Timestamp, last: Timestamp) -> Option<Timestamp> {
    if first >= last {
        return None;
    }
    let run = timetable.schedule.overdue(first, Timestamp(last.0 - 1));
    run.last.filter(|_| run.complete)
}
