//! Single occurrences of a task that a client names: one to come, or a range of the past.
//!
//! What is refused here would be refused for ever under the task's present definition. Absent on purpose: proposing.

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
        Ok(Self { timetable, changed: task.overrides.keys().copied().collect() })
    }

    /// Whether the task has an occurrence at an instant that can be changed so.
    ///
    /// # Errors
    /// [`SubmitError::Unschedulable`] that names the occurrences which are near.
    pub(super) fn has_occurrence(
        &self,
        at: Timestamp,
        change: Change,
        now: Timestamp,
    ) -> Result<(), SubmitError> {
        if self.changed.contains(&at) || change == Change::Restore {
            return Ok(());
        }
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
    /// [`SubmitError::Unschedulable`] for a range that is not of the past, is empty, or holds too much.
    pub(super) fn backfill(
        &self,
        from: Timestamp,
        to: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, SubmitError> {
        if from > to {
            return Err(unschedulable("/from", format!("{from} lies after `to`")));
        }
        if to > now {
            return Err(unschedulable("/to", format!("{to} is not past; what is to come runs by itself")));
        }
        let allowed = self.timetable.allowed(from, to);
        let instants: Vec<Timestamp> = allowed.take(BACKFILL_INSTANTS_MAX + 1).collect();
        match instants.as_slice() {
            [] => Err(unschedulable("/from", format!("the task has no occurrence from {from} to {to}"))),
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
