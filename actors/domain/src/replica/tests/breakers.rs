//! Circuit breakers: when a target is called no more, who tries it, and when it is called again.

use super::*;
use crate::execution::failure::FailureClass;
use crate::limits::BREAKERS_MAX;
use crate::replica::placement::{BreakerState, WaitsFor};
use crate::task::action::{Completion, HttpAction};
use crate::task::definition::CircuitBreaker;

const TARGET: &str = "http:runner.example";
const OPEN_FOR: Span = Span::seconds(30);

fn guarded(attempts: u32) -> Definition {
    let call = HttpAction {
        method: "POST".into(),
        url: "https://runner.example/suites/7".into(),
        headers: std::collections::BTreeMap::new(),
        body: None,
        completion: Completion::Response,
    };
    Definition {
        action: Action::Http(call),
        circuit_breaker: Some(CircuitBreaker { failure_threshold: 3, open_for: OPEN_FOR }),
        retry: Retry { max_attempts: attempts, jitter_per_mille: 0, ..Retry::DEFAULT },
        ..definition()
    }
}

fn run(world: &mut World) -> ExecutionId {
    world.client(Request::RunTask { task: TaskId(1) }).expect("runs");
    world.open().iter().max_by_key(|open| open.turn).expect("queued").id
}

fn state(world: &World) -> BreakerState {
    world.replica.queue().breaker(world.tenant(), TARGET).map_or(BreakerState::Closed, |known| known.state)
}

/// A world whose target failed three times in a row.
fn opened() -> World {
    let mut world = World::with_worker(8);
    world.create(1, &guarded(1), None);
    for _ in 0..3 {
        assert_eq!(state(&world), BreakerState::Closed);
        let id = run(&mut world);
        world.report(id, failed()).expect("heard");
    }
    assert_eq!(world.names(), ["TaskFailed", "BreakerOpened"]);
    world
}

fn due(world: &mut World) {
    let BreakerState::Open { until: Some(until) } = state(world) else { panic!("{:?}", state(world)) };
    let request = Request::BreakersDue(vec![(world.tenant(), TARGET.into(), until)]);
    world.scheduler(request.clone()).expect("heard");
    assert!(matches!(state(world), BreakerState::Open { .. }), "not before its time");
    world.now += i64::try_from(OPEN_FOR.0).expect("small");
    world.scheduler(request).expect("heard");
}

fn probe(world: &World) -> Option<ExecutionId> {
    match state(world) {
        BreakerState::HalfOpen { probe } => probe,
        other => panic!("{other:?}"),
    }
}

fn granted(world: &World) -> usize {
    world.open().iter().filter(|open| open.grant().is_some()).count()
}

#[test]
fn while_a_breaker_is_open_executions_wait_and_burn_no_attempts() {
    let mut world = opened();
    let id = run(&mut world);
    assert_eq!(granted(&world), 0);
    let open = world.replica.execution(id).expect("open");
    assert_eq!(world.replica.queue().waits_for(open), Some(WaitsFor::Breaker(TARGET.into())));
    let other = world.create(2, &definition(), None);
    world.client(Request::RunTask { task: other }).expect("runs");
    assert_eq!(granted(&world), 1, "others are not held up");
}

#[test]
fn one_probe_tries_a_target_and_its_success_closes_the_breaker() {
    let mut world = opened();
    for _ in 0..3 {
        run(&mut world);
    }
    due(&mut world);
    assert_eq!(world.names(), ["BreakerHalfOpened", "TaskStarted"]);
    let probe = probe(&world).expect("one tries");
    world.report(probe, AttemptOutcome::Succeeded(None)).expect("heard");
    assert_eq!(world.names(), ["TaskCompleted", "BreakerClosed", "TaskStarted", "TaskStarted"]);
}

#[test]
fn a_probe_that_fails_opens_the_breaker_again() {
    let mut world = opened();
    run(&mut world);
    run(&mut world);
    due(&mut world);
    let probe = probe(&world).expect("one tries");
    world.report(probe, AttemptOutcome::TimedOut).expect("heard");
    assert_eq!(world.names(), ["TaskTimedOut", "BreakerOpened"]);
    assert_eq!(granted(&world), 0);
    due(&mut world);
    assert_eq!(granted(&world), 1);
}

#[test]
fn a_probe_that_says_nothing_makes_room_for_another() {
    let mut world = opened();
    let first = run(&mut world);
    run(&mut world);
    due(&mut world);
    assert_eq!(probe(&world), Some(first));
    world.report(first, AttemptOutcome::Cancelled).expect("heard");
    assert!(probe(&world).is_some_and(|probe| probe != first), "the next one tries");
    world.join((NodeId(2), Incarnation(2)), 8);
    world.scheduler(Request::LoseWorker { node: WORKER.0, incarnation: WORKER.1 }).expect("known");
    assert!(probe(&world).is_some() && granted(&world) == 1, "the same one, on another worker");
}

#[test]
fn a_success_between_failures_keeps_a_breaker_closed() {
    let mut world = World::with_worker(8);
    world.create(1, &guarded(1), None);
    for ends in [failed(), failed(), AttemptOutcome::Succeeded(None), failed(), failed()] {
        let id = run(&mut world);
        world.report(id, ends).expect("heard");
    }
    assert_eq!(state(&world), BreakerState::Closed);
}

#[test]
fn failed_attempts_that_are_retried_count() {
    let mut world = World::with_worker(8);
    world.create(1, &guarded(5), None);
    let id = run(&mut world);
    for _ in 0..3 {
        world.report(id, failed()).expect("heard");
        world.now += 60_000;
        let attempts = world.only_open().attempts;
        world.scheduler(Request::WaitsOver(vec![(id, Wait::Retry { attempts })])).expect("time has come");
    }
    assert!(matches!(state(&world), BreakerState::Open { .. }));
    assert_eq!((world.only_open().attempts, world.only_open().status()), (3, Status::Queued));
}

#[test]
fn a_breaker_is_set_by_hand_and_stays_so() {
    let mut world = World::with_worker(8);
    world.create(1, &guarded(1), None);
    let set = |world: &mut World, open| {
        world.client(Request::SetBreaker { target: TARGET.into(), open }).expect("may");
    };
    set(&mut world, true);
    assert_eq!(state(&world), BreakerState::Open { until: None });
    run(&mut world);
    assert_eq!(granted(&world), 0);
    set(&mut world, true);
    assert_eq!(world.names(), [""; 0]);
    set(&mut world, false);
    assert_eq!(world.names(), ["BreakerClosed", "TaskStarted"]);
}

#[test]
fn what_never_came_to_a_target_says_nothing_of_it() {
    let unsent = |class| AttemptOutcome::Failed(Failure { class, ..Failure::new("it was not sent") });
    for class in [FailureClass::Inputs, FailureClass::NotAllowed] {
        let mut world = opened();
        let id = run(&mut world);
        due(&mut world);
        assert_eq!(probe(&world), Some(id));
        world.report(id, unsent(class)).expect("heard");
        assert_eq!((world.names(), probe(&world)), (vec!["TaskFailed"], None), "the next one tries");
    }
    let mut world = World::with_worker(8);
    world.create(1, &guarded(2), None);
    let id = run(&mut world);
    world.report(id, unsent(FailureClass::NotAllowed)).expect("heard");
    assert_eq!(world.names(), ["TaskRetry"], "another node may");
    assert_eq!(world.replica.queue().breaker(world.tenant(), TARGET), None, "nothing was heard of it");
}

#[test]
fn an_execution_whose_time_is_over_says_nothing_of_its_target() {
    let mut world = World::with_worker(8);
    let breaker = Some(CircuitBreaker { failure_threshold: 1, open_for: OPEN_FOR });
    let definition =
        Definition { execution_timeout: Some(Span(500)), circuit_breaker: breaker, ..guarded(1) };
    world.create(1, &definition, None);
    let id = run(&mut world);
    world.now += 500;
    world.scheduler(Request::WaitsOver(vec![(id, Wait::Whole)])).expect("heard");
    assert_eq!(world.names(), ["TaskCancelRequested"]);
    world.report(id, AttemptOutcome::Cancelled).expect("heard");
    assert_eq!(world.names(), ["TaskTimedOut"]);
    assert_eq!(state(&world), BreakerState::Closed);
    assert_eq!(world.replica.queue().breaker(world.tenant(), TARGET), None, "nothing was heard of it");
}

#[test]
fn when_too_many_targets_have_failed_the_one_that_did_so_the_longest_ago_is_forgotten() {
    let mut world = World::with_worker(1);
    let target = |id: usize| format!("http:runner-{id}.example");
    let fail = |world: &mut World, id: usize| {
        let task = TaskId(id as u128 + 1);
        if world.replica.task(world.tenant(), task).is_none() {
            let Action::Http(call) = guarded(1).action else { panic!("a call") };
            let call = HttpAction { url: format!("https://runner-{id}.example"), ..call };
            world.create(task.0, &Definition { action: Action::Http(call), ..guarded(1) }, None);
        }
        world.client(Request::RunTask { task }).expect("runs");
        let execution = world.only_open().id;
        world.report(execution, failed()).expect("heard");
        world.records.clear();
        world.now += 1;
    };
    world.client(Request::PauseQueue { queue: "none".into(), paused: true }).expect("the tenant is heard of");
    (0..BREAKERS_MAX).for_each(|id| fail(&mut world, id));
    fail(&mut world, 0);
    let of = |world: &World, id: usize| world.replica.queue().breaker(world.tenant(), &target(id)).cloned();
    fail(&mut world, BREAKERS_MAX);
    assert_eq!(of(&world, BREAKERS_MAX).map(|known| known.failures), Some(1), "who fails now is counted");
    assert_eq!(of(&world, 0).map(|known| known.failures), Some(2), "it failed just now");
    assert_eq!(of(&world, 1), None);
    assert_eq!(world.replica.queue().breakers_of(world.tenant()).count(), BREAKERS_MAX);
}
