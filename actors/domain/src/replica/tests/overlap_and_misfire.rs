//! What happens while an earlier execution is open, and to instants that nobody fired in time.

use super::*;
use crate::command::{Passed, PassedCause};
use crate::event::ReleaseCause;
use crate::task::definition::MisfirePolicy;

/// Fires three instants of a task while nobody works, and says what became of each.
#[track_caller]
fn check_overlap(overlap: Overlap, expected: [(u32, u32, u32); 3], stages: &[&str]) -> World {
    let mut world = World::new();
    let task = world.create(1, &Definition { overlap, ..definition() }, Some(1_000_100));
    for (instant, expected) in [1_000_100, 1_000_200, 1_000_300].into_iter().zip(expected) {
        world.now = instant;
        assert_eq!(world.fire(task, instant, Some(instant + 100)), expected, "at {instant}");
    }
    let mut found: Vec<String> = world.open().iter().map(|open| format!("{:?}", open.stage)).collect();
    found.sort();
    assert_eq!(found, stages);
    world
}

#[test]
fn overlap_skip_skips_with_its_reason() {
    let world = check_overlap(Overlap::Skip, [(1, 0, 0), (0, 1, 0), (0, 1, 0)], &["Queued"]);
    assert_eq!(status_of_last(&world, TaskId(1)), Some(Status::Skipped));
}

#[test]
fn overlap_queue_one_lets_one_wait() {
    check_overlap(Overlap::QueueOne, [(1, 0, 0), (1, 0, 0), (0, 1, 0)], &["Held", "Queued"]);
}

#[test]
fn overlap_queue_all_lets_all_wait() {
    check_overlap(Overlap::QueueAll, [(1, 0, 0); 3], &["Held", "Held", "Queued"]);
}

#[test]
fn overlap_cancel_running_keeps_the_newest() {
    check_overlap(Overlap::CancelRunning, [(1, 0, 0); 3], &["Queued"]);
}

#[test]
fn overlap_allow_runs_side_by_side() {
    check_overlap(Overlap::Allow, [(1, 0, 0); 3], &["Queued", "Queued", "Queued"]);
}

#[test]
fn an_execution_that_waited_goes_on_when_the_earlier_one_ends() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &Definition { overlap: Overlap::QueueAll, ..definition() }, Some(1_000_100));
    world.now = 1_000_200;
    world.fire(task, 1_000_100, Some(1_000_200));
    world.fire(task, 1_000_200, Some(1_000_300));
    let first = world.open().into_iter().find(|open| open.grant().is_some()).expect("one runs");
    world.report(first.id, AttemptOutcome::Succeeded(None)).expect("heard");
    assert_eq!(world.names(), ["TaskCompleted", "TaskReleased", "TaskStarted"]);
    assert_eq!(released_by(&world), [ReleaseCause::Ended { earlier: first.id }]);
    assert!(world.only_open().grant().is_some());
}

#[test]
fn executions_that_wait_go_on_when_they_may_overlap_by_now() {
    let mut world = World::with_worker(8);
    let queueing = Definition { overlap: Overlap::QueueAll, ..definition() };
    let task = world.create(1, &queueing, Some(1_000_100));
    world.now = 1_000_300;
    for instant in [1_000_100, 1_000_200, 1_000_300] {
        world.fire(task, instant, Some(instant + 100));
    }
    let update = |definition: &Definition| Request::UpdateTask {
        task,
        expected_version: None,
        rules: Box::new(Rules::of(definition)),
        definition: Sealed::definition(definition),
        next: Some(Timestamp(1_000_400)),
    };
    world.client(update(&queueing)).expect("updated");
    assert_eq!(world.names(), ["TaskUpdated"], "they wait in turn as before");
    world.client(update(&definition())).expect("updated");
    // Those that follow would keep the task busy for ever.
    assert_eq!(world.names(), ["TaskUpdated", "TaskReleased", "TaskReleased", "TaskStarted", "TaskStarted"]);
    assert_eq!(released_by(&world), [ReleaseCause::OverlapAllowed; 2]);
    assert!(world.open().iter().all(|open| open.grant().is_some()));
}

#[test]
fn cancel_running_waits_for_the_attempt_to_stop() {
    let mut world = World::with_worker(8);
    let task =
        world.create(1, &Definition { overlap: Overlap::CancelRunning, ..definition() }, Some(1_000_100));
    world.now = 1_000_200;
    world.fire(task, 1_000_100, Some(1_000_200));
    let first = world.only_open().id;
    world.fire(task, 1_000_200, Some(1_000_300));
    assert_eq!(world.names(), ["TaskCancelRequested", "TaskScheduled"]);
    world.report(first, AttemptOutcome::Cancelled).expect("heard");
    assert_eq!(world.names(), ["TaskCancelled", "TaskReleased", "TaskStarted"]);
    assert_eq!(released_by(&world), [ReleaseCause::Ended { earlier: first }]);
}

/// Why those that waited went on at the last command.
fn released_by(world: &World) -> Vec<ReleaseCause> {
    let last = world.records.iter().filter(|record| record.header.log_index == world.index);
    let cause = |record: &Record| match record.event {
        Event::TaskReleased { cause, .. } => Some(cause),
        _ => None,
    };
    last.filter_map(cause).collect()
}

#[test]
fn a_run_by_hand_keeps_to_the_overlap_policy() {
    let mut world = World::new();
    let task = world.create(1, &Definition { overlap: Overlap::Skip, ..definition() }, None);
    let first = world.client(Request::RunTask { task });
    assert!(matches!(first, Ok(Accepted::Execution { status: Status::Queued, .. })));
    world.now += 1;
    let second = world.client(Request::RunTask { task });
    assert!(matches!(second, Ok(Accepted::Execution { status: Status::Skipped, .. })));
}

/// Lets a task that is due each minute sleep for ten and a half, and says how many ran and how many were passed over.
#[track_caller]
fn check_misfire(misfire: Misfire, ran: usize, passed_over: u32) {
    let mut world = World::new();
    let every_minute = Definition {
        trigger: Trigger::Interval { every: Span::minutes(1), anchor: Some(Timestamp(0)) },
        misfire,
        ..definition()
    };
    let first = 1_020_000;
    let task = world.create(1, &every_minute, Some(first));
    world.now = first + 630_000;
    let (all_that_ran, total_passed) = world.fire_due(task, &every_minute);
    assert_eq!((all_that_ran.len(), total_passed), (ran, passed_over));
    assert!(world.task(task).next.is_some_and(|next| next.0 > world.now));
}

fn misfire(policy: MisfirePolicy) -> Misfire {
    Misfire { policy, grace: Span::seconds(10), window: Span::minutes(5) }
}

#[test]
fn misfire_skip_passes_over_all_that_is_missed() {
    check_misfire(misfire(MisfirePolicy::Skip), 0, 11);
}

#[test]
fn misfire_run_latest_makes_one_good() {
    check_misfire(misfire(MisfirePolicy::RunLatest), 1, 10);
}

#[test]
fn misfire_run_all_makes_the_window_good() {
    check_misfire(misfire(MisfirePolicy::RunAll), 5, 6);
}

#[test]
fn within_the_grace_a_fire_is_late_and_not_missed() {
    let late = Misfire { policy: MisfirePolicy::Skip, grace: Span::minutes(2), window: Span::minutes(5) };
    check_misfire(late, 2, 9);
}

/// A task that slept beyond its end missed what it was due until then, and nothing after it.
#[track_caller]
fn check_end(policy: MisfirePolicy, ran: &[i64], passed_over: u32) {
    let mut world = World::new();
    let ends = Definition {
        trigger: Trigger::Interval { every: Span::seconds(1), anchor: Some(Timestamp(0)) },
        misfire: misfire(policy),
        end_at: Some(Timestamp(1_005_000)),
        ..definition()
    };
    let task = world.create(1, &ends, Some(1_001_000));
    world.now = 1_060_500;
    let (instants, total) = world.fire_due(task, &ends);
    assert_eq!((instants.as_slice(), total), (ran, passed_over));
    assert_eq!(world.task(task).phase(), crate::task::state::Phase::Finished);
}

#[test]
fn nothing_after_the_end_of_a_task_was_missed() {
    check_end(MisfirePolicy::Skip, &[], 5);
}

#[test]
fn nothing_after_the_end_of_a_task_is_made_good() {
    check_end(MisfirePolicy::RunLatest, &[1_005_000], 4);
}

#[test]
fn thousands_of_missed_instants_are_one_event() {
    let mut world = World::new();
    let every_second = Definition {
        trigger: Trigger::Interval { every: Span::seconds(1), anchor: Some(Timestamp(0)) },
        misfire: misfire(MisfirePolicy::Skip),
        ..definition()
    };
    let task = world.create(1, &every_second, Some(1_001_000));
    world.now = 1_001_000 + 5_000_000;
    let timetable = world.timetable(task, &every_second);
    let (now, revision) = (Timestamp(world.now), world.task(task).revision);
    let items = plan::due(world.task(task), revision, &timetable, now, Delay::Jittered, 1);
    assert_eq!(world.fire_item(items[0]), (0, 4_990, 0));
    assert_eq!(world.names(), ["TaskMissed"]);
}

#[test]
fn a_run_of_missed_instants_that_hides_one_to_run_is_refused() {
    let mut world = World::new();
    let task = world.create(
        1,
        &Definition { misfire: misfire(MisfirePolicy::RunAll), ..definition() },
        Some(1_000_100),
    );
    world.now = 1_000_100 + 60_000;
    let mut item = world.due(task, 1_000_100, Some(world.now + 1_000));
    item.passed = Some(Passed { last: Timestamp(1_030_100), count: 31, cause: PassedCause::Missed });
    assert_eq!(world.fire_item(item), (0, 0, 1));
}

#[test]
fn jitter_delays_within_its_bound_and_never_fires_early() {
    let mut world = World::new();
    let jittered = Definition { jitter: Span::seconds(10), ..definition() };
    let task = world.create(1, &jittered, Some(1_000_100));
    let delay = i64::try_from(crate::schedule::jitter_of(task, Timestamp(1_000_100), Span::seconds(10)).0);
    let delay = delay.ok().filter(|delay| (0..=10_000).contains(delay)).expect("within its bound");
    world.now = 1_000_100 + delay - 1;
    assert_eq!(world.fire_due(task, &jittered), (Vec::new(), 0));
    world.now = 1_000_100 + delay;
    assert_eq!(world.fire_due(task, &jittered).0.first(), Some(&1_000_100));
}

fn jittered(every: Span, policy: MisfirePolicy, jitter: Span) -> Definition {
    let trigger = Trigger::Interval { every, anchor: Some(Timestamp(0)) };
    Definition { trigger, misfire: misfire(policy), jitter, ..definition() }
}

/// Lets a task whose jitter is ten times its grace be due at one instant after the other, each looked at as soon as its own
/// jitter is over, and says how many ran and how many were passed over.
#[track_caller]
fn check_jitter(every: Span, policy: MisfirePolicy) {
    let mut world = World::new();
    let jittered = jittered(every, policy, Span::seconds(100));
    let first = 1_200_000;
    let task = world.create(1, &jittered, Some(first));
    let mut ran = 0;
    for _ in 0..20 {
        let next = world.task(task).next.expect("it recurs");
        let delay = crate::schedule::jitter_of(task, next, jittered.jitter);
        world.now = world.now.max(next.plus(delay).0);
        let (instants, passed_over) = world.fire_due(task, &jittered);
        assert_eq!(passed_over, 0, "under {policy:?} at {next}");
        ran += instants.len();
    }
    assert!(ran >= 20, "{ran} ran under {policy:?}");
}

#[test]
fn what_jitter_takes_is_no_lateness() {
    for policy in [MisfirePolicy::Skip, MisfirePolicy::RunLatest, MisfirePolicy::RunAll] {
        check_jitter(Span::minutes(10), policy);
        // Some of these wait for the jitter of the one before.
        check_jitter(Span::seconds(20), policy);
    }
}

#[test]
fn what_is_later_than_its_jitter_and_its_grace_is_missed() {
    let mut world = World::new();
    let jittered = jittered(Span::minutes(1), MisfirePolicy::Skip, Span::seconds(100));
    let first = 1_020_000;
    let task = world.create(1, &jittered, Some(first));
    // Eleven have come. Those before 490 s are later than 110 s.
    world.now = first + 600_000;
    let timetable = world.timetable(task, &jittered);
    let (now, revision) = (Timestamp(world.now), world.task(task).revision);
    let items = plan::due(world.task(task), revision, &timetable, now, Delay::Jittered, 1);
    assert_eq!(world.fire_item(items[0]), (0, 9, 0));
    assert_eq!(world.task(task).next, Some(Timestamp(first + 9 * 60_000)));
}

/// A daily task of which the own jitter is over, and the longest is not: it runs, in the row of what comes late together.
#[test]
fn what_is_late_within_the_longest_jitter_runs_and_comes_in_the_row() {
    for policy in [MisfirePolicy::Skip, MisfirePolicy::RunLatest] {
        let mut world = World::new();
        let jittered = jittered(Span::hours(24), policy, Span::hours(1));
        let day = Timestamp(86_400_000);
        let task = world.create(1, &jittered, Some(day.0));
        let due = day.plus(crate::schedule::jitter_of(task, day, jittered.jitter));
        let in_the_row =
            |world: &World, late: Span| plan::is_made_good(world.task(task), day, due.plus(late));
        assert!(!in_the_row(&world, Span::seconds(10)) && in_the_row(&world, Span(10_001)), "{policy:?}");
        let over = day.plus(jittered.jitter).plus(Span::seconds(10));
        assert!(over > due.plus(Span::seconds(10)), "its own is shorter");
        let missed = Timestamp(over.0 + 1);
        assert_eq!(plan::is_made_good(world.task(task), day, missed), policy != MisfirePolicy::Skip);
        world.now = over.0;
        assert_eq!(world.fire_due(task, &jittered), (vec![day.0], 0), "{policy:?}");
    }
}

/// Before a task changes, what has come is settled without its jitter: it runs, whatever the policy.
#[test]
fn what_has_come_is_settled_before_a_change_as_in_time() {
    let mut world = World::new();
    let jittered = jittered(Span::seconds(20), MisfirePolicy::Skip, Span::minutes(10));
    let first = 1_200_000;
    let task = world.create(1, &jittered, Some(first));
    world.now = first + 60_000;
    let timetable = world.timetable(task, &jittered);
    let (now, revision) = (Timestamp(world.now), world.task(task).revision);
    let items = plan::due(world.task(task), revision, &timetable, now, Delay::Waived, 9);
    assert_eq!(items.len(), 4);
    for item in items {
        assert_eq!(world.fire_item(item), (1, 0, 0), "{item:?}");
    }
}
