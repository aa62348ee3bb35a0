//! Each occurrence is settled once, whoever proposes it, however often.

use super::*;

#[test]
fn an_occurrence_proposed_twice_fires_once() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), Some(1_000_100));
    world.now = 1_000_100;
    let item = world.due(task, 1_000_100, Some(1_001_100));
    assert_eq!(world.fire_item(item), (1, 0, 0));
    assert_eq!(world.fire_item(item), (0, 0, 1));
    assert_eq!(world.count(|event| matches!(event, Event::TaskScheduled { .. })), 1);
}

#[test]
fn the_execution_of_an_occurrence_has_the_same_name_wherever_it_is_computed() {
    let occurrence = crate::execution::state::Occurrence::Scheduled(Timestamp(5));
    let name = ExecutionId::of(TaskId(1), occurrence, Timestamp(5));
    assert_eq!(name, ExecutionId::of(TaskId(1), occurrence, Timestamp(5)));
    assert_ne!(name, ExecutionId::of(TaskId(2), occurrence, Timestamp(5)));
    assert_eq!(name.to_string().as_bytes()[14], b'7', "a UUIDv7");
}

#[test]
fn a_next_instant_that_is_not_later_changes_nothing() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), Some(1_000_100));
    world.now = 1_000_100;
    assert_eq!(world.fire(task, 1_000_100, Some(1_000_100)), (0, 0, 1));
    assert_eq!(world.fire(task, 1_000_100, Some(1_000_000)), (0, 0, 1));
}

#[test]
fn nothing_fires_before_its_instant() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), Some(1_000_100));
    world.now = 1_000_099;
    assert_eq!(world.fire(task, 1_000_100, Some(1_001_100)), (0, 0, 1));
}

#[test]
fn a_fire_computed_under_an_older_definition_changes_nothing() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), Some(1_000_100));
    let stale = world.due(task, 1_000_100, Some(1_001_100));
    let update = Request::UpdateTask {
        task,
        expected_version: Some(1),
        rules: Box::new(Rules::of(&definition())),
        definition: Sealed::definition(&definition()),
        next: Some(Timestamp(1_000_100)),
    };
    assert_eq!(world.client(update), Ok(Accepted::Task { task, version: 2 }));
    world.now = 1_000_100;
    assert_eq!(world.fire_item(stale), (0, 0, 1));
    assert_eq!(world.fire(task, 1_000_100, Some(1_001_100)), (1, 0, 0));
}

#[test]
fn a_change_of_definition_first_fires_what_was_overdue() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), Some(1_000_100));
    world.now = 1_000_200;
    let update = || Request::UpdateTask {
        task,
        expected_version: None,
        rules: Box::new(Rules::of(&definition())),
        definition: Sealed::definition(&definition()),
        next: Some(Timestamp(1_500_000)),
    };
    assert_eq!(world.client(update()), Err(Rejection::Overdue { due: Timestamp(1_000_100) }));
    assert_eq!(
        world.client(Request::PauseTask { task }),
        Err(Rejection::Overdue { due: Timestamp(1_000_100) })
    );
    assert_eq!(world.fire(task, 1_000_100, Some(1_001_100)), (1, 0, 0));
    assert_eq!(world.client(update()), Ok(Accepted::Task { task, version: 2 }));
}

#[test]
fn a_slot_that_is_taken_again_does_not_fire_for_the_task_before() {
    let mut world = World::with_worker(8);
    let first = world.create(1, &definition(), Some(1_000_100));
    let stale = world.due(first, 1_000_100, Some(1_001_100));
    world.client(Request::DeleteTask { task: first, expected_version: None }).expect("deleted");
    let second = world.create(2, &definition(), Some(1_000_100));
    assert_eq!(world.task(second).slot, stale.slot);
    world.now = 1_000_100;
    assert_eq!(world.fire_item(stale), (0, 0, 1));
}

#[test]
fn a_deleted_task_emits_nothing_and_its_open_executions_stop() {
    let mut world = World::new();
    let task = world.create(1, &definition(), Some(1_000_100));
    world.now = 1_000_100;
    let later = world.due(task, 1_001_100, Some(1_002_100));
    world.fire(task, 1_000_100, Some(1_001_100));
    world.client(Request::DeleteTask { task, expected_version: None }).expect("deleted");
    assert_eq!(world.names(), ["TaskCancelled", "TaskDeleted"]);
    assert!(world.open().is_empty() && world.replica.queue().is_empty());
    world.now = 1_001_100;
    assert_eq!(world.fire_item(later), (0, 0, 1));
}

#[test]
fn logged_time_never_goes_back() {
    let mut world = World::new();
    world.create(1, &definition(), None);
    world.now -= 500_000;
    world.create(2, &definition(), None);
    assert_eq!(world.replica.logged(), Timestamp(1_000_000));
    assert!(world.records.iter().all(|record| record.header.at == Timestamp(1_000_000)));
}

#[test]
fn a_once_task_that_ran_is_finished() {
    let mut world = World::with_worker(8);
    let once = Definition {
        trigger: Trigger::Once { at: Timestamp(1_000_100), if_past: crate::task::trigger::IfPast::Refuse },
        ..definition()
    };
    let task = world.create(1, &once, Some(1_000_100));
    world.now = 1_000_100;
    assert_eq!(world.fire(task, 1_000_100, None), (1, 0, 0));
    assert_eq!(world.task(task).phase(), crate::task::state::Phase::Finished);
}

#[test]
fn max_runs_finishes_a_task_and_skips_do_not_count() {
    let mut world = World::new();
    let twice = Definition { max_runs: Some(2), overlap: Overlap::Skip, ..definition() };
    let task = world.create(1, &twice, Some(1_000_100));
    world.now = 1_000_100;
    assert_eq!(world.fire(task, 1_000_100, Some(1_000_200)), (1, 0, 0));
    world.now = 1_000_200;
    assert_eq!(world.fire(task, 1_000_200, Some(1_000_300)), (0, 1, 0));
    let id = world.only_open().id;
    world.client(Request::CancelExecution { execution: id }).expect("cancelled");
    world.now = 1_000_300;
    assert_eq!(world.fire(task, 1_000_300, Some(1_000_400)), (1, 0, 0));
    assert_eq!(world.task(task).phase(), crate::task::state::Phase::Finished);
    assert_eq!(world.task(task).next, None);
}

#[test]
fn a_paused_task_leaves_the_wheel_and_resuming_settles_the_gap() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), Some(1_000_100));
    world.client(Request::PauseTask { task }).expect("paused");
    world.now = 1_000_100;
    assert_eq!(world.fire(task, 1_000_100, Some(1_001_100)), (0, 0, 1));
    world.client(Request::ResumeTask { task }).expect("resumed");
    assert_eq!(world.fire(task, 1_000_100, Some(1_001_100)), (1, 0, 0));
}

#[test]
fn what_passed_during_a_pause_is_recorded_before_the_definition_changes() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), Some(1_001_000));
    world.client(Request::PauseTask { task }).expect("paused");
    world.now = 1_003_500;
    let update = || Request::UpdateTask {
        task,
        expected_version: None,
        rules: Box::new(Rules::of(&definition())),
        definition: Sealed::definition(&definition()),
        next: Some(Timestamp(1_004_000)),
    };
    assert_eq!(world.client(update()), Err(Rejection::Overdue { due: Timestamp(1_001_000) }));
    let timetable = world.timetable(task, &definition());
    let gap = plan::gap(world.task(task), world.task(task).revision, &timetable, Timestamp(world.now))
        .expect("a gap");
    assert_eq!(world.fire_item(gap), (0, 3, 0));
    assert_eq!(world.names(), ["TaskMissed"]);
    assert_eq!(world.client(update()), Ok(Accepted::Task { task, version: 2 }));
}

#[test]
fn a_change_that_was_overtaken_by_its_first_fire_does_not_end_the_series() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &definition(), Some(1_001_000));
    world.now = 1_000_999;
    let update = |next| Request::UpdateTask {
        task,
        expected_version: None,
        rules: Box::new(Rules::of(&definition())),
        definition: Sealed::definition(&definition()),
        next: Some(Timestamp(next)),
    };
    let overtaken = world.client_command("acme", update(1_001_000));
    world.now = 1_001_000;
    assert_eq!(world.fire(task, 1_001_000, Some(1_002_000)), (1, 0, 0));
    let outcome = world.apply(&overtaken).outcome;
    assert_eq!(outcome, Err(Rejection::Overdue { due: Timestamp(1_001_000) }), "to be computed anew");
    assert_eq!(world.task(task).next, Some(Timestamp(1_002_000)), "nothing has changed");
    assert_eq!(world.client(update(1_002_000)), Ok(Accepted::Task { task, version: 2 }));
    // What came while the request was on its way to the leader, and is settled, is no reason to ask again.
    assert_eq!(world.client(update(1_001_000)), Ok(Accepted::Task { task, version: 3 }));
    assert_eq!(world.task(task).next, None);
}

#[test]
fn another_tenants_task_does_not_exist() {
    let mut world = World::new();
    let task = world.create(1, &definition(), None);
    for request in [
        Request::PauseTask { task },
        Request::RunTask { task },
        Request::DeleteTask { task, expected_version: None },
    ] {
        let command = world.client_command("rival", request);
        assert_eq!(world.apply(&command).outcome, Err(Rejection::NoSuchTask));
    }
}

#[test]
fn another_tenants_execution_does_not_exist() {
    let mut world = World::new();
    let task = world.create(1, &definition(), None);
    world.client(Request::RunTask { task }).expect("runs");
    let command = world.client_command("rival", Request::CancelExecution { execution: world.only_open().id });
    assert_eq!(world.apply(&command).outcome, Err(Rejection::NoSuchExecution));
}
