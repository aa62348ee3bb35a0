//! A run of a chain as a whole: cancelled, retried from what failed, and taken up with one of its executions.

use super::chains::{chain, unsuccessful};
use super::*;
use crate::command::{RecalledRun, RecalledStep, Reopening};
use crate::event::Chaining;
use crate::execution::state::Occurrence;
use crate::task::trigger::AfterCondition::{self, AllDone, AllSucceeded, AnyFailed};

impl World {
    /// A run as the read models tell of it.
    pub(super) fn recalled(&self, run: ExecutionId) -> RecalledRun {
        let mut steps = std::collections::BTreeMap::<TaskId, RecalledStep>::new();
        let mut cancelled = false;
        for record in &self.records {
            match &record.event {
                Event::TaskScheduled { task, execution, occurrence, scheduled_at, .. }
                | Event::TaskSkipped { task, execution, occurrence, scheduled_at, .. }
                    if occurrence.run_of(*execution) == run =>
                {
                    let ended = Reopening {
                        execution: *execution,
                        task: *task,
                        occurrence: *occurrence,
                        scheduled_at: *scheduled_at,
                        status: Status::Skipped,
                        attempts: 1,
                        retry_items: None,
                        cause: None,
                        as_of: self.index,
                        run: None,
                    };
                    steps.insert(*task, RecalledStep { ended, result: None });
                }
                Event::Chain(chaining) if chaining.run() == run => {
                    cancelled = matches!(chaining, Chaining::RunCancelled { .. });
                }
                event => {
                    let status = match event {
                        Event::TaskCompleted { .. } => Status::Succeeded,
                        Event::TaskFailed { .. } => Status::Failed,
                        Event::TaskCancelled { .. } => Status::Cancelled,
                        _ => continue,
                    };
                    let of = event.execution();
                    let step = steps.values_mut().find(|step| Some(step.ended.execution) == of);
                    step.into_iter().for_each(|step| step.ended.status = status);
                }
            }
        }
        let rounds = steps.values().map(|step| match step.ended.occurrence {
            Occurrence::After { round, .. } => round,
            _ => 0,
        });
        RecalledRun {
            run,
            task: steps.values().find(|step| step.ended.execution == run).expect("begun").ended.task,
            round: rounds.max().unwrap_or(0),
            cancelled,
            correlation_id: "request".into(),
            steps: steps.into_values().collect(),
            as_of: self.index,
        }
    }

    pub(super) fn retry_run(&mut self, run: ExecutionId) -> Result<Accepted, Rejection> {
        let recalled = self.recalled(run);
        self.client(Request::RetryRun(Box::new(recalled)))
    }

    pub(super) fn retry(&mut self, run: ExecutionId, task: u128, known: bool) -> Result<Accepted, Rejection> {
        let recalled = self.recalled(run);
        let step = recalled.steps.iter().find(|step| step.ended.task == TaskId(task)).expect("in the run");
        let ended = Reopening { run: known.then(|| Box::new(recalled.clone())), ..step.ended.clone() };
        self.client(Request::RetryExecution(Box::new(ended)))
    }
}

const LINE: [(u128, &[u128], AfterCondition); 4] =
    [(1, &[], AllDone), (2, &[1], AllSucceeded), (3, &[2], AllSucceeded), (4, &[2], AnyFailed)];

#[test]
fn a_run_goes_on_from_its_failed_step() {
    let mut world = chain(&LINE);
    let run = world.run(1);
    world.succeed(run, 1);
    world.fail(run, 2);
    assert_eq!(world.skipped(run), [(3, unsuccessful(2, Status::Failed))]);
    assert_eq!(world.retry_run(run), Err(Rejection::RunOpen), "the step after the failure is open");
    world.succeed(run, 4);
    world.is_over();

    assert_eq!(world.retry_run(run), Ok(Accepted::Done));
    assert_eq!(world.names(), ["RunTakenUp", "TaskReopened", "TaskStarted"]);
    assert_eq!(world.open_in(run, 2), world.only_open().id);
    assert!(world.open().len() == 1, "what succeeded is not run again");
    world.succeed(run, 2);
    assert_eq!(world.began(run), [2, 4, 3], "what was skipped is decided anew, what succeeded is not");
    world.succeed(run, 3);
    world.is_over();
    assert_eq!(world.retry_run(run), Err(Rejection::NothingToRetry));
}

#[test]
fn what_failed_after_a_failure_is_made_anew_after_its_success() {
    let mut world = chain(&[(1, &[], AllDone), (2, &[1], AllDone), (3, &[2], AllDone)]);
    let run = world.run(1);
    world.fail(run, 1);
    world.fail(run, 2);
    let first = world.open_in(run, 3);
    world.fail(run, 3);
    world.retry_run(run).expect("it goes on");
    assert_eq!(world.only_open().task, TaskId(1), "only the first of those that failed is reopened");
    world.succeed(run, 1);
    world.succeed(run, 2);
    assert_ne!(world.open_in(run, 3), first, "an execution of another round");
    world.succeed(run, 3);
    assert_eq!(world.retry(run, 2, true), Err(Rejection::WrongStatus { status: Status::Succeeded }));
    world.is_over();
}

#[test]
fn what_a_run_that_was_taken_up_decides_anew_is_not_retried() {
    let mut world = chain(&[(1, &[], AllDone), (2, &[1], AllDone)]);
    let run = world.run(1);
    world.fail(run, 1);
    let first = world.open_in(run, 2);
    world.fail(run, 2);
    world.is_over();
    let before = world.recalled(run);
    world.retry(run, 1, true).expect("reopened");
    for recalled in [Some(Box::new(before)), None] {
        let follower = world.recalled(run).steps.into_iter().find(|step| step.ended.task == TaskId(2));
        let follower = Reopening { run: recalled, ..follower.expect("in the run").ended };
        assert_eq!(world.client(Request::RetryExecution(Box::new(follower))), Err(Rejection::RunOpen));
    }
    assert_eq!(world.only_open().task, TaskId(1));
    world.succeed(run, 1);
    assert_ne!(world.open_in(run, 2), first, "it follows, once");
    world.succeed(run, 2);
    world.is_over();
}

#[test]
fn an_execution_that_is_retried_takes_its_run_up() {
    for known in [true, false] {
        let mut world = chain(&LINE);
        let run = world.run(1);
        world.succeed(run, 1);
        world.fail(run, 2);
        if known {
            world.succeed(run, 4);
            world.is_over();
        }
        world.retry(run, 2, known).expect("reopened");
        world.succeed(run, 2);
        assert_eq!(world.began(run), [2, 4, 3]);
        if !known {
            world.succeed(run, 4);
        }
        world.succeed(run, 3);
        world.is_over();
    }
}

#[test]
fn an_execution_whose_run_is_not_told_of_is_not_retried() {
    let mut world = chain(&LINE);
    let run = world.run(1);
    world.fail(run, 1);
    world.is_over();
    assert_eq!(world.retry(run, 1, false), Err(Rejection::Outdated));
    let recalled = world.recalled(run);
    world.retry(run, 1, true).expect("reopened");
    world.fail(run, 1);
    let stale = world.client(Request::RetryRun(Box::new(recalled)));
    assert_eq!(stale, Err(Rejection::Outdated), "it was taken up since");
}

#[test]
fn an_execution_that_another_took_the_place_of_is_not_retried() {
    let mut world = chain(&[(1, &[], AllDone), (2, &[1], AllDone), (3, &[2], AllDone)]);
    let run = world.run(1);
    world.fail(run, 1);
    let former = world.open_in(run, 2);
    world.fail(run, 2);
    world.fail(run, 3);
    let recalled = world.recalled(run);
    let step = recalled.steps.iter().find(|step| step.ended.execution == former).expect("told of").clone();
    world.retry_run(run).expect("it goes on");
    world.succeed(run, 1);
    let execution = world.open_in(run, 2);
    let late = world.client(Request::RetryExecution(Box::new(step.ended)));
    assert_eq!(late, Err(Rejection::Superseded { execution }));
}

#[test]
fn a_cancelled_run_ends_and_nothing_follows_in_it() {
    let mut world = chain(&[
        (1, &[], AllDone),
        (2, &[1], AllDone),
        (3, &[1], AllDone),
        (4, &[2], AllDone),
        (5, &[3], AnyFailed),
    ]);
    let (run, other) = (world.run(1), world.run(1));
    world.succeed(run, 1);
    world.succeed(other, 1);
    world.client(Request::CancelRun { run }).expect("open");
    assert_eq!(world.names(), ["RunCancelled", "TaskCancelRequested", "TaskCancelRequested"]);
    let second = world.open_in(run, 2);
    world.report(second, AttemptOutcome::Cancelled).expect("heard");
    world.fail(run, 3);
    assert_eq!((world.began(run), world.skipped(run)), (vec![2, 3], vec![]));
    assert_eq!(world.client(Request::CancelRun { run }), Err(Rejection::NoSuchRun));
    world.succeed(other, 2);
    assert_eq!(world.began(other), [2, 3, 4], "another run is another run");
    world.succeed(other, 3);
    world.succeed(other, 4);
    world.is_over();

    world.retry_run(run).expect("it goes on");
    world.succeed(run, 2);
    world.succeed(run, 3);
    world.succeed(run, 4);
    world.is_over();
}

#[test]
fn a_run_cancelled_in_its_first_execution_is_followed_by_nothing() {
    let mut world = chain(&[(1, &[], AllDone), (2, &[1], AllDone)]);
    let run = world.run(1);
    world.client(Request::CancelRun { run }).expect("open");
    world.succeed(run, 1);
    assert_eq!(world.began(run), [], "although it did not stop");
    world.is_over();
    world.retry_run(run).expect("what did not follow follows now");
    assert_eq!(world.began(run), [2]);
    world.succeed(run, 2);
    world.is_over();
}

#[test]
fn a_run_is_cancelled_and_retried_by_its_tenant_alone() {
    let mut world = chain(&LINE);
    let run = world.run(1);
    let cancel = world.client_command("other", Request::CancelRun { run });
    assert_eq!(world.apply(&cancel).outcome, Err(Rejection::NoSuchRun));
    world.succeed(run, 1);
    world.fail(run, 2);
    let step = world.open_in(run, 4);
    assert_eq!(world.client(Request::CancelRun { run: step }), Err(Rejection::NoSuchRun), "not a run");
    world.succeed(run, 4);
    let recalled = world.recalled(run);
    let retry = world.client_command("other", Request::RetryRun(Box::new(recalled)));
    assert_eq!(world.apply(&retry).outcome, Err(Rejection::NoSuchTask));
}
