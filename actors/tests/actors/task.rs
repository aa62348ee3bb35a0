//! The front and its actors: clients' commands, one at a time for a task, each with its one answer.

use std::time::Duration;

use escapement_actors::intent::{Draft, Intent, Submission, SubmitError};
use escapement_actors::ports::Clock as _;
use escapement_actors::worker::clocks::ClockWatch;
use escapement_domain::answer::{Accepted, Answer, Rejection};
use escapement_domain::command::{Change, Client, Idempotency, Request};
use escapement_domain::identifier::{CommandId, NodeId, TaskId};
use escapement_domain::task::definition::{Definition, Overlap};
use escapement_domain::task::trigger::{Dst, IfPast, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};

use crate::cast::{Cast, at, every, noop, once};
use crate::stage::{play, until};

fn cron(expression: &str) -> Trigger {
    Trigger::Cron { expression: expression.into(), timezone: "UTC".into(), dst: Dst::default() }
}

fn drafts(ids: std::ops::RangeInclusive<u128>) -> Vec<Draft> {
    ids.map(|id| Draft { task: TaskId(id), definition: noop(every(86_400)), paused: false }).collect()
}

#[test]
fn a_repeated_command_gets_its_first_answer_though_it_could_not_be_given_now() {
    play(async {
        let cast = Cast::new(1, &[]);
        let front = &cast.nodes[&1].front;
        let draft = Draft { task: TaskId(7), definition: noop(once(2)), paused: false };
        let submission = Submission { client: cast.client(), intent: Intent::CreateTasks(vec![draft]) };
        let first = front.submit(submission.clone()).await;
        assert!(first.as_ref().is_ok_and(|answer| answer.outcome.is_ok()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(front.submit(submission).await, first, "its instant has passed by now");
    });
}

#[test]
fn a_command_whose_answer_was_lost_is_carried_out_once() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, noop(every(3_600))).await;
        let run = Submission { client: cast.client(), intent: Intent::RunTask { task } };
        cast.nodes[&1].log.behave(|conduct| conduct.forgetful = 1);
        assert_eq!(cast.nodes[&1].front.submit(run.clone()).await, Err(SubmitError::Unknown));
        let again = cast.nodes[&1].front.submit(run).await.expect("node 1 leads");
        assert!(matches!(again.outcome, Ok(Accepted::Execution { .. })), "{again:?}");
        assert_eq!(cast.open().len(), 1);
    });
}

#[test]
fn an_update_while_overdue_first_fires() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, noop(once(10))).await;
        // The wheel's own proposals are lost for a while, the client's are not.
        cast.nodes[&1].log.behave(|conduct| conduct.lossy = 1);
        tokio::time::sleep(Duration::from_millis(10_005)).await;
        assert_eq!(cast.open().len(), 0);
        let definition = Box::new(noop(once(100)));
        let answer = cast.submit(1, Intent::UpdateTask { task, expected_version: Some(1), definition }).await;
        assert_eq!(answer.expect("node 1 leads").outcome, Ok(Accepted::Task { task, version: 2 }));
        let kinds: Vec<bool> =
            cast.shared.requests().iter().map(|request| matches!(request, Request::Fire(_))).collect();
        assert_eq!(kinds.iter().filter(|fire| **fire).count(), 1);
        assert!(matches!(cast.shared.requests().last(), Some(Request::UpdateTask { .. })));
        assert_eq!(cast.open().len(), 1);
        assert_eq!(cast.open()[0].task_version, 1);
        assert_eq!(cast.task(task).and_then(|task| task.next), Some(at(100)));
    });
}

/// Whatever is lost of the wheel's own proposals, as when the lead has just changed hands.
#[test]
fn what_was_moved_to_a_time_that_has_come_is_settled_before_its_task_changes_or_goes() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, noop(every(3_600))).await;
        let move_to = async |instant, to| {
            let change = Change::Move { to: at(to) };
            let moved = cast.submit(1, Intent::ChangeOccurrence { task, at: at(instant), change }).await;
            assert!(moved.is_ok_and(|answer| answer.outcome.is_ok()));
        };
        let lose_one = || cast.nodes[&1].log.behave(|conduct| conduct.lossy = 1);
        let done =
            |answer: Result<Answer, SubmitError>| answer.expect("node 1 leads").outcome.expect("allowed");
        move_to(3_600, 10).await;
        lose_one();
        tokio::time::sleep(Duration::from_millis(10_005)).await;
        assert_eq!(cast.open().len(), 0);
        done(cast.submit(1, Intent::PauseTask { task }).await);
        assert_eq!(cast.open().len(), 1, "it fired before the pause");
        move_to(7_200, 20).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        done(cast.submit(1, Intent::DeleteTask { task, expected_version: None }).await);
        let missed = |request: &Request| matches!(request, Request::MissMoved(moved) if moved.len() == 1);
        assert_eq!(cast.shared.proposals(NodeId(1), missed), 1, "it was missed before the deletion");
    });
}

#[test]
fn an_instant_that_falls_due_on_the_way_is_settled_and_the_command_asked_again_under_its_id() {
    play(async {
        let cast = Cast::new(1, &[]);
        let anchored = Trigger::Interval { every: Span::seconds(10), anchor: Some(at(0)) };
        let task = cast.create(7, noop(anchored)).await;
        tokio::time::sleep(Duration::from_millis(9_990)).await;
        // By the time the log sees the pause, a command stamped later has moved logged time past the instant.
        let late = noop(once(500));
        cast.nodes[&1].log.behave(|conduct| conduct.delay = Duration::from_millis(30));
        let pause = cast.submit(1, Intent::PauseTask { task });
        let other = async {
            tokio::time::sleep(Duration::from_millis(15)).await;
            cast.nodes[&1].log.behave(|conduct| conduct.delay = Duration::ZERO);
            cast.create(8, late).await;
        };
        let (paused, ()) = tokio::join!(pause, other);
        assert_eq!(paused.expect("node 1 leads").outcome, Ok(Accepted::Task { task, version: 1 }));
        assert_eq!(cast.open().len(), 1, "it fired before it was paused");
        assert_eq!(cast.task(task).map(|task| task.settled), Some(at(10)));
    });
}

#[test]
fn a_series_is_anchored_where_its_proposer_began_it_though_the_log_is_ahead() {
    play(async {
        let cast = Cast::new(1, &[]);
        until(|| cast.nodes[&1].wheel.counts().turning).await;
        cast.nodes[&1].log.behave(|conduct| conduct.delay = Duration::from_millis(30));
        let moved = cast.create(7, Definition { overlap: Overlap::Allow, ..noop(every(10)) });
        let other = async {
            tokio::time::sleep(Duration::from_millis(15)).await;
            cast.nodes[&1].log.behave(|conduct| conduct.delay = Duration::ZERO);
            cast.create(8, noop(once(3_600))).await;
        };
        let (task, _) = tokio::join!(moved, other);
        until(|| cast.open().len() == 4).await;
        let mut instants: Vec<_> = cast.open().iter().map(|open| open.scheduled_at.0).collect();
        instants.sort_unstable();
        assert!(instants.windows(2).all(|pair| pair[1] - pair[0] == 10_000), "{instants:?}");
        let created_at = cast.task(task).map(|task| task.created_at.0);
        assert_eq!(created_at, Some(instants[0] - 10_000), "its creation is what its proposer stamped");
    });
}

#[test]
fn commands_of_one_task_go_one_at_a_time_and_too_many_are_refused() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, Definition { overlap: Overlap::Allow, ..noop(every(3_600)) }).await;
        cast.nodes[&1].log.behave(|conduct| conduct.delay = Duration::from_millis(100));
        let answers: Vec<_> = (0..100).map(|_| cast.submit(1, Intent::RunTask { task })).collect();
        let answers = futures::future::join_all(answers).await;
        let busy = answers.iter().filter(|answer| **answer == Err(SubmitError::Busy)).count();
        assert!((30..=36).contains(&busy), "{busy} of 100 do not fit into the mailbox");
        assert_eq!(cast.open().len(), 100 - busy);
        let fired: std::collections::BTreeSet<_> = cast.open().iter().map(|open| open.fired_at).collect();
        assert_eq!(fired.len(), 100 - busy, "each waited for the one before it");
    });
}

#[test]
fn an_idle_actor_is_passivated() {
    play(async {
        let cast = Cast::new(1, &[]);
        cast.create(7, noop(every(3_600))).await;
        let front = &cast.nodes[&1].front;
        assert_eq!(front.in_motion(), 1);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(front.in_motion(), 1);
        until(|| front.in_motion() == 0).await;
        let again = cast.submit(1, Intent::RunTask { task: TaskId(7) }).await;
        assert!(again.is_ok_and(|answer| answer.outcome.is_ok()));
        assert_eq!(front.in_motion(), 1);
    });
}

#[test]
fn a_schedule_that_cannot_be_is_refused_with_a_pointer_before_the_log() {
    play(async {
        let cast = Cast::new(1, &[]);
        let check = async |definition: Definition, expected: &str| {
            let draft = Draft { task: TaskId(7), definition, paused: false };
            let answer = cast.submit(1, Intent::CreateTasks(vec![draft])).await;
            match answer {
                Err(SubmitError::Unschedulable { pointer, .. }) => assert_eq!(&*pointer, expected),
                other => panic!("{other:?}"),
            }
        };
        check(noop(cron("61 * * * *")), "/trigger/expression").await;
        check(
            noop(Trigger::Once { at: at(0).minus(Span::hours(1)), if_past: IfPast::Refuse }),
            "/trigger/at",
        )
        .await;
        check(Definition { end_at: Some(at(60)), ..noop(every(3_600)) }, "/end_at").await;
        assert_eq!(cast.shared.client_proposals(NodeId(1)), 0);
    });
}

#[test]
fn a_fault_in_a_list_refuses_all_of_it_and_names_its_place() {
    play(async {
        let cast = Cast::new(1, &[]);
        let mut list = drafts(1..=1_500);
        list[1_217].definition.trigger = cron("* * * *");
        match cast.submit(1, Intent::CreateTasks(list)).await {
            Err(SubmitError::Unschedulable { pointer, .. }) => {
                assert_eq!(&*pointer, "/1217/trigger/expression")
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(cast.shared.client_proposals(NodeId(1)), 0);
    });
}

#[test]
fn a_long_list_is_cut_into_commands_and_repeated_creates_nothing_twice() {
    play(async {
        let cast = Cast::new(1, &[]);
        let mut client = cast.client();
        client.idempotency = Some(Idempotency { key: "k".into(), digest: [1; 32] });
        let submission =
            Submission { client: client.clone(), intent: Intent::CreateTasks(drafts(1..=1_500)) };
        let first = cast.nodes[&1].front.submit(submission.clone()).await.expect("node 1 leads");
        let Ok(Accepted::Tasks(created)) = &first.outcome else { panic!("{first:?}") };
        assert_eq!(created.len(), 1_500);
        assert!(created.iter().enumerate().all(|(index, task)| *task == Ok(TaskId(index as u128 + 1))));
        let creates = |request: &Request| matches!(request, Request::CreateTasks(_));
        assert_eq!(cast.shared.proposals(NodeId(1), creates), 3);
        assert_eq!(
            cast.nodes[&1].front.submit(submission).await.map(|again| again.outcome),
            Ok(first.outcome.clone())
        );
        // Under another id with the same key, as a client that starts anew sends it, with names of its own.
        client.command = CommandId(999);
        let renamed =
            Submission { client: client.clone(), intent: Intent::CreateTasks(drafts(5_001..=6_500)) };
        assert_eq!(cast.nodes[&1].front.submit(renamed).await.map(|again| again.outcome), Ok(first.outcome));
        client.command = CommandId(1_000);
        client.idempotency = Some(Idempotency { key: "k".into(), digest: [2; 32] });
        let other = Submission { client, intent: Intent::CreateTasks(drafts(7_001..=8_500)) };
        let refused = cast.nodes[&1].front.submit(other).await.map(|answer| answer.outcome);
        assert_eq!(refused, Ok(Err(Rejection::KeyReused)));
        assert_eq!(cast.shared.machine.read(|replica| replica.tasks().len()), 1_500);
    });
}

#[test]
fn a_repeated_create_whose_instant_has_passed_gets_the_answer_of_the_try_that_is_on_its_way() {
    play(async {
        let cast = Cast::new(1, &[]);
        let under = |key: &str, id: u128, issued_at: Timestamp| {
            let key = Some(Idempotency { key: key.into(), digest: [1; 32] });
            let client = Client { idempotency: key, issued_at, ..cast.client() };
            let mut list = drafts(id..=id);
            list.iter_mut().for_each(|draft| draft.definition = noop(once(2)));
            cast.nodes[&1].front.submit(Submission { client, intent: Intent::CreateTasks(list) })
        };
        cast.nodes[&1].log.behave(|conduct| conduct.delay = Duration::from_secs(3));
        let passed = at(2).plus(Span(500));
        let again = async {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            tokio::join!(under("k", 9, passed), under("never heard of", 11, passed))
        };
        let (first, (again, other)) = tokio::join!(under("k", 7, at(0)), again);
        assert_eq!(first.expect("node 1 leads").outcome, Ok(Accepted::Tasks(vec![Ok(TaskId(7))])));
        assert_eq!(again.expect("it is the same").outcome, Ok(Accepted::Tasks(vec![Ok(TaskId(7))])));
        assert!(matches!(other, Err(SubmitError::Unschedulable { .. })), "{other:?}");
    });
}

#[test]
fn a_committed_bulk_is_answered_when_all_of_it_is_there() {
    play(async {
        let cast = Cast::new(1, &[]);
        let bulk = CommandId(77);
        for (part, list) in [(0, drafts(1..=500)), (1, drafts(501..=1_000)), (2, drafts(1_001..=1_400))] {
            let staged = cast.submit(1, Intent::StageTasks { bulk, part, tasks: list }).await;
            assert!(staged.is_ok_and(|answer| answer.outcome.is_ok()));
        }
        assert_eq!(cast.shared.machine.read(|replica| replica.tasks().len()), 0);
        let committed = cast.submit(1, Intent::CommitStaged { bulk, parts: 3 }).await;
        assert_eq!(committed.map(|answer| answer.outcome), Ok(Ok(Accepted::Done)));
        assert_eq!(cast.shared.machine.read(|replica| replica.tasks().len()), 1_400);
    });
}

#[test]
fn an_old_version_is_refused_at_once_and_a_follower_names_the_leader() {
    play(async {
        let cast = Cast::new(2, &[]);
        let task = cast.create(7, noop(every(3_600))).await;
        let update = |version| Intent::UpdateTask {
            task,
            expected_version: Some(version),
            definition: Box::new(noop(every(7_200))),
        };
        assert!(cast.submit(1, update(1)).await.is_ok_and(|answer| answer.outcome.is_ok()));
        let before = cast.shared.client_proposals(NodeId(1));
        let refused = cast.submit(1, update(1)).await.map(|answer| answer.outcome);
        assert_eq!(refused, Ok(Err(Rejection::VersionMismatch { current: 2 })));
        assert_eq!(cast.shared.client_proposals(NodeId(1)), before);
        let elsewhere = cast.submit(2, update(2)).await;
        assert_eq!(elsewhere, Err(SubmitError::NotLeader { leader: Some(NodeId(1)) }));
    });
}

#[test]
fn a_leader_whose_clock_jumped_stamps_nothing() {
    play(async {
        let cast = Cast::new(1, &[]);
        let (clock, clocks) = (cast.nodes[&1].clock.clone(), cast.nodes[&1].clocks.clone());
        clocks.count([NodeId(1), NodeId(2)].into());
        let right = clock.clone();
        let agree = move |clocks: &ClockWatch| clocks.heard(NodeId(2), right.now(), Duration::ZERO);
        agree(&clocks);
        cast.create(7, noop(once(10))).await;
        clock.set_wrong_by(3_600_000);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(cast.open().len(), 0);
        assert!(!clocks.is_agreed());
        let refused = cast.submit(1, Intent::RunTask { task: TaskId(7) }).await;
        assert_eq!(refused, Err(SubmitError::NotLeader { leader: None }));
        clock.set_wrong_by(0);
        assert!(!clocks.is_agreed(), "it jumped once more");
        agree(&clocks);
        until(|| cast.open().len() == 1).await;
    });
}
