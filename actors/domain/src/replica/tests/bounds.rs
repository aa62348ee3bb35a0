//! What holds of pools, limits, breakers, times and pauses at any time.

use std::collections::{BTreeMap, BTreeSet};

use super::moves::QUEUE;
use super::*;
use crate::event::{GiveUpCause, PauseCause, Placing};
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

/// Whoever waits at a queue is woken when something of it may go.
pub(super) fn what_goes_is_told(world: &World) {
    let Some(tenant) = world.replica.tenant_number("acme") else { return };
    let (queue, name) = (world.replica.queue(), QUEUE.into());
    let told = queue.going().any(|(of, going)| of == tenant && *going == name);
    assert_eq!((told, told), (queue.waiting_in(tenant, &name) > 0, queue.next_of(tenant, &name).is_some()));
    let unattended = queue.is_held_up(tenant, &name) && queue.attendance(tenant, &name).is_none();
    assert_eq!(queue.is_unattended(tenant, &name), unattended);
    let attended: BTreeSet<_> = queue.attended().map(|(_, queue, until)| (queue.clone(), until)).collect();
    assert_eq!(attended, queue.attendance(tenant, &name).map(|until| (name, until)).into_iter().collect());
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
            Event::TaskScheduled { task, execution, .. } | Event::TaskReopened { task, execution, .. }
                if guards.get(task) == Some(&true) =>
            {
                guarded.insert(*execution);
            }
            Event::TaskStarted { execution, .. } if guarded.contains(execution) => match state {
                "closed" => {}
                "half open" => assert_eq!(probing.replace(*execution), None, "two probes"),
                _ => panic!("granted while it is open"),
            },
            Event::Placement(Placing::BreakerOpened { .. }) => state = "open",
            Event::Placement(Placing::BreakerClosed { .. }) => state = "closed",
            Event::Placement(Placing::BreakerHalfOpened { .. }) => (state, probing) = ("half open", None),
            Event::TaskResultRefused { .. } | Event::TaskCancelRequested { .. } => {}
            other if other.execution().is_some() && other.execution() == probing => probing = None,
            _ => {}
        }
    }
}

/// What is over is over: nothing ends as out of time before its time, and nothing waits in the queue beyond what was proposed.
pub(super) fn in_time(world: &World) {
    let mut fired = BTreeMap::new();
    let mut queued = BTreeMap::new();
    for record in &world.records {
        let at = record.header.at;
        match &record.event {
            Event::TaskScheduled { execution, .. } | Event::TaskReopened { execution, .. } => {
                fired.insert(*execution, at);
                queued.insert(*execution, at);
            }
            Event::TaskRequeued { execution, .. } => drop(queued.insert(*execution, at)),
            Event::TaskStarted { execution, .. } => drop(queued.remove(execution)),
            Event::TaskTimedOut { execution, ended, cause: GiveUpCause::QueueTimeout, .. } => {
                let since = queued.remove(execution).expect("it waited for a worker");
                assert!(at.since(since) >= Span(700) && ended.is_none());
            }
            Event::TaskTimedOut { execution, cause: GiveUpCause::ExecutionTimeout, .. } => {
                assert!(at.since(fired[execution]) >= Span(3_000));
            }
            _ => {}
        }
    }
}

/// A task pauses itself only after so many failures in a row as it says.
pub(super) fn paused_for_a_cause(world: &World) {
    let mut failures: BTreeMap<TaskId, u32> = BTreeMap::new();
    let mut own = BTreeSet::new();
    for record in &world.records {
        let event = &record.event;
        let (Some(task), execution) = (event.task(), event.execution()) else { continue };
        let counted = execution.is_some_and(|execution| own.contains(&(task, execution)));
        match event {
            Event::TaskCreated { .. } => {
                own.retain(|(other, _)| *other != task);
                failures.insert(task, 0);
            }
            Event::TaskScheduled { execution, .. } => drop(own.insert((task, *execution))),
            Event::TaskResumed { .. } => drop(failures.insert(task, 0)),
            Event::TaskCompleted { .. } if counted => drop(failures.insert(task, 0)),
            Event::TaskFailed { .. } | Event::TaskTimedOut { .. } | Event::TaskLost { .. } if counted => {
                *failures.entry(task).or_default() += 1;
            }
            Event::TaskPaused { cause: PauseCause::Failures { count }, .. } => {
                assert_eq!((*count >= 2, Some(count)), (true, failures.get(&task)));
            }
            _ => {}
        }
    }
}
