//! Workers outside the cluster: how long their leases hold, and what becomes of attempts whose worker fell silent.

use std::time::Duration;

use escapement_actors::intent::{Heard, Heartbeat, Intent};
use escapement_actors::queue_watch::QueueWatch;
use escapement_domain::answer::Accepted;
use escapement_domain::execution::state::Status;
use escapement_domain::identifier::ExecutionId;
use escapement_domain::replica::placement::Gate;
use escapement_domain::task::action::Action;
use escapement_domain::task::definition::{Definition, Overlap};
use escapement_domain::task::trigger::Trigger;
use escapement_domain::timestamp::Span;
use futures::FutureExt as _;

use crate::cast::{Cast, TENANT, noop};
use crate::stage::{play, until};

const LEASE: Span = Span::seconds(30);

/// A cast with one execution that waits in the queue `suites`.
async fn waiting(nodes: u64, timeout: Span) -> Cast {
    let cast = Cast::new(nodes, &[]);
    until(|| cast.nodes[&1].wheel.counts().turning).await;
    let action = Action::Queue { queue: "suites".into(), payload: None };
    let task = cast.create(7, Definition { action, timeout, ..noop(Trigger::Manual) }).await;
    cast.submit(1, Intent::RunTask { task }).await.expect("node 1 leads");
    cast
}

async fn lease(cast: &Cast, node: u64) -> Vec<(ExecutionId, u64)> {
    let (queue, worker, most) = ("suites".into(), "w".into(), 10);
    let intent = Intent::Lease { queue, worker, most, lease: LEASE, wait: Span::seconds(20) };
    match cast.submit(node, intent).await.expect("it leads").outcome {
        Ok(Accepted::Leased(leased)) => leased,
        other => panic!("{other:?}"),
    }
}

async fn beat(cast: &Cast, node: u64, (execution, token): (ExecutionId, u64)) -> Heard {
    let heartbeat = Heartbeat { tenant: TENANT.into(), execution, token };
    loop {
        if let Ok(heard) = cast.nodes[&node].leases.heartbeat(heartbeat.clone()).await {
            return heard;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn status(cast: &Cast) -> Option<Status> {
    cast.open().first().map(|open| open.status())
}

#[test]
fn a_lease_holds_while_its_worker_shows_that_it_lives_and_is_taken_back_within_a_second_of_its_end() {
    play(async {
        let cast = waiting(1, Span::hours(1)).await;
        let held = lease(&cast, 1).await[0];
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(25)).await;
            let heard = beat(&cast, 1, held).await;
            assert_eq!(heard, Heard::Until { lease_millis: LEASE.0, cancel: false });
        }
        tokio::time::sleep(Duration::from_millis(29_900)).await;
        assert_eq!(status(&cast), Some(Status::Running));
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(status(&cast), Some(Status::Queued));
        assert_eq!(beat(&cast, 1, held).await, Heard::Stale);
        let next = lease(&cast, 1).await[0];
        assert!(next.1 > held.1, "under a higher token");
    });
}

#[test]
fn a_queue_loses_its_place_at_a_pool_when_nobody_has_waited_at_it_for_a_while() {
    play(async {
        let cast = Cast::new(1, &[]);
        until(|| cast.nodes[&1].wheel.counts().turning).await;
        let pool = Gate::Pool("staging".into());
        cast.submit(1, Intent::PutGate { gate: pool, capacity: 1 }).await.expect("node 1 leads");
        let action = Action::Queue { queue: "suites".into(), payload: None };
        let resources = [("staging".to_owned(), 1)].into();
        let task = Definition { action, resources, overlap: Overlap::Allow, ..noop(Trigger::Manual) };
        let task = cast.create(7, task).await;
        for _ in 0..2 {
            cast.submit(1, Intent::RunTask { task }).await.expect("node 1 leads");
        }
        assert_eq!(lease(&cast, 1).await.len(), 1, "the other one waits for the pool");
        assert_eq!(cast.attended(), 1);
        tokio::time::sleep(Duration::from_millis(29_500)).await;
        assert_eq!(cast.attended(), 1, "20 s of waiting, and 10 s to ask again");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(cast.attended(), 0);
    });
}

#[test]
fn an_attempt_that_takes_too_long_ends_however_alive_its_worker_is() {
    play(async {
        let cast = waiting(1, Span::seconds(40)).await;
        let held = lease(&cast, 1).await[0];
        tokio::time::sleep(Duration::from_secs(20)).await;
        let heard = beat(&cast, 1, held).await;
        assert!(matches!(heard, Heard::Until { lease_millis, .. } if lease_millis <= 20_000), "{heard:?}");
        tokio::time::sleep(Duration::from_secs(21)).await;
        assert!(cast.open().is_empty());
        let task = cast.task(escapement_domain::identifier::TaskId(7));
        assert_eq!(task.and_then(|task| task.last_execution).map(|last| last.status), Some(Status::TimedOut));
        assert_eq!(beat(&cast, 1, held).await, Heard::NoSuchExecution);
    });
}

#[test]
fn a_new_leader_grants_every_lease_in_full() {
    play(async {
        let cast = waiting(2, Span::hours(1)).await;
        let held = lease(&cast, 1).await[0];
        tokio::time::sleep(Duration::from_secs(29)).await;
        cast.lead(2, 2);
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(status(&cast), Some(Status::Running));
        assert!(matches!(beat(&cast, 2, held).await, Heard::Until { .. }));
    });
}

#[test]
fn a_worker_hears_that_its_attempt_is_cancelled() {
    play(async {
        let cast = waiting(1, Span::hours(1)).await;
        let held = lease(&cast, 1).await[0];
        let task = escapement_domain::identifier::TaskId(7);
        cast.submit(1, Intent::CancelExecution { execution: held.0, task }).await.expect("it leads");
        assert_eq!(beat(&cast, 1, held).await, Heard::Until { lease_millis: LEASE.0, cancel: true });
    });
}

#[test]
fn an_empty_queue_is_answered_without_a_word_in_the_log() {
    play(async {
        let cast = waiting(1, Span::hours(1)).await;
        lease(&cast, 1).await;
        let before = cast.shared.machine.applied();
        assert_eq!(lease(&cast, 1).await, []);
        assert_eq!(cast.shared.machine.applied(), before);
    });
}

#[test]
fn whoever_waits_for_a_queue_is_woken_by_what_comes_into_it_and_by_nothing_else() {
    play(async {
        let cast = waiting(1, Span::hours(1)).await;
        lease(&cast, 1).await;
        let watch = QueueWatch::start(&cast.shared.machine);
        let mut ticket = watch.join(TENANT, &"suites".into(), &"w1".into());
        let mut other = watch.join(TENANT, &"other".into(), &"w2".into());
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(ticket.woken().now_or_never().is_none());
        // The lease runs out.
        tokio::time::timeout(Duration::from_secs(15), ticket.woken()).await.expect("woken");
        assert!(other.woken().now_or_never().is_none());
    });
}
