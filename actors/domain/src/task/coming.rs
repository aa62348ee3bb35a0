//! The fires of a task that are to come, as long as nothing changes: its schedule's instants without those that a calendar
//! forbids or that somebody skipped, and with those that somebody moved, where they were moved to.

use std::collections::VecDeque;
use std::sync::Arc;

use super::plan::{Timetable, TimetableError};
use super::rules::Timing;
use super::state::{Phase, Task};
use crate::schedule::calendar::Calendar;
use crate::timestamp::Timestamp;

/// The fires of one task, in order; none unless it is active.
#[derive(Debug)]
pub struct Fires {
    timetable: Option<Timetable>,
    /// The next instant of the schedule that fires.
    next: Option<Timestamp>,
    /// Instants that do not fire, since somebody skipped or moved them.
    changed: Vec<Timestamp>,
    /// Where occurrences were moved to.
    moved: VecDeque<Timestamp>,
    left: u32,
}

impl Fires {
    /// Looks at a task and the calendars that it names.
    ///
    /// # Errors
    /// [`TimetableError`]; only another program can help.
    pub fn of(task: &Task, calendars: Vec<Arc<Calendar>>) -> Result<Self, TimetableError> {
        let active = task.phase() == Phase::Active;
        let next = task.next.filter(|_| active);
        let changed: Vec<Timestamp> = task.overrides.keys().copied().collect();
        let mut moved: Vec<Timestamp> = task.moved().filter(|_| active).map(|(to, _)| to).collect();
        moved.sort_unstable();
        let is_single = task.rules.timing != Timing::Recurring && calendars.is_empty();
        let alone = next.is_none() || is_single;
        let timetable = if alone { None } else { Some(Timetable::of(task, calendars)?) };
        let left = task.rules.max_runs.map_or(u32::MAX, |most| most.saturating_sub(task.runs));
        let mut fires = Self { timetable, next, changed, moved: moved.into(), left };
        fires.pass_over();
        Ok(fires)
    }

    /// Goes on to the next instant of the schedule that fires.
    fn pass_over(&mut self) {
        while let Some(next) = self.next {
            let timetable = self.timetable.as_ref();
            let forbidden = timetable.is_some_and(|timetable| timetable.forbidden_by(next).is_some());
            if !forbidden && !self.changed.contains(&next) {
                return;
            }
            self.next = match timetable {
                Some(timetable) if forbidden => timetable.next_allowed_after(next),
                Some(timetable) => timetable.next_after(next),
                None => None,
            };
        }
    }
}

impl Iterator for Fires {
    type Item = Timestamp;

    fn next(&mut self) -> Option<Timestamp> {
        self.left = self.left.checked_sub(1)?;
        if let Some(to) = self.moved.pop_front_if(|to| self.next.is_none_or(|next| *to <= next)) {
            return Some(to);
        }
        let fire = self.next.take()?;
        self.next = self.timetable.as_ref().and_then(|timetable| timetable.next_after(fire));
        self.pass_over();
        Some(fire)
    }
}
