//! Pools and limits: how much runs at once, who goes first, and what is given back.

use std::collections::BTreeMap;

use super::*;
use crate::replica::placement::{Gate, WaitsFor};
use crate::task::action::{ProcessAction, ProcessLimits};

const OTHER: (NodeId, Incarnation) = (NodeId(2), Incarnation(22));

fn staging() -> Gate {
    Gate::Pool("staging".into())
}

fn put(world: &mut World, gate: Gate, capacity: u32) {
    world.client(Request::PutGate { gate, capacity }).expect("an admin may");
}

fn asking(share: u32) -> Definition {
    Definition { resources: BTreeMap::from([("staging".into(), share)]), ..definition() }
}

fn labelled(value: &str) -> Definition {
    Definition { labels: BTreeMap::from([("team".into(), value.into())]), ..definition() }
}

/// A task of which so many runs are queued, or granted.
fn task(world: &mut World, id: u128, definition: &Definition, runs: usize) {
    let task = world.create(id, definition, None);
    for _ in 0..runs {
        world.client(Request::RunTask { task }).expect("runs");
    }
}

fn running(world: &World, id: u128) -> Vec<Arc<Execution>> {
    let mut open = world.open();
    open.retain(|open| open.task == TaskId(id) && open.grant().is_some());
    open
}

fn waits(world: &World, id: u128) -> Option<WaitsFor> {
    let open = world.open();
    let first = open.iter().filter(|open| open.task == TaskId(id) && open.grant().is_none());
    let first = first.min_by_key(|open| open.turn)?;
    world.replica.queue().waits_for(first)
}

fn held(world: &World) -> u64 {
    world.replica.queue().gate(world.tenant(), &staging()).map_or(0, super::super::placement::Stock::held)
}

fn end(world: &mut World, id: u128) {
    let first = running(world, id).first().expect("one runs").id;
    world.report(first, AttemptOutcome::Succeeded(None)).expect("heard");
}

#[test]
fn a_task_that_asks_for_what_is_not_there_is_refused() {
    let mut world = World::with_worker(8);
    let create = |world: &mut World, definition: &Definition| {
        let outcome = world.client(Request::CreateTasks(vec![new_task(1, definition, None)]));
        let Ok(Accepted::Tasks(mut answers)) = outcome else { panic!("{outcome:?}") };
        answers.remove(0)
    };
    assert_eq!(create(&mut world, &asking(1)), Err(Rejection::NoSuchPool { name: "staging".into() }));
    put(&mut world, staging(), 2);
    let too_small = Err(Rejection::PoolTooSmall { name: "staging".into(), asked: 3, capacity: 2 });
    assert_eq!(create(&mut world, &asking(3)), too_small);
    assert_eq!(create(&mut world, &asking(2)), Ok(TaskId(1)));
    let delete = Request::DeleteGate { gate: staging() };
    let in_use = Err(Rejection::PoolInUse { name: "staging".into(), tasks: 1 });
    assert_eq!(world.client(delete.clone()), in_use);
    world.client(Request::DeleteTask { task: TaskId(1), expected_version: None }).expect("deleted");
    assert_eq!(world.client(delete.clone()), Ok(Accepted::Done));
    assert_eq!(world.client(delete), Err(Rejection::NoSuchPool { name: "staging".into() }));
}

#[test]
fn a_pool_is_given_back_however_the_execution_ends() {
    let mut world = World::with_worker(8);
    put(&mut world, staging(), 1);
    let retry = Retry { max_attempts: 2, jitter_per_mille: 0, ..Retry::DEFAULT };
    task(&mut world, 1, &Definition { retry, delivery: Delivery::AtMostOnce, ..asking(1) }, 5);
    let outcomes =
        [AttemptOutcome::Succeeded(None), failed(), AttemptOutcome::TimedOut, AttemptOutcome::Cancelled];
    for outcome in outcomes {
        assert_eq!((running(&world, 1).len(), held(&world)), (1, 1));
        let id = running(&world, 1)[0].id;
        world.report(id, outcome).expect("heard");
    }
    world.join(OTHER, 8);
    world.scheduler(Request::LoseWorker { node: WORKER.0, incarnation: WORKER.1 }).expect("known");
    assert_eq!(held(&world), 0, "two wait for their retry, and hold nothing");
    world.now += 60_000;
    let over = world.open().iter().map(|open| (open.id, Wait::Retry { attempts: open.attempts })).collect();
    world.scheduler(Request::WaitsOver(over)).expect("time has come");
    assert_eq!((running(&world, 1).len(), held(&world)), (1, 1));
    world.client(Request::DeleteTask { task: TaskId(1), expected_version: None }).expect("deleted");
    let last = running(&world, 1)[0].id;
    world.report(last, AttemptOutcome::Cancelled).expect("heard");
    assert_eq!((world.open().len(), held(&world)), (0, 0));
}

#[test]
fn a_large_request_is_not_starved_by_small_ones() {
    let mut world = World::with_worker(8);
    put(&mut world, staging(), 4);
    task(&mut world, 1, &asking(1), 3);
    task(&mut world, 2, &asking(4), 1);
    task(&mut world, 3, &asking(1), 5);
    assert_eq!(running(&world, 3).len(), 0, "one is free, and is kept for the large one");
    assert_eq!(waits(&world, 2), Some(WaitsFor::Gate(staging())));
    for _ in 0..3 {
        end(&mut world, 1);
    }
    assert_eq!((running(&world, 2).len(), held(&world)), (1, 4));
    end(&mut world, 2);
    assert_eq!(running(&world, 3).len(), 4);
}

#[test]
fn what_waits_for_a_pool_holds_up_nobody_else() {
    let mut world = World::with_worker(8);
    put(&mut world, staging(), 1);
    put(&mut world, Gate::Pool("gpu".into()), 1);
    task(&mut world, 1, &asking(1), 3);
    let gpu = Definition { resources: BTreeMap::from([("gpu".into(), 1)]), ..definition() };
    task(&mut world, 2, &gpu, 2);
    task(&mut world, 3, &definition(), 2);
    assert_eq!([1, 2, 3].map(|id| running(&world, id).len()), [1, 1, 2]);
}

#[test]
fn what_nobody_could_carry_out_keeps_nothing_from_others() {
    let mut world = World::new();
    let offers = Offers { http: true, builtin: true, programs: Programs::Listed(Vec::new()) };
    world
        .scheduler(Request::JoinWorker { node: WORKER.0, incarnation: WORKER.1, slots: 8, offers })
        .expect("joins");
    put(&mut world, staging(), 2);
    let process = ProcessAction {
        program: "/bin/true".into(),
        args: Vec::new(),
        env: BTreeMap::new(),
        stdin: None,
        limits: ProcessLimits::default(),
    };
    task(&mut world, 1, &Definition { action: Action::Process(process), ..asking(2) }, 1);
    task(&mut world, 2, &asking(1), 2);
    assert_eq!(waits(&world, 1), Some(WaitsFor::Worker));
    assert_eq!(running(&world, 2).len(), 2);
    world.join(OTHER, 8);
    assert_eq!(waits(&world, 1), Some(WaitsFor::Gate(staging())), "now it is in line");
}

#[test]
fn a_capacity_below_what_is_held_tears_nothing_away_and_grants_nothing() {
    let mut world = World::with_worker(8);
    put(&mut world, staging(), 3);
    task(&mut world, 1, &asking(1), 5);
    put(&mut world, staging(), 1);
    assert_eq!((running(&world, 1).len(), held(&world)), (3, 3));
    end(&mut world, 1);
    end(&mut world, 1);
    assert_eq!((running(&world, 1).len(), held(&world)), (1, 1), "and nothing new");
    put(&mut world, staging(), 0);
    assert_eq!(waits(&world, 1), Some(WaitsFor::Impossible(staging(), 1)));
    put(&mut world, staging(), 3);
    assert_eq!((running(&world, 1).len(), held(&world)), (3, 3));
}

#[test]
fn the_eldest_at_a_pool_is_not_passed_by_for_ever() {
    let mut world = World::with_worker(8);
    put(&mut world, staging(), 1);
    task(&mut world, 1, &Definition { priority: 9, ..asking(1) }, 2);
    task(&mut world, 2, &Definition { priority: 1, ..asking(1) }, 1);
    let mut passed = 0;
    while running(&world, 2).is_empty() {
        world.client(Request::RunTask { task: TaskId(1) }).expect("runs");
        end(&mut world, 1);
        passed += 1;
        assert!(passed < 200, "it waits for ever");
    }
}

#[test]
fn what_can_never_go_does_not_count_as_passed_by() {
    let mut world = World::with_worker(8);
    put(&mut world, staging(), 2);
    task(&mut world, 1, &asking(1), 2);
    task(&mut world, 2, &asking(2), 1);
    put(&mut world, staging(), 1);
    assert_eq!(waits(&world, 2), Some(WaitsFor::Impossible(staging(), 2)));
    for _ in 0..150 {
        world.client(Request::RunTask { task: TaskId(1) }).expect("runs");
        end(&mut world, 1);
    }
    task(&mut world, 3, &asking(1), 1);
    task(&mut world, 4, &Definition { priority: 9, ..asking(1) }, 1);
    while running(&world, 4).is_empty() {
        end(&mut world, 1);
        assert!(running(&world, 3).is_empty(), "priority counts all the same");
    }
}

#[test]
fn a_task_runs_as_often_at_once_as_it_may() {
    let mut world = World::with_worker(8);
    task(&mut world, 1, &Definition { max_concurrent: Some(2), ..definition() }, 4);
    task(&mut world, 2, &definition(), 1);
    assert_eq!([1, 2].map(|id| running(&world, id).len()), [2, 1]);
    assert_eq!(waits(&world, 1), Some(WaitsFor::Task(2)));
    end(&mut world, 1);
    assert_eq!(running(&world, 1).len(), 2);
}

#[test]
fn a_limit_on_a_label_holds_over_its_tasks_and_counts_what_runs_already() {
    let mut world = World::with_worker(8);
    task(&mut world, 1, &labelled("qa"), 2);
    put(&mut world, Gate::Label("team=qa".into()), 3);
    task(&mut world, 2, &labelled("qa"), 4);
    task(&mut world, 3, &labelled("web"), 2);
    assert_eq!([1, 2, 3].map(|id| running(&world, id).len()), [2, 1, 2]);
    assert_eq!(waits(&world, 2), Some(WaitsFor::Gate(Gate::Label("team=qa".into()))));
    world.client(Request::DeleteGate { gate: Gate::Label("team=qa".into()) }).expect("there is one");
    assert_eq!(running(&world, 2).len(), 4);
    assert_eq!(
        world.client(Request::DeleteGate { gate: Gate::Label("team=qa".into()) }),
        Err(Rejection::NoSuchLimit)
    );
}

#[test]
fn a_limit_on_a_tenant_holds_over_all_of_it_and_over_no_other() {
    let mut world = World::with_worker(8);
    put(&mut world, Gate::Tenant, 2);
    task(&mut world, 1, &definition(), 2);
    task(&mut world, 2, &labelled("qa"), 2);
    let beta = world.client_command("beta", Request::CreateTasks(vec![new_task(3, &definition(), None)]));
    world.apply(&beta);
    for _ in 0..3 {
        let run = world.client_command("beta", Request::RunTask { task: TaskId(3) });
        world.apply(&run).outcome.expect("runs");
    }
    assert_eq!([1, 2, 3].map(|id| running(&world, id).len()), [2, 0, 3]);
    assert_eq!(waits(&world, 2), Some(WaitsFor::Gate(Gate::Tenant)));
    end(&mut world, 1);
    assert_eq!(running(&world, 2).len(), 1);
}

#[test]
fn a_paused_queue_is_granted_nothing_until_it_is_resumed() {
    let mut world = World::with_worker(8);
    let action = Action::Queue { queue: "ios".into(), payload: None };
    task(&mut world, 1, &Definition { action, ..definition() }, 1);
    world.client(Request::PauseQueue { queue: "ios".into(), paused: true }).expect("may");
    assert_eq!(world.names(), ["QueuePaused"]);
    assert_eq!(waits(&world, 1), Some(WaitsFor::PausedQueue("ios".into())));
    world.client(Request::PauseQueue { queue: "ios".into(), paused: true }).expect("may");
    assert_eq!(world.names(), [""; 0], "it is paused already");
    world.client(Request::PauseQueue { queue: "ios".into(), paused: false }).expect("may");
    assert_eq!(waits(&world, 1), Some(WaitsFor::Worker));
}

/// Whoever is first at one gate is first at all of its gates: two that want the same two never keep them from each other.
#[test]
fn two_that_want_the_same_two_pools_never_wait_for_each_other() {
    let mut world = World::with_worker(8);
    let both = |priority| {
        let resources = BTreeMap::from([("one".into(), 1), ("two".into(), 1)]);
        Definition { resources, priority, ..definition() }
    };
    let one = Definition { resources: BTreeMap::from([("one".into(), 1)]), priority: 9, ..definition() };
    put(&mut world, Gate::Pool("one".into()), 1);
    put(&mut world, Gate::Pool("two".into()), 1);
    task(&mut world, 3, &one, 1);
    task(&mut world, 1, &both(1), 1);
    for _ in 0..200 {
        world.client(Request::RunTask { task: TaskId(3) }).expect("runs");
    }
    for _ in 0..100 {
        if running(&world, 3).is_empty() {
            break;
        }
        end(&mut world, 3);
    }
    // The eldest was passed over a hundred times, and another of a higher priority comes.
    task(&mut world, 2, &both(8), 1);
    for _ in 0..500 {
        let open = world.open();
        let Some(first) = open.iter().find(|open| open.grant().is_some()) else { break };
        world.report(first.id, AttemptOutcome::Succeeded(None)).expect("heard");
    }
    assert!(world.open().is_empty(), "everything went through");
}
