//! Grants, fencing, leases that ran out, retries.

use super::*;
use crate::event::RequeueCause;
use crate::execution::state::Stage;
use crate::limits::{GRANTS_PER_COMMAND_MAX, LOSSES_PER_COMMAND_MAX};

const OTHER: (NodeId, Incarnation) = (NodeId(2), Incarnation(22));

fn running(world: &mut World, definition: &Definition) -> (TaskId, ExecutionId) {
    let task = world.create(1, definition, None);
    world.client(Request::RunTask { task }).expect("runs");
    (task, world.only_open().id)
}

fn lose(world: &mut World, worker: (NodeId, Incarnation)) {
    world.scheduler(Request::LoseWorker { node: worker.0, incarnation: worker.1 }).expect("known");
}

#[test]
fn apply_grants_what_it_queues_and_a_result_grants_the_next() {
    let mut world = World::with_worker(1);
    let first = world.create(1, &definition(), None);
    let second = world.create(2, &definition(), None);
    world.client(Request::RunTask { task: first }).expect("runs");
    assert_eq!(world.names(), ["TaskScheduled", "TaskStarted"]);
    let running = world.only_open().id;
    world.now += 1;
    world.client(Request::RunTask { task: second }).expect("runs");
    assert_eq!(world.names(), ["TaskScheduled"]);
    world.report(running, AttemptOutcome::Succeeded(None)).expect("heard");
    assert_eq!(world.names(), ["TaskCompleted", "TaskStarted"]);
}

#[test]
fn higher_priorities_are_granted_first_then_the_order_of_queueing() {
    let mut world = World::new();
    for (id, priority) in [(1, 5), (2, 9), (3, 5), (4, 0)] {
        let task = world.create(id, &Definition { priority, ..definition() }, None);
        world.client(Request::RunTask { task }).expect("queued");
    }
    world.join(WORKER, 8);
    let granted: Vec<u128> = world
        .records
        .iter()
        .filter_map(|record| match record.event {
            Event::TaskStarted { task, .. } => Some(task.0),
            _ => None,
        })
        .collect();
    assert_eq!(granted, [2, 1, 3, 4]);
}

#[test]
fn load_is_spread_by_free_slots() {
    let mut world = World::with_worker(300);
    world.join(OTHER, 300);
    let task = world.create(1, &definition(), None);
    for _ in 0..300 {
        world.now += 1;
        world.client(Request::RunTask { task }).expect("runs");
    }
    assert!(world.replica.workers().values().all(|worker| worker.held.len() == 150));
}

#[test]
fn a_worker_is_granted_only_what_it_offers() {
    let mut world = World::new();
    let offers = Offers { http: true, builtin: true, programs: Programs::Listed(vec!["/bin/true".into()]) };
    let request = Request::JoinWorker { node: NodeId(1), incarnation: Incarnation(1), slots: 8, offers };
    world.scheduler(request).expect("joins");
    for (id, program) in [(1, "/bin/false"), (2, "/bin/true")] {
        let process = crate::task::action::ProcessAction {
            program: program.into(),
            args: Vec::new(),
            env: std::collections::BTreeMap::new(),
            stdin: None,
            limits: crate::task::action::ProcessLimits::default(),
        };
        let task = world.create(id, &Definition { action: Action::Process(process), ..definition() }, None);
        world.client(Request::RunTask { task }).expect("queued");
    }
    let stages: Vec<bool> = world.open().iter().map(|open| open.grant().is_some()).collect();
    assert_eq!(stages.iter().filter(|granted| **granted).count(), 1);
    assert_eq!(world.replica.queue().len(), 1);
}

#[test]
fn a_draining_worker_takes_nothing_new() {
    let mut world = World::with_worker(8);
    world.scheduler(Request::DrainWorker { node: WORKER.0, incarnation: WORKER.1 }).expect("known");
    running(&mut world, &definition());
    assert_eq!(world.only_open().stage, Stage::Queued);
}

#[test]
fn a_drained_node_finishes_what_it_has_and_takes_nothing_until_it_is_undrained_whatever_start_of_it_is_there()
{
    let mut world = World::with_worker(8);
    let (task, first) = running(&mut world, &definition());
    let drain = |drained| Request::DrainNode { node: WORKER.0, drained };
    world.client(drain(true)).expect("may");
    assert_eq!(world.names(), ["NodeDrained"]);
    let drained =
        world.records.iter().rfind(|record| record.event.name() == "NodeDrained").expect("recorded");
    assert_eq!((drained.header.tenant, &*drained.header.actor), (TenantId::CLUSTER, "ann"));
    world.client(drain(true)).expect("may");
    assert_eq!(world.names(), [""; 0], "a second time changes nothing");
    assert!(world.only_open().grant().is_some(), "it keeps what it has");
    world.client(Request::RunTask { task }).expect("queued");
    world.report(first, AttemptOutcome::Succeeded(None)).expect("heard");
    assert_eq!(world.only_open().stage, Stage::Queued);
    world.join((WORKER.0, Incarnation(WORKER.1.0 + 1)), 8);
    assert_eq!(world.only_open().stage, Stage::Queued, "a restart does not end it");
    let mut bytes = Vec::new();
    world.replica.freeze().write_to(&mut bytes).expect("written");
    assert!(Replica::restore(&mut &*bytes).expect("reads").drained().contains(&WORKER.0), "nor a snapshot");
    world.client(drain(false)).expect("may");
    assert_eq!(world.names(), ["NodeUndrained", "TaskStarted"], "what waited goes on at once");
}

#[test]
fn an_attempt_of_a_lost_worker_is_made_again_under_a_higher_token() {
    let mut world = World::with_worker(8);
    let (_, id) = running(&mut world, &definition());
    let first = world.only_open().grant().expect("granted").token;
    world.join(OTHER, 8);
    lose(&mut world, WORKER);
    let second = world.only_open().grant().cloned().expect("granted again");
    assert!(second.token > first);
    assert_eq!(second.of_node(), Some(OTHER));
    assert_eq!(world.only_open().failures, 0, "a loss is not a failure");
    assert_eq!(
        world.report_under(id, first, WORKER, AttemptOutcome::Succeeded(None)),
        Err(Rejection::UnknownWorker),
        "the lost worker is told"
    );
    assert_eq!(world.names(), ["TaskResultRefused"], "and the refusal is recorded");
    world.report(id, AttemptOutcome::Succeeded(None)).expect("heard");
    assert!(world.open().is_empty());
}

#[test]
fn an_at_most_once_attempt_of_a_lost_worker_is_lost_and_never_made_again() {
    let mut world = World::with_worker(8);
    let once = Definition { delivery: Delivery::AtMostOnce, ..definition() };
    let (task, _) = running(&mut world, &once);
    world.join(OTHER, 8);
    lose(&mut world, WORKER);
    assert!(world.open().is_empty());
    assert_eq!(status_of_last(&world, task), Some(Status::Lost));
    assert_eq!(world.count(|event| matches!(event, Event::TaskStarted { .. })), 1);
}

#[test]
fn an_attempt_that_its_worker_never_began_waits_again_even_at_most_once() {
    let mut world = World::with_worker(8);
    let (_, id) = running(&mut world, &Definition { delivery: Delivery::AtMostOnce, ..definition() });
    world.scheduler(Request::DrainWorker { node: WORKER.0, incarnation: WORKER.1 }).expect("known");
    world.report(id, AttemptOutcome::NotStarted).expect("heard");
    assert_eq!((world.names(), world.only_open().stage.clone()), (vec!["TaskRequeued"], Stage::Queued));
    assert_eq!(world.only_open().failures, 0);
    world.join(OTHER, 8);
    world.client(Request::CancelExecution { execution: id }).expect("may");
    world.report(id, AttemptOutcome::NotStarted).expect("heard");
    assert_eq!(world.names(), ["TaskCancelled"], "it was told to stop");
}

#[test]
fn a_new_start_of_a_node_loses_the_one_before() {
    let mut world = World::with_worker(8);
    running(&mut world, &definition());
    let again = (WORKER.0, Incarnation(99));
    world.join(again, 8);
    let grant = world.only_open().grant().cloned().expect("granted");
    assert_eq!(grant.of_node(), Some(again));
    assert!(!world.replica.workers().contains_key(&WORKER));
}

#[test]
fn a_report_heard_twice_counts_once() {
    let mut world = World::with_worker(8);
    let retry = Retry { max_attempts: 3, jitter_per_mille: 0, ..Retry::DEFAULT };
    let (_, id) = running(&mut world, &Definition { retry, ..definition() });
    let grant = world.only_open().grant().cloned().expect("granted");
    world.report(id, failed()).expect("heard");
    let heard = world.records.len();
    world.reports -= 1;
    let again = world.report_under(id, grant.token, WORKER, failed());
    assert_eq!(again, Ok(Accepted::Done));
    assert_eq!(world.records.len(), heard);
}

#[test]
fn a_failed_attempt_is_made_again_after_its_wait_and_no_sooner() {
    let mut world = World::with_worker(8);
    let retry = Retry { max_attempts: 2, jitter_per_mille: 0, ..Retry::DEFAULT };
    let (task, id) = running(&mut world, &Definition { retry, ..definition() });
    world.report(id, failed()).expect("heard");
    assert_eq!(world.names(), ["TaskRetry"]);
    let attempts = world.only_open().attempts;
    world.now += 999;
    world.scheduler(Request::WaitsOver(vec![(id, Wait::Retry { attempts })])).expect("heard");
    assert!(world.names().is_empty(), "too soon");
    world.now += 1;
    world.scheduler(Request::WaitsOver(vec![(id, Wait::Retry { attempts })])).expect("heard");
    assert_eq!(world.names(), ["TaskRequeued", "TaskStarted"]);
    world.scheduler(Request::WaitsOver(vec![(id, Wait::Retry { attempts })])).expect("heard");
    assert!(world.names().is_empty(), "heard twice");
    world.report(id, AttemptOutcome::TimedOut).expect("heard");
    assert_eq!(world.names(), ["TaskTimedOut"]);
    assert_eq!(status_of_last(&world, task), Some(Status::TimedOut));
}

#[test]
fn work_that_is_handed_back_is_made_again_at_once() {
    let mut world = World::with_worker(8);
    let (_, id) = running(&mut world, &definition());
    world.report(id, AttemptOutcome::HandedBack).expect("heard");
    assert_eq!(world.names(), ["TaskRequeued", "TaskStarted"]);
    assert_eq!(
        world.count(|event| matches!(
            event,
            Event::TaskRequeued { cause: RequeueCause::HandedBack { .. }, .. }
        )),
        1
    );
}

#[test]
fn a_cancelled_execution_does_not_retry() {
    let mut world = World::with_worker(8);
    let (task, id) = running(&mut world, &Definition { retry: Retry::DEFAULT, ..definition() });
    let answer = world.client(Request::CancelExecution { execution: id });
    assert_eq!(answer, Ok(Accepted::Execution { execution: id, status: Status::Running }));
    world.report(id, failed()).expect("heard");
    assert_eq!(status_of_last(&world, task), Some(Status::Cancelled));
}

#[test]
fn a_cancelled_execution_whose_worker_is_lost_is_cancelled() {
    let mut world = World::with_worker(8);
    let (task, id) = running(&mut world, &definition());
    world.client(Request::CancelExecution { execution: id }).expect("told");
    lose(&mut world, WORKER);
    assert_eq!(status_of_last(&world, task), Some(Status::Cancelled));
}

#[test]
fn work_left_over_is_continued_within_bounds() {
    let mut world = World::new();
    let task = world.create(1, &definition(), None);
    let many = LOSSES_PER_COMMAND_MAX + 100;
    for _ in 0..many {
        world.now += 1;
        world.client(Request::RunTask { task }).expect("runs");
    }
    world.join(WORKER, u32::try_from(many).expect("small"));
    assert_eq!(world.replica.queue().len(), 0);
    world.join(OTHER, 1);
    lose(&mut world, WORKER);
    assert!(world.replica.left_over());
    assert_eq!(world.names().iter().filter(|name| **name == "TaskRequeued").count(), LOSSES_PER_COMMAND_MAX);
    world.scheduler(Request::Continue).expect("heard");
    assert!(!world.replica.left_over());
    const { assert!(LOSSES_PER_COMMAND_MAX + 100 <= GRANTS_PER_COMMAND_MAX) };
}

#[test]
fn an_ended_execution_is_retried_by_hand_as_its_next_attempt() {
    let mut world = World::with_worker(8);
    let (task, id) = running(&mut world, &definition());
    let open = world.only_open();
    world.report(id, failed()).expect("heard");
    let reopening = crate::command::Reopening {
        execution: id,
        task,
        occurrence: open.occurrence,
        scheduled_at: open.scheduled_at,
        status: Status::Failed,
        attempts: 1,
        cause: None,
        as_of: 100,
        retry_items: None,
        run: None,
    };
    let retry = |reopening: &crate::command::Reopening| Request::RetryExecution(Box::new(reopening.clone()));
    world.client(retry(&reopening)).expect("reopened");
    assert_eq!(world.names(), ["TaskReopened", "TaskStarted"]);
    assert_eq!(world.only_open().attempts, 2);
    assert_eq!(world.client(retry(&reopening)), Err(Rejection::WrongStatus { status: Status::Running }));
    world.report(id, AttemptOutcome::Succeeded(None)).expect("heard");
    let stale = crate::command::Reopening { as_of: 1, ..reopening.clone() };
    assert_eq!(world.client(retry(&stale)), Err(Rejection::Outdated));
    let done = crate::command::Reopening { status: Status::Succeeded, ..reopening };
    assert_eq!(world.client(retry(&done)), Err(Rejection::WrongStatus { status: Status::Succeeded }));
}

/// A join that lay in a mailbox or in an old leader's hands is heard after the process that sent it is gone.
#[test]
fn a_late_join_of_an_earlier_start_does_not_push_the_present_one_out() {
    const RESTARTED: (NodeId, Incarnation) = (NodeId(1), Incarnation(12));
    let mut world = World::with_worker(8);
    world.join(RESTARTED, 8);
    running(&mut world, &definition());
    let offers = Offers { http: true, builtin: true, programs: Programs::Any };
    let late = Request::JoinWorker { node: WORKER.0, incarnation: WORKER.1, slots: 8, offers };
    assert_eq!(world.scheduler(late), Err(Rejection::UnknownWorker));
    let grant = world.only_open().grant().cloned().expect("still in the same hands");
    assert_eq!(grant.of_node(), Some(RESTARTED));
    assert!(!world.replica.workers().contains_key(&WORKER));
}
