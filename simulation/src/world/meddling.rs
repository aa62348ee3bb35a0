//! What operators do by hand to what holds up work: limits, the queue, breakers, priorities; and that they put it back.
//!
//! What they hold up is held up while the world is rough. When it heals they take limits, pauses and open breakers back, or it
//! would never come to rest.

use std::rc::Rc;
use std::sync::Arc;

use escapement::service::{Caller, Service, ServiceError};
use escapement_domain::identifier::TenantId;
use escapement_domain::replica::placement::{BreakerState, Gate};
use escapement_domain::task::claims::label;

use super::World;
use super::clients::TENANTS;
use crate::chance::Chance;
use crate::definitions::{LABEL, QUEUE};
use crate::evidence::{Done, Hold, Wish};

/// How often they look for what is left to put back, in ms.
const LOOK_MS: u64 = 400;

/// Puts back what is held up by hand once the world has healed, for as long as it goes on.
pub(super) async fn put_back(world: Rc<World>) {
    while !world.over.get() {
        if world.healed().is_some() {
            for (tenant, hold) in world.held_up() {
                let number = world.issue(tenant, Wish::Hold(hold), None);
                world.carry_out(number).await;
            }
        }
        world.pause(LOOK_MS).await;
    }
}

/// Has a service change what holds up work.
pub(super) async fn carry_out(service: &Service, caller: &Caller, hold: Hold) -> Result<Done, ServiceError> {
    match hold {
        Hold::PutGate(gate, capacity) => service.put_gate(caller, gate, capacity).await.map(drop),
        Hold::DeleteLimit(gate) => service.delete_gate(caller, gate).await,
        Hold::PauseQueue(paused) => service.pause_queue(caller, QUEUE, paused).await.map(drop),
        Hold::SetBreaker(target, open) => service.set_breaker(caller, &target, open).await.map(drop),
        Hold::Prioritise(id, priority) => {
            return service.set_priority(caller, id, priority).await.map(|row| Done::Execution(row.id));
        }
    }
    .map(|()| Done::Changed)
}

/// So much of something.
pub(super) fn some(chance: &mut Chance, (least, most): (u64, u64)) -> u32 {
    u32::try_from(chance.between(least, most)).unwrap_or(1)
}

/// The limits that are put, and how low and high.
fn limits() -> [(Gate, (u64, u64)); 3] {
    [
        (Gate::Label(label(LABEL.0, LABEL.1)), (1, 4)),
        (Gate::Queue(QUEUE.into()), (1, 5)),
        (Gate::Tenant, (4, 14)),
    ]
}

impl World {
    /// Something that an operator of a tenant does; none when there is nothing to do it to.
    pub(super) fn some_meddling(&self, tenant: &str, chance: &mut Chance) -> Option<Hold> {
        match chance.below(8) {
            0..=2 => {
                let limits = limits();
                let (gate, span) = limits[chance.index(limits.len())].clone();
                let there = self.has_gate(tenant, &gate) && chance.per_mille(400);
                Some(if there { Hold::DeleteLimit(gate) } else { Hold::PutGate(gate, some(chance, span)) })
            }
            3 => Some(Hold::PauseQueue(chance.per_mille(400))),
            4 | 5 => {
                let targets = self.breakers(tenant);
                let (target, _) = targets.get(chance.index(targets.len().max(1)))?;
                Some(Hold::SetBreaker(target.clone(), chance.per_mille(400)))
            }
            _ => {
                let execution = self.some_execution(tenant, chance, true)?;
                Some(Hold::Prioritise(execution, u8::try_from(chance.below(10)).unwrap_or(0)))
            }
        }
    }

    /// What is held up by hand, and how it is let go.
    fn held_up(&self) -> Vec<(&'static str, Hold)> {
        let mut holds = Vec::new();
        for tenant in TENANTS {
            let limits = limits().into_iter().map(|(gate, _)| gate);
            let put = limits.filter(|gate| self.has_gate(tenant, gate));
            holds.extend(put.map(|gate| (tenant, Hold::DeleteLimit(gate))));
            if self.is_queue_paused(tenant) {
                holds.push((tenant, Hold::PauseQueue(false)));
            }
            let open = self.breakers(tenant).into_iter().filter(|(_, by_hand)| *by_hand);
            holds.extend(open.map(|(target, _)| (tenant, Hold::SetBreaker(target, false))));
        }
        holds
    }

    fn number_of(&self, tenant: &str) -> Option<TenantId> {
        self.ledger.borrow().state().tenant_number(tenant)
    }

    fn has_gate(&self, tenant: &str, gate: &Gate) -> bool {
        let number = self.number_of(tenant);
        number.is_some_and(|number| self.ledger.borrow().state().queue().gate(number, gate).is_some())
    }

    fn is_queue_paused(&self, tenant: &str) -> bool {
        let number = self.number_of(tenant);
        number.is_some_and(|number| self.ledger.borrow().state().queue().is_paused(number, &QUEUE.into()))
    }

    /// The targets of a tenant of which something is known, and whether somebody has opened their breakers by hand.
    fn breakers(&self, tenant: &str) -> Vec<(Arc<str>, bool)> {
        let Some(number) = self.number_of(tenant) else { return Vec::new() };
        let ledger = self.ledger.borrow();
        let known = ledger.state().queue().breakers_of(number);
        known
            .map(|(target, known)| (target.clone(), known.state == BreakerState::Open { until: None }))
            .collect()
    }
}
