//! What follows a failed attempt: by its class, by what the target asks for, and by what it names as failed.

use proptest::prelude::*;

use super::*;
use crate::event::GiveUpCause;
use crate::execution::failure::FailureClass;
use crate::execution::state::Stage;
use crate::limits::RETRY_AFTER_MAX;
use crate::task::action::{Completion, HttpAction, ProcessAction, ProcessLimits};
use crate::task::retry_on::{Numbers, RetryOn};

fn stubborn() -> Definition {
    let retry = Retry { max_attempts: 3, jitter_per_mille: 0, ..Retry::DEFAULT };
    Definition { retry, ..definition() }
}

/// A running execution of a task.
fn running(definition: &Definition) -> (World, ExecutionId) {
    let mut world = World::with_worker(8);
    let task = world.create(1, definition, None);
    let run = world.client(Request::RunTask { task });
    let Ok(Accepted::Execution { execution, .. }) = run else { panic!("it runs: {run:?}") };
    (world, execution)
}

fn of_class(class: FailureClass) -> AttemptOutcome {
    AttemptOutcome::Failed(Failure { class, ..Failure::new("no") })
}

fn naming(items: &str) -> AttemptOutcome {
    let failed_items = Some(Sealed::in_clear(items.as_bytes().to_vec()));
    AttemptOutcome::Failed(Failure { failed_items, ..Failure::new("no") })
}

/// Lets the wait for the next attempt end.
fn wait_for_retry(world: &mut World, id: ExecutionId) {
    let open = world.replica.execution(id).expect("open").clone();
    let Stage::Retrying { until } = open.stage else { panic!("it waits: {open:?}") };
    world.now = until.0;
    world.scheduler(Request::WaitsOver(vec![(id, Wait::Retry { attempts: open.attempts })])).expect("heard");
}

fn last_cause(world: &World) -> Option<GiveUpCause> {
    world.records.iter().rev().find_map(|record| match &record.event {
        Event::TaskFailed { cause, .. } | Event::TaskTimedOut { cause, .. } => Some(*cause),
        _ => None,
    })
}

#[test]
fn a_failure_is_retried_only_if_its_class_is_listed() {
    let http_status = vec![Numbers { first: 500, last: 599 }];
    let retry_on = Some(RetryOn { http_status, ..RetryOn::default() });
    let (mut world, id) = running(&Definition { retry_on, ..stubborn() });
    world.report(id, of_class(FailureClass::HttpStatus(503))).expect("heard");
    assert_eq!(world.names(), ["TaskRetry"]);
    wait_for_retry(&mut world, id);
    world.report(id, of_class(FailureClass::HttpStatus(404))).expect("heard");
    assert_eq!(world.names(), ["TaskFailed"]);
    assert_eq!(last_cause(&world), Some(GiveUpCause::NotRetried));
}

#[test]
fn a_timeout_is_a_class_of_its_own() {
    let only_timeouts = Some(RetryOn { timeout: true, ..RetryOn::default() });
    let (mut world, id) = running(&Definition { retry_on: only_timeouts, ..stubborn() });
    world.report(id, AttemptOutcome::TimedOut).expect("heard");
    assert_eq!(world.names(), ["TaskRetry"]);
    let no_timeouts = Some(RetryOn { other: true, ..RetryOn::default() });
    let (mut world, id) = running(&Definition { retry_on: no_timeouts, ..stubborn() });
    world.report(id, AttemptOutcome::TimedOut).expect("heard");
    assert_eq!((world.names(), last_cause(&world)), (vec!["TaskTimedOut"], Some(GiveUpCause::NotRetried)));
}

/// What may be made at most once is made again after failures that are known, and after no other.
#[test]
fn at_most_once_no_attempt_follows_one_of_which_nobody_knows_what_it_did() {
    let http = Action::Http(HttpAction {
        method: "POST".into(),
        url: "http://runner.example/suites/7".into(),
        headers: std::collections::BTreeMap::new(),
        body: None,
        completion: Completion::Response,
    });
    let program = Action::Process(ProcessAction {
        program: "/bin/true".into(),
        args: Vec::new(),
        env: std::collections::BTreeMap::new(),
        stdin: None,
        limits: ProcessLimits::default(),
    });
    let (status, connection) = (of_class(FailureClass::HttpStatus(503)), of_class(FailureClass::Connection));
    for (action, outcome, expected) in [
        (&http, status, "TaskRetry"),
        (&http, connection.clone(), "TaskFailed"),
        (&http, of_class(FailureClass::Unconnected), "TaskRetry"),
        (&http, AttemptOutcome::TimedOut, "TaskTimedOut"),
        (&http, of_class(FailureClass::Died), "TaskFailed"),
        (&program, of_class(FailureClass::Died), "TaskFailed"),
        (&program, AttemptOutcome::TimedOut, "TaskRetry"),
        (&program, of_class(FailureClass::Signal(9)), "TaskRetry"),
    ] {
        let definition = Definition { action: action.clone(), ..stubborn() };
        let once = Definition { delivery: Delivery::AtMostOnce, ..definition.clone() };
        let (mut world, id) = running(&once);
        world.report(id, outcome.clone()).expect("heard");
        assert_eq!(world.names(), [expected], "{outcome:?}");
        let cause = (expected != "TaskRetry").then_some(GiveUpCause::OutcomeUnknown);
        assert_eq!(last_cause(&world), cause, "{outcome:?}");
        let (mut world, id) = running(&definition);
        world.report(id, outcome).expect("heard");
        assert_eq!(world.names(), ["TaskRetry"], "at least once");
    }
}

#[test]
fn without_a_list_every_failure_is_retried_until_the_attempts_are_used_up() {
    let (mut world, id) = running(&stubborn());
    for class in [FailureClass::Signal(9), FailureClass::Other] {
        world.report(id, of_class(class)).expect("heard");
        assert_eq!(world.names(), ["TaskRetry"]);
        wait_for_retry(&mut world, id);
    }
    world.report(id, of_class(FailureClass::Connection)).expect("heard");
    assert_eq!((world.names(), last_cause(&world)), (vec!["TaskFailed"], Some(GiveUpCause::AttemptsUsedUp)));
}

/// How long the next attempt waits when the target asks to be left alone for so long.
fn wait_after(asked: Option<Span>) -> (u64, Option<Span>) {
    let (mut world, id) = running(&stubborn());
    world
        .report(id, AttemptOutcome::Failed(Failure { retry_after: asked, ..Failure::new("no") }))
        .expect("heard");
    let retry = world.records.iter().find_map(|record| match &record.event {
        Event::TaskRetry { until, retry_after, .. } => {
            Some((until.since(Timestamp(world.now)).0, *retry_after))
        }
        _ => None,
    });
    retry.expect("it is retried")
}

#[test]
fn a_target_may_ask_for_a_longer_wait_and_not_for_a_shorter_one() {
    let backoff = Retry::DEFAULT.initial_delay.0;
    assert_eq!(wait_after(None), (backoff, None));
    assert_eq!(wait_after(Some(Span(backoff - 1))), (backoff, None));
    assert_eq!(wait_after(Some(Span(backoff + 1))), (backoff + 1, Some(Span(backoff + 1))));
    let bounded = (RETRY_AFTER_MAX.0, Some(RETRY_AFTER_MAX));
    assert_eq!(wait_after(Some(Span(u64::MAX))), bounded);
}

proptest! {
    #[test]
    fn no_attempt_is_made_before_the_target_or_the_back_off_allows_it(asked in proptest::option::of(0..200_000_u64)) {
        let (wait, told) = wait_after(asked.map(Span));
        prop_assert!(wait >= Retry::DEFAULT.initial_delay.0);
        prop_assert!(asked.is_none_or(|asked| wait >= asked));
        prop_assert_eq!(told.is_some(), asked.is_some_and(|asked| asked > Retry::DEFAULT.initial_delay.0));
    }
}

#[test]
fn the_next_attempt_gets_the_items_that_failed_last() {
    let items = |world: &World, id| world.replica.execution(id).expect("open").retry_items.clone();
    let text = |text: &str| Some(Sealed::in_clear(text.as_bytes().to_vec()));
    let (mut world, id) = running(&stubborn());
    assert_eq!(items(&world, id), None);
    world.report(id, naming("[1,2]")).expect("heard");
    wait_for_retry(&mut world, id);
    assert_eq!(items(&world, id), text("[1,2]"));
    world.report(id, of_class(FailureClass::Connection)).expect("heard");
    wait_for_retry(&mut world, id);
    assert_eq!(items(&world, id), text("[1,2]"), "a failure without a word leaves them to do");
    world.report(id, naming("[2]")).expect("heard");
    let reopening = crate::command::Reopening {
        execution: id,
        task: TaskId(1),
        occurrence: match world.records.iter().find(|record| record.event.name() == "TaskScheduled") {
            Some(Record { event: Event::TaskScheduled { occurrence, .. }, .. }) => *occurrence,
            other => panic!("it was scheduled: {other:?}"),
        },
        scheduled_at: Timestamp(1_000_000),
        status: Status::Failed,
        attempts: 3,
        retry_items: text("[2]"),
        cause: None,
        as_of: u64::MAX,
        run: None,
    };
    world.client(Request::RetryExecution(Box::new(reopening))).expect("reopened");
    assert_eq!(items(&world, id), text("[2]"), "a retry by hand goes on where it was");
}
