//! What clients do with their tenant's calendars.

use std::sync::Arc;

use escapement_actors::intent::Intent;
use escapement_domain::answer::{Accepted, Rejection};
use escapement_domain::replica::Replica;
use escapement_domain::replica::calendars::StoredCalendar;
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::validation::{calendar_name, no_such_calendar};
use crate::security::Permission;

/// A calendar at one moment.
#[derive(Clone, Debug)]
pub struct CalendarView {
    /// Its name.
    pub name: Arc<str>,
    /// What it covers.
    pub calendar: Arc<Calendar>,
    /// Counts its changes, from 1.
    pub version: u32,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How many tasks name it.
    pub tasks: u64,
}

/// Some calendars.
#[derive(Clone, Debug, Default)]
pub struct CalendarPage {
    /// The calendars, by name.
    pub items: Vec<CalendarView>,
    /// Where the next page begins: after this one; none when there is no more.
    pub next: Option<Arc<str>>,
}

impl Service {
    /// Makes a calendar, or puts another in its place; tells whether it is new.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn put_calendar(
        &self,
        caller: &Caller,
        name: &str,
        calendar: Calendar,
    ) -> Result<(CalendarView, bool), ServiceError> {
        caller.may(Permission::ManageTenant)?;
        calendar_name(name).map_err(|fault| ServiceError::Invalid { faults: vec![fault] })?;
        let before = self.seen_calendar(caller, name).await?;
        let carried = self.carry_out(caller, Intent::PutCalendar { name: name.into(), calendar }).await?;
        let new = before.is_none() && carried.accepted == Accepted::Calendar { version: 1 };
        let view = self.find_calendar(caller.tenant(), name).ok_or_else(|| no_such(name))?;
        Ok((view, new))
    }

    /// Returns a calendar.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn calendar(&self, caller: &Caller, name: &str) -> Result<CalendarView, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        self.find_calendar(caller.tenant(), name).ok_or_else(|| no_such(name))
    }

    /// Lists calendars after one of them.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn calendars(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: usize,
    ) -> Result<CalendarPage, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        let mut items: Vec<CalendarView> = self.parts.machine.read(|replica| {
            let Some(tenant) = replica.tenant_number(caller.tenant()) else { return Vec::new() };
            let follows = |name: &str| after.is_none_or(|after| name > after);
            let following = replica.calendars().of(tenant).filter(|(name, _)| follows(name));
            let view = |(name, stored)| CalendarView::of(replica, caller.tenant(), name, stored);
            following.take(limit + 1).map(view).collect()
        });
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().map(|last| last.name.clone()).filter(|_| more);
        Ok(CalendarPage { items, next })
    }

    /// Deletes a calendar that no task names.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn delete_calendar(&self, caller: &Caller, name: &str) -> Result<(), ServiceError> {
        caller.may(Permission::ManageTenant)?;
        self.carry_out(caller, Intent::DeleteCalendar { name: name.into() }).await.map(|_| ())
    }

    /// A calendar of the caller's tenant, asked of the whole cluster before it is said that there is none.
    async fn seen_calendar(&self, caller: &Caller, name: &str) -> Result<Option<CalendarView>, ServiceError> {
        if let Some(view) = self.find_calendar(caller.tenant(), name) {
            return Ok(Some(view));
        }
        self.barrier().await?;
        Ok(self.find_calendar(caller.tenant(), name))
    }

    fn find_calendar(&self, tenant: &str, name: &str) -> Option<CalendarView> {
        self.parts.machine.read(|replica| {
            let stored = replica.calendars().get(replica.tenant_number(tenant)?, name)?;
            Some(CalendarView::of(replica, tenant, &name.into(), stored))
        })
    }
}

impl CalendarView {
    fn of(replica: &Replica, tenant: &str, name: &Arc<str>, stored: &StoredCalendar) -> Self {
        let tenant = replica.tenant_number(tenant);
        Self {
            name: name.clone(),
            calendar: stored.calendar.clone(),
            version: stored.version,
            updated_at: stored.updated_at,
            tasks: tenant.map_or(0, |tenant| replica.calendars().users(tenant, name)),
        }
    }
}

fn no_such(name: &str) -> ServiceError {
    ServiceError::NoSuchCalendar { name: name.into() }
}

/// The refusal of a task that names `named`: each calendar that is not there is a fault of it.
pub(super) fn of_task(error: ServiceError, named: &[String]) -> ServiceError {
    match error {
        ServiceError::Rejected(Rejection::MissingCalendars { names }) => {
            let faults = names.iter().map(|name| no_such_calendar(name, named)).collect();
            ServiceError::Invalid { faults }
        }
        other => other,
    }
}
