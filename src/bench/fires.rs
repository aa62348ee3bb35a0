//! `bench fires`: many tasks due at one instant; from it to the last committed fire.

use std::collections::BTreeMap;
use std::time::Duration;

use escapement_domain::identifier::TaskId;
use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};

use super::load::{Fire, Load, ahead, sleep_until};
use super::report::Report;
use super::statistics::figure;
use crate::command_line::failure::Failure;
use crate::command_line::system::{self, Stopwatch};

/// Tasks that are created first, to learn how long the others will take.
const PROBE: u64 = 2_000;
/// The instant lies at least so far ahead.
const LEAD_MIN: Duration = Duration::from_secs(5);
/// The others may take so many times as long as the probe foretells.
const LEAD_FACTOR: f64 = 2.0;
/// How often to look whether all have ended.
const POLL: Duration = Duration::from_millis(250);
/// How often to look how many are committed: this is what the rate and the percentiles are exact to.
const LOOK: Duration = Duration::from_millis(10);
/// How long all may take: so much, and a second for so many tasks.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_TASKS_PER_SECOND: u64 = 200;

/// A task that does nothing, once.
pub(super) fn once(name: &str, at: Timestamp) -> Value {
    json!({
        "name": name, "overlap": "skip",
        "trigger": { "type": "once", "at": at.to_string() },
        "action": { "type": "builtin", "operation": "noop" },
    })
}

/// Measures.
pub(super) async fn measure(load: &Load, tasks: u64, report: &mut Report) -> Result<(), Failure> {
    let far = ahead(Duration::from_secs(86_400 * 365));
    let probed = load
        .create_all("probing", PROBE.min(tasks), |number| once(&format!("bench probe {number}"), far))
        .await?;
    let lead = Duration::from_secs_f64(figure(tasks) / probed * LEAD_FACTOR) + LEAD_MIN;
    let due = ahead(lead);
    let (before, ended_before) = load.execution_counts().await?;
    let bulk_per_second =
        load.create_all("creating", tasks, |number| once(&format!("bench fire {number}"), due)).await?;
    if system::now() >= due {
        return Err(Failure::stopped(
            "the tasks were not all created before they were due; nothing was measured",
        )
        .advise("run it again; the machine was busier during the creation than during the probe"));
    }
    sleep_until(due).await;
    let seen = watch(load, before, tasks, due).await?;
    load.wait_for_ends(ended_before, tasks, patience(tasks), POLL).await?;
    let fires = load.fires(due, due, tasks).await?;
    report.tasks = Some(tasks);
    report.bulk_per_second = Some(bulk_per_second);
    (report.p50_ms, report.p99_ms) = (seen.after(50), seen.after(99));
    settle(report, &fires, tasks, due, seen.all_at);
    Ok(())
}

/// How many executions could be read when. The instant that an execution tells was stamped when its fire was proposed; only
/// what can be read has been committed.
#[derive(Debug, Default)]
struct Seen {
    of: u64,
    /// Milliseconds since the instant, and how many could be read by then.
    looks: Vec<(f64, u64)>,
    /// When all could be read.
    all_at: Option<Timestamp>,
}

impl Seen {
    /// Milliseconds after which `percent` of all could be read.
    fn after(&self, percent: u64) -> Option<f64> {
        let wanted = (self.of * percent).div_ceil(100);
        self.looks.iter().find(|(_, count)| *count >= wanted).map(|(after, _)| *after)
    }
}

/// Watches how `of` executions beyond `before` come to be readable.
async fn watch(load: &Load, before: u64, of: u64, due: Timestamp) -> Result<Seen, Failure> {
    let (waited, longest) = (Stopwatch::start(), patience(of));
    let mut seen = Seen { of, ..Seen::default() };
    while waited.elapsed() < longest {
        let count = load.execution_counts().await?.0.saturating_sub(before);
        let now = system::now();
        seen.looks.push((figure(now.since(due).0), count));
        if count >= of {
            seen.all_at = Some(now);
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(seen)
}

/// How long `tasks` fires may take.
pub(super) fn patience(tasks: u64) -> Duration {
    PATIENCE + Duration::from_secs(tasks / PATIENCE_TASKS_PER_SECOND)
}

/// Works out what came of `tasks` fires that were due from one instant on, all of which were committed at `seen` if that is
/// known.
pub(super) fn settle(
    report: &mut Report,
    fires: &[Fire],
    tasks: u64,
    first_due: Timestamp,
    seen: Option<Timestamp>,
) {
    let mut by_task: BTreeMap<TaskId, u64> = BTreeMap::new();
    let mut early = 0;
    for fire in fires {
        *by_task.entry(fire.task).or_default() += 1;
        early += u64::from(fire.fired_at < fire.scheduled_at);
    }
    let per_second = |last: Option<Timestamp>, count: usize| {
        let millis = last?.since(first_due).0.max(1);
        Some(figure(count as u64) * 1_000.0 / figure(millis))
    };
    let last_fire = fires.iter().map(|fire| fire.fired_at).max().max(seen);
    let ends: Vec<Timestamp> = fires.iter().filter_map(|fire| fire.finished_at).collect();
    report.seconds = last_fire.map_or(0.0, |last| figure(last.since(first_due).0) / 1_000.0);
    report.per_second = per_second(last_fire, fires.len());
    report.completed_per_second = per_second(ends.iter().copied().max(), ends.len());
    report.lost = Some(tasks.saturating_sub(by_task.len() as u64));
    report.doubled = Some(by_task.values().map(|count| count - 1).sum());
    report.early = Some(early);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fire(task: u128, scheduled_at: i64, fired_at: i64) -> Fire {
        Fire {
            task: TaskId(task),
            scheduled_at: Timestamp(scheduled_at),
            fired_at: Timestamp(fired_at),
            begun_at: None,
            finished_at: Some(Timestamp(fired_at + 100)),
        }
    }

    #[test]
    fn the_rate_is_that_of_what_could_be_read() {
        let mut report = Report::default();
        let fires: Vec<Fire> = (0..1_000)
            .map(|task| fire(task, 1_000, 1_000 + i64::try_from(task / 2).expect("small")))
            .collect();
        settle(&mut report, &fires, 1_000, Timestamp(1_000), Some(Timestamp(2_000)));
        assert_eq!((report.lost, report.doubled, report.early), (Some(0), Some(0), Some(0)));
        assert_eq!(report.per_second.map(f64::round), Some(1_000.0));
        assert!(report.completed_per_second > report.per_second);
    }

    #[test]
    fn what_is_missing_twice_there_or_early_is_counted() {
        let mut report = Report::default();
        settle(
            &mut report,
            &[fire(1, 1_000, 1_001), fire(1, 1_000, 1_002), fire(2, 1_000, 999)],
            4,
            Timestamp(1_000),
            None,
        );
        assert_eq!((report.lost, report.doubled, report.early), (Some(2), Some(1), Some(1)));
    }

    #[test]
    fn no_fire_at_all_is_all_lost() {
        let mut report = Report::default();
        settle(&mut report, &[], 4, Timestamp(1_000), None);
        assert_eq!((report.lost, report.per_second), (Some(4), None));
    }

    #[test]
    fn a_percentile_is_when_so_many_could_be_read() {
        let looks = vec![(3.0, 0), (14.0, 499), (25.0, 500), (36.0, 989), (47.0, 1_000)];
        let seen = Seen { of: 1_000, looks, all_at: None };
        assert_eq!((seen.after(50), seen.after(99)), (Some(25.0), Some(47.0)));
        assert_eq!(Seen { of: 4, ..Seen::default() }.after(50), None);
    }
}
