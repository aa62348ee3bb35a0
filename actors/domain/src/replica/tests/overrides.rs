//! One coming occurrence is skipped or moved by hand: once, with its reason, and without touching the definition.

use super::*;
use crate::command::Change;
use crate::event::SkipReason;
use crate::execution::state::Occurrence;
use crate::task::state::Phase;

fn every_second() -> Definition {
    Definition {
        trigger: Trigger::Interval { every: Span::seconds(1), anchor: Some(Timestamp(0)) },
        ..definition()
    }
}

fn change(world: &mut World, task: TaskId, at: i64, change: Change) -> Result<Accepted, Rejection> {
    world.client(Request::ChangeOccurrence { task, at: Timestamp(at), change })
}

fn fire_moved(world: &mut World, task: TaskId, at: i64) -> (u32, u32, u32) {
    let slot = world.task(task).slot;
    match world.scheduler(Request::FireMoved(vec![(slot, Timestamp(at))])) {
        Ok(Accepted::Settled { fired, passed_over, ignored }) => (fired, passed_over, ignored),
        other => panic!("a fire is always settled: {other:?}"),
    }
}

fn world() -> (World, TaskId) {
    let mut world = World::new();
    let task = world.create(1, &every_second(), Some(1_001_000));
    (world, task)
}

#[test]
fn a_skipped_occurrence_is_passed_over_and_the_next_one_runs() {
    let (mut world, task) = world();
    change(&mut world, task, 1_002_000, Change::Skip).expect("to come");
    world.now = 1_003_000;
    assert_eq!(world.fire_due(task, &every_second()), (vec![1_001_000, 1_003_000], 1));
    let by_hand = |event: &Event| matches!(event, Event::TaskSkipped { reason: SkipReason::ByHand, .. });
    assert_eq!(world.count(by_hand), 1);
    assert!(world.task(task).overrides.is_empty());
    assert_eq!(world.task(task).version, 1);
}

#[test]
fn an_occurrence_that_was_moved_later_runs_once_and_then() {
    let (mut world, task) = world();
    change(&mut world, task, 1_001_000, Change::Move { to: Timestamp(1_002_500) }).expect("to come");
    world.now = 1_002_000;
    assert_eq!(world.fire_due(task, &every_second()), (vec![1_002_000], 1));
    assert_eq!(fire_moved(&mut world, task, 1_001_000), (0, 0, 1), "too soon");
    world.now = 1_002_500;
    assert_eq!(fire_moved(&mut world, task, 1_001_000), (1, 0, 0));
    assert_eq!(fire_moved(&mut world, task, 1_001_000), (0, 0, 1), "once");
    let moved =
        world.open().into_iter().find(|open| open.occurrence == Occurrence::Moved(Timestamp(1_001_000)));
    assert_eq!(moved.expect("it runs").scheduled_at, Timestamp(1_002_500));
    assert!(world.task(task).overrides.is_empty());
}

#[test]
fn an_occurrence_that_was_moved_earlier_does_not_run_again_at_its_instant() {
    let (mut world, task) = world();
    change(&mut world, task, 1_002_000, Change::Move { to: Timestamp(1_000_500) }).expect("to come");
    world.now = 1_000_500;
    assert_eq!(fire_moved(&mut world, task, 1_002_000), (1, 0, 0));
    let again = change(&mut world, task, 1_002_000, Change::Move { to: Timestamp(1_001_500) });
    assert_eq!(again, Err(Rejection::OccurrencePassed { at: Timestamp(1_002_000) }));
    world.now = 1_002_000;
    assert_eq!(world.fire_due(task, &every_second()), (vec![1_001_000], 1));
    assert!(world.task(task).overrides.is_empty());
}

#[test]
fn what_was_changed_by_hand_is_restored() {
    let (mut world, task) = world();
    for first in [Change::Skip, Change::Move { to: Timestamp(1_009_000) }] {
        change(&mut world, task, 1_001_000, first).expect("to come");
        change(&mut world, task, 1_001_000, Change::Restore).expect("changed");
    }
    let unchanged = change(&mut world, task, 1_001_000, Change::Restore);
    assert_eq!(unchanged, Err(Rejection::OccurrenceUnchanged { at: Timestamp(1_001_000) }));
    world.now = 1_001_000;
    assert_eq!(world.fire_due(task, &every_second()), (vec![1_001_000], 0));
}

#[test]
fn one_that_waits_for_a_later_time_can_be_moved_again_or_dropped() {
    let (mut world, task) = world();
    change(&mut world, task, 1_001_000, Change::Move { to: Timestamp(1_005_000) }).expect("to come");
    world.now = 1_001_000;
    world.fire_due(task, &every_second());
    change(&mut world, task, 1_001_000, Change::Move { to: Timestamp(1_003_000) }).expect("it waits");
    let restored = change(&mut world, task, 1_001_000, Change::Restore);
    assert_eq!(restored, Err(Rejection::OccurrencePassed { at: Timestamp(1_001_000) }));
    change(&mut world, task, 1_001_000, Change::Skip).expect("it waits");
    world.now = 1_003_000;
    assert_eq!(fire_moved(&mut world, task, 1_001_000), (0, 0, 1));
}

#[test]
fn what_has_passed_and_what_lies_in_the_past_is_refused() {
    let (mut world, task) = world();
    world.now = 1_001_000;
    let passed = Err(Rejection::OccurrencePassed { at: Timestamp(1_001_000) });
    assert_eq!(change(&mut world, task, 1_001_000, Change::Skip), passed);
    let into_the_past = change(&mut world, task, 1_004_000, Change::Move { to: Timestamp(1_000_000) });
    assert_eq!(into_the_past, Err(Rejection::MovedIntoThePast { to: Timestamp(1_000_000) }));
}

#[test]
fn a_task_whose_last_instant_was_moved_is_finished_when_that_has_run() {
    let mut world = World::new();
    let once = Definition {
        trigger: Trigger::Once { at: Timestamp(1_001_000), if_past: crate::task::trigger::IfPast::Refuse },
        ..definition()
    };
    let task = world.create(1, &once, Some(1_001_000));
    change(&mut world, task, 1_001_000, Change::Move { to: Timestamp(1_005_000) }).expect("to come");
    world.now = 1_001_000;
    assert_eq!(world.fire_due(task, &once), (Vec::new(), 1));
    assert_eq!(world.task(task).phase(), Phase::Active);
    world.now = 1_005_000;
    assert_eq!(fire_moved(&mut world, task, 1_001_000), (1, 0, 0));
    assert_eq!(world.task(task).phase(), Phase::Finished);
}

#[test]
fn with_the_last_run_that_a_task_may_have_what_was_moved_falls_away() {
    let mut world = World::new();
    let two_runs = Definition { max_runs: Some(2), ..every_second() };
    let task = world.create(1, &two_runs, Some(1_001_000));
    change(&mut world, task, 1_001_000, Change::Move { to: Timestamp(1_005_000) }).expect("to come");
    world.now = 1_003_000;
    assert_eq!(world.fire_due(task, &two_runs), (vec![1_002_000, 1_003_000], 1));
    assert_eq!(world.task(task).phase(), Phase::Finished);
    world.now = 1_005_000;
    assert_eq!(fire_moved(&mut world, task, 1_001_000), (0, 0, 1));
}

fn update(task: TaskId, definition: &Definition, next: Option<i64>) -> Request {
    Request::UpdateTask {
        task,
        expected_version: None,
        rules: Box::new(Rules::of(definition)),
        definition: Sealed::definition(definition),
        next: next.map(Timestamp),
    }
}

#[test]
fn a_task_that_has_run_enough_under_a_new_definition_runs_nothing_that_was_moved() {
    let (mut world, task) = world();
    change(&mut world, task, 1_003_000, Change::Move { to: Timestamp(1_005_000) }).expect("to come");
    world.now = 1_001_000;
    assert_eq!(world.fire_due(task, &every_second()), (vec![1_001_000], 0));
    let one_run = Definition { max_runs: Some(1), ..every_second() };
    world.client(update(task, &one_run, Some(1_002_000))).expect("nothing is due");
    assert_eq!(world.task(task).phase(), Phase::Finished);
    world.now = 1_005_000;
    assert_eq!(fire_moved(&mut world, task, 1_003_000), (0, 0, 1));
}

#[test]
fn what_ran_before_its_instant_does_not_run_again_when_its_task_may_run_more_often() {
    let mut world = World::new();
    let one_run = Definition { max_runs: Some(1), ..every_second() };
    let task = world.create(1, &one_run, Some(1_001_000));
    change(&mut world, task, 1_003_000, Change::Move { to: Timestamp(1_000_500) }).expect("to come");
    world.now = 1_000_500;
    assert_eq!(fire_moved(&mut world, task, 1_003_000), (1, 0, 0));
    assert_eq!(world.task(task).phase(), Phase::Finished);
    world.client(update(task, &every_second(), Some(1_001_000))).expect("nothing is due");
    world.now = 1_004_000;
    assert_eq!(world.fire_due(task, &every_second()), (vec![1_001_000, 1_002_000, 1_004_000], 1));
}

#[test]
fn what_was_changed_under_an_earlier_definition_does_not_hold_up_a_run_of_missed_instants() {
    let (mut world, task) = world();
    change(&mut world, task, 1_003_000, Change::Skip).expect("to come");
    let every_two = Trigger::Interval { every: Span::seconds(2), anchor: Some(Timestamp(0)) };
    let every_two = Definition { trigger: every_two, ..definition() };
    world.client(update(task, &every_two, Some(1_002_000))).expect("nothing is due");
    world.now = 1_900_000;
    let (ran, passed_over) = world.fire_due(task, &every_two);
    assert_eq!((ran.len(), passed_over), (31, 450 - 31), "the grace is a minute");
}

#[test]
fn a_moved_occurrence_that_nobody_fired_in_time_keeps_to_the_misfire_policy() {
    let mut world = World::new();
    let policy = crate::task::definition::MisfirePolicy::Skip;
    let strict = Definition { misfire: Misfire { policy, ..Misfire::default() }, ..every_second() };
    let task = world.create(1, &strict, Some(1_001_000));
    change(&mut world, task, 1_001_000, Change::Move { to: Timestamp(1_002_000) }).expect("to come");
    world.now = 2_000_000;
    assert_eq!(fire_moved(&mut world, task, 1_001_000), (0, 1, 0));
    let missed = |event: &Event| matches!(event, Event::TaskSkipped { reason: SkipReason::Missed, .. });
    assert_eq!(world.count(missed), 1);
}

#[test]
fn what_was_changed_by_hand_is_never_within_a_run_of_missed_instants() {
    let (mut world, task) = world();
    change(&mut world, task, 1_003_000, Change::Skip).expect("to come");
    change(&mut world, task, 1_005_000, Change::Move { to: Timestamp(9_000_000) }).expect("to come");
    world.now = 1_900_000;
    let (ran, passed_over) = world.fire_due(task, &every_second());
    assert_eq!((ran.len(), passed_over), (61, 900 - 61), "the grace is a minute");
    assert_eq!(world.task(task).next_moved(), Some((Timestamp(9_000_000), Timestamp(1_005_000))));
}

#[test]
fn a_paused_task_settles_what_was_changed_by_hand_before_its_definition_changes() {
    let (mut world, task) = world();
    change(&mut world, task, 1_002_000, Change::Skip).expect("to come");
    world.client(Request::PauseTask { task }).expect("active");
    world.now = 1_003_000;
    let mut counts = Vec::new();
    while let Some(item) = {
        let timetable = world.timetable(task, &every_second());
        plan::gap(world.task(task), world.task(task).revision, &timetable, Timestamp(world.now))
    } {
        counts.push(world.fire_item(item));
    }
    assert_eq!(counts, [(0, 1, 0), (0, 1, 0), (0, 1, 0)]);
}

#[test]
fn a_paused_task_stays_paused_beyond_a_definition_that_has_nothing_to_come() {
    let (mut world, task) = world();
    world.client(Request::PauseTask { task }).expect("active");
    world.client(update(task, &every_second(), None)).expect("nothing is due");
    assert_eq!(world.task(task).phase(), Phase::Finished);
    world.client(update(task, &every_second(), Some(1_009_000))).expect("nothing is due");
    assert_eq!(world.task(task).phase(), Phase::Paused);
}

#[test]
fn an_instant_that_has_come_is_settled_before_its_task_is_deleted_or_changed_whatever_its_jitter() {
    let mut world = World::new();
    let jittered = Definition { jitter: Span::hours(1), ..every_second() };
    let task = world.create(1, &jittered, Some(1_001_000));
    world.now = 1_001_000;
    let overdue = Err(Rejection::Overdue { due: Timestamp(1_001_000) });
    assert_eq!(world.client(Request::DeleteTask { task, expected_version: None }), overdue);
    let timetable = world.timetable(task, &jittered);
    let now = Timestamp(world.now);
    let revision = world.task(task).revision;
    assert!(plan::due(world.task(task), revision, &timetable, now, Delay::Jittered, 9).is_empty());
    let items = plan::due(world.task(task), revision, &timetable, now, Delay::Waived, 9);
    assert_eq!(world.fire_item(items[0]), (1, 0, 0));
    assert_eq!(world.client(Request::DeleteTask { task, expected_version: None }), Ok(Accepted::Done));
}

#[test]
fn a_moved_occurrence_whose_time_has_come_is_settled_before_its_task_changes_pauses_or_goes() {
    let (mut world, task) = world();
    change(&mut world, task, 1_009_000, Change::Move { to: Timestamp(1_000_500) }).expect("to come");
    world.now = 1_000_500;
    let overdue = Err(Rejection::Overdue { due: Timestamp(1_000_500) });
    let requests = [
        update(task, &every_second(), Some(1_001_000)),
        Request::PauseTask { task },
        Request::DeleteTask { task, expected_version: None },
    ];
    for request in requests.clone() {
        assert_eq!(world.client(request), overdue);
    }
    assert_eq!(fire_moved(&mut world, task, 1_009_000), (1, 0, 0));
    for request in requests {
        assert!(world.client(request).is_ok());
    }
}

#[test]
fn what_was_moved_into_a_pause_is_missed_before_its_task_changes_or_goes() {
    let (mut world, task) = world();
    change(&mut world, task, 1_009_000, Change::Move { to: Timestamp(1_000_500) }).expect("to come");
    world.client(Request::PauseTask { task }).expect("active");
    world.now = 1_000_500;
    assert_eq!(fire_moved(&mut world, task, 1_009_000), (0, 0, 1), "a paused task fires nothing");
    for request in
        [update(task, &every_second(), Some(1_001_000)), Request::DeleteTask { task, expected_version: None }]
    {
        assert_eq!(world.client(request), Err(Rejection::Overdue { due: Timestamp(1_000_500) }));
    }
    let slot = world.task(task).slot;
    let miss = |world: &mut World| world.scheduler(Request::MissMoved(vec![(slot, Timestamp(1_009_000))]));
    let settled = |passed_over, ignored| Ok(Accepted::Settled { fired: 0, passed_over, ignored });
    assert_eq!(miss(&mut world), settled(1, 0));
    assert_eq!(miss(&mut world), settled(0, 1), "once");
    let missed = |event: &Event| matches!(event, Event::TaskSkipped { reason: SkipReason::Missed, .. });
    assert_eq!(world.count(missed), 1);
    assert!(world.client(Request::DeleteTask { task, expected_version: None }).is_ok());
}

#[test]
fn what_was_moved_is_missed_only_in_a_pause_and_when_its_time_has_come() {
    let (mut world, task) = world();
    change(&mut world, task, 1_009_000, Change::Move { to: Timestamp(1_000_500) }).expect("to come");
    let slot = world.task(task).slot;
    let ignored = Ok(Accepted::Settled { fired: 0, passed_over: 0, ignored: 1 });
    world.client(Request::PauseTask { task }).expect("active");
    let miss = Request::MissMoved(vec![(slot, Timestamp(1_009_000))]);
    assert_eq!(world.scheduler(miss.clone()), ignored, "too soon");
    world.client(Request::ResumeTask { task }).expect("paused");
    world.now = 1_000_500;
    assert_eq!(world.scheduler(miss), ignored, "it fires");
}
