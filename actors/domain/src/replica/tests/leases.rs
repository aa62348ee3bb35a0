//! Workers outside the cluster: what they take, say, and lose.

use super::*;
use crate::command::LeaseEnd;
use crate::replica::placement::{Gate, PASSED_MAX};

const LEASE: Span = Span::seconds(30);
pub(super) const WAIT: Span = Span::seconds(20);

pub(super) fn queued() -> Definition {
    let action = Action::Queue { queue: "suites".into(), payload: Some("{}".into()) };
    Definition { action, overlap: Overlap::Allow, ..definition() }
}

pub(super) fn lease(world: &mut World, queue: &str, worker: &str, most: u32) -> Vec<(ExecutionId, u64)> {
    let request =
        Request::Lease { queue: queue.into(), worker: worker.into(), most, lease: LEASE, wait: WAIT };
    match world.client(request) {
        Ok(Accepted::Leased(leased)) => leased,
        other => panic!("a lease is always answered: {other:?}"),
    }
}

pub(super) fn complete(
    world: &mut World,
    (execution, token): (ExecutionId, u64),
    outcome: AttemptOutcome,
) -> Result<Accepted, Rejection> {
    world.client(Request::CompleteAttempt { execution, token, outcome })
}

fn end(world: &mut World, (execution, token): (ExecutionId, u64), timed_out: bool) {
    let ended = world.scheduler(Request::EndLeases(vec![LeaseEnd { execution, token, timed_out }]));
    assert_eq!(ended, Ok(Accepted::Done));
}

pub(super) fn world_with(definition: &Definition, runs: usize) -> (World, TaskId) {
    let mut world = World::with_worker(8);
    let task = world.create(1, definition, Some(2_000_000));
    for _ in 0..runs {
        world.client(Request::RunTask { task }).expect("run");
    }
    (world, task)
}

#[test]
fn what_waits_in_a_queue_is_granted_to_no_node_and_to_whoever_asks_in_order() {
    let (mut world, _) = world_with(&queued(), 3);
    let waiting: Vec<ExecutionId> = {
        let mut open = world.open();
        open.sort_by_key(|open| open.turn);
        open.iter().map(|open| open.id).collect()
    };
    assert!(world.open().iter().all(|open| open.status() == Status::Queued));
    assert_eq!(lease(&mut world, "other", "w1", 5), []);
    let first = lease(&mut world, "suites", "w1", 2);
    assert_eq!(first.iter().map(|(id, _)| *id).collect::<Vec<_>>(), waiting[..2]);
    let second = lease(&mut world, "suites", "w2", 5);
    assert_eq!(second.iter().map(|(id, _)| *id).collect::<Vec<_>>(), waiting[2..]);
    assert_eq!(world.replica.leased().count(), 3);
    let holder = world.replica.execution(waiting[2]).expect("open").grant().expect("leased").holder.clone();
    assert_eq!(holder.to_string(), "worker w2");
}

#[test]
fn another_tenants_queue_of_the_same_name_is_another_queue() {
    let (mut world, _) = world_with(&queued(), 1);
    let request =
        Request::Lease { queue: "suites".into(), worker: "w".into(), most: 5, lease: LEASE, wait: WAIT };
    let command = world.client_command("globex", request);
    assert_eq!(world.apply(&command).outcome, Ok(Accepted::Leased(Vec::new())));
}

#[test]
fn a_lease_command_that_is_repeated_takes_nothing_more() {
    let (mut world, _) = world_with(&queued(), 2);
    let request =
        Request::Lease { queue: "suites".into(), worker: "w".into(), most: 1, lease: LEASE, wait: WAIT };
    let command = world.client_command("acme", request);
    let first = world.apply(&command);
    assert_eq!(world.apply(&command), first);
    assert_eq!(world.replica.leased().count(), 1);
}

#[test]
fn a_worker_that_completes_what_it_has_ends_it_once() {
    let (mut world, task) = world_with(&queued(), 1);
    let leased = lease(&mut world, "suites", "w", 1)[0];
    assert_eq!(complete(&mut world, leased, AttemptOutcome::Succeeded(None)), Ok(Accepted::Done));
    assert_eq!(world.task(task).last_execution.map(|last| last.status), Some(Status::Succeeded));
    assert_eq!(world.replica.leased().count(), 0);
    let again = complete(&mut world, leased, AttemptOutcome::Succeeded(None));
    assert_eq!(again, Err(Rejection::StaleLease));
    assert_eq!(world.names(), ["TaskResultRefused"], "and that it came is recorded");
}

#[test]
fn a_worker_that_lies_changes_nothing_and_its_lie_is_recorded() {
    let (mut world, _) = world_with(&queued(), 1);
    let (id, token) = lease(&mut world, "suites", "w", 1)[0];
    for wrong in [token - 1, token + 1, 0] {
        let refused = complete(&mut world, (id, wrong), AttemptOutcome::Succeeded(None));
        assert_eq!(refused, Err(Rejection::StaleLease));
        assert!(world.names().contains(&"TaskResultRefused"));
    }
    let request = Request::CompleteAttempt { execution: id, token, outcome: AttemptOutcome::Succeeded(None) };
    let foreign = world.client_command("globex", request);
    assert_eq!(world.apply(&foreign).outcome, Err(Rejection::NoSuchExecution));
    assert_eq!(world.only_open().grant().map(|grant| grant.token), Some(token));
}

#[test]
fn what_a_node_has_cannot_be_completed_from_outside() {
    let (mut world, _) = world_with(&definition(), 1);
    let grant = world.only_open().grant().cloned().expect("granted");
    let id = world.only_open().id;
    let refused = complete(&mut world, (id, grant.token), AttemptOutcome::Succeeded(None));
    assert_eq!(refused, Err(Rejection::StaleLease));
}

#[test]
fn a_lease_that_ran_out_gives_the_attempt_to_the_next_under_a_higher_token() {
    let (mut world, _) = world_with(&queued(), 1);
    let first = lease(&mut world, "suites", "w1", 1)[0];
    end(&mut world, first, false);
    assert_eq!(world.only_open().status(), Status::Queued);
    assert_eq!(world.only_open().failures, 0, "a loss is not a failure");
    let second = lease(&mut world, "suites", "w2", 1)[0];
    assert!(second.1 > first.1);
    end(&mut world, first, false);
    assert_eq!(complete(&mut world, first, AttemptOutcome::Succeeded(None)), Err(Rejection::StaleLease));
    assert_eq!(complete(&mut world, second, AttemptOutcome::Succeeded(None)), Ok(Accepted::Done));
}

#[test]
fn an_at_most_once_lease_that_ran_out_is_lost() {
    let once = Definition { delivery: Delivery::AtMostOnce, ..queued() };
    let (mut world, task) = world_with(&once, 1);
    let leased = lease(&mut world, "suites", "w1", 1)[0];
    end(&mut world, leased, false);
    assert_eq!(world.task(task).last_execution.map(|last| last.status), Some(Status::Lost));
    assert_eq!(lease(&mut world, "suites", "w2", 1), []);
}

#[test]
fn an_attempt_outside_that_took_too_long_is_a_failure_like_any_other() {
    let retry = Retry { max_attempts: 2, jitter_per_mille: 0, ..Retry::DEFAULT };
    let (mut world, task) = world_with(&Definition { retry, ..queued() }, 1);
    let leased = lease(&mut world, "suites", "w1", 1)[0];
    end(&mut world, leased, true);
    assert_eq!((world.only_open().status(), world.only_open().failures), (Status::Retrying, 1));
    world.now += 10_000;
    let (id, attempts) = (world.only_open().id, world.only_open().attempts);
    world.scheduler(Request::WaitsOver(vec![(id, Wait::Retry { attempts })])).expect("due");
    let leased = lease(&mut world, "suites", "w1", 1)[0];
    end(&mut world, leased, true);
    assert_eq!(world.task(task).last_execution.map(|last| last.status), Some(Status::TimedOut));
}

#[test]
fn whoever_has_an_attempt_may_say_how_far_it_is() {
    let (mut world, _) = world_with(&queued(), 1);
    let (execution, token) = lease(&mut world, "suites", "w", 1)[0];
    let by = |token, of_node| Request::ReportProgress {
        execution,
        token,
        percent: Some(40),
        message: None,
        of_node,
    };
    let say = |token| by(token, false);
    assert_eq!(world.client(by(token, true)), Err(Rejection::StaleLease), "no node has it");
    assert!(!world.names().contains(&"TaskProgress"));
    assert_eq!(world.client(say(token)), Ok(Accepted::Done));
    assert!(world.names().contains(&"TaskProgress"));
    assert_eq!(world.client(say(token + 1)), Err(Rejection::StaleLease));
}

#[test]
fn a_cancelled_lease_ends_as_cancelled_whatever_its_worker_says() {
    let (mut world, task) = world_with(&queued(), 1);
    let leased = lease(&mut world, "suites", "w", 1)[0];
    world.client(Request::CancelExecution { execution: leased.0 }).expect("told");
    assert!(world.only_open().cancelling.is_some());
    end(&mut world, leased, false);
    assert_eq!(world.task(task).last_execution.map(|last| last.status), Some(Status::Cancelled));
}

#[test]
fn leases_survive_a_snapshot() {
    let (mut world, _) = world_with(&queued(), 2);
    lease(&mut world, "suites", "w", 1);
    let restored = restored(&world.replica);
    assert_eq!(restored.state_hash(), world.replica.state_hash());
    assert_eq!(restored.leased().count(), 1);
    assert_eq!(restored.queue().len(), 1);
}

#[test]
fn a_lease_takes_no_more_than_pools_allow_and_gives_its_share_back() {
    let gate = Gate::Pool("staging".into());
    let mut world = World::with_worker(8);
    world.client(Request::PutGate { gate, capacity: 2 }).expect("put");
    let resources = [("staging".to_owned(), 1)].into();
    let task = world.create(1, &Definition { resources, ..queued() }, None);
    for _ in 0..4 {
        world.client(Request::RunTask { task }).expect("run");
    }
    let queue = "suites".into();
    let leased = lease(&mut world, "suites", "w", 10);
    assert_eq!(leased.len(), 2);
    let tenant = world.tenant();
    assert_eq!(world.replica.queue().waiting_in(tenant, &queue), 0, "nobody is woken in vain");
    assert_eq!(lease(&mut world, "suites", "w", 10), []);
    complete(&mut world, leased[0], AttemptOutcome::Succeeded(None)).expect("heard");
    assert!(world.replica.queue().waiting_in(tenant, &queue) > 0);
    assert_eq!(lease(&mut world, "suites", "w", 10).len(), 1);
}

#[test]
fn nothing_is_leased_from_a_paused_queue() {
    let (mut world, _) = world_with(&queued(), 2);
    let pause = |paused| Request::PauseQueue { queue: "suites".into(), paused };
    world.client(pause(true)).expect("paused");
    assert_eq!(lease(&mut world, "suites", "w", 10), []);
    world.client(pause(false)).expect("resumed");
    assert_eq!(lease(&mut world, "suites", "w", 10).len(), 2);
}

#[test]
fn the_highest_priority_is_leased_first() {
    let mut world = World::with_worker(8);
    for (id, priority) in [(1, 2), (2, 9), (3, 5)] {
        let task = world.create(id, &Definition { priority, ..queued() }, None);
        world.client(Request::RunTask { task }).expect("run");
    }
    let leased = lease(&mut world, "suites", "w", 10);
    let tasks = leased.iter().map(|(id, _)| world.replica.execution(*id).expect("open").task.0);
    assert_eq!(tasks.collect::<Vec<_>>(), [2, 3, 1]);
}

/// Queues one execution of a task and lets whoever is next in the queue be done with; says whose it was.
fn run_and_serve(world: &mut World, task: TaskId) -> TaskId {
    world.client(Request::RunTask { task }).expect("queued");
    serve(world)
}

fn serve(world: &mut World) -> TaskId {
    let leased = lease(world, "suites", "w", 1)[0];
    let task = world.replica.execution(leased.0).expect("open").task;
    complete(world, leased, AttemptOutcome::Succeeded(None)).expect("heard");
    task
}

#[test]
fn a_priority_that_was_passed_over_in_its_queue_often_enough_is_leased_next() {
    let mut world = World::with_worker(8);
    let [low, high, elsewhere] =
        [(1, 0, "suites"), (2, 9, "suites"), (3, 0, "other")].map(|(id, priority, queue)| {
            let action = Action::Queue { queue: queue.into(), payload: None };
            world.create(id, &Definition { action, priority, ..queued() }, None)
        });
    for task in [low, low, elsewhere] {
        world.client(Request::RunTask { task }).expect("queued");
    }
    for _ in 0..PASSED_MAX / 2 {
        assert_eq!(run_and_serve(&mut world, high), high);
    }
    // Nobody who comes back with a snapshot begins to count anew.
    world.replica = restored(&world.replica);
    for _ in 0..PASSED_MAX / 2 {
        assert_eq!(run_and_serve(&mut world, high), high);
    }
    assert_eq!(run_and_serve(&mut world, high), low);
    assert_eq!(serve(&mut world), high, "and then not again at once");
    for _ in 1..PASSED_MAX {
        assert_eq!(run_and_serve(&mut world, high), high);
    }
    assert_eq!(run_and_serve(&mut world, high), low);
    assert_eq!(lease(&mut world, "other", "w", 1).len(), 1, "what waits elsewhere was not concerned");
}

#[test]
fn what_was_passed_over_in_a_queue_is_forgotten_with_the_last_that_waits_there() {
    let mut world = World::with_worker(8);
    let [low, high] =
        [(1, 0), (2, 9)].map(|(id, priority)| world.create(id, &Definition { priority, ..queued() }, None));
    world.client(Request::RunTask { task: low }).expect("queued");
    for _ in 0..3 {
        run_and_serve(&mut world, high);
    }
    let waits = world.only_open().id;
    world.client(Request::CancelExecution { execution: waits }).expect("cancelled");
    world.client(Request::RunTask { task: low }).expect("queued");
    for _ in 0..PASSED_MAX {
        assert_eq!(run_and_serve(&mut world, high), high);
    }
    assert_eq!(run_and_serve(&mut world, high), low);
    let folded = world.records.iter().fold(Replica::default(), |mut replica, record| {
        replica.evolve(record);
        replica
    });
    assert_eq!(folded.state_hash(), world.replica.state_hash());
}

#[test]
fn what_workers_outside_fail_at_opens_the_breaker_of_their_queue() {
    let breaker =
        crate::task::definition::CircuitBreaker { failure_threshold: 2, open_for: Span::seconds(30) };
    let (mut world, task) = world_with(&Definition { circuit_breaker: Some(breaker), ..queued() }, 3);
    for leased in lease(&mut world, "suites", "w", 1) {
        complete(&mut world, leased, failed()).expect("heard");
    }
    for leased in lease(&mut world, "suites", "w", 1) {
        end(&mut world, leased, true);
    }
    assert_eq!(world.names(), ["TaskTimedOut", "BreakerOpened"]);
    world.client(Request::RunTask { task }).expect("queued");
    assert_eq!(lease(&mut world, "suites", "w", 5), [], "nobody is given what would fail");
}

#[test]
fn a_large_request_in_a_queue_is_not_starved_while_its_workers_are_busy() {
    let asking = |share| Definition { resources: [("devices".to_owned(), share)].into(), ..queued() };
    let mut world = World::with_worker(8);
    let pool = Gate::Pool("devices".into());
    world.client(Request::PutGate { gate: pool, capacity: 2 }).expect("may");
    for (id, share) in [(1, 1), (2, 2), (3, 1)] {
        let task = world.create(id, &asking(share), None);
        world.client(Request::RunTask { task }).expect("queued");
    }
    let first = lease(&mut world, "suites", "w", 1);
    assert_eq!(lease(&mut world, "suites", "w", 5), [], "what is left is kept for the large one");
    complete(&mut world, first[0], AttemptOutcome::Succeeded(None)).expect("heard");
    let second = lease(&mut world, "suites", "w", 5);
    let large = world.replica.execution(second[0].0).expect("open");
    assert_eq!((second.len(), large.task), (1, TaskId(2)));
}

#[test]
fn what_follows_a_completion_goes_back_to_its_own_request() {
    let (mut world, task) = world_with(&Definition { overlap: Overlap::QueueAll, ..queued() }, 1);
    let mut command = world.client_command("acme", Request::RunTask { task });
    if let Origin::Client(client) = &mut command.origin {
        client.correlation_id = "the second run".into();
    }
    world.apply(&command).outcome.expect("it waits its turn");
    let leased = lease(&mut world, "suites", "w", 10);
    assert_eq!(leased.len(), 1);
    complete(&mut world, leased[0], AttemptOutcome::Succeeded(None)).expect("heard");
    let released = world.records.iter().rev().find(|record| record.event.name() == "TaskReleased");
    let header = &released.expect("its turn has come").header;
    assert_eq!((&*header.correlation_id, &*header.actor), ("the second run", ""));
}

#[test]
fn a_grant_is_the_scheduler_s_doing_whoever_made_room_for_it() {
    let mut world = World::with_worker(8);
    let gate = Gate::Pool("staging".into());
    world.client(Request::PutGate { gate, capacity: 1 }).expect("put");
    let resources: std::collections::BTreeMap<String, u32> = [("staging".to_owned(), 1)].into();
    let outside = world.create(1, &Definition { resources: resources.clone(), ..queued() }, None);
    let inside = world.create(2, &Definition { resources, ..definition() }, None);
    world.client(Request::RunTask { task: outside }).expect("run");
    let leased = lease(&mut world, "suites", "w", 1)[0];
    let mut command = world.client_command("acme", Request::RunTask { task: inside });
    if let Origin::Client(client) = &mut command.origin {
        client.correlation_id = "the second run".into();
    }
    world.apply(&command).outcome.expect("it waits for the pool");
    complete(&mut world, leased, AttemptOutcome::Succeeded(None)).expect("heard");
    let started = world.records.iter().rev().find(|record| record.event.name() == "TaskStarted");
    let header = &started.expect("there is room").header;
    assert_eq!((&*header.actor, &*header.correlation_id, header.command), ("", "the second run", None));
}

#[test]
fn a_lease_of_nothing_is_not_remembered_under_its_key() {
    let (mut world, task) = world_with(&queued(), 0);
    let keyed = |world: &mut World| {
        let request =
            Request::Lease { queue: "suites".into(), worker: "w".into(), most: 1, lease: LEASE, wait: WAIT };
        let mut command = world.client_command("acme", request);
        if let Origin::Client(client) = &mut command.origin {
            client.idempotency = Some(crate::command::Idempotency { key: "k".into(), digest: [7; 32] });
        }
        command
    };
    let empty = keyed(&mut world);
    assert_eq!(world.apply(&empty).outcome, Ok(Accepted::Leased(Vec::new())));
    world.client(Request::RunTask { task }).expect("run");
    let again = keyed(&mut world);
    let Ok(Accepted::Leased(leased)) = world.apply(&again).outcome else { panic!("it is leased") };
    assert_eq!(leased.len(), 1);
    let repeated = keyed(&mut world);
    assert_eq!(world.apply(&repeated).outcome, Ok(Accepted::Leased(leased)), "now it is");
}

#[test]
fn what_workers_outside_have_costs_a_tenant_none_of_its_share_of_the_nodes() {
    let (mut world, _) = world_with(&queued(), 20);
    assert_eq!(lease(&mut world, "suites", "w", 20).len(), 20);
    let own = world.create(2, &definition(), None);
    let mut other =
        world.client_command("beta", Request::CreateTasks(vec![new_task(9, &definition(), None)]));
    world.apply(&other).outcome.expect("created");
    for _ in 0..30 {
        other = world.client_command("beta", Request::RunTask { task: TaskId(9) });
        world.apply(&other).outcome.expect("runs");
    }
    world.client(Request::RunTask { task: own }).expect("waits");
    let beta = world.open().into_iter().find(|open| open.task == TaskId(9) && open.grant().is_some());
    world.report(beta.expect("they fill the node").id, AttemptOutcome::Succeeded(None)).expect("heard");
    let runs = world.open().into_iter().any(|open| open.task == own && open.grant().is_some());
    assert!(runs, "it has nothing else on the nodes");
}

#[test]
fn what_runs_outside_counts_for_its_task_when_nothing_of_its_tenant_waits() {
    let (mut world, task) = world_with(&Definition { max_concurrent: Some(1), ..queued() }, 1);
    assert_eq!(lease(&mut world, "suites", "w", 5).len(), 1);
    world.client(Request::RunTask { task }).expect("run");
    assert_eq!(lease(&mut world, "suites", "w", 5), [], "one of one runs");
}
