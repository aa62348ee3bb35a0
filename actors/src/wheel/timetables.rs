//! Compiled timetables by task, so that a definition is opened once and not at every fire.
//!
//! Bounded: a task shares its place with others whose slot falls onto the same one, and whoever comes last has it.

use escapement_domain::replica::Replica;
use escapement_domain::task::action::{Action, Operation};
use escapement_domain::task::definition::Definition;
use escapement_domain::task::plan::{Timetable, TimetableError};
use escapement_domain::task::rules::Timing;
use escapement_domain::task::state::Task;
use escapement_domain::task::trigger::{IfPast, Trigger};

/// Timetables that are kept.
const PLACES: usize = 1 << 16;

/// Timetables by task.
pub(super) struct Timetables {
    places: Vec<Option<Place>>,
    /// A definition with nothing in it, into which the triggers of one-time tasks are put: theirs need not be opened.
    blank: Definition,
}

struct Place {
    slot: u32,
    revision: u64,
    timetable: Timetable,
}

impl Default for Timetables {
    fn default() -> Self {
        let places = std::iter::repeat_with(|| None).take(PLACES).collect();
        let nothing = Action::Builtin { operation: Operation::Noop, parameters: None };
        Self { places, blank: Definition::new("", Trigger::Manual, nothing) }
    }
}

impl Timetables {
    /// The timetable of a task under its present definition and calendars.
    ///
    /// # Errors
    /// As [`Timetable::of`].
    pub(super) fn of(&mut self, task: &Task, replica: &Replica) -> Result<Timetable, TimetableError> {
        if let Timing::Once { at, .. } = task.rules.timing
            && task.rules.calendars.is_empty()
        {
            self.blank.trigger = Trigger::Once { at, if_past: IfPast::Run };
            return Ok(Timetable::compile(&self.blank, task.id, task.created_at, Vec::new())?);
        }
        let revision = replica.revision(task);
        let place = &mut self.places[task.slot as usize % PLACES];
        if let Some(kept) = place
            && kept.slot == task.slot
            && kept.revision == revision
        {
            return Ok(kept.timetable.clone());
        }
        let timetable = Timetable::of(task, replica.calendars().named_by(task))?;
        *place = Some(Place { slot: task.slot, revision, timetable: timetable.clone() });
        Ok(timetable)
    }
}
