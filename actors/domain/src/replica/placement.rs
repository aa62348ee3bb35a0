//! Who gets which attempt: the queue of executions that wait for a worker, and the workers with what they hold.
//!
//! Placement is state. Nothing proposes an assignment; whenever something changed, [`next_grant`] says who is next, and
//! every replica says the same. Highest priority first, then the order of queueing; the worker with the most free slots,
//! and of equals the one on the lowest node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Offers, Programs};
use crate::execution::state::Execution;
use crate::identifier::{ExecutionId, Incarnation, NodeId, TenantId};
use crate::limits::PRIORITY_MAX;
use crate::planted::{self, Bug};
use crate::task::rules::Requirement;

/// Executions that wait for a worker, apart by what a worker must offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    lanes: BTreeMap<Requirement, BTreeMap<Turn, ExecutionId>>,
    /// What waits for workers outside the cluster, which take it themselves.
    leasable: BTreeMap<(TenantId, Arc<str>), BTreeMap<Turn, ExecutionId>>,
    length: usize,
}

/// A place in the queue: higher priorities come first, then lower turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    below_highest: u8,
    turn: u64,
}

impl Turn {
    fn of(execution: &Execution) -> Self {
        Self { below_highest: PRIORITY_MAX.saturating_sub(execution.priority), turn: execution.turn }
    }
}

impl Queue {
    /// Puts an execution into its place.
    pub fn push(&mut self, execution: &Execution) {
        let requirement = &execution.rules.requirement;
        let lane = match requirement {
            Requirement::Queue(queue) => self.leasable.entry((execution.tenant, queue.clone())).or_default(),
            _ => match self.lanes.get_mut(requirement) {
                Some(lane) => lane,
                None => self.lanes.entry(requirement.clone()).or_default(),
            },
        };
        if lane.insert(Turn::of(execution), execution.id).is_none() {
            self.length += 1;
        }
    }

    /// Takes an execution out, if it is there.
    pub fn remove(&mut self, execution: &Execution) {
        if let Requirement::Queue(queue) = &execution.rules.requirement {
            let key = (execution.tenant, queue.clone());
            let Some(lane) = self.leasable.get_mut(&key) else { return };
            if lane.remove(&Turn::of(execution)).is_some() {
                self.length -= 1;
            }
            if lane.is_empty() {
                self.leasable.remove(&key);
            }
            return;
        }
        let Some(lane) = self.lanes.get_mut(&execution.rules.requirement) else { return };
        if lane.remove(&Turn::of(execution)).is_some() {
            self.length -= 1;
        }
        if lane.is_empty() {
            self.lanes.remove(&execution.rules.requirement);
        }
    }

    /// What is next in a queue of a tenant, for a worker outside the cluster.
    #[must_use]
    pub fn next_of(&self, tenant: TenantId, queue: &Arc<str>) -> Option<ExecutionId> {
        self.leasable.get(&(tenant, queue.clone()))?.values().next().copied()
    }

    /// How many wait in a queue of a tenant.
    #[must_use]
    pub fn waiting_in(&self, tenant: TenantId, queue: &Arc<str>) -> usize {
        self.leasable.get(&(tenant, queue.clone())).map_or(0, BTreeMap::len)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// One start of one node's dispatcher, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Attempts at once.
    pub slots: u32,
    /// What it can carry out.
    pub offers: Offers,
    /// Whether it takes something new.
    pub condition: Condition,
    /// The executions whose attempts it has.
    pub held: BTreeSet<ExecutionId>,
    /// The number of its last report.
    pub reports: u64,
}

/// Whether a worker takes something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// It does.
    Ready,
    /// It finishes what it has.
    Draining,
    /// It is gone; what it held is being taken back.
    Lost,
}

/// Workers by node and start.
pub type Workers = BTreeMap<(NodeId, Incarnation), Worker>;

impl Worker {
    /// Attempts that it could take now.
    #[must_use]
    pub fn free(&self) -> u32 {
        match self.condition {
            Condition::Ready => self.slots.saturating_sub(u32::try_from(self.held.len()).unwrap_or(u32::MAX)),
            Condition::Draining | Condition::Lost => 0,
        }
    }

    /// Whether it can carry such an attempt out.
    #[must_use]
    pub fn meets(&self, requirement: &Requirement) -> bool {
        match requirement {
            Requirement::Builtin => self.offers.builtin,
            Requirement::Http => self.offers.http,
            Requirement::Process(program) => match &self.offers.programs {
                Programs::Any => true,
                Programs::Listed(listed) => listed.contains(program),
            },
            Requirement::Queue(_) => false,
        }
    }
}

/// Says which execution is granted next, and to whom; `None` when nobody can take anything.
#[must_use]
pub fn next_grant(queue: &Queue, workers: &Workers) -> Option<(ExecutionId, NodeId, Incarnation)> {
    queue
        .lanes
        .iter()
        .filter_map(|(requirement, lane)| {
            let (turn, execution) = lane.first_key_value()?;
            let (key, _) = workers
                .iter()
                .filter(|(_, worker)| worker.free() > 0 && worker.meets(requirement))
                .max_by(|(left_key, left), (right_key, right)| {
                    if planted::has(Bug::HashOrder) {
                        return hashed(left_key).cmp(&hashed(right_key));
                    }
                    left.free().cmp(&right.free()).then_with(|| right_key.cmp(left_key))
                })?;
            Some((*turn, *execution, key.0, key.1))
        })
        .min_by_key(|(turn, ..)| *turn)
        .map(|(_, execution, node, incarnation)| (execution, node, incarnation))
}

/// Where a hash map of this process would have a key.
fn hashed(key: &(NodeId, Incarnation)) -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(key)
}
