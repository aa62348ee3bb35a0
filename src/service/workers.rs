//! The workers and what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::command::Programs;
use escapement_domain::execution::state::Holder;
use escapement_domain::identifier::{ExecutionId, Incarnation, NodeId, TaskId};
use escapement_domain::replica::placement::Condition;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use crate::security::Permission;

/// Executions of one worker that are told by name.
const HELD_SHOWN_MAX: usize = 1_000;

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// Its node.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
    /// Whether it takes something new.
    pub state: WorkerState,
    /// Attempts at once.
    pub slots: u32,
    /// Attempts that it has, of all tenants.
    pub running: usize,
    /// The attempts that it has of the caller's tenant: execution and task.
    pub holds: Vec<(ExecutionId, TaskId)>,
    /// Whether it calls URLs.
    pub http: bool,
    /// Whether it carries out the scheduler's own operations.
    pub builtin: bool,
    /// Which programs it runs; none means any.
    pub programs: Option<Vec<Arc<str>>>,
}

/// A worker outside the cluster that has something, or waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutsideWorkerView {
    /// What it calls itself.
    pub name: Arc<str>,
    /// How many executions of the caller's tenant it has.
    pub running: usize,
    /// Which: execution and task.
    pub holds: Vec<(ExecutionId, TaskId)>,
}

/// Whether a worker takes something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It does.
    Ready,
    /// It finishes what it has.
    Draining,
    /// It is gone; what it held is being taken back.
    Lost,
}

impl WorkerState {
    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Lost => "lost",
        }
    }
}

impl From<Condition> for WorkerState {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Ready => Self::Ready,
            Condition::Draining => Self::Draining,
            Condition::Lost => Self::Lost,
        }
    }
}

/// What a node does as a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeWork {
    /// Whether its latest start takes something new; none if it is not there.
    pub state: Option<WorkerState>,
    /// Attempts that it has.
    pub running: usize,
    /// Whether somebody drained it.
    pub drained: bool,
}

impl Service {
    /// The workers, by node, and what they hold of the caller's tenant.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn workers(&self, caller: &Caller) -> Result<Vec<WorkerView>, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        Ok(self.parts.machine.read(|replica| {
            let tenant = replica.tenant_number(caller.tenant());
            let held = |id: &ExecutionId| {
                let open = replica.execution(*id)?;
                (Some(open.tenant) == tenant).then_some((*id, open.task))
            };
            let workers = replica.workers().iter().map(|((node, incarnation), worker)| WorkerView {
                node: *node,
                incarnation: *incarnation,
                state: worker.condition.into(),
                slots: worker.slots,
                running: worker.held.len(),
                holds: worker.held.iter().filter_map(held).take(HELD_SHOWN_MAX).collect(),
                http: worker.offers.http,
                builtin: worker.offers.builtin,
                programs: match &worker.offers.programs {
                    Programs::Any => None,
                    Programs::Listed(listed) => Some(listed.clone()),
                },
            });
            workers.collect()
        }))
    }

    /// The workers outside the cluster that have something of the caller's tenant or wait for it, by their names. Who waits is known
    /// to the node that it called alone: those who do so on other nodes come with the question.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn outside_workers(
        &self,
        caller: &Caller,
        elsewhere: Vec<Arc<str>>,
    ) -> Result<Vec<OutsideWorkerView>, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        let mut workers = BTreeMap::<Arc<str>, OutsideWorkerView>::new();
        for name in self.parts.queues.waiting(caller.tenant()).into_iter().chain(elsewhere) {
            let idle = OutsideWorkerView { name: name.clone(), ..OutsideWorkerView::default() };
            workers.insert(name, idle);
        }
        self.parts.machine.read(|replica| {
            let tenant = replica.tenant_number(caller.tenant());
            for open in replica.leased().filter(|open| Some(open.tenant) == tenant) {
                let Some(Holder::Outside { worker, .. }) = open.grant().map(|grant| &grant.holder) else {
                    continue;
                };
                let view = workers.entry(worker.clone()).or_default();
                view.name = worker.clone();
                view.running += 1;
                if view.holds.len() < HELD_SHOWN_MAX {
                    view.holds.push((open.id, open.task));
                }
            }
        });
        Ok(workers.into_values().collect())
    }

    /// What the nodes do as workers, of all tenants: those that are there, and those that somebody drained.
    pub(super) fn node_work(&self) -> BTreeMap<NodeId, NodeWork> {
        self.parts.machine.read(|replica| {
            let mut work = BTreeMap::<NodeId, NodeWork>::new();
            for ((node, _), worker) in replica.workers() {
                let of_node = work.entry(*node).or_default();
                of_node.state = Some(worker.condition.into());
                of_node.running += worker.held.len();
            }
            for node in replica.drained() {
                work.entry(*node).or_default().drained = true;
            }
            work
        })
    }

    /// How many workers take something new.
    pub(super) fn workers_ready(&self) -> usize {
        self.parts.machine.read(|replica| {
            replica.workers().values().filter(|worker| worker.condition == Condition::Ready).count()
        })
    }
}
