//! What holds of pools, limits and breakers at any time.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::execution::state::Stage;
use crate::replica::placement::{Gate, WaitsFor, Worker};

/// What is held of every gate is what runs, and nothing is granted beyond its capacity.
pub(super) fn held_in_bounds(world: &World, before: &BTreeMap<Gate, u64>) -> BTreeMap<Gate, u64> {
    let mut now = BTreeMap::new();
    let Some(tenant) = world.replica.tenant_number("acme") else { return now };
    for (gate, stock) in world.replica.queue().gates(tenant) {
        let running = world.open();
        let running = running.iter().filter(|open| open.grant().is_some());
        let held: u64 = running.filter_map(|open| gate.share_of(open)).map(u64::from).sum();
        assert_eq!(stock.held(), held, "{gate:?}");
        let most = u64::from(stock.capacity).max(before.get(gate).copied().unwrap_or(held));
        assert!(held <= most, "{gate:?}: {held} of {most}");
        now.insert(gate.clone(), held);
    }
    for open in world.open().iter().filter(|open| open.grant().is_some()) {
        let claims = open.rules.claims.as_ref();
        let Some(most) = claims.and_then(|claims| claims.max_concurrent) else { continue };
        let limited = |other: &&Arc<Execution>| {
            other.task == open.task && other.grant().is_some() && other.rules == open.rules
        };
        assert!(world.open().iter().filter(limited).count() <= most as usize);
    }
    now
}

/// Nobody waits for a turn while a worker is free that could take it.
pub(super) fn nothing_idles(world: &World) {
    for open in world.open().iter().filter(|open| open.stage == Stage::Queued) {
        if world.replica.queue().waits_for(open) == Some(WaitsFor::Turn) {
            let free = |worker: &Worker| worker.free() > 0 && worker.offers.meet(&open.rules.requirement);
            assert!(!world.replica.workers().values().any(free), "{open:?} waits");
        }
    }
}

/// Nothing is granted while a breaker is open, and one at a time while it is half open.
pub(super) fn probed_once(world: &World) {
    let mut state = "closed";
    let (mut guards, mut guarded, mut probing) = (BTreeMap::new(), BTreeSet::new(), None);
    for record in &world.records {
        match &record.event {
            Event::TaskCreated { task, rules, .. } | Event::TaskUpdated { task, rules, .. } => {
                let guard = rules.claims.as_ref().and_then(|claims| claims.guard.as_ref());
                guards.insert(*task, guard.is_some());
            }
            Event::TaskScheduled { task, execution, .. } | Event::TaskReopened { task, execution, .. } => {
                if guards.get(task) == Some(&true) {
                    guarded.insert(*execution);
                }
            }
            Event::TaskStarted { execution, .. } if guarded.contains(execution) => match state {
                "closed" => {}
                "half open" => assert_eq!(probing.replace(*execution), None, "two probes"),
                _ => panic!("granted while it is open"),
            },
            Event::BreakerOpened { .. } => state = "open",
            Event::BreakerClosed { .. } => state = "closed",
            Event::BreakerHalfOpened { .. } => (state, probing) = ("half open", None),
            Event::TaskResultRefused { .. } | Event::TaskCancelRequested { .. } => {}
            other if other.execution().is_some() && other.execution() == probing => probing = None,
            _ => {}
        }
    }
}
