//! How long an execution may take in all and wait for a worker, and what comes of too many failures.

use super::*;
use crate::event::{GiveUpCause, PauseCause};
use crate::execution::state::CancelCause;
use crate::task::state::Phase;

fn bounded(execution: Option<u64>, queue: Option<u64>) -> Definition {
    let retry = Retry { max_attempts: 9, jitter_per_mille: 0, ..Retry::DEFAULT };
    Definition {
        execution_timeout: execution.map(Span),
        queue_timeout: queue.map(Span),
        retry,
        ..definition()
    }
}

fn run(world: &mut World, task: TaskId) -> ExecutionId {
    let run = world.client(Request::RunTask { task });
    let Ok(Accepted::Execution { execution, .. }) = run else { panic!("it runs: {run:?}") };
    execution
}

/// Proposes the end of every wait, whether or not it is over.
fn propose_waits(world: &mut World) -> Vec<&'static str> {
    let open = world.open();
    let waits = open.iter().flat_map(|open| open.waits().map(|(_, wait)| (open.id, wait))).collect();
    world.scheduler(Request::WaitsOver(waits)).expect("heard");
    world.names()
}

/// How the execution timed out: whether its attempt's end is known, and why.
fn timed_out(world: &World) -> (bool, GiveUpCause) {
    let found = world.records.iter().rev().find_map(|record| match &record.event {
        Event::TaskTimedOut { ended, cause, .. } => Some((ended.is_some(), *cause)),
        _ => None,
    });
    found.expect("it timed out")
}

#[test]
fn an_execution_that_waits_too_long_for_a_worker_times_out() {
    let mut world = World::new();
    let task = world.create(1, &bounded(None, Some(500)), None);
    run(&mut world, task);
    world.now += 499;
    assert!(propose_waits(&mut world).is_empty(), "too soon");
    world.now += 1;
    assert_eq!(propose_waits(&mut world), ["TaskTimedOut"]);
    assert_eq!(timed_out(&world), (false, GiveUpCause::QueueTimeout));
    assert!(world.open().is_empty() && world.replica.queue().is_empty());
    assert_eq!(status_of_last(&world, task), Some(Status::TimedOut));
}

#[test]
fn each_wait_for_a_worker_has_its_own_time_and_work_is_no_wait() {
    let mut world = World::with_worker(1);
    let task = world.create(1, &bounded(None, Some(500)), None);
    let id = run(&mut world, task);
    world.now += 10_000;
    assert!(propose_waits(&mut world).is_empty(), "it runs");
    world.scheduler(Request::LoseWorker { node: WORKER.0, incarnation: WORKER.1 }).expect("known");
    world.now += 400;
    assert!(propose_waits(&mut world).is_empty(), "it waits again since 400 ms");
    world.join((NodeId(2), Incarnation(12)), 1);
    assert!(world.replica.execution(id).expect("open").grant().is_some());
}

#[test]
fn a_wait_for_ones_turn_counts_too() {
    let mut world = World::with_worker(8);
    let definition = Definition { overlap: Overlap::QueueAll, ..bounded(None, Some(500)) };
    let task = world.create(1, &definition, None);
    run(&mut world, task);
    run(&mut world, task);
    world.now += 500;
    assert_eq!(propose_waits(&mut world), ["TaskTimedOut"]);
    assert_eq!(world.open().len(), 1, "the one that runs does not wait");
}

#[test]
fn a_running_attempt_is_cancelled_first_when_the_whole_time_is_over() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &bounded(Some(2_000), None), None);
    let id = run(&mut world, task);
    world.now += 2_000;
    assert_eq!(propose_waits(&mut world), ["TaskCancelRequested"]);
    assert_eq!(world.only_open().cancelling, Some(CancelCause::OutOfTime));
    assert!(propose_waits(&mut world).is_empty(), "it is told once");
    world.report(id, AttemptOutcome::Cancelled).expect("heard");
    assert_eq!(world.names(), ["TaskTimedOut"]);
    assert_eq!(timed_out(&world), (true, GiveUpCause::ExecutionTimeout));
}

#[test]
fn the_whole_time_goes_on_through_retries_and_lost_workers() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &bounded(Some(2_000), None), None);
    let id = run(&mut world, task);
    world.now += 1_500;
    world.report(id, failed()).expect("heard");
    world.now += 500;
    assert_eq!(propose_waits(&mut world), ["TaskTimedOut"], "it waited for its next attempt");
    assert_eq!(timed_out(&world), (false, GiveUpCause::ExecutionTimeout));
    run(&mut world, task);
    world.now += 2_000;
    assert_eq!(propose_waits(&mut world), ["TaskCancelRequested"]);
    world.scheduler(Request::LoseWorker { node: WORKER.0, incarnation: WORKER.1 }).expect("known");
    assert!(world.names().contains(&"TaskTimedOut"), "{:?}", world.names());
    assert!(world.open().is_empty());
}

#[test]
fn a_retry_by_hand_begins_the_whole_time_anew() {
    let mut world = World::new();
    let task = world.create(1, &bounded(Some(2_000), None), None);
    let id = run(&mut world, task);
    let open = world.only_open();
    world.now += 2_000;
    assert_eq!(propose_waits(&mut world), ["TaskTimedOut"]);
    let reopening = crate::command::Reopening {
        execution: id,
        task,
        occurrence: open.occurrence,
        scheduled_at: open.scheduled_at,
        status: Status::TimedOut,
        attempts: 0,
        retry_items: None,
        cause: None,
        as_of: u64::MAX,
        run: None,
    };
    world.client(Request::RetryExecution(Box::new(reopening))).expect("reopened");
    world.now += 1_999;
    assert!(propose_waits(&mut world).is_empty());
}

/// A task that pauses itself after three failures, and its worker.
fn fragile() -> (World, TaskId) {
    let mut world = World::with_worker(8);
    let by_hand = Definition { trigger: Trigger::Manual, ..definition() };
    let task = world.create(1, &Definition { pause_after_failures: Some(3), ..by_hand }, None);
    (world, task)
}

fn end(world: &mut World, task: TaskId, outcome: AttemptOutcome) {
    let id = run(world, task);
    world.report(id, outcome).expect("heard");
}

#[test]
fn a_task_whose_executions_keep_failing_is_paused_by_the_log() {
    let (mut world, task) = fragile();
    end(&mut world, task, failed());
    end(&mut world, task, AttemptOutcome::TimedOut);
    assert_eq!(world.task(task).phase(), Phase::Active);
    end(&mut world, task, failed());
    assert_eq!(world.names(), ["TaskFailed", "TaskPaused"]);
    assert_eq!(world.task(task).paused, Some(PauseCause::Failures { count: 3 }));
    world.client(Request::ResumeTask { task }).expect("paused");
    end(&mut world, task, failed());
    assert_eq!(world.task(task).phase(), Phase::Active, "a resume begins to count anew");
}

#[test]
fn a_success_ends_the_row_and_a_cancel_does_not() {
    let (mut world, task) = fragile();
    for outcome in [failed(), failed(), AttemptOutcome::Succeeded(None), failed(), failed()] {
        end(&mut world, task, outcome);
    }
    assert_eq!((world.task(task).phase(), world.task(task).failures), (Phase::Active, 2));
    end(&mut world, task, AttemptOutcome::Cancelled);
    assert_eq!(world.task(task).failures, 2);
    end(&mut world, task, failed());
    assert_eq!(world.task(task).phase(), Phase::Paused);
}

#[test]
fn what_was_due_is_settled_before_a_task_is_paused() {
    let (mut world, _) = fragile();
    let definition = Definition { pause_after_failures: Some(1), ..definition() };
    let task = world.create(2, &definition, Some(world.now + 10));
    let id = run(&mut world, task);
    world.now += 10;
    world.report(id, failed()).expect("heard");
    assert_eq!(world.names(), ["TaskFailed"], "an instant is due");
    let due = world.now;
    assert_eq!(world.fire(task, due, Some(due + 1_000)), (1, 0, 0));
    assert_eq!(world.task(task).phase(), Phase::Paused);
}
