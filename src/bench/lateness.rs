//! `bench lateness`: fires at a steady rate, and how late each was: until its first attempt began, which is not before the fire
//! was committed.

use std::time::Duration;

use escapement_domain::timestamp::Timestamp;

use super::fires::{once, patience, settle};
use super::load::{Fire, Load, ahead, creation, sleep_until};
use super::report::Report;
use super::statistics::{Samples, figure};
use crate::command_line::failure::Failure;
use crate::command_line::system;

/// How often to look whether all have fired.
const POLL: Duration = Duration::from_millis(500);

/// Measures.
pub(super) async fn measure(
    load: &Load,
    rate: u64,
    seconds: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let tasks = rate.saturating_mul(seconds);
    if tasks > super::TASKS_MAX {
        return Err(Failure::Usage(format!(
            "--rate times --seconds is more than {} tasks",
            super::TASKS_MAX
        )));
    }
    let first = ahead(creation(tasks));
    let (_, ended_before) = load.execution_counts().await?;
    let definition = |number| once(&format!("bench lateness {number}"), due(first, number, rate));
    report.bulk_per_second = Some(load.create_all("creating", tasks, definition).await?);
    if system::now() >= first {
        return Err(Failure::stopped(
            "the tasks were not all created before the first was due; nothing was measured",
        )
        .advise("use a lower --rate or fewer --seconds"));
    }
    let last = due(first, tasks - 1, rate);
    sleep_until(last).await;
    load.wait_for_ends(ended_before, tasks, patience(tasks), POLL).await?;
    let fires = load.fires(first, last, tasks).await?;
    (report.tasks, report.rate) = (Some(tasks), Some(rate));
    let mut lateness = Samples::default();
    fires.iter().filter_map(late_by).for_each(|late| lateness.add(late));
    (report.p50_ms, report.p99_ms) = lateness.p50_p99().unzip();
    settle(report, &fires, tasks, first, fires.iter().filter_map(|fire| fire.begun_at).max());
    report.seconds = figure(seconds);
    Ok(())
}

/// Milliseconds from the instant until the first attempt began. The instant that the leader stamped lies before the commit.
fn late_by(fire: &Fire) -> Option<f64> {
    Some(figure(fire.begun_at?.max(fire.fired_at).since(fire.scheduled_at).0))
}

/// The instant of a task, `rate` of them a second.
fn due(first: Timestamp, number: u64, rate: u64) -> Timestamp {
    Timestamp(first.0 + i64::try_from(u128::from(number) * 1_000 / u128::from(rate)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fire_is_late_until_its_attempt_begins() {
        let at = |begun_at| Fire {
            task: escapement_domain::identifier::TaskId(1),
            scheduled_at: Timestamp(1_000),
            fired_at: Timestamp(1_001),
            begun_at,
            finished_at: None,
        };
        assert_eq!(late_by(&at(Some(Timestamp(1_007)))), Some(7.0));
        assert_eq!(late_by(&at(None)), None, "what never began was not measured");
    }

    #[test]
    fn fires_are_spread_evenly() {
        let first = Timestamp(1_000);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|number| due(first, number, 3).0),
            [1_000, 1_333, 1_666, 2_000, 2_333]
        );
        assert_eq!(due(first, 3_999, 2_000).0, 2_999);
    }
}
