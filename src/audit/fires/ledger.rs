//! The ledger of a tenant's instants: records go in, in order; what became of each instant comes out.

use std::collections::BTreeMap;

use escapement_domain::event::Event;
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::TaskId;
use escapement_domain::record::Record;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::rules::Timing;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::Timestamp;

use super::course::{Course, End, Outcome, settled_by};
use super::{Fire, Range};

/// Why no account can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unaccountable {
    /// There are more instants than may be told at once.
    #[error("there are more than {most} instants in this range: narrow it, or name a task")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// A definition cannot be opened here.
    #[error("the definition of task {task} cannot be opened")]
    Sealed {
        /// Whose.
        task: TaskId,
    },
}

/// An account that is being kept: takes records in order, and is closed at a moment.
#[derive(Debug)]
pub struct Ledger {
    range: Range,
    most: usize,
    only: Option<TaskId>,
    courses: BTreeMap<TaskId, Course>,
    weight: usize,
    last: Timestamp,
}

impl Ledger {
    /// A ledger of the instants in a range, of one task or of all, and of at most so many.
    #[must_use]
    pub fn new(range: Range, only: Option<TaskId>, most: usize) -> Self {
        Self { range, most, only, courses: BTreeMap::new(), weight: 0, last: Timestamp::MIN }
    }

    /// Takes for granted that a task has had a definition since an instant, and whether it is paused since then; its records
    /// from there on may follow.
    pub fn assume(
        &mut self,
        task: TaskId,
        definition: &Definition,
        created_at: Timestamp,
        since: Timestamp,
        paused: bool,
    ) {
        let mut course = Course::new(created_at, false);
        if paused {
            course.pause(since);
        }
        course.define(task, definition, since, None, self.range);
        self.weight += course.weight();
        self.courses.insert(task, course);
    }

    /// The stamp of the last record.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Takes the next record of the tenant's chain, or of the task's stream.
    ///
    /// # Errors
    /// [`Unaccountable`].
    pub fn take(&mut self, record: &Record) -> Result<(), Unaccountable> {
        self.last = self.last.max(record.header.at);
        let Some(task) = record.event.task() else { return Ok(()) };
        if self.only.is_some_and(|only| only != task) {
            return Ok(());
        }
        if let Event::TaskCreated { created_at, paused, .. } = &record.event {
            self.courses.insert(task, Course::new(*created_at, *paused));
        }
        let (range, at) = (self.range, record.header.at);
        let Some(course) = self.courses.get_mut(&task) else { return Ok(()) };
        let weight = course.weight();
        match &record.event {
            Event::TaskCreated { definition, created_at, next, .. } => {
                let definition = opened(task, definition)?;
                course.define(task, &definition, *created_at, *next, range);
            }
            Event::TaskUpdated { definition, next, .. } => {
                let definition = opened(task, definition)?;
                course.end(at, End::Changed);
                course.define(task, &definition, at, *next, range);
            }
            Event::TaskPaused { .. } => course.pause(at),
            Event::TaskResumed { .. } => course.resume(at),
            Event::TaskDeleted { .. } => course.end(at, End::Deleted),
            Event::TaskScheduled { occurrence: Occurrence::Scheduled(instant), execution, held, .. } => {
                let settled = settled_by(&record.header, Some(*execution));
                course.settle(*instant, Outcome::Fired { held: *held }, settled, range);
            }
            Event::TaskSkipped { occurrence: Occurrence::Scheduled(instant), execution, reason, .. } => {
                let settled = settled_by(&record.header, Some(*execution));
                course.settle(*instant, Outcome::Skipped(reason.clone()), settled, range);
            }
            Event::TaskMissed { first, last, .. } => {
                course.miss(*first, *last, settled_by(&record.header, None), range);
            }
            _ => return Ok(()),
        }
        if finishes(&record.event, course) {
            // A pause ends with the task: changed again, it is active.
            course.resume(at);
        }
        self.weight += course.weight() - weight;
        if matches!(record.event, Event::TaskDeleted { .. }) && course.weight() == 0 {
            self.courses.remove(&task);
        }
        if self.weight > self.most { Err(Unaccountable::TooMany { most: self.most }) } else { Ok(()) }
    }

    /// Says what had become of each instant at a moment after the last record, in the order of the instants.
    ///
    /// # Errors
    /// [`Unaccountable::TooMany`].
    pub fn close(self, as_of: Timestamp) -> Result<Vec<Fire>, Unaccountable> {
        let (range, most) = (self.range, self.most);
        let mut fires: Vec<Fire> = Vec::new();
        for (task, course) in self.courses {
            let whole = course.tell(task, range, as_of, &mut |fire| {
                fires.push(fire);
                fires.len() <= most
            });
            if !whole {
                return Err(Unaccountable::TooMany { most });
            }
        }
        fires.sort_by_key(|fire| (fire.at, fire.task));
        Ok(fires)
    }
}

/// Whether an event says that a task has no instant to come.
fn finishes(event: &Event, course: &Course) -> bool {
    match event {
        Event::TaskUpdated { rules, next, .. } => {
            rules.timing != Timing::Unscheduled && (next.is_none() || course.is_exhausted())
        }
        Event::TaskScheduled { occurrence: Occurrence::Scheduled(_), next, .. }
        | Event::TaskSkipped { occurrence: Occurrence::Scheduled(_), next, .. }
        | Event::TaskMissed { next, .. } => next.is_none(),
        _ => false,
    }
}

fn opened(task: TaskId, definition: &Sealed) -> Result<Definition, Unaccountable> {
    definition.open_definition().map_err(|_| Unaccountable::Sealed { task })
}
