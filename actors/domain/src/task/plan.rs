//! What is due of a task, computed by whoever proposes: the instants and the one that follows, never the decision.
//!
//! The proposer does the zone arithmetic and looks into the calendars here, once, and the log carries its results;
//! [`decide`](super::decide) only holds them against each other. A long run of missed or forbidden instants becomes one
//! item with a count.

use std::sync::Arc;

use super::definition::{Definition, MisfirePolicy};
use super::rules::Timing;
use super::state::{Phase, Task};
use crate::codec::CodecError;
use crate::command::{Due, Passed, PassedCause};
use crate::schedule::calendar::Calendar;
use crate::schedule::{OVERDUE_STEPS_MAX, Rhythm, Schedule, ScheduleError, jitter_of};
use crate::timestamp::Timestamp;

/// How many instants are looked at to find one that the calendars allow.
const SEARCH_STEPS_MAX: usize = 100_000;

/// A task's schedule within the bounds of its definition, and the calendars that narrow it.
#[derive(Clone, Debug)]
pub struct Timetable {
    schedule: Schedule,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    calendars: Vec<Arc<Calendar>>,
}

impl Timetable {
    /// Compiles the timetable of a definition; `calendars` are those that it names, in their order.
    ///
    /// # Errors
    /// [`ScheduleError`], as [`Schedule::compile`].
    pub fn compile(
        definition: &Definition,
        task: crate::identifier::TaskId,
        created_at: Timestamp,
        calendars: Vec<Arc<Calendar>>,
    ) -> Result<Self, ScheduleError> {
        Ok(Self {
            schedule: Schedule::compile(&definition.trigger, task, created_at)?,
            start_at: definition.start_at,
            end_at: definition.end_at,
            calendars,
        })
    }

    /// Compiles the timetable of a task; `calendars` are those that it names.
    ///
    /// # Errors
    /// [`TimetableError`]; only another program can help.
    pub fn of(task: &Task, calendars: Vec<Arc<Calendar>>) -> Result<Self, TimetableError> {
        let definition = task.definition.open_definition()?;
        Ok(Self::compile(&definition, task.id, task.created_at, calendars)?)
    }

    /// The first instant strictly after `after`, within `start_at` and `end_at`, whatever the calendars say.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = match self.start_at {
            Some(start) if start > after => Timestamp(start.0 - 1),
            _ => after,
        };
        self.within(self.schedule.next_after(after))
    }

    /// The first instant strictly after `after` that no calendar forbids. `None` too when none is found among the next
    /// hundred thousand.
    #[must_use]
    pub fn next_allowed_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.search(after, |instant| self.forbidden_by(instant).is_none())
    }

    fn search(&self, after: Timestamp, wanted: impl Fn(Timestamp) -> bool) -> Option<Timestamp> {
        let next = |instant: &Timestamp| self.next_after(*instant);
        std::iter::successors(self.next_after(after), next)
            .take(SEARCH_STEPS_MAX)
            .find(|instant| wanted(*instant))
    }

    /// How the schedule's instants follow each other.
    pub(super) fn rhythm(&self) -> Rhythm {
        self.schedule.rhythm()
    }

    /// When the last instant may be, if that is bounded.
    pub(super) fn end_at(&self) -> Option<Timestamp> {
        self.end_at
    }

    /// The instants from `from` to `to`, both included, that no calendar forbids.
    pub fn allowed(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
        let next = move |after: Timestamp| self.next_allowed_after(after).filter(|instant| *instant <= to);
        std::iter::successors(next(Timestamp(from.0.saturating_sub(1))), move |instant| next(*instant))
    }

    /// The place, among the calendars that the definition names, of the first that forbids an instant.
    #[must_use]
    pub fn forbidden_by(&self, instant: Timestamp) -> Option<u8> {
        let zone = self.schedule.zone();
        let forbids = |calendar: &Arc<Calendar>| !calendar.permits(instant, zone);
        self.calendars.iter().position(forbids).and_then(|place| u8::try_from(place).ok())
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

/// Why a task has no timetable. Its definition was accepted once, so this node is older than the one that accepted it,
/// or its zone data is.
#[derive(Debug, thiserror::Error)]
pub enum TimetableError {
    /// Its definition cannot be read.
    #[error(transparent)]
    Unreadable(#[from] CodecError),
    /// Its definition cannot be scheduled.
    #[error(transparent)]
    Unschedulable(#[from] ScheduleError),
}

/// How long after its instant an occurrence is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// As long as the task's jitter says.
    Jittered,
    /// Not at all: the definition is about to change, and what has come under the present one is settled before.
    Waived,
}

/// Lists what is due of a task at `now`, oldest first, in at most `limit` items; what is left over is due still.
#[must_use]
pub fn due(
    task: &Task,
    revision: u64,
    timetable: &Timetable,
    now: Timestamp,
    delay: Delay,
    limit: usize,
) -> Vec<Due> {
    let plan = Plan { task, revision, timetable, now };
    let mut items = Vec::new();
    let mut candidate = if task.phase() == Phase::Active { task.next } else { None };
    while let Some(instant) = candidate.filter(|_| items.len() < limit) {
        let jitter = match delay {
            Delay::Jittered => jitter_of(task.id, instant, task.rules.jitter),
            Delay::Waived => crate::timestamp::Span(0),
        };
        if instant.plus(jitter) > now {
            break;
        }
        let item = plan.item(instant);
        candidate = item.next;
        items.push(item);
    }
    items
}

/// Whether an instant of a task is run, if it is, although its grace is over, counted from when its own jitter made it due: it
/// comes with others that nobody fired in time.
#[must_use]
pub fn is_made_good(task: &Task, instant: Timestamp, now: Timestamp) -> bool {
    let misfire = &task.rules.misfire;
    let due = instant.plus(jitter_of(task.id, instant, task.rules.jitter));
    let missed = task.rules.lateness(instant, now) > misfire.grace;
    now.since(due) > misfire.grace && !(missed && misfire.policy == MisfirePolicy::Skip)
}

/// What passed while a task was paused, to be settled before its definition changes: everything up to the next
/// occurrence that somebody skipped or moved, as one item, or that occurrence.
#[must_use]
pub fn gap(task: &Task, revision: u64, timetable: &Timetable, now: Timestamp) -> Option<Due> {
    let first = task.next.filter(|next| task.phase() == Phase::Paused && *next <= now)?;
    let plan = Plan { task, revision, timetable, now };
    let bound = match task.overrides.range(first..).next() {
        Some((at, _)) if *at == first => return Some(plan.single(first)),
        Some((at, _)) => now.min(Timestamp(at.0 - 1)),
        None => now,
    };
    let passed = timetable.schedule.overdue(first, timetable.end_at.map_or(bound, |end| end.min(bound)));
    let (last, count) = passed.last.map_or((first, 1), |last| (last, passed.count));
    Some(plan.run(first, last, count, PassedCause::Missed, timetable.within(passed.next)))
}

/// One look at what is due of a task.
struct Plan<'a> {
    task: &'a Task,
    revision: u64,
    timetable: &'a Timetable,
    now: Timestamp,
}

impl Plan<'_> {
    fn item(&self, instant: Timestamp) -> Due {
        if self.task.overrides.contains_key(&instant) {
            return self.single(instant);
        }
        if let Some(calendar) = self.timetable.forbidden_by(instant) {
            let alike = |other| self.timetable.forbidden_by(other) == Some(calendar);
            let (last, count) = self.walk(instant, self.now, alike);
            let cause = PassedCause::Forbidden { calendar };
            return self.run(instant, last, count, cause, self.timetable.next_after(last));
        }
        let misfire = &self.task.rules.misfire;
        // Before this instant everything is missed for good, whatever follows.
        let patience = match misfire.policy {
            MisfirePolicy::Skip | MisfirePolicy::RunLatest => misfire.grace,
            MisfirePolicy::RunAll => misfire.window.max(misfire.grace),
        };
        let hopeless = self.now.minus(self.task.rules.jitter).minus(patience);
        if self.task.rules.timing != Timing::Recurring || instant >= hopeless {
            return self.single(instant);
        }
        self.missed(instant, Timestamp(hopeless.0 - 1)).unwrap_or_else(|| self.single(instant))
    }

    /// The run of instants from `first` up to `bound` that nobody fired, less the last if it is made good: that one comes
    /// after the run, by itself. `None` when nothing is left of the run.
    fn missed(&self, first: Timestamp, bound: Timestamp) -> Option<Due> {
        // What lies after the task's end is not an instant of it, and so was never missed.
        let bound = self.timetable.end_at.map_or(bound, |end| end.min(bound));
        let (last, count) = self.run_of_missed(first, bound)?;
        let next = self.timetable.next_after(last);
        let due_later = |instant: Option<Timestamp>| instant.is_none_or(|instant| instant > self.now);
        let latest_is_run = self.task.rules.misfire.policy == MisfirePolicy::RunLatest
            && due_later(self.next_allowed(last, next));
        if !latest_is_run {
            return Some(self.run(first, last, count, PassedCause::Missed, next));
        }
        if first >= last {
            return None;
        }
        let (before, count) = self.run_of_missed(first, Timestamp(last.0 - 1))?;
        Some(self.run(first, before, count, PassedCause::Missed, Some(last)))
    }

    fn run_of_missed(&self, first: Timestamp, bound: Timestamp) -> Option<(Timestamp, u64)> {
        if self.is_regular() {
            let run = self.timetable.schedule.overdue(first, bound);
            return run.last.map(|last| (last, run.count));
        }
        let allowed = |instant| self.is_allowed(instant);
        Some(self.walk(first, bound, allowed))
    }

    /// The last of the instants from `first` up to `bound` that are all `alike` and not changed by hand, and how many
    /// they are.
    fn walk(
        &self,
        first: Timestamp,
        bound: Timestamp,
        alike: impl Fn(Timestamp) -> bool,
    ) -> (Timestamp, u64) {
        // Nor does a run span what was changed under an earlier definition, and is no instant of this one.
        let bound =
            self.task.overrides.range(first..).next().map_or(bound, |(at, _)| bound.min(Timestamp(at.0 - 1)));
        let (mut last, mut count) = (first, 1);
        while let Some(instant) = self.timetable.next_after(last).filter(|instant| *instant <= bound) {
            if count == OVERDUE_STEPS_MAX || !alike(instant) {
                break;
            }
            (last, count) = (instant, count + 1);
        }
        (last, count)
    }

    /// Whether no calendar and no hand changes what the schedule says.
    fn is_regular(&self) -> bool {
        self.timetable.calendars.is_empty() && self.task.overrides.is_empty()
    }

    fn is_allowed(&self, instant: Timestamp) -> bool {
        !self.task.overrides.contains_key(&instant) && self.timetable.forbidden_by(instant).is_none()
    }

    fn next_allowed(&self, after: Timestamp, next: Option<Timestamp>) -> Option<Timestamp> {
        if self.is_regular() {
            next
        } else {
            self.timetable.search(after, |instant| self.is_allowed(instant))
        }
    }

    fn single(&self, instant: Timestamp) -> Due {
        let next = self.timetable.next_after(instant);
        Due {
            slot: self.task.slot,
            revision: self.revision,
            due: instant,
            passed: None,
            next,
            next_allowed: self.next_allowed(instant, next),
        }
    }

    fn run(
        &self,
        first: Timestamp,
        last: Timestamp,
        count: u64,
        cause: PassedCause,
        next: Option<Timestamp>,
    ) -> Due {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Due {
            slot: self.task.slot,
            revision: self.revision,
            due: first,
            passed: Some(Passed { last, count, cause }),
            next,
            next_allowed: self.next_allowed(last, next),
        }
    }
}
