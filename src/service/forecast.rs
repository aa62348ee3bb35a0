//! How many fires the time to come will see: those of a tenant, or of every one.
//!
//! Computed on a copy of the state that shares its tasks, outside the lock, in turns between which others are served. A
//! tenant is counted at a time, so that memory does not grow with tenants times steps; all of them share one bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::identifier::TenantId;
use escapement_domain::replica::calendars::Calendars;
use escapement_domain::replica::slots::Slots;
use escapement_domain::task::forecast::{Forecast, Peak, Steps};
use escapement_domain::timestamp::Span;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::view::TaskState;
use crate::security::Permission;

/// Instants that one forecast looks at: a second's work or two.
const INSTANTS_MAX: u64 = 10_000_000;
/// Tasks that are looked at before others get a turn.
const TASKS_PER_TURN: usize = 1_024;

/// What is to be forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForecastQuery {
    /// How far.
    pub horizon: Span,
    /// By steps of this length.
    pub step: Span,
    /// For every tenant instead of the caller's own, which takes a cluster-admin.
    pub all: bool,
}

/// The fires to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The steps that are counted.
    pub steps: Steps,
    /// The fires of each.
    pub counts: Vec<u64>,
    /// How many active tasks are counted.
    pub tasks: u64,
    /// How many were too much to look at.
    pub left_out: u64,
    /// The tenants that have fires to come, by number.
    pub tenants: Vec<TenantLoad>,
}

/// The fires to come of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLoad {
    /// Its name.
    pub tenant: Arc<str>,
    /// Its fires.
    pub total: u64,
    /// Its own peak.
    pub peak: Option<Peak>,
}

impl Service {
    /// Forecasts the fires of active tasks, as long as nothing changes.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn forecast(&self, caller: &Caller, query: &ForecastQuery) -> Result<Load, ServiceError> {
        caller.may(if query.all { Permission::AuditAllTenants } else { Permission::Read })?;
        self.settle_read(caller.consistency).await?;
        let (tasks, calendars, own) = self.parts.machine.read(|replica| {
            let own = (!query.all).then(|| replica.tenant_number(caller.tenant()));
            (replica.tasks().clone(), replica.calendars().clone(), own)
        });
        let now = self.now();
        let steps = Steps::from_now(now, query.horizon, query.step);
        let mut load =
            Load { steps, counts: vec![0; steps.count], tasks: 0, left_out: 0, tenants: Vec::new() };
        let mut instants_left = INSTANTS_MAX;
        for (tenant, slots) in active(&tasks, own).await {
            let mut forecast = Forecast::new(now, steps, instants_left);
            count(&mut forecast, &tasks, &calendars, &slots).await?;
            instants_left = forecast.instants_left();
            self.enter(&mut load, tenant, &forecast)?;
        }
        Ok(load)
    }

    fn enter(&self, load: &mut Load, tenant: TenantId, forecast: &Forecast) -> Result<(), ServiceError> {
        load.tasks += forecast.tasks();
        load.left_out += forecast.left_out();
        load.counts.iter_mut().zip(forecast.counts()).for_each(|(sum, count)| *sum += count);
        if let peak @ Some(_) = Peak::of(&load.steps, forecast.counts()) {
            let name = self.parts.machine.read(|replica| replica.tenant_name(tenant).cloned());
            let name = name.ok_or_else(|| ServiceError::broken("a task of a tenant without a name"))?;
            let total = forecast.counts().iter().sum();
            load.tenants.push(TenantLoad { tenant: name, total, peak });
        }
        Ok(())
    }
}

/// The slots of active tasks by tenant: of one tenant, which may not exist, or of all.
async fn active(tasks: &Slots, only: Option<Option<TenantId>>) -> BTreeMap<TenantId, Vec<u32>> {
    let mut found = BTreeMap::<TenantId, Vec<u32>>::new();
    for (index, task) in tasks.iter().enumerate() {
        if TaskState::from(task.phase()) == TaskState::Active
            && only.is_none_or(|only| only == Some(task.tenant))
        {
            found.entry(task.tenant).or_default().push(task.slot);
        }
        if index % TASKS_PER_TURN == TASKS_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
    found
}

/// Counts the tasks of one tenant.
async fn count(
    forecast: &mut Forecast,
    tasks: &Slots,
    calendars: &Calendars,
    slots: &[u32],
) -> Result<(), ServiceError> {
    for turn in slots.chunks(TASKS_PER_TURN) {
        for task in turn.iter().filter_map(|slot| tasks.get(*slot)) {
            forecast.add(task, calendars.named_by(task))?;
        }
        tokio::task::yield_now().await;
        while forecast.is_full() && forecast.count_some() {
            tokio::task::yield_now().await;
        }
    }
    while forecast.count_some() {
        tokio::task::yield_now().await;
    }
    Ok(())
}
