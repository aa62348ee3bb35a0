//! What clients do with their tenant's pools and limits.

use std::sync::Arc;

use escapement_actors::intent::Intent;
use escapement_domain::answer::{Accepted, Rejection};
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::replica::Replica;
use escapement_domain::replica::placement::{Gate, Stock};
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use crate::security::Permission;

/// Executions that hold something of a gate, or wait there, which are told by name.
const SHOWN_MAX: usize = 100;

/// Which gates are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// Pools.
    Pools,
    /// Limits.
    Limits,
}

impl GateKind {
    fn has(self, gate: &Gate) -> bool {
        matches!(gate, Gate::Pool(_)) == (self == Self::Pools)
    }
}

/// A pool or a limit at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateView {
    /// Which.
    pub gate: Gate,
    /// How much there is.
    pub capacity: u32,
    /// How much of it is held.
    pub held: u64,
    /// How many executions wait that need some of it, whatever else they wait for.
    pub waiting: usize,
    /// Who holds how much, up to a hundred.
    pub holders: Vec<Claimant>,
    /// Who waits, in the order of queueing, up to a hundred.
    pub waiters: Vec<Claimant>,
    /// Counts its changes, from 1.
    pub version: u32,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How many tasks name it; of limits none do.
    pub tasks: u64,
}

/// An execution that holds something of a gate, or waits there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The execution.
    pub execution: ExecutionId,
    /// Its task.
    pub task: TaskId,
    /// How much of it.
    pub share: u32,
}

impl Service {
    /// Makes a pool or a limit, or gives it another capacity; tells whether it is new.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn put_gate(
        &self,
        caller: &Caller,
        gate: Gate,
        capacity: u32,
    ) -> Result<(GateView, bool), ServiceError> {
        caller.may(Permission::ManageTenant)?;
        let mut before = self.find_gate(caller, &gate);
        if before.is_none() {
            self.barrier().await?;
            before = self.find_gate(caller, &gate);
        }
        let carried = self.carry_out(caller, Intent::PutGate { gate: gate.clone(), capacity }).await?;
        let new = before.is_none() && carried.accepted == Accepted::Gate { version: 1 };
        // It was put: one that is not there was deleted since.
        let view = self.find_gate(caller, &gate).ok_or(ServiceError::Behind)?;
        Ok((view, new))
    }

    /// Returns a pool or a limit.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn gate(&self, caller: &Caller, gate: &Gate) -> Result<GateView, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        self.find_gate(caller, gate).ok_or_else(|| no_such(gate))
    }

    /// Lists pools, or limits.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn gates(&self, caller: &Caller, kind: GateKind) -> Result<Vec<GateView>, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        Ok(self.parts.machine.read(|replica| {
            let Some(tenant) = replica.tenant_number(caller.tenant()) else { return Vec::new() };
            let gates = replica.queue().gates(tenant).filter(|(gate, _)| kind.has(gate));
            gates.map(|(gate, stock)| GateView::of(replica, tenant, gate, stock)).collect()
        }))
    }

    /// Deletes a limit, or a pool that no task names.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn delete_gate(&self, caller: &Caller, gate: Gate) -> Result<(), ServiceError> {
        caller.may(Permission::ManageTenant)?;
        self.carry_out(caller, Intent::DeleteGate { gate }).await.map(|_| ())
    }

    fn find_gate(&self, caller: &Caller, gate: &Gate) -> Option<GateView> {
        self.parts.machine.read(|replica| {
            let tenant = replica.tenant_number(caller.tenant())?;
            let stock = replica.queue().gate(tenant, gate)?;
            Some(GateView::of(replica, tenant, gate, stock))
        })
    }
}

impl GateView {
    fn of(replica: &Replica, tenant: TenantId, gate: &Gate, stock: &Stock) -> Self {
        let claimant = |execution: ExecutionId| {
            let open = replica.execution(execution)?;
            Some(Claimant { execution, task: open.task, share: gate.share_of(open)? })
        };
        let (waiting, waiters) = replica.queue().waiting_at(tenant, gate);
        let mut waiters: Vec<(u64, ExecutionId)> = waiters.collect();
        if waiters.len() > SHOWN_MAX {
            // A hundred of a hundred thousand: the rest need no order.
            waiters.select_nth_unstable(SHOWN_MAX);
            waiters.truncate(SHOWN_MAX);
        }
        waiters.sort_unstable();
        let holders = stock.holders.keys().filter_map(|execution| claimant(*execution));
        Self {
            gate: gate.clone(),
            capacity: stock.capacity,
            held: stock.held(),
            waiting,
            holders: holders.take(SHOWN_MAX).collect(),
            waiters: waiters.into_iter().filter_map(|(_, execution)| claimant(execution)).collect(),
            version: stock.version,
            updated_at: stock.updated_at,
            tasks: match gate {
                Gate::Pool(name) => replica.pool_users(tenant, name),
                Gate::Label(_) | Gate::Queue(_) | Gate::Tenant => 0,
            },
        }
    }
}

fn no_such(gate: &Gate) -> ServiceError {
    ServiceError::Rejected(match gate {
        Gate::Pool(name) => Rejection::NoSuchPool { name: Arc::clone(name) },
        Gate::Label(_) | Gate::Queue(_) | Gate::Tenant => Rejection::NoSuchLimit,
    })
}
