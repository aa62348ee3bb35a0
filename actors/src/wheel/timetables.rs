//! Compiled timetables by task, so that a definition is opened once and not at every fire.
//!
//! Bounded: a task shares its place with others whose slot falls onto the same one, and whoever comes last has it.

use std::collections::BTreeMap;

use escapement_domain::codec::CodecError;
use escapement_domain::replica::Replica;
use escapement_domain::schedule::ScheduleError;
use escapement_domain::task::action::{Action, Operation};
use escapement_domain::task::definition::{Definition, Delivery, Kind, Misfire, Overlap, Retry};
use escapement_domain::task::plan::Timetable;
use escapement_domain::task::rules::Timing;
use escapement_domain::task::state::Task;
use escapement_domain::task::trigger::{IfPast, Trigger};
use escapement_domain::timestamp::Span;

/// Timetables that are kept.
const PLACES: usize = 1 << 16;

/// Why a task has no timetable. Its definition was accepted once, so this node is older than the one that accepted it,
/// or its zone data is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TimetableError {
    /// Its definition cannot be read.
    #[error(transparent)]
    Unreadable(#[from] CodecError),
    /// Its definition cannot be scheduled.
    #[error(transparent)]
    Unschedulable(#[from] ScheduleError),
}

/// Compiles the timetable of a task.
///
/// # Errors
/// [`TimetableError`]; only another program can help.
pub(crate) fn timetable_of(task: &Task, replica: &Replica) -> Result<Timetable, TimetableError> {
    let definition = task.definition.open_definition()?;
    Ok(Timetable::compile(&definition, task.id, task.created_at, replica.calendars().named_by(task))?)
}

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
        Self { places, blank: blank() }
    }
}

impl Timetables {
    /// The timetable of a task under its present definition and calendars.
    ///
    /// # Errors
    /// As [`timetable_of`].
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
        let timetable = timetable_of(task, replica)?;
        *place = Some(Place { slot: task.slot, revision, timetable: timetable.clone() });
        Ok(timetable)
    }
}

fn blank() -> Definition {
    Definition {
        name: String::new(),
        description: String::new(),
        kind: Kind::Generic,
        trigger: Trigger::Manual,
        action: Action::Builtin { operation: Operation::Noop, parameters: None },
        timeout: Span::ZERO,
        retry: Retry::NONE,
        circuit_breaker: None,
        misfire: Misfire::default(),
        overlap: Overlap::Skip,
        delivery: Delivery::AtLeastOnce,
        priority: 0,
        resources: BTreeMap::new(),
        jitter: Span::ZERO,
        calendars: Vec::new(),
        labels: BTreeMap::new(),
        start_at: None,
        end_at: None,
        max_runs: None,
    }
}
