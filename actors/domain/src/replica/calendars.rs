//! The tenants' calendars: which there are, how many tasks name each, and when they last changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Replica;
use super::apply::Step;
use super::users::Users;
use crate::answer::{Accepted, Rejection};
use crate::event::Event;
use crate::identifier::TenantId;
use crate::limits::{CALENDARS_MAX, CALENDARS_PER_TASK_MAX};
use crate::record::Record;
use crate::schedule::calendar::Calendar;
use crate::task::state::Task;
use crate::timestamp::Timestamp;

/// A calendar and its history in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCalendar {
    /// What it covers.
    pub calendar: Arc<Calendar>,
    /// Counts its changes, from 1.
    pub version: u32,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Every tenant's calendars.
#[derive(Clone, Debug, Default)]
pub struct Calendars {
    by_name: BTreeMap<(TenantId, Arc<str>), StoredCalendar>,
    /// By tenant: the revision that its last change of a calendar was.
    revisions: BTreeMap<TenantId, u64>,
    /// How many tasks name each; made again from the tasks.
    named: Users,
}

/// What a snapshot holds of the calendars.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    by_name: Vec<((TenantId, Arc<str>), StoredCalendar)>,
    revisions: BTreeMap<TenantId, u64>,
}

impl Calendars {
    /// A tenant's calendar.
    #[must_use]
    pub fn get(&self, tenant: TenantId, name: &str) -> Option<&StoredCalendar> {
        self.by_name.get(&(tenant, name.into()))
    }

    /// A tenant's calendars, by name.
    pub fn of(&self, tenant: TenantId) -> impl Iterator<Item = (&Arc<str>, &StoredCalendar)> {
        self.by_name
            .range((tenant, Arc::<str>::from(""))..)
            .take_while(move |((owner, _), _)| *owner == tenant)
            .map(|((_, name), stored)| (name, stored))
    }

    /// The calendars that a task names, in its order; one that is not there is left out.
    #[must_use]
    pub fn named_by(&self, task: &Task) -> Vec<Arc<Calendar>> {
        let stored = |name: &Arc<str>| self.by_name.get(&(task.tenant, name.clone()));
        task.rules.calendars.iter().filter_map(stored).map(|stored| stored.calendar.clone()).collect()
    }

    /// How many tasks name a calendar.
    #[must_use]
    pub fn users(&self, tenant: TenantId, name: &str) -> u64 {
        self.named.of(tenant, name)
    }

    pub(super) fn name(&mut self, tenant: TenantId, names: &[Arc<str>]) {
        self.named.name(tenant, names);
    }

    pub(super) fn unname(&mut self, tenant: TenantId, names: &[Arc<str>]) {
        self.named.unname(tenant, names);
    }

    pub(super) fn keep(&self) -> Kept {
        let by_name = self.by_name.iter().map(|(key, stored)| (key.clone(), stored.clone())).collect();
        Kept { by_name, revisions: self.revisions.clone() }
    }

    pub(super) fn restore<'a>(kept: Kept, tasks: impl Iterator<Item = &'a Task>) -> Self {
        let mut calendars = Self {
            by_name: kept.by_name.into_iter().collect(),
            revisions: kept.revisions,
            named: Users::default(),
        };
        tasks.for_each(|task| calendars.name(task.tenant, &task.rules.calendars));
        calendars
    }
}

impl Replica {
    /// The calendars.
    #[must_use]
    pub fn calendars(&self) -> &Calendars {
        &self.calendars
    }

    /// What changes whenever a task's instants may be others: its own revision, or that of the last change of its
    /// tenant's calendars if it names any.
    #[must_use]
    pub fn revision(&self, task: &Task) -> u64 {
        if task.rules.calendars.is_empty() {
            return task.revision;
        }
        self.calendars
            .revisions
            .get(&task.tenant)
            .map_or(task.revision, |changed| task.revision.max(*changed))
    }

    pub(super) fn evolve_calendar(&mut self, record: &Record) {
        let tenant = record.header.tenant;
        match &record.event {
            Event::CalendarPut { name, version, calendar } => {
                let calendar = Arc::new(calendar.clone());
                let stored = StoredCalendar { calendar, version: *version, updated_at: record.header.at };
                self.calendars.by_name.insert((tenant, name.clone()), stored);
            }
            Event::CalendarDeleted { name } => drop(self.calendars.by_name.remove(&(tenant, name.clone()))),
            _ => return,
        }
        self.revisions += 1;
        self.calendars.revisions.insert(tenant, self.revisions);
    }
}

impl Step<'_> {
    pub(super) fn put_calendar(
        &mut self,
        name: &Arc<str>,
        calendar: &Calendar,
    ) -> Result<Accepted, Rejection> {
        let calendars = &self.replica.calendars;
        let version = match calendars.get(self.tenant, name) {
            Some(stored) if *stored.calendar == *calendar => {
                return Ok(Accepted::Calendar { version: stored.version });
            }
            Some(stored) => stored.version.saturating_add(1),
            None if calendars.of(self.tenant).count() >= CALENDARS_MAX => {
                return Err(Rejection::TooMany { what: "calendars".into(), limit: CALENDARS_MAX as u64 });
            }
            None => 1,
        };
        let event = Event::CalendarPut { name: name.clone(), version, calendar: calendar.clone() };
        self.record(self.tenant, event);
        Ok(Accepted::Calendar { version })
    }

    pub(super) fn delete_calendar(&mut self, name: &Arc<str>) -> Result<Accepted, Rejection> {
        let calendars = &self.replica.calendars;
        if calendars.get(self.tenant, name).is_none() {
            return Err(Rejection::NoSuchCalendar { name: name.clone() });
        }
        let promised = self.replica.promised(self.tenant, |rules| rules.calendars.contains(name));
        match calendars.users(self.tenant, name) + promised {
            0 => self.record(self.tenant, Event::CalendarDeleted { name: name.clone() }),
            tasks => return Err(Rejection::CalendarInUse { name: name.clone(), tasks }),
        }
        Ok(Accepted::Done)
    }

    /// Refuses names of calendars that are not there.
    pub(super) fn calendars_exist(&self, tenant: TenantId, names: &[Arc<str>]) -> Result<(), Rejection> {
        if names.len() > CALENDARS_PER_TASK_MAX {
            let limit = CALENDARS_PER_TASK_MAX as u64;
            return Err(Rejection::TooMany { what: "calendars of one task".into(), limit });
        }
        let missing = names.iter().filter(|name| self.replica.calendars.get(tenant, name).is_none());
        let names: Vec<Arc<str>> = missing.cloned().collect();
        if names.is_empty() { Ok(()) } else { Err(Rejection::MissingCalendars { names }) }
    }
}
