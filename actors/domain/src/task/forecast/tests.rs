//! A forecast against the tasks one by one, and what it does when there is too much to look at.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::identifier::TenantId;
use crate::schedule::calendar::CalendarMode;
use crate::task::action::{Action, Operation};
use crate::task::definition::Definition;
use crate::task::rules::Rules;
use crate::task::sealed::Sealed;
use crate::task::state::{Override, Stream};
use crate::task::trigger::{Dst, IfPast, Trigger};

/// 2026-03-28T12:34:56.789Z: in the night after it clocks change in Europe.
const NOW: Timestamp = Timestamp(1_774_701_296_789);
const CREATED: Timestamp = Timestamp(1_774_000_000_123);
const DAY: Span = Span::hours(24);

fn definition(trigger: Trigger) -> Definition {
    let action = Action::Builtin { operation: Operation::Noop, parameters: None };
    Definition::new("some", trigger, action)
}

fn cron(expression: &str, timezone: &str) -> Definition {
    let (expression, timezone) = (expression.into(), timezone.into());
    definition(Trigger::Cron { expression, timezone, dst: Dst::default() })
}

fn every(every: Span, anchor: Option<Timestamp>) -> Definition {
    definition(Trigger::Interval { every, anchor })
}

/// A task that settled everything up to `settled`.
fn task(number: u128, definition: &Definition, settled: Timestamp) -> Task {
    let id = TaskId(number);
    let timetable = Timetable::compile(definition, id, CREATED, named(definition)).expect("it compiles");
    Task {
        id,
        slot: 0,
        tenant: TenantId(1),
        owner: "ann".into(),
        version: 1,
        revision: 1,
        paused: None,
        failures: 0,
        settled,
        next: timetable.next_after(settled),
        runs: 0,
        created_at: CREATED,
        updated_at: CREATED,
        rules: Rules::of(definition).into(),
        definition: Sealed::definition(definition),
        open: Vec::new(),
        overrides: BTreeMap::new(),
        last_execution: None,
        stream: Stream::default(),
    }
}

/// The calendars that a definition names: all of them forbid week-ends.
fn named(definition: &Definition) -> Vec<Arc<Calendar>> {
    let weekends = Calendar {
        description: String::new(),
        mode: CalendarMode::Exclude,
        timezone: None,
        days: Vec::new(),
        windows: vec!["Sat 00:00-Mon 00:00".parse().expect("a window")],
    };
    definition.calendars.iter().map(|_| Arc::new(weekends.clone())).collect()
}

fn forecast(tasks: &[(Task, Definition)], steps: Steps, instants_max: u64) -> Forecast {
    let mut forecast = Forecast::new(NOW, steps, instants_max);
    for (task, definition) in tasks {
        forecast.add(task, named(definition)).expect("it compiles");
    }
    while forecast.count_some() {}
    forecast
}

/// The same, task by task and instant by instant.
fn plainly(tasks: &[(Task, Definition)], steps: Steps) -> Vec<u64> {
    let mut counts = vec![0; steps.count];
    for (task, definition) in tasks {
        let timetable =
            Timetable::compile(definition, task.id, CREATED, named(definition)).expect("it compiles");
        let instants = std::iter::successors(task.next, |instant| timetable.next_after(*instant));
        let allowed = instants.filter(|instant| timetable.forbidden_by(*instant).is_none());
        let counted = allowed
            .filter(|instant| *instant >= NOW.minus(definition.jitter))
            .filter(|instant| !task.overrides.contains_key(instant))
            .take_while(|instant| *instant < steps.end())
            .map(|instant| (instant, jitter_of(task.id, instant, definition.jitter)));
        let moved = task.moved().map(|(to, _)| (to, Span::ZERO));
        let mut fires: Vec<_> = counted.chain(moved.filter(|(to, _)| *to >= NOW)).collect();
        fires.sort_by_key(|(instant, _)| *instant);
        for (instant, jitter) in fires.into_iter().take(definition.max_runs.unwrap_or(u32::MAX) as usize) {
            let fire = instant.plus(jitter);
            if (NOW..steps.end()).contains(&fire) {
                counts[(fire.since(steps.from).0 / steps.step.0) as usize] += 1;
            }
        }
    }
    counts
}

fn tasks(definitions: Vec<Definition>, settled: Timestamp) -> Vec<(Task, Definition)> {
    let number =
        |(number, definition): (u128, Definition)| (task(number << 64, &definition, settled), definition);
    (0..).zip(definitions).map(number).collect()
}

/// One of the instants of a task that come next is skipped, or moved to so many milliseconds from now.
fn change(tasks: &mut [(Task, Definition)], index: usize, place: usize, to: Option<i64>) {
    let Some((task, definition)) = tasks.get_mut(index) else { return };
    let timetable = Timetable::compile(definition, task.id, CREATED, Vec::new()).expect("it compiles");
    let change = to.map_or(Override::Skip, |later| Override::Move {
        to: Timestamp(NOW.0 + later),
        done: later < -10_000,
    });
    let mut instants = std::iter::successors(task.next, |instant| timetable.next_after(*instant));
    if let Some(at) = instants.nth(place) {
        task.overrides.insert(at, change);
    }
}

fn any_definition() -> impl Strategy<Value = Definition> {
    let expressions = prop::sample::select(
        &["* * * * *", "*/15 * * * *", "30 2 * * *", "H * * * *", "0 0 * * *", "7 */6 29 * *", "@every 90s"]
            [..],
    );
    let zones = prop::sample::select(&["UTC", "Europe/Berlin", "Asia/Beirut", "America/Havana"][..]);
    let crons = (expressions, zones).prop_map(|(expression, zone)| cron(expression, zone));
    let lengths =
        prop::sample::select(&[7_000, 59_000, 60_000, 90_000, 300_000, 3_600_001, 100_000_000_u64][..]);
    let anchor = prop::option::of(0..4_000_000_000_000_i64);
    let intervals = (lengths, anchor).prop_map(|(length, anchor)| every(Span(length), anchor.map(Timestamp)));
    let once = (-100_000_000..100_000_000_i64).prop_map(|later| {
        definition(Trigger::Once { at: Timestamp(NOW.0 + later), if_past: IfPast::Refuse })
    });
    let bound =
        || prop::option::weighted(0.2, (-100_000_000..100_000_000_i64).prop_map(|by| Timestamp(NOW.0 + by)));
    let jitter = prop_oneof![4 => Just(0_u64), 1 => 1..7_200_000_u64];
    let runs = prop::option::weighted(0.2, 1..40_u32);
    (prop_oneof![crons, intervals, once], bound(), bound(), runs, jitter).prop_map(
        |(definition, start_at, end_at, max_runs, jitter)| Definition {
            start_at,
            end_at,
            max_runs,
            jitter: Span(jitter),
            ..definition
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_forecast_is_the_sum_of_its_tasks(
        definitions in prop::collection::vec(any_definition(), 0..30),
        changes in prop::collection::vec(
            (0..30_usize, 0..6_usize, prop::option::of(-20_000..50_000_000_i64)), 0..20),
        settled in prop_oneof![Just(NOW.0), NOW.0 - 10_000_000..NOW.0],
        step in prop::sample::select(&[60_000, 90_000, 300_000, 3_600_000, 7_777_777_u64][..]),
        horizon in 1..100_000_000_u64,
        few in 0..2_000_u64,
    ) {
        let steps = Steps::from_now(NOW, Span(horizon), Span(step));
        let mut tasks = tasks(definitions, Timestamp(settled));
        changes.into_iter().for_each(|(index, place, to)| change(&mut tasks, index, place, to));
        let found = forecast(&tasks, steps, u64::MAX);
        prop_assert_eq!(found.counts(), plainly(&tasks, steps));
        prop_assert_eq!((found.tasks(), found.left_out()), (tasks.len() as u64, 0));
        let cut = forecast(&tasks, steps, few);
        prop_assert_eq!(cut.tasks() + cut.left_out(), tasks.len() as u64);
        prop_assert!(cut.counts().iter().zip(found.counts()).all(|(cut, whole)| cut <= whole));
    }
}

#[test]
fn steps_begin_on_whole_ones_and_cover_the_horizon() {
    let steps = Steps::from_now(NOW, DAY, Span::minutes(1));
    assert_eq!((steps.from.to_string().as_str(), steps.count), ("2026-03-28T12:34:00.000Z", 1_440));
    assert_eq!(steps.end(), steps.from.plus(DAY));
    assert_eq!(Steps::from_now(NOW, Span::minutes(61), Span::hours(1)).count, 2);
}

#[test]
fn the_peak_is_the_first_of_the_highest_steps() {
    let steps = Steps::from_now(NOW, Span::minutes(4), Span::minutes(1));
    assert_eq!(Peak::of(&steps, &[0, 3, 1, 3]), Some(Peak { at: steps.begin(1), fires: 3 }));
    assert_eq!(Peak::of(&steps, &[0; 4]), None);
}

#[test]
fn a_herd_costs_as_much_as_one_of_it() {
    let steps = Steps::from_now(NOW, DAY, Span::minutes(1));
    let mut definitions = vec![cron("*/5 * * * *", "Europe/Berlin"); 500];
    definitions.push(cron("@hourly", "UTC"));
    definitions.extend((0..500).map(|anchor| every(Span::minutes(5), Some(Timestamp(anchor * 97)))));
    let tasks = tasks(definitions, NOW);
    // 288 instants of crons, 24 of the hourly one, 288 for the intervals: all of them lie in one minute.
    let found = forecast(&tasks, steps, 600);
    assert_eq!((found.tasks(), found.left_out(), found.instants_left()), (1_001, 0, 0));
    assert_eq!(found.counts(), plainly(&tasks, steps));
}

#[test]
fn what_is_too_much_is_left_out_whole_and_the_herd_is_seen() {
    let steps = Steps::from_now(NOW, DAY, Span::minutes(1));
    let mut definitions = vec![cron("* * * * *", "UTC"), cron("*/2 * * * *", "UTC")];
    definitions.extend(vec![cron("0 3 * * *", "UTC"); 1_000]);
    let found = forecast(&tasks(definitions, NOW), steps, 1_000);
    assert_eq!((found.tasks(), found.left_out()), (1_000, 2), "what is smaller than the herd comes too late");
    let peak = Peak::of(&steps, found.counts()).expect("a peak");
    assert_eq!((peak.at.to_string().as_str(), peak.fires), ("2026-03-29T03:00:00.000Z", 1_000));
    assert_eq!(found.counts().iter().sum::<u64>(), 1_000);
}

#[test]
fn what_a_calendar_forbids_is_not_counted() {
    let narrowed = |definition: Definition| Definition { calendars: vec!["weekends".into()], ..definition };
    let definitions = vec![
        narrowed(cron("0 * * * *", "Europe/Berlin")),
        narrowed(every(Span::minutes(90), None)),
        every(Span::minutes(90), None),
    ];
    let tasks = tasks(definitions, NOW);
    let steps = Steps::from_now(NOW, Span::hours(24 * 7), Span::hours(1));
    assert_eq!(forecast(&tasks, steps, u64::MAX).counts(), plainly(&tasks, steps));
}

#[test]
fn what_somebody_skipped_is_not_counted_and_what_somebody_moved_is_counted_where_it_runs() {
    let mut tasks = tasks(vec![cron("0 * * * *", "UTC"), definition(once_in(DAY))], NOW);
    let hour = |hour: u64| NOW.minus(Span(NOW.0.unsigned_abs() % 3_600_000)).plus(Span::hours(hour));
    let to = hour(1).plus(Span::minutes(30));
    tasks[0].0.overrides = [(hour(2), Override::Skip), (hour(3), Override::Move { to, done: false })].into();
    let to = hour(4);
    tasks[1].0.overrides = [(NOW.plus(DAY), Override::Move { to, done: false })].into();
    let steps = Steps::from_now(NOW, Span::hours(5), Span::hours(1));
    assert_eq!(forecast(&tasks, steps, u64::MAX).counts(), [0, 2, 0, 0, 2]);
}

fn once_in(later: Span) -> Trigger {
    Trigger::Once { at: NOW.plus(later), if_past: IfPast::Refuse }
}
