//! How gates, breakers and paused queues change, and what is told of them.

use std::sync::Arc;

use super::breakers::{Breaker, BreakerState};
use super::gates::{Gate, Stock};
use super::party::target_of;
use super::queue::Queue;
use super::tracks::Door;
use crate::execution::state::{Execution, Stage};
use crate::identifier::{ExecutionId, TenantId};
use crate::limits::BREAKERS_MAX;
use crate::task::rules::Requirement;
use crate::timestamp::Timestamp;

impl Gate {
    /// How much an execution takes of it while it runs.
    #[must_use]
    pub fn share_of(&self, execution: &Execution) -> Option<u32> {
        let claims = execution.rules.claims.as_ref();
        match self {
            Self::Pool(name) => claims?.resources.get(name).copied(),
            Self::Label(label) => claims?.labels.contains(label).then_some(1),
            Self::Queue(queue) => {
                let needs =
                    matches!(&execution.rules.requirement, Requirement::Queue(other) if other == queue);
                needs.then_some(1)
            }
            Self::Tenant => Some(1),
        }
    }
}

impl Queue {
    /// A tenant's gate.
    #[must_use]
    pub fn gate(&self, tenant: TenantId, gate: &Gate) -> Option<&Stock> {
        self.parties.get(&tenant)?.gates.get(gate)
    }

    /// A tenant's gates.
    pub fn gates(&self, tenant: TenantId) -> impl Iterator<Item = (&Gate, &Stock)> {
        self.parties.get(&tenant).into_iter().flat_map(|party| &party.gates)
    }

    /// What waits at a gate or would have to pass it, in no order, each with its turn, and how many that are.
    pub fn waiting_at(
        &self,
        tenant: TenantId,
        gate: &Gate,
    ) -> (usize, impl Iterator<Item = (u64, ExecutionId)>) {
        let party = self.parties.get(&tenant);
        let tracks = party.into_iter().flat_map(|party| &party.tracks);
        let gate = gate.clone();
        let concerned = tracks.filter(move |(key, _)| {
            gate == Gate::Tenant || key.demands.iter().any(|(other, _)| *other == gate)
        });
        let concerned: Vec<_> = concerned.map(|(_, track)| track).collect();
        let count = concerned.iter().map(|track| track.length).sum();
        (count, concerned.into_iter().flat_map(|track| track.all()))
    }

    /// A gate has this capacity and version now. `open` are the tenant's open executions.
    pub(in crate::replica) fn put_gate<'a>(
        &mut self,
        tenant: TenantId,
        gate: &Gate,
        (capacity, version, at): (u32, u32, Timestamp),
        open: impl Iterator<Item = &'a Execution>,
    ) {
        if self.gate(tenant, gate).is_some() {
            self.change(tenant, |party| {
                if let Some(stock) = party.gates.get_mut(gate) {
                    (stock.capacity, stock.version, stock.updated_at) = (capacity, version, at);
                }
                party.touch_all();
            });
            return;
        }
        self.place_anew(gate, open, |queue, running| {
            queue.change(tenant, |party| {
                let mut stock = Stock::new(capacity, version, at);
                running.iter().for_each(|(id, amount)| stock.take(*id, *amount));
                party.gates.insert(gate.clone(), stock);
                party.touch_all();
            });
        });
    }

    /// There is no such gate any more.
    pub(in crate::replica) fn delete_gate<'a>(
        &mut self,
        tenant: TenantId,
        gate: &Gate,
        open: impl Iterator<Item = &'a Execution>,
    ) {
        self.place_anew(gate, open, |queue, _| {
            queue.change(tenant, |party| {
                party.gates.remove(gate);
                party.touch_all();
            });
        });
    }

    /// Lets `change` make or take away a gate, and puts what waits at it into the place that it has then.
    fn place_anew<'a>(
        &mut self,
        gate: &Gate,
        open: impl Iterator<Item = &'a Execution>,
        change: impl FnOnce(&mut Self, &[(ExecutionId, u32)]),
    ) {
        let (mut waiting, mut running) = (Vec::new(), Vec::new());
        for execution in open {
            let Some(share) = gate.share_of(execution) else { continue };
            match execution.stage {
                Stage::Queued if *gate != Gate::Tenant => waiting.push(execution),
                Stage::Running(_) => running.push((execution.id, share)),
                _ => {}
            }
        }
        waiting.iter().for_each(|execution| self.remove(execution));
        change(self, &running);
        waiting.iter().for_each(|execution| self.push(execution));
    }

    /// Whether nothing of a queue is granted.
    #[must_use]
    pub fn is_paused(&self, tenant: TenantId, queue: &Arc<str>) -> bool {
        self.parties.get(&tenant).is_some_and(|party| party.paused.contains(queue))
    }

    /// A tenant's queues of which nothing is granted.
    pub fn paused(&self, tenant: TenantId) -> impl Iterator<Item = &Arc<str>> {
        self.parties.get(&tenant).into_iter().flat_map(|party| &party.paused)
    }

    pub(in crate::replica) fn pause(&mut self, tenant: TenantId, queue: &Arc<str>) {
        self.change(tenant, |party| {
            party.paused.insert(queue.clone());
            party.touch_all();
        });
    }

    pub(in crate::replica) fn resume(&mut self, tenant: TenantId, queue: &Arc<str>) {
        self.change(tenant, |party| {
            party.paused.remove(queue);
            party.touch_all();
        });
    }

    /// What is known of a tenant's target.
    #[must_use]
    pub fn breaker(&self, tenant: TenantId, target: &str) -> Option<&Breaker> {
        self.parties.get(&tenant)?.breakers.get(target)
    }

    /// What is known of a tenant's targets.
    pub fn breakers_of(&self, tenant: TenantId) -> impl Iterator<Item = (&Arc<str>, &Breaker)> {
        self.parties.get(&tenant).into_iter().flat_map(|party| &party.breakers)
    }

    /// Every breaker of every tenant.
    pub fn breakers(&self) -> impl Iterator<Item = (TenantId, &Arc<str>, &Breaker)> {
        self.parties
            .iter()
            .flat_map(|(tenant, party)| party.breakers.iter().map(|(target, known)| (*tenant, target, known)))
    }

    /// How many wait for a target.
    #[must_use]
    pub fn waiting_for_target(&self, tenant: TenantId, target: &str) -> usize {
        let Some(party) = self.parties.get(&tenant) else { return 0 };
        party.tracks.values().map(|track| track.waiting_for_target(target)).sum()
    }

    /// Hears that a target did what it was asked, or failed. In a row counts while it is called.
    pub(in crate::replica) fn heard(&mut self, execution: &Execution, answered: bool, at: Timestamp) {
        let Some(target) = target_of(execution) else { return };
        self.change(execution.tenant, |party| match party.breakers.get_mut(&target) {
            Some(known) if known.state == BreakerState::Closed => {
                if answered {
                    known.failures = 0;
                } else {
                    (known.failures, known.failed_at) = (known.failures.saturating_add(1), at);
                }
            }
            Some(_) => {}
            None if answered => {}
            None => {
                if party.breakers.len() >= BREAKERS_MAX {
                    // Whatever failed the longest ago makes room, so that whoever fails now is counted.
                    let known = party.breakers.iter();
                    let known = known.filter_map(|(target, known)| Some((known.worth()?, target)));
                    let Some((_, least)) = known.min() else { return };
                    let least = least.clone();
                    party.breakers.remove(&least);
                }
                party.breakers.insert(target, Breaker { failures: 1, ..Breaker::new(at) });
            }
        });
    }

    pub(in crate::replica) fn set_breaker(
        &mut self,
        tenant: TenantId,
        target: &Arc<str>,
        state: BreakerState,
        at: Timestamp,
    ) {
        self.change(tenant, |party| {
            let known = party.breakers.entry(target.clone()).or_insert_with(|| Breaker::new(at));
            (known.state, known.changed_at) = (state, at);
            if state == BreakerState::Closed {
                known.failures = 0;
            }
            party.knock(&Door::Target(target.clone()));
        });
    }
}
