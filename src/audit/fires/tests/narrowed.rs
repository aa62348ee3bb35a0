//! Instants that calendars forbid, that hands skip or move, and that newer zone data name.

use std::sync::Arc;

use escapement_domain::command::Change;
use escapement_domain::schedule::calendar::{Calendar, CalendarMode};

use super::*;

/// Ten minutes of 2026-03-01 that a calendar forbids, or the only ones it allows: those from 12:20 to 12:29.
fn calendar(mode: CalendarMode) -> Calendar {
    let windows = vec!["12:20-12:30".parse().expect("a window")];
    Calendar { description: String::new(), mode, timezone: None, days: Vec::new(), windows }
}

fn named(minutes: u64, calendars: &[&str]) -> Definition {
    Definition { calendars: calendars.iter().map(|name| (*name).to_owned()).collect(), ..every(minutes) }
}

impl Story {
    /// A task that is created at minute 0 and names a calendar that forbids minutes 20 to 29.
    fn with_a_calendar(minutes: u64, from: i64, to: i64) -> Self {
        let mut story = Self::of(&named(minutes, &["lunch"]), from, to);
        story.puts("lunch", 0, calendar(CalendarMode::Exclude));
        story
    }

    fn puts(&mut self, name: &str, at: i64, calendar: Calendar) {
        self.add(minute(at), Event::CalendarPut { name: name.into(), version: 1, calendar });
    }

    fn suppresses(&mut self, first: i64, last: i64, calendar: &str) {
        let (first, last) = (minute(first), minute(last));
        let calendar: Arc<str> = calendar.into();
        let suppressed =
            Event::TaskSuppressed { slot: 0, task: TASK, first, last, count: 1, calendar, next: FOLLOWING };
        self.add(last, suppressed);
    }

    fn is_changed(&mut self, instant: i64, change: Change, at: i64) {
        self.add(
            minute(at),
            Event::TaskOccurrenceChanged { slot: 0, task: TASK, at: minute(instant), change },
        );
    }

    fn is_moved(&mut self, instant: i64, to: i64) {
        let (at, to) = (minute(instant), minute(to));
        self.add(at, Event::TaskMoved { slot: 0, task: TASK, at, to, next: FOLLOWING });
    }

    /// What was moved from an instant runs at a minute, and so many milliseconds later.
    fn runs_moved(&mut self, instant: i64, to: i64, late_ms: i64) {
        let event = Event::TaskScheduled {
            slot: 0,
            task: TASK,
            execution: ExecutionId(1_000),
            occurrence: Occurrence::Moved(minute(instant)),
            scheduled_at: minute(to),
            task_version: 1,
            next: FOLLOWING,
            held: false,
        };
        self.add(Timestamp(minute(to).0 + late_ms), event);
    }

    fn is_replanned(&mut self, before: i64, next: Option<i64>, at: i64) {
        let (before, next) = (minute(before), next.map(minute));
        self.add(minute(at), Event::TaskReplanned { slot: 0, task: TASK, before, next });
    }
}

fn to(to: i64) -> Change {
    Change::Move { to: minute(to) }
}

#[test]
fn what_a_calendar_forbids_is_skipped_by_one_event_for_all() {
    let mut story = Story::with_a_calendar(5, 12, 40);
    story.fires(15, 0);
    story.suppresses(20, 25, "lunch");
    story.fires(30, 0);
    let fires =
        story.check(31, "15 on_time, 20 skipped calendar, 25 skipped calendar, 30 on_time, 35 pending");
    let reason = fires[1].reason.as_ref().expect("a reason").explanation();
    assert_eq!(reason, "the calendar `lunch` does not allow it");
    assert_eq!(fires[1].settled, fires[2].settled);
}

#[test]
fn the_calendar_that_counts_is_the_one_that_was_there_when_an_instant_was_settled() {
    let mut story = Story::with_a_calendar(10, 12, 60);
    story.suppresses(20, 20, "lunch");
    story.puts("lunch", 25, calendar(CalendarMode::Only));
    story.suppresses(30, 40, "lunch");
    story.puts("lunch", 45, calendar(CalendarMode::Exclude));
    story.fires(50, 0);
    story.check(51, "20 skipped calendar, 30 skipped calendar, 40 skipped calendar, 50 on_time");
}

#[test]
fn what_a_calendar_did_not_forbid_was_missed_and_what_it_forbade_was_not_to_fire() {
    let mut story = Story::with_a_calendar(10, 0, 60);
    story.suppresses(10, 20, "lunch");
    story.suppresses(30, 30, "dinner");
    story
        .check(31, "10 missed groundless, 20 skipped calendar, 30 missed groundless, 40 pending, 50 pending");
    let mut story = Story::with_a_calendar(10, 0, 25);
    story.fires(10, 0);
    story.fires(20, 0);
    story.check(21, "10 on_time, 20 unexpected calendar");
}

#[test]
fn a_forbidden_instant_that_is_not_settled_is_to_come_or_missed() {
    let story = || {
        let mut story = Story::with_a_calendar(10, 12, 35);
        story.fires(10, 0);
        story
    };
    story().check(12, "20 pending calendar, 30 pending");
    story().check(25, "20 missed unsettled, 30 pending");
}

#[test]
fn a_task_that_may_run_once_more_runs_when_its_calendar_lets_it() {
    let once = Definition { max_runs: Some(1), ..named(10, &["lunch"]) };
    let mut story = Story::of(&once, 15, 60);
    story.puts("lunch", 0, calendar(CalendarMode::Exclude));
    story.suppresses(10, 10, "lunch");
    story.check(12, "20 pending calendar, 30 pending");
}

#[test]
fn an_occurrence_that_was_skipped_by_hand_is_skipped_and_one_that_was_not_is_missed() {
    let mut story = Story::of(&every(10), 0, 45);
    story.is_changed(10, Change::Skip, 1);
    story.is_changed(20, Change::Skip, 2);
    story.is_changed(20, Change::Restore, 3);
    story.is_changed(40, Change::Skip, 4);
    story.skips(Occurrence::Scheduled(minute(10)), 10, SkipReason::ByHand);
    story.skips(Occurrence::Scheduled(minute(20)), 20, SkipReason::ByHand);
    story.check(21, "10 skipped by_hand, 20 missed groundless, 30 pending, 40 pending by_hand");
    let mut story = Story::of(&every(10), 0, 15);
    story.is_changed(10, Change::Skip, 1);
    story.fires(10, 0);
    story.check(11, "10 unexpected by_hand");
}

#[test]
fn a_moved_occurrence_owes_a_run_at_its_new_time() {
    let moved = |from, to_range| {
        let mut story = Story::of(&every(10), from, to_range);
        story.is_changed(10, to(15), 1);
        story.is_moved(10, 15);
        story
    };
    let fires = moved(0, 15).check(11, "10 skipped moved");
    let reason = fires[0].reason.as_ref().expect("a reason").explanation();
    assert_eq!(reason, "it was moved by hand to 2026-03-01T12:15:00.000Z");
    moved(12, 18).check(11, "15 pending from 10");
    moved(12, 18).check(20, "15 missed unsettled from 10");
    let mut story = moved(0, 18);
    story.runs_moved(10, 15, 5_000);
    let fires = story.check(16, "10 skipped moved, 15 late from 10");
    assert_eq!(fires[1].lateness(), Some(Span(5_000)));
    let mut story = moved(12, 18);
    story.skips(Occurrence::Moved(minute(10)), 15, SkipReason::Missed);
    story.check(20, "15 missed passed_over from 10");
    let mut story = moved(12, 18);
    story.skips(Occurrence::Moved(minute(10)), 15, SkipReason::Overlap);
    story.check(20, "15 skipped overlap from 10");
}

#[test]
fn an_occurrence_may_be_moved_to_an_earlier_time_and_onto_another_one() {
    let mut story = Story::of(&every(10), 0, 25);
    story.is_changed(20, to(10), 1);
    story.runs_moved(20, 10, 0);
    story.fires(10, 500);
    story.check(11, "10 on_time, 10 on_time from 20, 20 pending moved");
}

#[test]
fn a_moved_occurrence_can_be_moved_again_or_dropped_or_be_as_it_was() {
    let mut story = Story::of(&every(10), 0, 45);
    story.is_changed(10, to(15), 1);
    story.is_changed(20, to(25), 1);
    story.is_changed(40, to(35), 1);
    story.is_moved(10, 15);
    story.is_changed(10, to(18), 14);
    story.runs_moved(10, 18, 0);
    story.is_moved(20, 25);
    story.is_changed(20, Change::Skip, 24);
    story.is_changed(40, Change::Restore, 24);
    story.check(24, "10 skipped moved, 18 on_time from 10, 20 skipped by_hand, 30 pending, 40 pending");
}

#[test]
fn a_move_that_nobody_asked_for_is_amiss() {
    let mut story = Story::of(&every(10), 0, 20);
    story.is_moved(10, 15);
    story.runs_moved(10, 15, 0);
    story.check(16, "10 missed groundless, 15 unexpected groundless from 10");
    // Once is enough.
    let mut story = Story::of(&every(10), 12, 20);
    story.is_changed(10, to(15), 1);
    story.runs_moved(10, 15, 0);
    story.runs_moved(10, 15, 9);
    story.check(16, "15 on_time from 10, 15 unexpected groundless from 10");
}

#[test]
fn a_pause_keeps_a_moved_occurrence_back_and_a_deletion_settles_it_first() {
    let moved = || {
        let mut story = Story::of(&every(10), 12, 18);
        story.is_changed(10, to(15), 1);
        story.is_moved(10, 15);
        story
    };
    let mut story = moved();
    story.pauses(14);
    story.check(500, "15 pending paused from 10");
    let mut story = moved();
    story.pauses(14);
    story.resumes(17);
    story.runs_moved(10, 15, 120_000);
    story.check(18, "15 late paused from 10");
    let mut story = moved();
    story.is_deleted(14);
    story.check(500, "");
    let mut story = moved();
    story.is_deleted(15);
    story.check(500, "15 missed unsettled from 10");
    let mut story = moved();
    story.fires(20, 0);
    story.is_deleted(29);
    story.check(500, "15 missed unsettled from 10");
}

#[test]
fn a_moved_run_counts_and_what_is_left_of_a_task_that_ran_enough_falls_away() {
    let twice = Definition { max_runs: Some(2), ..every(10) };
    let mut story = Story::of(&twice, 0, 60);
    story.is_changed(20, to(5), 1);
    story.is_changed(30, to(15), 1);
    story.is_changed(50, to(55), 1);
    story.runs_moved(20, 5, 0);
    story.fires(10, 0);
    story.check(500, "5 on_time from 20, 10 on_time");
    let mut story = Story::of(&twice, 0, 60);
    story.is_changed(20, to(5), 1);
    story.is_changed(30, to(25), 1);
    story.runs_moved(20, 5, 0);
    story.check(6, "5 on_time from 20, 10 pending");
}

#[test]
fn a_backfill_is_no_instant_of_the_schedule() {
    let mut story = Story::of(&every(10), 0, 15);
    let instant = minute(5);
    let backfilled = Event::TaskScheduled {
        slot: 0,
        task: TASK,
        execution: ExecutionId(1),
        occurrence: Occurrence::Backfill { backfill: CommandId(1), instant },
        scheduled_at: instant,
        task_version: 1,
        next: FOLLOWING,
        held: false,
    };
    story.add(minute(7), backfilled);
    story.check(8, "10 pending");
}

#[test]
fn newer_zone_data_put_other_instants_in_the_place_of_those_to_come() {
    // As this program reads it, the schedule names every tenth minute; older data named 25 after 10, and newer 30.
    let mut story = Story::of(&every(10), 0, 45);
    story.fires(10, 0);
    story.is_replanned(25, Some(30), 15);
    story.fires(30, 0);
    story.check(31, "10 on_time, 30 on_time, 40 pending");
    // This program has the older data itself: what was replaced is no instant, and what came instead it cannot know.
    let mut story = Story::of(&every(10), 0, 45);
    story.fires(10, 0);
    story.is_replanned(20, Some(15), 12);
    story.fires(15, 0);
    story.check(16, "10 on_time, 15 unexpected, 30 pending, 40 pending");
    let mut story = Story::of(&every(10), 0, 45);
    story.fires(10, 0);
    story.is_replanned(20, None, 12);
    story.check(500, "10 on_time");
}

#[test]
fn a_pause_ends_when_it_is_resumed_and_not_with_what_was_to_come() {
    let once = |at| definition(Trigger::Once { at: minute(at), if_past: IfPast::Refuse });
    let mut story = Story::of(&once(10), 0, 60);
    story.pauses(5);
    let (first, last) = (minute(10), minute(10));
    story.add(minute(20), Event::TaskMissed { slot: 0, task: TASK, first, last, count: 1, next: None });
    story.changes(&once(40), 20);
    story.check(500, "10 skipped paused, 40 pending paused");
}
