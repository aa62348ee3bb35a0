//! Leases: who holds one, and what becomes of attempts whose worker lost its own.

use std::time::Duration;

use escapement_actors::intent::{Renewal, Renewed};
use escapement_domain::answer::Rejection;
use escapement_domain::command::{Offers, Programs, Request};
use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{Incarnation, NodeId};
use escapement_domain::replica::placement::Condition;
use escapement_domain::task::definition::{Definition, Delivery};

use crate::cast::{Cast, How, Seen, once, played};
use crate::stage::{BEGIN, play, until};

fn renewal(node: u64, incarnation: u128, draining: bool) -> Renewal {
    Renewal {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
        slots: 4,
        offers: Offers { http: true, builtin: true, programs: Programs::Any },
        draining,
        wall_clock: BEGIN,
    }
}

fn condition(cast: &Cast, node: u64, incarnation: u128) -> Option<Condition> {
    let key = (NodeId(node), Incarnation(incarnation));
    cast.shared.machine.read(|replica| replica.workers().get(&key).map(|worker| worker.condition))
}

/// A lease as it is told where all has been applied.
fn three_seconds(cast: &Cast) -> Renewed {
    Renewed::Until { lease_millis: 3_000, applied: cast.shared.machine.applied() }
}

/// Waits until a node's lease table answers.
async fn renewed(cast: &Cast, node: u64, renewal: Renewal) -> Renewed {
    loop {
        if let Ok(renewed) = cast.nodes[&node].leases.renew(renewal.clone()).await {
            return renewed;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_new_worker_joins_a_known_one_is_extended_and_a_silent_one_is_lost() {
    play(async {
        let cast = Cast::new(1, &[]);
        assert_eq!(renewed(&cast, 1, renewal(5, 1, false)).await, three_seconds(&cast));
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(renewed(&cast, 1, renewal(5, 1, false)).await, three_seconds(&cast));
        }
        assert_eq!(
            cast.shared.proposals(NodeId(1), |request| matches!(request, Request::JoinWorker { .. })),
            1
        );
        tokio::time::sleep(Duration::from_millis(3_200)).await;
        assert_eq!(condition(&cast, 5, 1), None, "it held nothing and is gone");
        assert_eq!(renewed(&cast, 1, renewal(5, 1, false)).await, Renewed::Lost);
        assert_eq!(renewed(&cast, 1, renewal(5, 2, false)).await, three_seconds(&cast));
    });
}

#[test]
fn a_draining_worker_is_drained_in_the_log() {
    play(async {
        let cast = Cast::new(1, &[]);
        renewed(&cast, 1, renewal(5, 1, false)).await;
        renewed(&cast, 1, renewal(5, 1, true)).await;
        assert_eq!(condition(&cast, 5, 1), Some(Condition::Draining));
        renewed(&cast, 1, renewal(5, 1, true)).await;
        assert_eq!(
            cast.shared.proposals(NodeId(1), |request| matches!(request, Request::DrainWorker { .. })),
            1
        );
    });
}

#[test]
fn a_delayed_renewal_of_an_earlier_start_does_not_bring_it_back() {
    play(async {
        let cast = Cast::new(1, &[]);
        renewed(&cast, 1, renewal(5, 1, false)).await;
        renewed(&cast, 1, renewal(5, 2, false)).await;
        assert_eq!(renewed(&cast, 1, renewal(5, 1, false)).await, Renewed::Lost);
        assert_eq!(condition(&cast, 5, 2), Some(Condition::Ready));
    });
}

#[test]
fn a_new_leader_grants_every_worker_a_full_lease() {
    play(async {
        let cast = Cast::new(2, &[]);
        renewed(&cast, 1, renewal(5, 1, false)).await;
        tokio::time::sleep(Duration::from_millis(2_900)).await;
        cast.lead(2, 2);
        tokio::time::sleep(Duration::from_millis(2_900)).await;
        assert_eq!(condition(&cast, 5, 1), Some(Condition::Ready));
        assert_eq!(cast.nodes[&2].leases.remaining().await.len(), 1);
        assert!(cast.nodes[&1].leases.remaining().await.is_empty());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(condition(&cast, 5, 1), None);
    });
}

/// Two workers, of which the second is cut off while it runs the one attempt.
async fn cut_off(cast: &Cast, definition: Definition) {
    *cast.book.takes.lock() = Duration::from_secs(3_600);
    until(|| cast.workers() == 1).await;
    let task = cast.create(7, definition).await;
    until(|| cast.book.starts().len() == 1).await;
    assert_eq!(cast.task(task).map(|task| task.open.len()), Some(1));
    cast.directory.cut_off.lock().insert(NodeId(2));
}

#[test]
fn when_a_lease_runs_out_an_at_least_once_attempt_is_made_again_under_a_higher_token() {
    play(async {
        let cast = Cast::new(3, &[2]);
        cut_off(&cast, played(once(10))).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        cast.directory.cut_off.lock().clear();
        until(|| cast.book.starts().len() == 2).await;
        let starts = cast.book.starts();
        assert_eq!(starts.iter().map(|(_, attempt, _)| *attempt).collect::<Vec<_>>(), [1, 2]);
        assert!(starts[1].2 > starts[0].2, "{starts:?}");
    });
}

#[test]
fn when_a_lease_runs_out_an_at_most_once_execution_is_lost() {
    play(async {
        let cast = Cast::new(3, &[2]);
        cut_off(&cast, Definition { delivery: Delivery::AtMostOnce, ..played(once(10)) }).await;
        let task = escapement_domain::identifier::TaskId(7);
        until(|| cast.task(task).is_some_and(|task| task.last_execution.is_some())).await;
        let status = cast.task(task).and_then(|task| task.last_execution).map(|last| last.status);
        assert_eq!(status, Some(Status::Lost));
        cast.directory.cut_off.lock().clear();
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(cast.book.starts().len(), 1);
    });
}

#[test]
fn a_worker_whose_lease_lapsed_kills_its_attempts_before_the_leader_gives_them_away() {
    play(async {
        let cast = Cast::new(3, &[2]);
        cut_off(&cast, played(once(10))).await;
        until(|| !cast.book.ends().is_empty()).await;
        assert_eq!(cast.book.ends(), [(NodeId(2), How::Killed)]);
        let taken_back =
            cast.shared.proposals(NodeId(1), |request| matches!(request, Request::LoseWorker { .. }));
        assert_eq!(taken_back, 0, "the leader still waits");
        assert_eq!(cast.open()[0].status(), Status::Running);
        until(|| cast.open()[0].status() == Status::Queued).await;
        let reports = cast.shared.proposals(NodeId(1), |request| matches!(request, Request::Report(_)));
        assert_eq!(reports, 0, "what was killed is not reported");
    });
}

#[test]
fn a_lost_attempt_starts_elsewhere_within_five_seconds_and_never_beside_itself() {
    play(async {
        let cast = Cast::new(3, &[2, 3]);
        *cast.book.takes.lock() = Duration::from_secs(3_600);
        until(|| cast.workers() == 2).await;
        cast.create(7, played(once(10))).await;
        until(|| cast.book.starts().len() == 1).await;
        let first = cast.book.starts()[0].0;
        cast.directory.cut_off.lock().insert(first);
        let before = cast.shared.machine.read(|replica| replica.logged());
        until(|| cast.book.starts().len() == 2).await;
        let took = cast.shared.machine.read(|replica| replica.logged()).since(before);
        assert!(took.0 < 5_000, "{took}");
        assert_ne!(cast.book.starts()[1].0, first);
        let seen = cast.book.seen.lock().clone();
        assert!(matches!(seen[1], Seen::Ended { node, how: How::Killed, .. } if node == first), "{seen:?}");
    });
}

#[test]
fn a_result_of_a_worker_that_was_lost_is_refused() {
    play(async {
        let cast = Cast::new(1, &[]);
        let report = escapement_domain::command::Report {
            node: NodeId(9),
            incarnation: Incarnation(9),
            sequence: 1,
            results: Vec::new(),
        };
        until(|| cast.nodes[&1].wheel.counts().turning).await;
        let answer = cast.nodes[&1].front.report(report).await.map(|answer| answer.outcome);
        assert_eq!(answer, Ok(Err(Rejection::UnknownWorker)));
    });
}
