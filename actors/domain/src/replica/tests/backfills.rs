//! A backfill runs each of its instants once, in order, at its own concurrency.

use super::*;
use crate::execution::state::Occurrence;

fn backfill(world: &mut World, task: TaskId, many: i64, concurrency: u32) -> Result<Accepted, Rejection> {
    let instants = (1..=many).map(|nth| Timestamp(nth * 1_000)).collect();
    world.client(Request::Backfill { task, instants, concurrency })
}

fn scheduled(world: &World) -> Vec<i64> {
    let at = |record: &Record| match &record.event {
        Event::TaskScheduled { occurrence: Occurrence::Backfill { instant, .. }, .. } => Some(instant.0),
        _ => None,
    };
    world.records.iter().filter_map(at).collect()
}

#[test]
fn the_end_of_one_execution_begins_the_next() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), None);
    assert!(matches!(backfill(&mut world, task, 5, 2), Ok(Accepted::Backfill { total: 5, .. })));
    for done in 2..=5 {
        assert_eq!(scheduled(&world), (1..=done).map(|nth| nth * 1_000).collect::<Vec<_>>());
        let first = world.open().into_iter().min_by_key(|open| open.scheduled_at).expect("one is open");
        world.report(first.id, AttemptOutcome::Succeeded(None)).expect("heard");
    }
    let last = world.only_open();
    world.report(last.id, failed()).expect("heard");
    assert_eq!(world.names(), ["TaskFailed", "BackfillEnded"]);
    assert_eq!(world.replica.backfills_of(task).count(), 0);
}

#[test]
fn every_execution_of_a_backfill_goes_back_to_its_request() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), None);
    backfill(&mut world, task, 2, 1).expect("begins");
    let first = world.only_open();
    world.report(first.id, AttemptOutcome::Succeeded(None)).expect("heard");
    assert_eq!(&*world.only_open().correlation_id, "request");
}

#[test]
fn a_backfill_and_the_overlap_policy_leave_each_other_alone() {
    let mut world = World::new();
    let task = world.create(1, &Definition { overlap: Overlap::Skip, ..definition() }, Some(1_000_100));
    backfill(&mut world, task, 3, 1).expect("begins");
    world.now = 1_000_100;
    assert_eq!(world.fire(task, 1_000_100, Some(1_000_200)), (1, 0, 0), "a backfill is no overlap");
    assert_eq!(scheduled(&world), [1_000]);
}

#[test]
fn a_cancelled_backfill_leaves_the_rest_out() {
    let mut world = World::new();
    let task = world.create(1, &definition(), None);
    let Ok(Accepted::Backfill { backfill: id, .. }) = backfill(&mut world, task, 9, 2) else {
        panic!("it begins");
    };
    world.client(Request::CancelBackfill { task, backfill: id }).expect("it runs");
    assert_eq!(world.names(), ["BackfillEnded", "TaskCancelled", "TaskCancelled"]);
    assert!(world.open().is_empty());
    let again = world.client(Request::CancelBackfill { task, backfill: id });
    assert_eq!(again, Err(Rejection::NoSuchBackfill));
}

#[test]
fn a_deleted_task_takes_its_backfills_along() {
    let mut world = World::new();
    let task = world.create(1, &definition(), None);
    backfill(&mut world, task, 9, 2).expect("begins");
    world.client(Request::DeleteTask { task, expected_version: None }).expect("nothing is due");
    assert!(world.open().is_empty());
    assert_eq!(world.replica.backfills_of(task).count(), 0);
}

#[test]
fn a_lost_worker_holds_up_nothing_of_a_backfill() {
    let mut world = World::with_worker(8);
    let once = Definition { delivery: Delivery::AtMostOnce, ..definition() };
    let task = world.create(1, &once, None);
    backfill(&mut world, task, 2, 1).expect("begins");
    world.scheduler(Request::LoseWorker { node: WORKER.0, incarnation: WORKER.1 }).expect("known");
    assert_eq!(world.names(), ["WorkerLost", "TaskLost", "TaskScheduled"]);
}

#[test]
fn what_is_too_much_or_not_of_the_past_is_refused() {
    let mut world = World::new();
    let task = world.create(1, &definition(), None);
    let refused = |request, world: &mut World| world.client(request).expect_err("refused");
    let instants = vec![Timestamp(2_000), Timestamp(1_000)];
    refused(Request::Backfill { task, instants, concurrency: 1 }, &mut world);
    let instants = vec![Timestamp(world.now + 1)];
    refused(Request::Backfill { task, instants, concurrency: 1 }, &mut world);
    let instants = vec![Timestamp(1_000)];
    let many = refused(Request::Backfill { task, instants, concurrency: 101 }, &mut world);
    assert!(matches!(many, Rejection::TooMany { limit: 100, .. }));
    for _ in 0..10 {
        backfill(&mut world, task, 1, 1).expect("begins");
    }
    assert!(matches!(backfill(&mut world, task, 1, 1), Err(Rejection::TooMany { limit: 10, .. })));
}

#[test]
fn a_backfill_goes_on_from_a_snapshot() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), None);
    backfill(&mut world, task, 3, 1).expect("begins");
    let mut bytes = Vec::new();
    world.replica.freeze().write_to(&mut bytes).expect("memory");
    world.replica = Replica::restore(&mut bytes.as_slice()).expect("readable");
    let first = world.only_open();
    world.report(first.id, AttemptOutcome::Succeeded(None)).expect("heard");
    assert_eq!(scheduled(&world), [1_000, 2_000]);
}
