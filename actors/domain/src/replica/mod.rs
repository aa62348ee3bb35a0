//! The replicated state: every tenant, task, open execution and worker, and the one way in which it changes.
//!
//! [`Replica::apply`] turns a committed command into records. It decides piece by piece on the state as it then is, and
//! each decided event is chained and evolved at once, so that what follows sees it. After every command what can be
//! granted is granted.
//!
//! Invariants: state changes only by a record, so a fold over the records of all tenants in order of (log index,
//! ordinal) gives the same state; the work of one command is bounded, and what is left over is [`Replica::left_over`].
//! Absent on purpose: effects. Nothing is started, sent or stored here.

mod apply;
pub mod backfills;
mod breakers;
mod bulk;
pub mod calendars;
pub mod causes;
pub mod chains;
mod evolve;
mod executions;
mod gates;
mod leases;
mod listeners;
pub mod placement;
mod publications;
pub mod slots;
pub mod snapshot;
mod tasks;
mod users;
pub mod window;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::execution::state::Execution;
use crate::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TaskId, TenantId};
use crate::record::ChainHead;
use crate::task::state::Task;
use crate::timestamp::Timestamp;

use backfills::Backfill;
use bulk::Bulk;
use calendars::Calendars;
use chains::Chains;
use listeners::Listeners;
use placement::{Condition, Interned, Queue, Workers};
use publications::Publications;
use slots::Slots;
use users::Users;
use window::Window;

/// The name of the tenant to which the cluster's own events belong; no client can carry it.
pub const CLUSTER_TENANT: &str = "$cluster";

/// The replicated state.
#[derive(Clone, Debug)]
pub struct Replica {
    logged: Timestamp,
    tenants: Vec<Tenant>,
    tenant_numbers: BTreeMap<Arc<str>, TenantId>,
    tasks: Slots,
    task_slots: BTreeMap<(TenantId, TaskId), u32>,
    executions: BTreeMap<ExecutionId, Arc<Execution>>,
    reopened: BTreeMap<ExecutionId, (u64, Timestamp)>,
    queue: Queue,
    claims: Interned,
    pool_users: Users,
    workers: Workers,
    /// Executions that workers outside the cluster have.
    leased: BTreeSet<ExecutionId>,
    /// Starts of workers that were lost, and when, for as long as commands are remembered.
    gone: BTreeMap<(NodeId, Incarnation), Timestamp>,
    /// Nodes that somebody drained.
    drained: BTreeSet<NodeId>,
    window: Window,
    bulks: BTreeMap<CommandId, Bulk>,
    backfills: BTreeMap<CommandId, Backfill>,
    /// Which tasks listen to which events.
    listeners: Listeners,
    publications: Publications,
    calendars: Calendars,
    chains: Chains,
    /// The version of the zone data by which every task is planned; empty if none was adopted.
    zone_data: Arc<str>,
    turns: u64,
    revisions: u64,
}

/// A tenant and the end of its chain of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub name: Arc<str>,
    /// The end of its chain.
    pub head: ChainHead,
}

impl Default for Replica {
    fn default() -> Self {
        let cluster = Tenant { name: CLUSTER_TENANT.into(), head: ChainHead::default() };
        Self {
            logged: Timestamp::MIN,
            tenant_numbers: BTreeMap::from([(cluster.name.clone(), TenantId::CLUSTER)]),
            tenants: vec![cluster],
            tasks: Slots::default(),
            task_slots: BTreeMap::new(),
            executions: BTreeMap::new(),
            reopened: BTreeMap::new(),
            queue: Queue::default(),
            claims: Interned::default(),
            pool_users: Users::default(),
            workers: Workers::new(),
            leased: BTreeSet::new(),
            gone: BTreeMap::new(),
            drained: BTreeSet::new(),
            window: Window::default(),
            bulks: BTreeMap::new(),
            backfills: BTreeMap::new(),
            listeners: Listeners::default(),
            publications: Publications::default(),
            calendars: Calendars::default(),
            chains: Chains::default(),
            zone_data: Arc::default(),
            turns: 0,
            revisions: 0,
        }
    }
}

impl Replica {
    /// The latest instant that a leader stamped.
    #[must_use]
    pub fn logged(&self) -> Timestamp {
        self.logged
    }

    /// The tenants, by number.
    #[must_use]
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// The number of a tenant, if it was heard of.
    #[must_use]
    pub fn tenant_number(&self, name: &str) -> Option<TenantId> {
        self.tenant_numbers.get(name).copied()
    }

    /// The name of a tenant.
    #[must_use]
    pub fn tenant_name(&self, number: TenantId) -> Option<&Arc<str>> {
        self.tenants.get(number.0 as usize).map(|tenant| &tenant.name)
    }

    /// A task of a tenant.
    #[must_use]
    pub fn task(&self, tenant: TenantId, task: TaskId) -> Option<&Task> {
        self.tasks.get(*self.task_slots.get(&(tenant, task))?)
    }

    /// The tasks of a tenant in order of their identifiers, after one of them.
    pub fn tasks_of(&self, tenant: TenantId, after: Option<TaskId>) -> impl Iterator<Item = &Task> {
        let from = after.map_or(std::ops::Bound::Included((tenant, TaskId(0))), |task| {
            std::ops::Bound::Excluded((tenant, task))
        });
        self.task_slots
            .range((from, std::ops::Bound::Included((tenant, TaskId(u128::MAX)))))
            .filter_map(|(_, slot)| self.tasks.get(*slot))
    }

    /// Every task by slot. A clone of it shares the tasks, and costs a pointer for each chunk.
    #[must_use]
    pub fn tasks(&self) -> &Slots {
        &self.tasks
    }

    /// An open execution.
    #[must_use]
    pub fn execution(&self, execution: ExecutionId) -> Option<&Arc<Execution>> {
        self.executions.get(&execution)
    }

    /// Every open execution.
    #[must_use]
    pub fn executions(&self) -> &BTreeMap<ExecutionId, Arc<Execution>> {
        &self.executions
    }

    /// The executions that wait for a worker.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The workers.
    #[must_use]
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The nodes that somebody drained: they take nothing new, whether or not they are there.
    #[must_use]
    pub fn drained(&self) -> &BTreeSet<NodeId> {
        &self.drained
    }

    /// Executions that workers outside the cluster have, in order of their names.
    pub fn leased(&self) -> impl Iterator<Item = &Arc<Execution>> {
        self.leased.iter().filter_map(|id| self.executions.get(id))
    }

    /// The remembered answers.
    #[must_use]
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// The version of the zone data by which every task is planned; empty if none was adopted yet.
    #[must_use]
    pub fn zone_data(&self) -> &Arc<str> {
        &self.zone_data
    }

    /// Bulks whose parts are staged and that are not committed, with the instant of their first part.
    pub fn staged(&self) -> impl Iterator<Item = (CommandId, Timestamp)> {
        self.bulks.iter().filter(|(_, bulk)| !bulk.committed()).map(|(id, bulk)| (*id, bulk.staged_at()))
    }

    /// Whether a bulk is staged, or committed and not created in full.
    #[must_use]
    pub fn has_bulk(&self, bulk: CommandId) -> bool {
        self.bulks.contains_key(&bulk)
    }

    /// Whether work is left over that a command did not get to; the leader proposes
    /// [`Request::Continue`](crate::command::Request::Continue) until it is not.
    #[must_use]
    pub fn left_over(&self) -> bool {
        self.bulks.values().any(Bulk::committed)
            || self.chains.left_over()
            || self.publications.left_over()
            || self.workers.values().any(|worker| worker.condition == Condition::Lost)
            || placement::next_grant(&self.queue, &self.workers).is_some()
    }
}

#[cfg(test)]
mod tests;
