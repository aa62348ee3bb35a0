//! Single occurrences of a task that a client names: one to come, or a range of the past.
//!
//! What is refused here would be refused for ever under the task's present definition. Absent on purpose: proposing.

use std::sync::Arc;

use escapement_domain::command::Change;
use escapement_domain::limits::BACKFILL_INSTANTS_MAX;
use escapement_domain::replica::Replica;
use escapement_domain::task::plan::Timetable;
use escapement_domain::task::state::Task;
use escapement_domain::timestamp::Timestamp;

use super::drafting::unschedulable;
use crate::intent::SubmitError;

/// How a task is planned.
pub(super) struct Planned {
    timetable: Timetable,
    /// The calendars that it names.
    calendars: Vec<Arc<str>>,
    /// The instants that somebody skipped or moved before.
    changed: Vec<Timestamp>,
}

impl Planned {
    /// Looks a task up.
    ///
    /// # Errors
    /// [`SubmitError::Unschedulable`] when this node cannot read or plan its definition.
    pub(super) fn of(task: &Task, replica: &Replica) -> Result<Self, SubmitError> {
        let timetable = Timetable::of(task, replica.calendars().named_by(task))
            .map_err(|error| unschedulable("", error.to_string()))?;
        let calendars = task.rules.calendars.clone();
        Ok(Self { timetable, calendars, changed: task.overrides.keys().copied().collect() })
    }

    /// Whether an occurrence can be changed so, as far as schedule and calendars say. One that a calendar forbids can be moved
    /// to where none does, and that is all: to skip it would hide the reason why it does not run.
    ///
    /// # Errors
    /// [`SubmitError::Unschedulable`] that names the occurrences which are near, or the calendar.
    pub(super) fn can_change(
        &self,
        at: Timestamp,
        change: Change,
        now: Timestamp,
    ) -> Result<(), SubmitError> {
        let is_changed = self.changed.contains(&at);
        if !is_changed && change != Change::Restore {
            self.has_occurrence(at, now)?;
        }
        match change {
            Change::Skip if !is_changed => self.forbidden_by(at).map_or(Ok(()), |calendar| {
                let detail = format!(
                    "the calendar `{calendar}` forbids {at} already; it can be moved to another time"
                );
                Err(unschedulable("/at", detail))
            }),
            Change::Move { to } => self.forbidden_by(to).map_or(Ok(()), |calendar| {
                let detail =
                    format!("a time that the task's calendars allow is wanted; `{calendar}` forbids {to}");
                Err(unschedulable("/to", detail))
            }),
            Change::Skip | Change::Restore => Ok(()),
        }
    }

    /// The first of the task's calendars that forbids an instant.
    fn forbidden_by(&self, instant: Timestamp) -> Option<&Arc<str>> {
        self.calendars.get(usize::from(self.timetable.forbidden_by(instant)?))
    }

    fn has_occurrence(&self, at: Timestamp, now: Timestamp) -> Result<(), SubmitError> {
        let first = self.timetable.next_after(Timestamp(at.0.saturating_sub(1)));
        if first == Some(at) {
            return Ok(());
        }
        let near = match (first, self.timetable.next_after(now)) {
            (Some(next), _) => format!("the next one after it is {next}"),
            (None, Some(next)) => format!("the next one is {next}"),
            (None, None) => "it has none to come".into(),
        };
        Err(unschedulable("/at", format!("the task has no occurrence at {at}; {near}")))
    }

    /// The occurrences of a range of the past, both ends included, without those that a calendar forbids.
    ///
    /// # Errors
    /// [`SubmitError::Unschedulable`] for a range that is not of the past by the leader's clock, is empty, or holds too much.
    pub(super) fn backfill(
        &self,
        from: Timestamp,
        to: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, SubmitError> {
        if to > now {
            return Err(unschedulable("/to", format!("{to} is not past; what is to come runs by itself")));
        }
        let allowed = self.timetable.allowed(from, to);
        let instants: Vec<Timestamp> = allowed.take(BACKFILL_INSTANTS_MAX + 1).collect();
        match instants.as_slice() {
            [] => {
                let detail = match self.timetable.next_allowed_after(to).filter(|next| *next <= now) {
                    Some(next) => {
                        format!("the task has no occurrence from {from} to {to}; the next one is {next}")
                    }
                    None => {
                        format!("the task has no occurrence from {from} to {to}, nor one from there to now")
                    }
                };
                Err(unschedulable("/from", detail))
            }
            [.., last] if instants.len() > BACKFILL_INSTANTS_MAX => {
                let detail = format!(
                    "the range holds more than the {BACKFILL_INSTANTS_MAX} occurrences of one backfill; one that ends \
                     before {last} does not"
                );
                Err(unschedulable("/to", detail))
            }
            _ => Ok(instants),
        }
    }
}
