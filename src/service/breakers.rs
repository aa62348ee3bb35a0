//! What clients do with circuit breakers.

use std::sync::Arc;

use escapement_actors::intent::Intent;
use escapement_domain::identifier::{ExecutionId, TenantId};
use escapement_domain::replica::Replica;
use escapement_domain::replica::placement::{Breaker, BreakerState};
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use crate::security::Permission;

/// A breaker at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// Its target, such as `http:runner.example`.
    pub target: Arc<str>,
    /// Whether the target is called.
    pub state: BreakerState,
    /// Attempts that failed since the last one that succeeded.
    pub failures: u32,
    /// When the state last changed, if it ever did.
    pub changed_at: Option<Timestamp>,
    /// How many executions wait that call it.
    pub waiting: usize,
}

impl Service {
    /// Lists the targets of which something is remembered: those that failed once, and those set by hand.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn breakers(&self, caller: &Caller) -> Result<Vec<BreakerView>, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        Ok(self.parts.machine.read(|replica| {
            let Some(tenant) = replica.tenant_number(caller.tenant()) else { return Vec::new() };
            let known = replica.queue().breakers_of(tenant);
            known.map(|(target, known)| BreakerView::of(replica, tenant, target, known)).collect()
        }))
    }

    /// Returns what is known of a target; one of which nothing was heard is called.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn breaker(&self, caller: &Caller, target: &str) -> Result<BreakerView, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        Ok(self.find_breaker(caller, target))
    }

    /// Opens or closes a breaker by hand: one that was opened so stays open.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn set_breaker(
        &self,
        caller: &Caller,
        target: &str,
        open: bool,
    ) -> Result<BreakerView, ServiceError> {
        caller.may(Permission::OperateTask { owner: "" })?;
        self.carry_out(caller, Intent::SetBreaker { target: target.into(), open }).await?;
        Ok(self.find_breaker(caller, target))
    }

    fn find_breaker(&self, caller: &Caller, target: &str) -> BreakerView {
        let found = self.parts.machine.read(|replica| {
            let tenant = replica.tenant_number(caller.tenant())?;
            let known = replica.queue().breaker(tenant, target)?;
            Some(BreakerView::of(replica, tenant, &target.into(), known))
        });
        found.unwrap_or_else(|| BreakerView {
            target: target.into(),
            state: BreakerState::Closed,
            failures: 0,
            changed_at: None,
            waiting: 0,
        })
    }
}

impl BreakerView {
    fn of(replica: &Replica, tenant: TenantId, target: &Arc<str>, known: &Breaker) -> Self {
        Self {
            target: target.clone(),
            state: known.state,
            failures: known.failures,
            changed_at: Some(known.changed_at),
            waiting: replica.queue().waiting_for_target(tenant, target),
        }
    }

    /// When one attempt may try a target that is not called; none unless it is so by itself.
    #[must_use]
    pub fn open_until(&self) -> Option<Timestamp> {
        match self.state {
            BreakerState::Open { until } => until,
            BreakerState::Closed | BreakerState::HalfOpen { .. } => None,
        }
    }

    /// The execution whose attempt tries it.
    #[must_use]
    pub fn probe(&self) -> Option<ExecutionId> {
        match self.state {
            BreakerState::HalfOpen { probe } => probe,
            BreakerState::Closed | BreakerState::Open { .. } => None,
        }
    }
}
