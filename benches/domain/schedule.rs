//! The next instant of a schedule: the usual ones, and the worst that is known.

use std::hint::black_box;

use criterion::Criterion;
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::Schedule;
use escapement_domain::task::trigger::{Dst, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};

fn cron(expression: &str, timezone: &str) -> Schedule {
    let trigger =
        Trigger::Cron { expression: expression.into(), timezone: timezone.into(), dst: Dst::default() };
    Schedule::compile(&trigger, TaskId(7), Timestamp(0)).expect("it compiles")
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
    group.finish();
}
