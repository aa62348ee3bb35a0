//! The next instant of a schedule: the usual ones, and the worst that a search over millions of random ones found; and a
//! million tasks planned anew, as after a change of zone data.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::Schedule;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::plan::Timetable;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::trigger::{Dst, Gap, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};

use super::world::definition;

/// Tasks that are planned anew.
const TASKS: usize = 1_000_000;

fn trigger(expression: &str, timezone: &str, dst: Dst) -> Trigger {
    Trigger::Cron { expression: expression.into(), timezone: timezone.into(), dst }
}

fn cron(expression: &str, timezone: &str) -> Schedule {
    compile(&trigger(expression, timezone, Dst::default()))
}

fn compile(trigger: &Trigger) -> Schedule {
    Schedule::compile(trigger, TaskId(7), Timestamp(0)).expect("it compiles")
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let cases = [
        ("every minute, UTC", cron("* * * * *", "UTC"), "2026-11-23T12:00:00Z"),
        ("weekdays at two, Berlin", cron("0 2 * * 1-5", "Europe/Berlin"), "2026-11-23T12:00:00Z"),
        ("every 5 s, New York", cron("*/5 * * * * *", "America/New_York"), "2026-11-23T12:00:00Z"),
        ("in a fold, Berlin", cron("30 2 * * *", "Europe/Berlin"), "2026-10-25T00:15:00Z"),
        ("in a gap, Lord Howe", cron("15 2 * * *", "Australia/Lord_Howe"), "2026-10-03T12:00:00Z"),
        ("29 February, after 2096", cron("0 0 29 2 *", "UTC"), "2096-03-01T00:00:00Z"),
        ("Friday 29 February", cron("0 0 */29 2 5", "Europe/Berlin"), "2080-03-01T00:00:00Z"),
        ("last nearest weekday", cron("0 0 LW * *", "Asia/Tokyo"), "2026-11-23T12:00:00Z"),
    ];
    let mut group = criterion.benchmark_group("schedule");
    for (name, schedule, from) in cases {
        let from = Timestamp::parse(from).expect("an instant");
        assert!(schedule.next_after(from).is_some(), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| schedule.next_after(black_box(from))));
    }
    let interval = Trigger::Interval { every: Span::seconds(90), anchor: None };
    let interval = Schedule::compile(&interval, TaskId(7), Timestamp(0)).expect("it compiles");
    let from = Timestamp(1_800_000_000_123);
    group.bench_function("interval", |bencher| bencher.iter(|| interval.next_after(black_box(from))));
    group.bench_function("compile", |bencher| {
        bencher.iter(|| cron(black_box("0 2 * * 1-5"), black_box("Europe/Berlin")))
    });
    bench_never_again(&mut group);
    group.finish();
    bench_planned_anew(criterion);
}

/// The worst: half past two on the last Sunday of March was there until clocks changed in that hour, and never is again; each
/// year is looked at until all kinds of years were seen.
fn bench_never_again(group: &mut BenchmarkGroup<'_, WallTime>) {
    let dst = Dst { gap: Gap::Skip, ..Dst::default() };
    let never_again = compile(&trigger("30 2 ? 3 0L", "Europe/Rome", dst));
    let from = Timestamp::parse("2026-11-23T12:00:00Z").expect("an instant");
    assert_eq!(never_again.next_after(from), None);
    group.bench_function("never again", |bencher| {
        bencher.iter(|| never_again.next_after(black_box(from)));
    });
}

/// What is stored of each task is opened, its timetable compiled, and the next instant found.
fn bench_planned_anew(criterion: &mut Criterion) {
    let zones = ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "Africa/Casablanca", "UTC"];
    let stored: Vec<Sealed> = (0..TASKS)
        .map(|number| {
            let expression = match number % 4 {
                0 => format!("{} {} * * 1-5", number % 60, number / 60 % 24),
                1 => format!("{} * * * *", number % 60),
                2 => "*/5 * * * *".to_owned(),
                _ => format!("{} 2 {} * *", number % 60, number % 28 + 1),
            };
            let trigger = trigger(&expression, zones[number / 4 % zones.len()], Dst::default());
            Sealed::definition(&Definition { trigger, ..definition(number) })
        })
        .collect();
    let (created, after) = (Timestamp(1_790_000_000_000), Timestamp(1_795_000_000_000));
    let mut group = criterion.benchmark_group("planned anew");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function("1M tasks", |bencher| {
        bencher.iter(|| {
            let next = |(number, stored): (usize, &Sealed)| {
                let definition = stored.open_definition().expect("it was stored so");
                let timetable = Timetable::compile(&definition, TaskId(number as u128), created, Vec::new());
                timetable.expect("it compiles").next_after(after)
            };
            assert_eq!(black_box(stored.iter().enumerate().filter_map(next).count()), TASKS);
        });
    });
    group.finish();
}
