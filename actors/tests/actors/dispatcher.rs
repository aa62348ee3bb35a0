//! A node as a worker: it starts what it is granted, once, and reports what ended, until it is heard.

use std::time::Duration;

use escapement_actors::intent::Intent;
use escapement_actors::ports::{AttemptEnd, AttemptFailure};
use escapement_domain::command::{AttemptOutcome, Request};
use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{NodeId, TaskId};
use escapement_domain::task::definition::{Definition, Delivery, Overlap};
use escapement_domain::timestamp::Span;

use crate::cast::{Cast, How, every, noop, once, played};
use crate::stage::{play, until};

fn last_status(cast: &Cast, task: TaskId) -> Option<Status> {
    cast.task(task)?.last_execution.map(|last| last.status)
}

fn is_report(request: &Request) -> bool {
    matches!(request, Request::Report(_))
}

#[test]
fn a_granted_attempt_runs_and_its_end_is_in_the_log() {
    play(async {
        let cast = Cast::new(1, &[1]);
        *cast.book.takes.lock() = Duration::from_millis(250);
        let task = cast.create(7, played(once(10))).await;
        until(|| last_status(&cast, task) == Some(Status::Succeeded)).await;
        assert_eq!(cast.book.ends(), [(NodeId(1), How::ByItself)]);
        assert_eq!(
            cast.outputs.0.lock().iter().map(|(_, attempt, text)| (*attempt, &**text)).collect::<Vec<_>>(),
            [(1, "done")]
        );
        assert!(cast.open().is_empty());
    });
}

#[test]
fn a_noop_needs_no_executor() {
    play(async {
        let cast = Cast::new(1, &[1]);
        let tasks: Vec<TaskId> = (1..=200).map(TaskId).collect();
        for task in &tasks {
            cast.create(task.0, noop(once(10))).await;
        }
        until(|| tasks.iter().all(|task| last_status(&cast, *task) == Some(Status::Succeeded))).await;
        assert!(cast.book.starts().is_empty());
        assert!(cast.shared.proposals(NodeId(1), is_report) < 30, "ends travel together");
    });
}

#[test]
fn reports_repeated_change_nothing() {
    play(async {
        let cast = Cast::new(1, &[1]);
        until(|| cast.workers() == 1).await;
        let task = cast.create(7, played(every(10))).await;
        cast.nodes[&1].log.behave(|conduct| conduct.forgetful = 6);
        until(|| cast.task(task).is_some_and(|task| task.runs == 5 && task.open.is_empty())).await;
        let reports: Vec<_> = cast
            .shared
            .requests()
            .into_iter()
            .filter_map(|request| if let Request::Report(report) = request { Some(report) } else { None })
            .collect();
        let mut first_of = std::collections::BTreeMap::new();
        for report in &reports {
            let first = first_of.entry(report.sequence).or_insert_with(|| report.clone());
            assert_eq!(first, report, "a report keeps its number and its content");
        }
        assert!(reports.len() > first_of.len(), "some were repeated");
        assert_eq!(first_of.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(cast.book.starts().len(), 5);
    });
}

#[test]
fn a_cancel_reaches_the_executor() {
    play(async {
        let cast = Cast::new(1, &[1]);
        *cast.book.takes.lock() = Duration::from_secs(3_600);
        let task = cast.create(7, played(once(10))).await;
        until(|| cast.book.starts().len() == 1).await;
        let execution = cast.open()[0].id;
        let cancelled = cast.submit(1, Intent::CancelExecution { execution, task }).await;
        assert!(cancelled.is_ok_and(|answer| answer.outcome.is_ok()));
        until(|| last_status(&cast, task) == Some(Status::Cancelled)).await;
        assert_eq!(cast.book.ends(), [(NodeId(1), How::Cancelled)]);
    });
}

#[test]
fn a_deleted_task_takes_its_running_attempt_with_it() {
    play(async {
        let cast = Cast::new(1, &[1]);
        *cast.book.takes.lock() = Duration::from_secs(3_600);
        let task = cast.create(7, played(once(10))).await;
        until(|| cast.book.starts().len() == 1).await;
        let deleted = cast.submit(1, Intent::DeleteTask { task, expected_version: None }).await;
        assert!(deleted.is_ok_and(|answer| answer.outcome.is_ok()));
        until(|| cast.open().is_empty()).await;
        assert_eq!(cast.book.ends(), [(NodeId(1), How::Cancelled)]);
    });
}

#[test]
fn an_attempt_whose_actor_panicked_is_reported_as_failed_and_not_started_again() {
    play(async {
        let cast = Cast::new(1, &[1]);
        *cast.book.panics.lock() = true;
        let task = cast.create(7, played(once(10))).await;
        until(|| last_status(&cast, task) == Some(Status::Failed)).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(cast.book.starts().len(), 1);
    });
}

#[test]
fn an_executor_that_ignores_its_time_out_is_stopped() {
    play(async {
        let cast = Cast::new(1, &[1]);
        *cast.book.takes.lock() = Duration::from_secs(3_600);
        let task = cast.create(7, Definition { timeout: Span::seconds(2), ..played(once(10)) }).await;
        until(|| last_status(&cast, task) == Some(Status::TimedOut)).await;
        assert_eq!(cast.book.ends(), [(NodeId(1), How::Killed)]);
    });
}

#[test]
fn a_drained_worker_lets_work_end_until_the_deadline_and_hands_the_rest_back() {
    play(async {
        let cast = Cast::new(1, &[1]);
        let definition = || Definition { overlap: Overlap::Allow, ..played(once(10)) };
        *cast.book.takes.lock() = Duration::from_secs(2);
        let short = cast.create(7, definition()).await;
        until(|| cast.book.starts().len() == 1).await;
        *cast.book.takes.lock() = Duration::from_secs(3_600);
        let long = cast.create(8, Definition { trigger: once(11), ..definition() }).await;
        until(|| cast.book.starts().len() == 2).await;
        let dispatcher = cast.nodes[&1].dispatcher.clone().expect("node 1 works");
        dispatcher.drain(Duration::from_secs(5)).await;
        assert_eq!(last_status(&cast, short), Some(Status::Succeeded));
        assert_eq!(cast.open().len(), 1);
        assert_eq!((cast.open()[0].task, cast.open()[0].status()), (long, Status::Queued));
        let handed_back = cast.shared.requests().into_iter().any(|request| match request {
            Request::Report(report) => {
                report.results.iter().any(|end| end.outcome == AttemptOutcome::HandedBack)
            }
            _ => false,
        });
        assert!(handed_back);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(cast.book.starts().len(), 2, "a draining worker gets nothing new");
        assert!(dispatcher.status().await.is_some_and(|status| status.draining && status.running == 0));
    });
}

#[test]
fn what_a_worker_that_stops_was_granted_and_never_began_is_not_lost_even_at_most_once() {
    play(async {
        let cast = Cast::new(1, &[1]);
        until(|| cast.workers() == 1).await;
        cast.create(7, Definition { delivery: Delivery::AtMostOnce, ..played(once(10)) }).await;
        cast.nodes[&1].log.behave(|conduct| conduct.delay = Duration::from_millis(1_200));
        until(|| cast.shared.proposals(NodeId(1), |request| matches!(request, Request::Fire(_))) > 0).await;
        let dispatcher = cast.nodes[&1].dispatcher.clone().expect("node 1 works");
        dispatcher.drain(Duration::ZERO).await;
        assert_eq!(cast.open().len(), 1, "it waits for another worker");
        assert_eq!((cast.open()[0].status(), cast.open()[0].attempts), (Status::Queued, 1));
        assert!(cast.book.starts().is_empty());
    });
}

#[test]
fn an_idle_worker_drains_at_once() {
    play(async {
        let cast = Cast::new(1, &[1]);
        until(|| cast.workers() == 1).await;
        let dispatcher = cast.nodes[&1].dispatcher.clone().expect("node 1 works");
        let before = cast.shared.machine.applied();
        dispatcher.drain(Duration::from_secs(60)).await;
        assert_eq!(cast.shared.machine.applied(), before + 1, "the drain itself");
    });
}

#[test]
fn a_worker_rides_out_a_change_of_leader() {
    play(async {
        let cast = Cast::new(3, &[3]);
        *cast.book.takes.lock() = Duration::from_secs(8);
        let task = cast.create(7, played(once(10))).await;
        until(|| cast.book.starts().len() == 1).await;
        for term in 2..6 {
            cast.lead(term % 2 + 1, term);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        until(|| last_status(&cast, task) == Some(Status::Succeeded)).await;
        assert_eq!(cast.book.starts().len(), 1);
        assert_eq!(cast.workers(), 1);
    });
}

/// Answers that take longer than the pause between renewals, but not as long as a lease.
#[test]
fn a_worker_keeps_its_lease_over_a_slow_link() {
    play(async {
        let cast = Cast::new(1, &[1]);
        *cast.book.takes.lock() = Duration::from_secs(10);
        let task = cast.create(7, played(once(10))).await;
        until(|| cast.book.starts().len() == 1).await;
        cast.nodes[&1].log.behave(|conduct| conduct.delay = Duration::from_millis(1_200));
        until(|| last_status(&cast, task) == Some(Status::Succeeded)).await;
        assert_eq!(cast.book.starts().len(), 1);
    });
}

#[test]
fn ends_survive_a_lapsed_lease_and_are_reported_under_the_old_incarnation() {
    play(async {
        let cast = Cast::new(3, &[2]);
        until(|| cast.workers() == 1).await;
        let task = cast.create(7, played(once(10))).await;
        *cast.book.takes.lock() = Duration::from_millis(500);
        until(|| cast.book.starts().len() == 1).await;
        cast.directory.cut_off.lock().insert(NodeId(2));
        let dispatcher = cast.nodes[&2].dispatcher.clone().expect("node 2 works");
        while dispatcher.status().await.is_some_and(|status| status.fresh) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Its lease lapsed here and has not run out at the leader.
        cast.directory.cut_off.lock().clear();
        until(|| last_status(&cast, task) == Some(Status::Succeeded)).await;
        assert_eq!(cast.book.starts().len(), 1, "it is not made again");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(cast.workers(), 1);
    });
}

#[test]
fn a_snapshot_put_in_place_changes_nothing_that_runs_and_the_wheel_goes_on() {
    play(async {
        let cast = Cast::new(1, &[1]);
        *cast.book.takes.lock() = Duration::from_secs(5);
        let first = cast.create(7, played(once(10))).await;
        let second = cast.create(8, played(once(12))).await;
        until(|| cast.book.starts().len() == 1).await;
        let (index, snapshot) = cast.shared.machine.freeze();
        let mut bytes = Vec::new();
        snapshot.write_to(&mut bytes).expect("memory takes everything");
        cast.shared.machine.restore(index, &mut bytes.as_slice()).expect("it was just written");
        until(|| last_status(&cast, second) == Some(Status::Succeeded)).await;
        assert_eq!(last_status(&cast, first), Some(Status::Succeeded));
        assert_eq!(cast.book.starts().len(), 2);
    });
}

#[test]
fn an_attempt_that_the_state_no_longer_knows_is_killed_and_not_told_as_running() {
    play(async {
        let cast = Cast::new(1, &[1]);
        *cast.book.takes.lock() = Duration::from_secs(3_600);
        cast.create(7, played(once(10))).await;
        let (index, before) = cast.shared.machine.freeze();
        let mut bytes = Vec::new();
        before.write_to(&mut bytes).expect("memory takes everything");
        until(|| cast.book.running() == 1).await;
        cast.shared.machine.restore(index, &mut bytes.as_slice()).expect("it was just written");
        until(|| !cast.book.ends().is_empty()).await;
        assert_eq!(cast.book.ends(), [(NodeId(1), How::Killed)]);
        assert_eq!(cast.book.running(), cast.book.starts().len() - 1);
    });
}

#[test]
fn an_error_that_is_too_long_is_cut_and_reported() {
    play(async {
        let cast = Cast::new(1, &[1]);
        cast.book.ends.lock().push(AttemptEnd::Failed(AttemptFailure::new("é".repeat(10_000))));
        let task = cast.create(7, played(once(10))).await;
        until(|| last_status(&cast, task) == Some(Status::Failed)).await;
        let lengths: Vec<usize> =
            cast.shared.requests().iter().flat_map(errors_of).map(|error| error.len()).collect();
        assert_eq!(lengths, [escapement_domain::limits::ERROR_BYTES_MAX]);
    });
}

fn errors_of(request: &Request) -> Vec<std::sync::Arc<str>> {
    let Request::Report(report) = request else { return Vec::new() };
    let errors = report.results.iter().filter_map(|end| match &end.outcome {
        AttemptOutcome::Failed(failure) => Some(failure.error.clone()),
        _ => None,
    });
    errors.collect()
}
