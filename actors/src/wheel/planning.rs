//! Turns tasks whose time has come into the items of one fire command.
//!
//! Invariant: a task whose planning panics or fails costs its own fire and no other. Absent on purpose: which instants
//! are due (that is the core's plan), and proposing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use escapement_domain::command::Due;
use escapement_domain::limits::FIRES_PER_COMMAND_MAX;
use escapement_domain::replica::Replica;
use escapement_domain::task::plan::{self, Delay, TimetableError};
use escapement_domain::task::state::{Phase, Task};
use escapement_domain::timestamp::Timestamp;

use super::timetables::Timetables;

/// Instants of one task in one command, so that one task that catches up does not crowd out the others.
const INSTANTS_PER_TASK_MAX: usize = 64;

const _: () =
    assert!(INSTANTS_PER_TASK_MAX <= FIRES_PER_COMMAND_MAX, "what one task has due fits into a command");

/// The items of one fire command.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Due>,
    /// The tasks that it is about, each with its first instant in it.
    pub(super) tasks: Vec<(u32, Timestamp)>,
    /// Moved occurrences whose time has come: the task's slot, and their own instants.
    pub(super) moved: Vec<(u32, Timestamp)>,
}

/// What became of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planned {
    /// It is in the batch.
    Due,
    /// It is not due.
    NotDue,
    /// It cannot be planned now.
    Failed,
}

impl Batch {
    /// Room for more items.
    pub(super) fn room(&self) -> usize {
        FIRES_PER_COMMAND_MAX - self.items.len().max(self.moved.len())
    }

    /// Adds what is due of the task in a slot.
    pub(super) fn plan(
        &mut self,
        slot: u32,
        replica: &Replica,
        timetables: &mut Timetables,
        now: Timestamp,
    ) -> Planned {
        let Some(task) = replica.tasks().get(slot) else { return Planned::NotDue };
        if let Some((_, at)) = task.next_moved().filter(|(to, _)| *to <= now && task.phase() == Phase::Active)
        {
            self.moved.push((slot, at));
            return Planned::Due;
        }
        let limit = self.room().min(INSTANTS_PER_TASK_MAX);
        let Some(mut items) = items(task, replica, timetables, now, limit) else { return Planned::Failed };
        // What is made good after its grace has a place in the row for each instant.
        let made_good = |item: &Due| item.passed.is_none() && plan::is_made_good(task, item.due, now);
        if let Some(place) = items.iter().position(made_good) {
            items.truncate(place + 1);
        }
        let Some(first) = items.first() else { return Planned::NotDue };
        self.tasks.push((slot, first.due));
        self.items.extend_from_slice(&items);
        Planned::Due
    }
}

/// Whether what a task has due next is run although its grace is over.
pub(super) fn catches_up(task: &Task, now: Timestamp) -> bool {
    task.next.is_some_and(|next| plan::is_made_good(task, next, now))
}

/// What is due of a task; `None`, said aloud, when that cannot be told.
fn items(
    task: &Task,
    replica: &Replica,
    timetables: &mut Timetables,
    now: Timestamp,
    limit: usize,
) -> Option<Vec<Due>> {
    let revision = replica.revision(task);
    let planned = catch_unwind(AssertUnwindSafe(|| {
        let timetable = timetables.of(task, replica)?;
        Ok::<_, TimetableError>(plan::due(task, revision, &timetable, now, Delay::Jittered, limit))
    }));
    match planned {
        Ok(Ok(items)) => Some(items),
        Ok(Err(error)) => {
            tracing::error!(task = %task.id, %error, "a task cannot be planned and does not fire");
            None
        }
        Err(_) => {
            tracing::error!(task = %task.id, "planning a task panicked; it does not fire");
            None
        }
    }
}
