//! What a command does to workers: join, drain, lose, and take back what the lost ones held.
//!
//! A worker drains because its node is about to stop, which ends with that start, or because somebody drained the node,
//! which holds for every start of it until it is taken back.

use std::collections::BTreeSet;

use super::Replica;
use super::apply::{Step, within};
use super::placement::{Condition, Worker};
use crate::answer::{Accepted, Rejection};
use crate::command::Request;
use crate::event::{Event, Placing};
use crate::execution::decide as execution_rules;
use crate::identifier::{ExecutionId, Incarnation, NodeId, TenantId};
use crate::limits::{DRAINED_NODES_MAX, LOSSES_PER_COMMAND_MAX, SLOTS_MAX};
use crate::timestamp::Timestamp;

impl Replica {
    /// Lets what is known of a worker change the state.
    pub(super) fn evolve_worker(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::WorkerJoined { node, incarnation, slots, offers } => {
                let worker = Worker {
                    slots: *slots,
                    offers: offers.clone(),
                    condition: self.condition_of(*node),
                    held: BTreeSet::new(),
                    reports: 0,
                };
                self.workers.insert((*node, *incarnation), worker);
            }
            Event::WorkerDraining { node, incarnation } => {
                if let Some(worker) = self.workers.get_mut(&(*node, *incarnation)) {
                    worker.condition = Condition::Draining;
                }
            }
            Event::WorkerLost { node, incarnation } => {
                let key = (*node, *incarnation);
                self.gone.insert(key, at);
                let Some(worker) = self.workers.get_mut(&key) else { return };
                worker.condition = Condition::Lost;
                if worker.held.is_empty() {
                    self.workers.remove(&key);
                }
            }
            Event::WorkerReported { node, incarnation, sequence } => {
                if let Some(worker) = self.workers.get_mut(&(*node, *incarnation)) {
                    worker.reports = *sequence;
                }
            }
            _ => {}
        }
    }

    /// Lets every start of a node take nothing new, or something again. One that stops at the same time says so once more.
    pub(super) fn evolve_drain(&mut self, node: NodeId, drained: bool) {
        if drained {
            self.drained.insert(node);
        } else {
            self.drained.remove(&node);
        }
        let condition = self.condition_of(node);
        for ((other, _), worker) in &mut self.workers {
            if *other == node && worker.condition != Condition::Lost {
                worker.condition = condition;
            }
        }
        self.queue.staff(&self.workers);
    }

    fn condition_of(&self, node: NodeId) -> Condition {
        if self.drained.contains(&node) { Condition::Draining } else { Condition::Ready }
    }
}

impl Step<'_> {
    pub(super) fn change_worker(&mut self, request: &Request) -> Result<Accepted, Rejection> {
        match request {
            Request::JoinWorker { node, incarnation, slots, offers } => {
                // A join that comes late must not push out the start that took the lost one's place.
                if self.replica.gone.contains_key(&(*node, *incarnation)) {
                    return Err(Rejection::UnknownWorker);
                }
                if self.replica.workers.contains_key(&(*node, *incarnation)) {
                    return Ok(Accepted::Done);
                }
                within("slots", *slots as usize, SLOTS_MAX as usize)?;
                let earlier: Vec<Incarnation> = self
                    .replica
                    .workers
                    .iter()
                    .filter(|((other, _), worker)| other == node && worker.condition != Condition::Lost)
                    .map(|((_, incarnation), _)| *incarnation)
                    .collect();
                for incarnation in earlier {
                    self.record(TenantId::CLUSTER, Event::WorkerLost { node: *node, incarnation });
                }
                let (node, incarnation) = (*node, *incarnation);
                let event = Event::WorkerJoined { node, incarnation, slots: *slots, offers: offers.clone() };
                self.record(TenantId::CLUSTER, event);
                self.take_back_lost();
            }
            Request::DrainWorker { node, incarnation }
                if self.known_worker(*node, *incarnation)? == Condition::Ready =>
            {
                let event = Event::WorkerDraining { node: *node, incarnation: *incarnation };
                self.record(TenantId::CLUSTER, event);
            }
            Request::LoseWorker { node, incarnation } => {
                self.known_worker(*node, *incarnation)?;
                let event = Event::WorkerLost { node: *node, incarnation: *incarnation };
                self.record(TenantId::CLUSTER, event);
                self.take_back_lost();
            }
            _ => {}
        }
        Ok(Accepted::Done)
    }

    pub(super) fn drain_node(&mut self, node: NodeId, drained: bool) -> Result<Accepted, Rejection> {
        let event = match (self.replica.drained.contains(&node), drained) {
            (false, true) => {
                within("drained nodes", self.replica.drained.len() + 1, DRAINED_NODES_MAX)?;
                Placing::NodeDrained { node }
            }
            (true, false) => Placing::NodeUndrained { node },
            _ => return Ok(Accepted::Done),
        };
        self.record(TenantId::CLUSTER, Event::Placement(event));
        Ok(Accepted::Done)
    }

    fn known_worker(&self, node: NodeId, incarnation: Incarnation) -> Result<Condition, Rejection> {
        let worker = self.replica.workers.get(&(node, incarnation)).ok_or(Rejection::UnknownWorker)?;
        if worker.condition == Condition::Lost { Err(Rejection::UnknownWorker) } else { Ok(worker.condition) }
    }

    /// Takes back what lost workers held, up to the bound.
    pub(super) fn take_back_lost(&mut self) {
        let held: Vec<ExecutionId> = self
            .replica
            .workers
            .values()
            .filter(|worker| worker.condition == Condition::Lost)
            .flat_map(|worker| worker.held.iter().copied())
            .take(LOSSES_PER_COMMAND_MAX)
            .collect();
        for id in held {
            let Some(open) = self.replica.executions.get(&id).cloned() else { continue };
            let Some(grant) = open.grant() else { continue };
            self.record(open.tenant, execution_rules::lose(&open, grant));
            self.go_on_after(&open);
        }
    }
}
