//! The wheel fires what is due, once, whatever becomes of its proposals and of its leadership.

use std::time::Duration;

use escapement_actors::intent::{Draft, Intent};
use escapement_actors::ports::{AttemptEnd, AttemptFailure};
use escapement_domain::command::{Command, NewTask, Origin, Request};
use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{NodeId, TaskId};
use escapement_domain::task::definition::{Definition, Misfire, MisfirePolicy, Overlap, Retry};
use escapement_domain::task::rules::Rules;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::state::Phase;
use escapement_domain::task::trigger::{IfPast, Trigger};
use escapement_domain::timestamp::Span;

use crate::cast::{Cast, How, at, every, noop, once, played};
use crate::stage::{BEGIN, play, until};

fn is_fire(request: &Request) -> bool {
    matches!(request, Request::Fire(_))
}

/// Each open execution is a fire: nobody works.
fn fires(cast: &Cast) -> usize {
    cast.open().len()
}

#[test]
fn a_task_fires_at_its_instant_exactly_once_though_proposals_have_no_answer() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, noop(once(10))).await;
        cast.nodes[&1].log.behave(|conduct| {
            conduct.lossy = 2;
            conduct.forgetful = 1;
            conduct.busy = 1;
        });
        until(|| fires(&cast) == 1).await;
        let fired_at = cast.open()[0].fired_at;
        assert!(fired_at >= at(10) && fired_at <= at(11), "{fired_at}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(fires(&cast), 1);
        assert_eq!(cast.task(task).map(|task| (task.phase(), task.runs)), Some((Phase::Finished, 1)));
        assert_eq!(cast.nodes[&1].wheel.counts().failed, 4);
    });
}

#[test]
fn what_falls_due_while_the_wheel_looks_is_not_slept_over() {
    play(async {
        let cast = Cast::new(1, &[]);
        cast.nodes[&1].clock.set_unsteady();
        for millis in 0..200_u32 {
            let instant = at(10).plus(Span(u64::from(millis)));
            let trigger = Trigger::Once { at: instant, if_past: IfPast::Refuse };
            cast.create(u128::from(millis) + 1, noop(trigger)).await;
        }
        until(|| fires(&cast) == 200).await;
        for open in cast.open() {
            let late = open.fired_at.0 - open.scheduled_at.0;
            assert!((0..=10).contains(&late), "{late} ms");
        }
    });
}

#[test]
fn nothing_fires_early_and_everything_within_a_few_milliseconds() {
    play(async {
        let cast = Cast::new(1, &[]);
        let definition = Definition { overlap: Overlap::Allow, ..noop(every(1)) };
        cast.create(7, definition).await;
        until(|| fires(&cast) == 20).await;
        for open in cast.open() {
            let late = open.fired_at.0 - open.scheduled_at.0;
            assert!((0..=5).contains(&late), "{late} ms");
        }
    });
}

#[test]
fn a_new_leader_fires_at_once_what_the_old_one_left_undone() {
    play(async {
        let cast = Cast::new(2, &[]);
        let task = cast.create(7, noop(once(10))).await;
        cast.nodes[&1].log.behave(|conduct| conduct.lossy = usize::MAX);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(fires(&cast), 0);
        cast.lead(2, 2);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(fires(&cast), 1);
        assert_eq!(cast.task(task).map(|task| task.settled), Some(at(10)));
    });
}

#[test]
fn a_new_leader_settles_the_gap_by_the_misfire_policy() {
    play(async {
        let cast = Cast::new(2, &[]);
        let misfire = |policy| Misfire { policy, grace: Span::seconds(5), window: Span::hours(1) };
        for (id, policy) in
            [(1, MisfirePolicy::Skip), (2, MisfirePolicy::RunLatest), (3, MisfirePolicy::RunAll)]
        {
            let definition =
                Definition { misfire: misfire(policy), overlap: Overlap::Allow, ..noop(every(60)) };
            cast.create(id, definition).await;
        }
        cast.nodes[&1].log.behave(|conduct| conduct.lossy = usize::MAX);
        tokio::time::sleep(Duration::from_secs(630)).await;
        cast.lead(2, 2);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let of = |id| cast.open().iter().filter(|open| open.task == TaskId(id)).count();
        assert_eq!((of(1), of(2), of(3)), (0, 1, 10));
    });
}

#[test]
fn a_deposed_wheel_proposes_nothing() {
    play(async {
        let cast = Cast::new(2, &[]);
        cast.create(7, noop(once(10))).await;
        cast.lead(2, 2);
        until(|| fires(&cast) == 1).await;
        assert_eq!(cast.shared.proposals(NodeId(1), is_fire), 0);
        assert_eq!(cast.shared.proposals(NodeId(2), is_fire), 1);
        assert!(!cast.nodes[&1].wheel.counts().turning);
    });
}

#[test]
fn ten_thousand_due_tasks_all_fire_once_in_batches() {
    play(async {
        let cast = Cast::new(1, &[]);
        let draft = |id| Draft { task: TaskId(id), definition: noop(once(10)), paused: false };
        let answer = cast.submit(1, Intent::CreateTasks((1..=10_000).map(draft).collect())).await;
        assert!(answer.expect("node 1 leads").outcome.is_ok());
        until(|| fires(&cast) == 10_000).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(fires(&cast), 10_000);
        assert_eq!(cast.shared.proposals(NodeId(1), is_fire), 5, "full batches");
        let late = cast.open().iter().map(|open| open.fired_at.0 - at(10).0).max();
        assert!(late.is_some_and(|late| late < 20), "{late:?}: one batch does not wait for another");
    });
}

#[test]
fn what_is_in_flight_is_not_proposed_again() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, noop(once(10))).await;
        cast.create(8, noop(once(11))).await;
        cast.nodes[&1].log.behave(|conduct| conduct.delay = Duration::from_secs(3));
        until(|| fires(&cast) == 2).await;
        assert_eq!(cast.shared.proposals(NodeId(1), is_fire), 2);
        assert_eq!(cast.task(task).map(|task| task.runs), Some(1));
    });
}

#[test]
fn a_paused_task_does_not_fire_and_a_resumed_one_does() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, noop(once(10))).await;
        cast.submit(1, Intent::PauseTask { task })
            .await
            .expect("node 1 leads")
            .outcome
            .expect("it is active");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(fires(&cast), 0);
        cast.submit(1, Intent::ResumeTask { task })
            .await
            .expect("node 1 leads")
            .outcome
            .expect("it is paused");
        until(|| fires(&cast) == 1).await;
    });
}

#[test]
fn a_task_that_cannot_be_planned_holds_up_nobody() {
    play(async {
        let cast = Cast::new(1, &[]);
        cast.create(7, noop(once(10))).await;
        let definition = noop(every(10));
        let broken = NewTask {
            task: TaskId(6),
            rules: Box::new(Rules::of(&definition)),
            definition: Sealed::in_clear(vec![0, 1, 2]),
            created_at: BEGIN,
            next: Some(at(9)),
            paused: false,
        };
        let request = Request::CreateTasks(vec![broken]);
        let command = Command { stamp: BEGIN.into(), origin: Origin::Client(cast.client()), request };
        assert!(cast.shared.apply(&command.encode()).outcome.is_ok());
        until(|| fires(&cast) == 1).await;
        assert_eq!(cast.task(TaskId(6)).map(|task| task.settled < at(9)), Some(true));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(cast.shared.proposals(NodeId(1), is_fire), 1);
    });
}

#[test]
fn jitter_delays_a_fire_and_never_its_instant() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, noop(once(10))).await;
        let definition = Definition { jitter: Span::seconds(5), ..noop(once(10)) };
        let update = Intent::UpdateTask { task, expected_version: None, definition: Box::new(definition) };
        cast.submit(1, update).await.expect("node 1 leads").outcome.expect("nothing is due");
        cast.create(8, noop(once(10))).await;
        until(|| fires(&cast) == 2).await;
        let jittered = cast.open().into_iter().find(|open| open.task == task).expect("it fired");
        assert_eq!(jittered.scheduled_at, at(10));
        assert!(jittered.fired_at < at(16));
    });
}

#[test]
fn retries_happen_when_their_time_has_come() {
    play(async {
        let cast = Cast::new(1, &[1]);
        let retry = Retry { max_attempts: 3, jitter_per_mille: 0, ..Retry::DEFAULT };
        let failed = || AttemptEnd::Failed(AttemptFailure::new("no"));
        cast.book.ends.lock().extend([failed(), failed()]);
        let task = cast.create(7, Definition { retry, ..played(once(10)) }).await;
        until(|| cast.task(task).is_some_and(|task| task.last_execution.is_some())).await;
        let starts = cast.book.starts();
        assert_eq!(starts.iter().map(|(_, attempt, _)| *attempt).collect::<Vec<_>>(), [1, 2, 3]);
        let elapsed = cast.shared.machine.read(|replica| replica.logged().since(at(10)));
        assert!((3_000..3_200).contains(&elapsed.0), "one second, then two: {elapsed}");
    });
}

/// Nobody works, and another node leads half-way.
#[test]
fn a_new_leader_knows_how_long_executions_may_wait() {
    play(async {
        let cast = Cast::new(2, &[]);
        let definition = Definition { queue_timeout: Some(Span::seconds(5)), ..noop(once(10)) };
        let task = cast.create(7, definition).await;
        until(|| !cast.open().is_empty()).await;
        cast.lead(2, 2);
        until(|| cast.open().is_empty()).await;
        let elapsed = cast.shared.machine.read(|replica| replica.logged().since(at(10)));
        assert!((5_000..5_200).contains(&elapsed.0), "{elapsed}");
        let last = cast.task(task).and_then(|task| task.last_execution).expect("it ended");
        assert_eq!(last.status, Status::TimedOut);
    });
}

#[test]
fn an_attempt_is_cancelled_when_the_time_of_its_execution_is_over() {
    play(async {
        let cast = Cast::new(1, &[1]);
        *cast.book.takes.lock() = Duration::from_secs(60);
        let definition = Definition { execution_timeout: Some(Span::seconds(5)), ..played(once(10)) };
        let task = cast.create(7, definition).await;
        until(|| cast.task(task).is_some_and(|task| task.last_execution.is_some())).await;
        let elapsed = cast.shared.machine.read(|replica| replica.logged().since(at(10)));
        assert!((5_000..5_500).contains(&elapsed.0), "{elapsed}");
        assert_eq!(cast.book.ends(), [(NodeId(1), How::Cancelled)]);
        let last = cast.task(task).and_then(|task| task.last_execution).expect("it ended");
        assert_eq!(last.status, Status::TimedOut);
    });
}

#[test]
fn answers_are_forgotten_and_bulks_that_nobody_commits_go() {
    play(async {
        let cast = Cast::new(1, &[]);
        let client = cast.client();
        let draft = Draft { task: TaskId(9), definition: noop(once(86_400)), paused: false };
        let stage = Intent::StageTasks { bulk: client.command, part: 0, tasks: vec![draft] };
        cast.submit(1, stage).await.expect("node 1 leads").outcome.expect("it fits");
        let staged = || cast.shared.machine.read(|replica| replica.staged().count());
        let oldest = || cast.shared.machine.read(|replica| replica.window().oldest());
        assert_eq!(staged(), 1);
        tokio::time::sleep(Duration::from_secs(121)).await;
        assert_eq!(staged(), 0);
        assert!(oldest().is_some_and(|oldest| oldest < BEGIN.plus(Span::seconds(1))));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(oldest(), None);
    });
}
