//! The ledger of a tenant's instants: records go in, in order; what became of each instant comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::command::Change;
use escapement_domain::event::Event;
use escapement_domain::identifier::TaskId;
use escapement_domain::record::Record;
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::Timestamp;

use super::course::{Course, Scope};
use super::period::Calendars;
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
#[derive(Clone, Debug)]
pub struct Ledger {
    range: Range,
    most: usize,
    only: Option<TaskId>,
    calendars: Calendars,
    names_calendars: bool,
    courses: BTreeMap<TaskId, Course>,
    weight: usize,
    last: Timestamp,
}

/// How a task is when its records begin to be taken. Everything that lies before the range is settled.
#[derive(Debug)]
pub struct Assumed<'a> {
    /// Its definition.
    pub definition: &'a Definition,
    /// When it was created.
    pub created_at: Timestamp,
    /// Since when it has had the definition, and been paused if it is.
    pub since: Timestamp,
    /// Whether it is paused.
    pub paused: bool,
    /// The occurrences that were changed by hand.
    pub changes: Vec<(Timestamp, Change)>,
    /// The calendars of its tenant that it names.
    pub calendars: Vec<(Arc<str>, Arc<Calendar>)>,
}

impl Ledger {
    /// A ledger of the instants in a range, of one task or of all, and of at most so many.
    #[must_use]
    pub fn new(range: Range, only: Option<TaskId>, most: usize) -> Self {
        Self {
            range,
            most,
            only,
            calendars: Calendars::new(),
            names_calendars: false,
            courses: BTreeMap::new(),
            weight: 0,
            last: Timestamp::MIN,
        }
    }

    /// Takes for granted how a task is; its records from there on may follow.
    pub fn assume(&mut self, task: TaskId, assumed: Assumed<'_>) {
        let Assumed { definition, created_at, since, paused, changes, calendars } = assumed;
        let mut course = Course::new(created_at, Timestamp(self.range.from.0 - 1));
        if paused {
            course.pause(since);
        }
        course.define(task, definition, since, None, self.range);
        changes.into_iter().for_each(|(at, change)| course.change(at, change));
        self.calendars.extend(calendars);
        self.weight += course.weight();
        self.courses.insert(task, course);
    }

    /// Whether a definition that was taken names calendars: then the tenant's whole chain says what they held, and the stream
    /// of a task does not.
    #[must_use]
    pub fn names_calendars(&self) -> bool {
        self.names_calendars
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
        match &record.event {
            Event::CalendarPut { name, calendar, .. } => {
                self.calendars.insert(name.clone(), Arc::new(calendar.clone()));
            }
            Event::CalendarDeleted { name } => drop(self.calendars.remove(name)),
            _ => {}
        }
        let Some(task) = record.event.task() else { return Ok(()) };
        if self.only.is_some_and(|only| only != task) {
            return Ok(());
        }
        let (range, at) = (self.range, record.header.at);
        if let Event::TaskCreated { created_at, next, .. } = &record.event {
            let settled = next.map_or(*created_at, |next| (*created_at).min(Timestamp(next.0 - 1)));
            self.courses.insert(task, Course::new(*created_at, settled));
        }
        let Some(course) = self.courses.get_mut(&task) else { return Ok(()) };
        let weight = course.weight();
        match &record.event {
            Event::TaskCreated { definition, created_at, next, paused, .. } => {
                let definition = opened(task, definition)?;
                self.names_calendars |= !definition.calendars.is_empty();
                if *paused {
                    course.pause(*created_at);
                }
                course.define(task, &definition, *created_at, *next, range);
            }
            Event::TaskUpdated { definition, next, .. } => {
                let definition = opened(task, definition)?;
                self.names_calendars |= !definition.calendars.is_empty();
                course.end(at);
                course.define(task, &definition, at, *next, range);
            }
            Event::TaskPaused { .. } => course.pause(at),
            Event::TaskResumed { .. } => course.resume(at),
            Event::TaskDeleted { .. } => course.delete(at),
            _ => course.note(record, Scope { range, calendars: &self.calendars }),
        }
        self.weight += course.weight() - weight;
        if matches!(record.event, Event::TaskDeleted { .. }) && course.is_blank() {
            self.courses.remove(&task);
        }
        if self.weight > self.most { Err(Unaccountable::TooMany { most: self.most }) } else { Ok(()) }
    }

    /// Says what had become of each instant at a moment after the last record, in the order of the instants.
    ///
    /// # Errors
    /// [`Unaccountable::TooMany`].
    pub fn close(self, as_of: Timestamp) -> Result<Vec<Fire>, Unaccountable> {
        let (scope, most) = (Scope { range: self.range, calendars: &self.calendars }, self.most);
        let mut fires: Vec<Fire> = Vec::new();
        for (task, course) in self.courses {
            let whole = course.tell(task, scope, as_of, &mut |fire| {
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

fn opened(task: TaskId, definition: &Sealed) -> Result<Definition, Unaccountable> {
    definition.open_definition().map_err(|_| Unaccountable::Sealed { task })
}
