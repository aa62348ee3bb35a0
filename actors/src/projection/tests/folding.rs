//! Folding: once, the same after a rebuild, a restart or a crash, and what a row says.

use std::time::Duration;

use escapement_domain::command::Request;
use escapement_domain::event::{Event, RequeueCause};
use escapement_domain::execution::state::Status;
use escapement_domain::execution::waits::Wait;
use escapement_domain::identifier::TaskId;
use escapement_domain::task::definition::{Definition, Delivery, Overlap, Retry};
use proptest::prelude::*;

use super::*;
use crate::machine::Machine;

fn numbers() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 20..160)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn models_that_were_cleared_are_built_again_byte_for_byte(numbers in numbers(), which in 0..6_usize) {
        let (world, storage) = folded(|world| world.play(&numbers));
        let rebuilt = storage.copy();
        let cleared = [
            Tree::TaskStreams, Tree::Executions, Tree::TaskExecutions,
            Tree::ExecutionStatuses, Tree::RunExecutions, Tree::Statistics, Tree::Checkpoints,
        ][which];
        rebuilt.clear(cleared).expect("memory");
        local(async {
            let projections = Projections::start(world.machine.clone(), rebuilt.clone()).expect("opens");
            projections.wait_folded(world.machine.applied()).await.expect("folded");
            projections.stop().await.expect("rebuilt");
        });
        assert_same(&*storage, &*rebuilt);
    }

    #[test]
    fn a_crash_anywhere_and_a_restart_lead_to_the_same_rows(
        numbers in numbers(), cut in 0..160_usize, kept in 0..8_usize,
    ) {
        let (expected_world, expected) = folded(|world| world.play(&numbers));
        let storage = Arc::new(FakeStorage::default());
        let crashed = local(async {
            let machine = Arc::new(Machine::default());
            let projections = Projections::start(machine.clone(), storage.clone()).expect("empty");
            let cut = cut % expected_world.entries.len();
            for (place, (index, commands)) in expected_world.entries.iter().enumerate().take(cut) {
                machine.apply(*index, commands).expect("of this version");
                if place == cut / 3 {
                    projections.synced(*index).await.expect("synced");
                } else if place % 16 == 0 {
                    projections.wait_folded(*index).await.expect("folded");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            storage.crashed(kept.min(storage.unsynced()))
        });
        let restarted = Arc::new(crashed);
        local(async {
            let machine = Arc::new(Machine::default());
            let projections = Projections::start(machine.clone(), restarted.clone()).expect("opens");
            expected_world.replayed_on(&machine, 0);
            projections.wait_folded(machine.applied()).await.expect("folded");
            projections.stop().await.expect("written");
        });
        assert_same(&*expected, &*restarted);
    }

    #[test]
    fn every_open_execution_of_the_state_stands_in_the_model_as_it_does_there(numbers in numbers()) {
        local(async {
            let mut world = World::default();
            let projections = Projections::start(world.machine.clone(), Arc::new(FakeStorage::default())).expect("empty");
            world.play(&numbers);
            projections.wait_folded(world.machine.applied()).await.expect("folded");
            for open in world.open() {
                let row = projections.execution(open.tenant, open.id).expect("memory").expect("folded");
                assert_eq!(
                    (row.status, row.attempt, row.task_version, row.scheduled_at),
                    (open.status(), open.attempts, open.task_version, open.scheduled_at),
                );
            }
            for tenant in [ACME, TenantId(2)] {
                let statistics = projections.statistics(tenant);
                for status in Status::ALL {
                    let query = ExecutionQuery { status: Some(status), ..ExecutionQuery::newest(10_000) };
                    let listed = projections.executions(tenant, &query).expect("memory").items.len() as u64;
                    assert_eq!(statistics.count(status), listed, "{status:?}");
                }
            }
        });
    }
}

#[test]
fn records_that_come_again_change_nothing() {
    let (world, storage) = folded(|world| world.play(&[3, 16, 5, 44, 7, 8, 200, 9, 1, 2, 3, 4, 5, 6]));
    let before = storage.copy();
    local(async {
        let machine = Arc::new(Machine::default());
        let projections = Projections::start(machine.clone(), storage.clone()).expect("opens");
        world.replayed_on(&machine, 0);
        projections.stop().await.expect("the same again");
    });
    assert_same(&*before, &*storage);
}

#[test]
fn a_record_that_comes_again_and_differs_stops_the_node() {
    let (world, storage) = folded(|world| world.play(&[3, 16, 5, 44, 7, 8]));
    local(async {
        let machine = Arc::new(Machine::default());
        let projections = Projections::start(machine.clone(), storage.clone()).expect("opens");
        let (index, _) = world.entries[0];
        let mut other = World::default();
        other.join(77);
        machine.apply(index, &other.entries[0].1).expect("of this version");
        let failure = projections.failed().await;
        assert!(matches!(&*failure, Failure::Diverged { sequence: 1, .. }), "{failure}");
        assert!(projections.synced(index).await.is_err(), "nothing is promised any more");
        projections.ready().await;
    });
}

#[test]
fn a_failed_write_is_told_to_whoever_waits() {
    let storage = Arc::new(FakeStorage::default());
    local(async {
        let mut world = World::default();
        let projections = Projections::start(world.machine.clone(), storage.clone()).expect("empty");
        world.join(1);
        storage.fail();
        let error = projections.synced(world.machine.applied()).await.expect_err("the disk is full");
        assert!(error.to_string().contains("no space left"), "{error}");
        assert!(matches!(&*projections.failed().await, Failure::Storage(_)));
    });
}

#[test]
fn what_was_synced_survives_a_crash() {
    let storage = Arc::new(FakeStorage::default());
    let head = local(async {
        let mut world = World::default();
        let projections = Projections::start(world.machine.clone(), storage.clone()).expect("empty");
        world.play(&[1, 2, 3, 4, 5, 6, 7, 8]);
        projections.synced(world.machine.applied()).await.expect("synced");
        world.head(ACME)
    });
    let log = EventLog::open(Arc::new(storage.crashed(0))).expect("opens");
    assert_eq!(log.head(ACME), head);
}

fn retried() -> Definition {
    Definition { retry: Retry { max_attempts: 2, ..Retry::DEFAULT }, ..world::definition() }
}

/// Plays, and returns the row of the only execution that was scheduled.
fn row_of(definition: &Definition, play: impl FnOnce(&mut World)) -> ExecutionRow {
    let (mut world, storage) = folded(|world| {
        world.join(1);
        world.create("acme", 1, definition);
        world.fire(ACME, 1, 40);
        play(world);
    });
    let records = world.records();
    let execution = records.iter().find_map(|record| record.event.execution()).expect("fired");
    let rows = dump(&*storage, Tree::Executions).expect("memory");
    let rows = rows
        .iter()
        .filter(|(key, _)| !key.is_empty())
        .map(|(_, row)| ExecutionRow::decode(row).expect("a row"));
    rows.into_iter().find(|row| row.id == execution).expect("written")
}

#[test]
fn a_success_is_told_from_beginning_to_end() {
    let row = row_of(&retried(), |world| {
        let open = world.open()[0].clone();
        world.now += 1_000;
        world.report(&open, super::world::failed());
        world.now += 60_000;
        let open = world.open()[0].clone();
        world
            .scheduler(Request::WaitsOver(vec![(open.id, Wait::Retry { attempts: open.attempts })]))
            .expect("heard");
        world.complete_all();
    });
    assert_eq!(row.status, Status::Succeeded);
    assert_eq!((row.trigger(), row.lateness_ms(), row.attempt), ("schedule", Some(40), 2));
    assert_eq!(row.result_text(), Some("{\"ok\":true}"));
    let outcomes: Vec<_> = row.attempts.iter().map(|attempt| (attempt.number, attempt.outcome)).collect();
    assert_eq!(outcomes, [(1, Some(Outcome::Failed)), (2, Some(Outcome::Succeeded))]);
    assert_eq!(row.attempts[0].error.as_deref(), Some("exit code 1"));
    assert_eq!(row.error, None, "the last attempt had none");
    assert!(row.fired_at <= row.started_at && row.started_at < row.finished_at);
    assert!(row.attempts[0].token < row.attempts[1].token);
    assert_eq!(row.correlation(), row.id.to_string());
}

#[test]
fn what_was_done_before_it_could_be_stopped_has_no_reason() {
    let row = row_of(&world::definition(), |world| {
        let execution = world.open()[0].id;
        world.client("acme", Request::CancelExecution { execution }).expect("it is running");
        world.complete_all();
    });
    assert_eq!((row.status, row.reason), (Status::Succeeded, None));
}

/// The rows of a task that was due twice at once.
fn due_twice(overlap: Overlap) -> Vec<ExecutionRow> {
    let definition = Definition { overlap, ..world::definition() };
    let (_, storage) = folded(|world| {
        world.join(1);
        world.create("acme", 1, &definition);
        world.fire(ACME, 1, 0);
        world.fire(ACME, 1, 0);
    });
    let rows = dump(&*storage, Tree::Executions).expect("memory");
    rows.iter().filter_map(|(_, row)| ExecutionRow::decode(row).ok()).collect()
}

#[test]
fn a_skip_has_its_reason() {
    let rows = due_twice(Overlap::Skip);
    let skipped = rows.iter().find(|row| row.status == Status::Skipped).expect("one was skipped");
    assert!(skipped.reason.as_ref().expect("a reason").explanation().contains("overlap: skip"));
    assert_eq!((skipped.fired_at, skipped.started_at, skipped.lateness_ms()), (None, None, None));
    assert!(skipped.finished_at.is_some());
}

#[test]
fn what_waits_for_an_earlier_execution_has_its_reason() {
    let rows = due_twice(Overlap::QueueAll);
    let reasons = |status| -> Vec<_> {
        rows.iter().filter(|row| row.status == status).map(|row| row.reason.clone()).collect()
    };
    assert_eq!((reasons(Status::Running), reasons(Status::Queued)), (vec![None], vec![Some(Reason::Held)]));
}

#[test]
fn a_lost_worker_costs_an_attempt_or_the_execution() {
    let again = row_of(&world::definition(), |world| {
        world.lose_worker();
        world.join(1);
        world.complete_all();
    });
    assert_eq!(again.status, Status::Succeeded);
    assert_eq!(again.attempts[0].outcome, Some(Outcome::Lost));
    let once = Definition { delivery: Delivery::AtMostOnce, ..world::definition() };
    let lost = row_of(&once, World::lose_worker);
    assert_eq!(lost.status, Status::Lost);
    assert!(matches!(lost.reason, Some(Reason::Lost(RequeueCause::WorkerLost { .. }))), "{:?}", lost.reason);
}

#[test]
fn a_reopened_execution_goes_on_where_it_was() {
    local(async {
        let mut world = World::default();
        let storage = Arc::new(FakeStorage::default());
        let projections = Projections::start(world.machine.clone(), storage.clone()).expect("empty");
        world.join(1);
        world.create("acme", 1, &world::definition());
        world.fire(ACME, 1, 0);
        let open = world.open()[0].clone();
        world.report(&open, super::world::failed());
        projections.synced(world.machine.applied()).await.expect("written");
        let failed = projections.execution(ACME, open.id).expect("memory").expect("there");
        assert_eq!(failed.status, Status::Failed);
        world.retry("acme", &failed).expect("reopened");
        world.complete_all();
        projections.synced(world.machine.applied()).await.expect("written");
        let row = projections.execution(ACME, open.id).expect("memory").expect("there");
        assert_eq!((row.status, row.attempt, row.attempts.len()), (Status::Succeeded, 2, 2));
        assert_eq!(
            dump(&*storage, Tree::ExecutionStatuses).expect("memory").len(),
            1,
            "only the marker is left"
        );
    });
}

#[test]
fn attempts_of_a_row_are_bounded() {
    let row = row_of(&world::definition(), |world| {
        for _ in 0..130 {
            world.lose_worker();
            world.join(1);
        }
    });
    assert_eq!(row.attempts.len(), ATTEMPTS_KEPT);
    assert_eq!(row.attempts.last().map(|attempt| attempt.number), Some(row.attempt));
    assert_eq!(row.attempt, 131);
}

#[test]
fn lateness_and_fires_are_counted() {
    local(async {
        let mut world = World::default();
        let projections =
            Projections::start(world.machine.clone(), Arc::new(FakeStorage::default())).expect("empty");
        world.join(4);
        world.create("acme", 1, &world::definition());
        for late in [1, 1, 1, 1, 1, 1, 1, 1, 1, 700] {
            world.fire(ACME, 1, late);
            world.complete_all();
        }
        world.client("acme", Request::RunTask { task: TaskId(1) }).expect("runs");
        projections.wait_folded(world.machine.applied()).await.expect("folded");
        let statistics = projections.statistics_of_all();
        assert_eq!((statistics.fires(), statistics.recent_fires()), (11, 10));
        assert_eq!(statistics.lateness(500).map(|span| span.0), Some(1));
        assert!(statistics.lateness(990).is_some_and(|span| (700..=800).contains(&span.0)));
        assert_eq!((statistics.count(Status::Succeeded), statistics.count(Status::Running)), (10, 1));
    });
}

#[test]
fn the_last_word_of_a_deleted_task_is_found() {
    local(async {
        let mut world = World::default();
        let projections =
            Projections::start(world.machine.clone(), Arc::new(FakeStorage::default())).expect("empty");
        world.create("acme", 1, &world::definition());
        world.client("acme", Request::PauseTask { task: TaskId(1) }).expect("paused");
        world
            .client("acme", Request::DeleteTask { task: TaskId(1), expected_version: None })
            .expect("deleted");
        projections.wait_folded(world.machine.applied()).await.expect("folded");
        let head = projections.last_of_stream(ACME, TaskId(1)).expect("memory").expect("noted");
        let page = projections.stream(ACME, TaskId(1), head, 0, 100).expect("threaded");
        let names: Vec<_> = page.records.iter().map(|record| record.event.name()).collect();
        assert_eq!(names, ["TaskCreated", "TaskPaused", "TaskDeleted"]);
        assert!(matches!(page.records[2].event, Event::TaskDeleted { .. }));
    });
}

#[test]
fn the_log_waits_while_too_much_is_not_folded() {
    use futures::FutureExt as _;
    local(async {
        let machine = Arc::new(Machine::default());
        let projections =
            Projections::start(machine.clone(), Arc::new(FakeStorage::default())).expect("empty");
        assert!(projections.ready().now_or_never().is_some());
        (1..=10_000).for_each(|index| machine.advance(index));
        assert_eq!(projections.lag(), 10_000);
        assert!(projections.ready().now_or_never().is_none());
        projections.ready().await;
        projections.wait_folded(10_000).await.expect("folded");
        assert_eq!((projections.lag(), projections.backlog()), (0, 0));
    });
}
