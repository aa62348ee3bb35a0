//! What commands do to pools, limits, queues and the places of executions in them.

use std::sync::Arc;

use super::Replica;
use super::apply::Step;
use super::placement::{BreakerState, Gate};
use crate::answer::{Accepted, Rejection};
use crate::event::{Event, Placing};
use crate::execution::state::Status;
use crate::identifier::{ExecutionId, TenantId};
use crate::limits::{LIMITS_MAX, PAUSED_QUEUES_MAX, POOLS_MAX, RESOURCES_PER_TASK_MAX};
use crate::record::Record;
use crate::task::rules::Rules;

impl Replica {
    /// How many tasks ask for shares of a pool.
    #[must_use]
    pub fn pool_users(&self, tenant: TenantId, name: &str) -> u64 {
        self.pool_users.of(tenant, name)
    }

    pub(super) fn evolve_placement(&mut self, record: &Record, placing: &Placing) {
        let (tenant, at) = (record.header.tenant, record.header.at);
        let open = self.executions.values().map(|open| &**open).filter(|open| open.tenant == tenant);
        match placing {
            Placing::GatePut { gate, version, capacity } => {
                self.queue.put_gate(tenant, gate, (*capacity, *version, at), open);
            }
            Placing::GateDeleted { gate } => self.queue.delete_gate(tenant, gate, open),
            Placing::QueuePaused { queue } => self.queue.pause(tenant, queue),
            Placing::QueueResumed { queue } => self.queue.resume(tenant, queue),
            Placing::BreakerOpened { target, until, .. } => {
                self.queue.set_breaker(tenant, target, BreakerState::Open { until: *until }, at);
            }
            Placing::BreakerHalfOpened { target } => {
                self.queue.set_breaker(tenant, target, BreakerState::HalfOpen { probe: None }, at);
            }
            Placing::BreakerClosed { target, .. } => {
                self.queue.set_breaker(tenant, target, BreakerState::Closed, at);
            }
            Placing::NodeDrained { node } => self.evolve_drain(*node, true),
            Placing::NodeUndrained { node } => self.evolve_drain(*node, false),
            Placing::QueueAttended { queue, until } => self.queue.attend(tenant, queue, *until),
            Placing::QueueUnattended { queue } => self.queue.leave(tenant, queue),
        }
    }
}

impl Step<'_> {
    pub(super) fn put_gate(&mut self, gate: &Gate, capacity: u32) -> Result<Accepted, Rejection> {
        let queue = &self.replica.queue;
        let is_pool = matches!(gate, Gate::Pool(_));
        let version = match queue.gate(self.tenant, gate) {
            Some(stock) if stock.capacity == capacity => {
                return Ok(Accepted::Gate { version: stock.version });
            }
            Some(stock) => stock.version.saturating_add(1),
            None => {
                let alike =
                    queue.gates(self.tenant).filter(|(other, _)| matches!(other, Gate::Pool(_)) == is_pool);
                let (what, limit) = if is_pool { ("pools", POOLS_MAX) } else { ("limits", LIMITS_MAX) };
                if alike.count() >= limit {
                    return Err(Rejection::TooMany { what: what.into(), limit: limit as u64 });
                }
                1
            }
        };
        self.record(
            self.tenant,
            Event::Placement(Placing::GatePut { gate: gate.clone(), version, capacity }),
        );
        Ok(Accepted::Gate { version })
    }

    pub(super) fn delete_gate(&mut self, gate: &Gate) -> Result<Accepted, Rejection> {
        if self.replica.queue.gate(self.tenant, gate).is_none() {
            return Err(match gate {
                Gate::Pool(name) => Rejection::NoSuchPool { name: name.clone() },
                _ => Rejection::NoSuchLimit,
            });
        }
        if let Gate::Pool(name) = gate {
            let names_it = |rules: &Rules| rules.pools().any(|pool| pool == name);
            let promised = self.replica.promised(self.tenant, names_it);
            match self.replica.pool_users(self.tenant, name) + promised {
                0 => {}
                tasks => return Err(Rejection::PoolInUse { name: name.clone(), tasks }),
            }
        }
        self.record(self.tenant, Event::Placement(Placing::GateDeleted { gate: gate.clone() }));
        Ok(Accepted::Done)
    }

    /// Refuses a task that asks for a pool that is not there, or for more of one than there is.
    pub(super) fn pools_suffice(&self, tenant: TenantId, rules: &Rules) -> Result<(), Rejection> {
        let Some(claims) = &rules.claims else { return Ok(()) };
        if claims.resources.len() > RESOURCES_PER_TASK_MAX {
            let limit = RESOURCES_PER_TASK_MAX as u64;
            return Err(Rejection::TooMany { what: "pools of one task".into(), limit });
        }
        for (name, asked) in &claims.resources {
            let pool = self.replica.queue.gate(tenant, &Gate::Pool(name.clone()));
            let pool = pool.ok_or_else(|| Rejection::NoSuchPool { name: name.clone() })?;
            if *asked > pool.capacity {
                let (name, asked, capacity) = (name.clone(), *asked, pool.capacity);
                return Err(Rejection::PoolTooSmall { name, asked, capacity });
            }
        }
        Ok(())
    }

    pub(super) fn pause_queue(&mut self, queue: &Arc<str>, paused: bool) -> Result<Accepted, Rejection> {
        let known = self.replica.queue.is_paused(self.tenant, queue);
        match (known, paused) {
            (false, true) => {
                if self.replica.queue.paused(self.tenant).count() >= PAUSED_QUEUES_MAX {
                    let limit = PAUSED_QUEUES_MAX as u64;
                    return Err(Rejection::TooMany { what: "paused queues".into(), limit });
                }
                self.record(self.tenant, Event::Placement(Placing::QueuePaused { queue: queue.clone() }));
            }
            (true, false) => {
                self.record(self.tenant, Event::Placement(Placing::QueueResumed { queue: queue.clone() }))
            }
            _ => {}
        }
        Ok(Accepted::Done)
    }

    pub(super) fn set_priority(&mut self, id: ExecutionId, priority: u8) -> Result<Accepted, Rejection> {
        let open = self.replica.executions.get(&id).filter(|open| open.tenant == self.tenant);
        let open = open.ok_or(Rejection::NoSuchExecution)?;
        let (status, task) = (open.status(), open.task);
        if status != Status::Queued {
            return Err(Rejection::WrongStatus { status });
        }
        if open.priority != priority {
            let event = Event::TaskPriorityChanged { task, execution: id, priority };
            self.record(self.tenant, event);
        }
        Ok(Accepted::Execution { execution: id, status })
    }
}
