//! What became of instants, told from made-up logs. Minutes are counted from the creation of the task.

use escapement_domain::event::{Event, PauseCause, SkipReason};
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::{CommandId, ExecutionId, TaskId, TenantId};
use escapement_domain::record::{Hash, Record, RecordHeader};
use escapement_domain::task::action::{Action, Operation};
use escapement_domain::task::definition::Definition;
use escapement_domain::task::rules::Rules;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::trigger::{Dst, IfPast, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};

use super::*;

mod narrowed;

const TASK: TaskId = TaskId(7);
/// 2026-03-01T12:00:00Z.
const START: i64 = 1_772_366_400_000;
/// Says in an event that the task goes on; what it says besides is not believed.
const FOLLOWING: Option<Timestamp> = Some(Timestamp::MAX);

fn minute(minute: i64) -> Timestamp {
    Timestamp(START + minute * 60_000)
}

fn definition(trigger: Trigger) -> Definition {
    let action = Action::Builtin { operation: Operation::Noop, parameters: None };
    Definition::new("n", trigger, action)
}

fn every(minutes: u64) -> Definition {
    definition(Trigger::Interval { every: Span::minutes(minutes), anchor: None })
}

/// A log that is written event by event.
struct Story {
    ledger: Ledger,
    sequence: u64,
}

impl Story {
    /// The task is created at minute 0; minutes `from` to `to` are asked about.
    fn of(definition: &Definition, from: i64, to: i64) -> Self {
        let range = Range { from: minute(from), to: minute(to) };
        let mut story = Self { ledger: Ledger::new(range, None, 100), sequence: 0 };
        let created = Event::TaskCreated {
            slot: 0,
            task: TASK,
            owner: "ann".into(),
            rules: Box::new(Rules::of(definition)),
            definition: Sealed::definition(definition),
            created_at: minute(0),
            next: None,
            paused: false,
        };
        story.add(minute(0), created);
        story
    }

    fn add(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        let header = RecordHeader {
            ahead_ms: 0,
            tenant: TenantId(1),
            sequence: self.sequence,
            log_index: 10 * self.sequence,
            ordinal: 0,
            at,
            actor: "".into(),
            correlation_id: "".into(),
            command: None,
            stream: None,
        };
        self.ledger.take(&Record::chain(header, event, Hash::default())).expect("taken");
    }

    fn fires(&mut self, instant: i64, late_ms: i64) {
        self.fires_as(instant, late_ms, false);
    }

    fn fires_as(&mut self, instant: i64, late_ms: i64, held: bool) {
        let event = Event::TaskScheduled {
            slot: 0,
            task: TASK,
            execution: ExecutionId(instant.unsigned_abs().into()),
            occurrence: Occurrence::Scheduled(minute(instant)),
            scheduled_at: minute(instant),
            task_version: 1,
            next: FOLLOWING,
            held,
        };
        self.add(Timestamp(minute(instant).0 + late_ms), event);
    }

    fn misses(&mut self, first: i64, last: i64, at: i64) {
        let (first, last) = (minute(first), minute(last));
        self.add(
            minute(at),
            Event::TaskMissed { slot: 0, task: TASK, first, last, count: 1, next: FOLLOWING },
        );
    }

    fn changes(&mut self, definition: &Definition, at: i64) {
        let (rules, definition) = (Box::new(Rules::of(definition)), Sealed::definition(definition));
        let next = FOLLOWING;
        self.add(minute(at), Event::TaskUpdated { slot: 0, task: TASK, version: 2, rules, definition, next });
    }

    fn pauses(&mut self, at: i64) {
        self.add(minute(at), Event::TaskPaused { slot: 0, task: TASK, cause: PauseCause::Requested });
    }

    fn resumes(&mut self, at: i64) {
        self.add(minute(at), Event::TaskResumed { slot: 0, task: TASK });
    }

    fn skips(&mut self, occurrence: Occurrence, scheduled_at: i64, reason: SkipReason) {
        let skipped = Event::TaskSkipped {
            slot: 0,
            task: TASK,
            execution: ExecutionId(scheduled_at.unsigned_abs().into()),
            occurrence,
            scheduled_at: minute(scheduled_at),
            task_version: 1,
            next: FOLLOWING,
            reason,
        };
        self.add(minute(scheduled_at), skipped);
    }

    fn is_deleted(&mut self, at: i64) {
        self.add(minute(at), Event::TaskDeleted { slot: 0, task: TASK });
    }

    /// Demands an account: `minute status`, `minute status reason`, and ` from minute` of what was moved there, separated by commas.
    #[track_caller]
    fn check(self, as_of: i64, expected: &str) -> Vec<Fire> {
        let fires = self.ledger.close(minute(as_of)).expect("few");
        let told: Vec<String> = fires
            .iter()
            .map(|fire| {
                let reason =
                    fire.reason.as_ref().map_or_else(String::new, |reason| format!(" {}", reason.name()));
                let from = fire
                    .moved_from
                    .map_or_else(String::new, |from| format!(" from {}", (from.0 - START) / 60_000));
                format!("{} {}{reason}{from}", (fire.at.0 - START) / 60_000, fire.status.name())
            })
            .collect();
        assert_eq!(told.join(", "), expected);
        fires
    }
}

#[test]
fn fires_are_on_time_late_or_made_good() {
    let mut story = Story::of(&every(10), 0, 60);
    story.fires(10, 0);
    story.fires(20, 1_000);
    story.fires(30, 1_001);
    story.fires(40, 61_000);
    let fires = story.check(45, "10 on_time, 20 on_time, 30 late, 40 late made_good, 50 pending");
    assert_eq!(fires[3].lateness(), Some(Span(61_000)));
    let settled = fires[0].settled.expect("fired");
    assert_eq!((settled.log_index, settled.execution), (20, Some(ExecutionId(10))));
    assert_eq!(Totals::of(&fires).count(FireStatus::OnTime), 2);
}

#[test]
fn what_the_log_leaves_out_is_missed_once_its_grace_is_over() {
    let mut story = Story::of(&every(10), 0, 40);
    story.fires(10, 0);
    story.fires(30, 0);
    story.check(31, "10 on_time, 20 missed unsettled, 30 on_time");
    Story::of(&every(10), 0, 20).check(11, "10 pending");
}

#[test]
fn overlap_delays_and_skips() {
    let mut story = Story::of(&every(10), 0, 30);
    story.fires_as(10, 0, true);
    story.skips(Occurrence::Scheduled(minute(20)), 20, SkipReason::Overlap);
    story.check(30, "10 delayed_by_overlap, 20 skipped overlap");
}

#[test]
fn a_run_of_misses_is_told_instant_by_instant_within_the_range() {
    let mut story = Story::of(&every(10), 15, 50);
    story.misses(10, 40, 100);
    story.check(100, "20 missed passed_over, 30 missed passed_over, 40 missed passed_over");
}

#[test]
fn a_pause_is_a_reason_and_no_miss() {
    let mut story = Story::of(&every(10), 0, 60);
    story.fires(10, 0);
    story.pauses(15);
    story.resumes(45);
    story.misses(20, 30, 45);
    story.fires(40, 300_000);
    story.fires(50, 0);
    story.check(51, "10 on_time, 20 skipped paused, 30 skipped paused, 40 late paused, 50 on_time");
    let mut story = Story::of(&every(10), 0, 40);
    story.pauses(15);
    story.fires(10, 0);
    story.check(500, "10 on_time, 20 pending paused, 30 pending paused");
}

#[test]
fn each_definition_answers_for_its_own_time() {
    let mut story = Story::of(&every(10), 0, 40);
    story.fires(10, 0);
    story.changes(&every(15), 12);
    story.fires(15, 0);
    story.check(20, "10 on_time, 15 on_time, 30 pending");
}

#[test]
fn a_deleted_task_owes_nothing_more() {
    let mut story = Story::of(&every(10), 0, 60);
    story.fires(10, 0);
    story.is_deleted(19);
    story.check(500, "10 on_time");
    // A deletion settles first what has come.
    let mut story = Story::of(&every(10), 0, 60);
    story.is_deleted(25);
    story.check(25, "10 missed unsettled, 20 missed unsettled");
}

#[test]
fn a_task_that_may_run_twice_owes_two_runs() {
    let mut twice = every(10);
    twice.max_runs = Some(2);
    let mut story = Story::of(&twice, 0, 60);
    story.fires(10, 0);
    story.check(11, "10 on_time, 20 pending");
    let mut story = Story::of(&twice, 0, 60);
    story.fires(10, 0);
    story.fires(20, 0);
    story.check(500, "10 on_time, 20 on_time");
    let mut story = Story::of(&twice, 30, 60);
    story.fires(10, 0);
    story.fires(20, 0);
    story.changes(&twice, 30);
    story.check(500, "");
}

#[test]
fn a_start_and_an_end_bound_the_instants() {
    let mut bounded = every(10);
    (bounded.start_at, bounded.end_at) = (Some(minute(20)), Some(minute(30)));
    Story::of(&bounded, 0, 60).check(20, "20 pending, 30 pending");
}

#[test]
fn a_jitter_moves_what_is_due_and_not_the_instant() {
    let mut jittered = every(10);
    jittered.jitter = Span::minutes(5);
    let due = escapement_domain::schedule::jitter_of(TASK, minute(10), Span::minutes(5));
    assert!(due > Span::seconds(2), "{due}");
    let mut story = Story::of(&jittered, 0, 20);
    story.fires(10, i64::try_from(due.0).expect("small"));
    story.check(20, "10 on_time");
    // One that had to wait for the jitter of the one before is late, and within its grace from the end of its own.
    let mut story = Story::of(&jittered, 0, 30);
    story.fires(10, 300_000);
    story.fires(20, 360_001);
    story.check(25, "10 late, 20 late made_good");
    Story::of(&jittered, 0, 20).check(16, "10 pending");
    Story::of(&jittered, 0, 20).check(17, "10 missed unsettled");
    // A change settles what has come, its jitter over or not.
    let mut story = Story::of(&jittered, 0, 20);
    story.changes(&definition(Trigger::Manual), 10);
    story.check(10, "10 missed unsettled");
}

#[test]
fn an_instant_that_was_past_from_the_start_is_owed_if_it_is_to_run() {
    let trigger = Trigger::Once { at: minute(-5), if_past: IfPast::Run };
    let range = Range { from: minute(-10), to: minute(10) };
    let mut story = Story { ledger: Ledger::new(range, None, 100), sequence: 0 };
    let once = definition(trigger);
    let created = Event::TaskCreated {
        slot: 0,
        task: TASK,
        owner: "ann".into(),
        rules: Box::new(Rules::of(&once)),
        definition: Sealed::definition(&once),
        created_at: minute(0),
        next: Some(minute(-5)),
        paused: false,
    };
    story.add(minute(0), created);
    story.fires(-5, 300_000);
    story.check(1, "-5 on_time");
}

#[test]
fn a_fire_that_no_definition_named_is_unexpected_and_a_run_by_hand_is_none() {
    let mut story = Story::of(&every(10), 0, 20);
    story.fires(10, 0);
    story.fires(13, 0);
    let by_hand = Event::TaskScheduled {
        slot: 0,
        task: TASK,
        execution: ExecutionId(1),
        occurrence: Occurrence::Manual(CommandId(1)),
        scheduled_at: minute(14),
        task_version: 1,
        next: None,
        held: false,
    };
    story.add(minute(14), by_hand);
    story.check(15, "10 on_time, 13 unexpected");
}

#[test]
fn a_night_without_half_past_two_owes_one_fire() {
    let (expression, timezone) = ("30 2 * * *".into(), "Europe/Berlin".into());
    let trigger = Trigger::Cron { expression, timezone, dst: Dst::default() };
    let day = 24 * 60;
    // From noon UTC on 28 March 2026: 13 hours later the clocks in Berlin go from 02:00 to 03:00.
    let mut story = Story::of(&definition(trigger), 27 * day, 28 * day);
    story.fires(27 * day + 780, 0);
    story.check(30 * day, &format!("{} on_time", 27 * day + 780));
}

#[test]
fn too_many_instants_are_refused() {
    let story = Story::of(&every(10), 0, 10_000);
    let refused = story.ledger.close(minute(0)).expect_err("too many");
    assert_eq!(refused, Unaccountable::TooMany { most: 100 });
}
