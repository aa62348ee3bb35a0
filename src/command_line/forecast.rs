//! `schedule forecast`: the fires to come as a node counts them, by their peaks and by the hour.
//!
//! Absent on purpose: counting, which is the node's.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use escapement_domain::timestamp::{Span, Timestamp};
use serde_json::Value;

use super::client::{Client, Request};
use super::failure::Failure;
use super::screen::{Screen, field, instant, note};
use super::table::Table;
use super::zone::Zone;
use crate::service::validation::parse_span;

/// Steps that are listed as peaks.
const PEAKS: usize = 10;
/// Letters of the longest bar.
const BAR: u64 = 40;
/// A million tasks take some seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) const EXAMPLES: &str = "\
Examples:
  escapement schedule forecast                         the next 24 hours, by the minute
  escapement schedule forecast --horizon 7d --step 1h
  escapement schedule forecast --all                   of every tenant: takes cluster-admin
  escapement schedule forecast --output json | jq .peak

Counts the instants of active tasks, with their jitter, within start_at, end_at and max_runs. Herds can be thinned out with \
`H` in an expression, with `jitter`, or with an interval's `anchor`.";

/// What to forecast.
#[derive(Debug, Args)]
pub(super) struct ForecastOptions {
    /// How far to look: up to 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_span)]
    horizon: Span,
    /// How long each step is
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_span)]
    step: Span,
    /// Of every tenant, and in all
    #[arg(long)]
    all: bool,
}

impl ForecastOptions {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let request = Request::get(["api", "schedules", "forecast"])
            .query("horizon", Some(self.horizon))
            .query("step", Some(self.step))
            .query("all", self.all.then_some(true))
            .timeout(ANSWER_TIMEOUT);
        let answer = client.ask(&request).await?;
        if answer.json()?["complete"] == false {
            note(
                "some tasks are left out: together they have too many instants; a shorter --horizon takes in more",
            );
        }
        screen.answer(&answer, |load, zone| show(load, self.step, zone))
    }
}

/// Puts a forecast for people.
fn show(load: &Value, step: Span, zone: Zone) -> String {
    let mut told = format!("{} fires of {} tasks", field(load, "/total"), field(load, "/tasks"));
    if load["complete"] == false {
        told.push_str(&format!(" ({} left out)", field(load, "/left_out")));
    }
    told.push_str(&format!(", by {step}\n"));
    let steps = steps(load, step);
    if steps.iter().all(|(_, fires)| *fires == 0) {
        return told;
    }
    told.push_str(&format!("\n{}", peaks(&steps, zone)));
    if let Some(tenants) = load["tenants"].as_array().filter(|tenants| tenants.len() > 1) {
        told.push_str(&format!("\n{}", by_tenant(tenants, zone)));
    }
    told.push_str(&format!("\n{}", by_hour(&steps, zone)));
    told
}

/// The steps with their fires.
fn steps(load: &Value, step: Span) -> Vec<(Timestamp, u64)> {
    let (Some(from), Some(counts)) = (instant(load, "/from"), load["counts"].as_array()) else {
        return Vec::new();
    };
    let begins = std::iter::successors(Some(from), |begin| Some(begin.plus(step)));
    begins.zip(counts.iter().map(|count| count.as_u64().unwrap_or(0))).collect()
}

fn peaks(steps: &[(Timestamp, u64)], zone: Zone) -> Table {
    let mut highest: Vec<&(Timestamp, u64)> = steps.iter().filter(|(_, fires)| *fires > 0).collect();
    highest.sort_by_key(|(begin, fires)| (std::cmp::Reverse(*fires), *begin));
    let mut table = Table::new([&format!("PEAK ({})", zone.name()), ">FIRES"]);
    for (begin, fires) in highest.into_iter().take(PEAKS) {
        table.row([zone.show(*begin), fires.to_string()]);
    }
    table
}

fn by_tenant(tenants: &[Value], zone: Zone) -> Table {
    let mut table = Table::new(["TENANT", ">FIRES", &format!("PEAK ({})", zone.name()), ">FIRES THEN"]);
    for tenant in tenants {
        let at = super::screen::when(tenant, "/peak/at", zone);
        table.row([field(tenant, "/tenant"), field(tenant, "/total"), at, field(tenant, "/peak/fires")]);
    }
    table
}

fn by_hour(steps: &[(Timestamp, u64)], zone: Zone) -> Table {
    let mut hours = BTreeMap::<Timestamp, u64>::new();
    for (begin, fires) in steps {
        let past = begin.0.rem_euclid(3_600_000);
        *hours.entry(Timestamp(begin.0 - past)).or_default() += fires;
    }
    let most = hours.values().copied().max().unwrap_or(0).max(1);
    let mut table = Table::new([&format!("HOUR ({})", zone.name()), ">FIRES", ""]);
    for (hour, fires) in hours {
        // What there is at all is seen.
        let letters = (fires * BAR).div_ceil(most);
        table.row([zone.show(hour), fires.to_string(), "#".repeat(usize::try_from(letters).unwrap_or(0))]);
    }
    table
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use serde_json::json;

    use super::*;

    fn load(counts: &[u64]) -> Value {
        json!({ "from": "2026-03-01T12:30:00.000Z", "total": counts.iter().sum::<u64>(), "tasks": 3, "left_out": 0,
                "complete": true, "counts": counts, "tenants": [{ "tenant": "acme", "total": 1, "peak": null }] })
    }

    #[test]
    fn the_highest_steps_come_first_and_hours_are_drawn() {
        let mut counts = vec![0; 60];
        (counts[0], counts[29], counts[30]) = (1, 80, 20);
        let expected = "\
101 fires of 3 tasks, by 1m

PEAK (UTC)           FIRES
2026-03-01 12:59:00     80
2026-03-01 13:00:00     20
2026-03-01 12:30:00      1

HOUR (UTC)           FIRES
2026-03-01 12:00:00     81  ########################################
2026-03-01 13:00:00     20  ##########
";
        assert_eq!(show(&load(&counts), Span::minutes(1), Zone(Tz::UTC)), expected);
    }

    #[test]
    fn at_most_ten_peaks_are_told_and_nothing_of_nothing() {
        let shown = show(&load(&[1; 60]), Span::minutes(1), Zone(Tz::UTC));
        assert_eq!(shown.matches(":00      1\n").count(), PEAKS, "{shown}");
        let mut nothing = load(&[0; 60]);
        (nothing["complete"], nothing["left_out"]) = (false.into(), 2.into());
        let told = show(&nothing, Span::minutes(1), Zone(Tz::UTC));
        assert_eq!(told, "0 fires of 3 tasks (2 left out), by 1m\n");
    }

    #[test]
    fn tenants_are_told_apart_where_there_are_several() {
        let mut load = load(&[5]);
        let peak = json!({ "at": "2026-03-01T12:30:00.000Z", "fires": 4 });
        load["tenants"] = json!([{ "tenant": "acme", "total": 4, "peak": peak }, { "tenant": "other", "total": 1,
                                   "peak": { "at": "2026-03-01T12:30:00.000Z", "fires": 1 } }]);
        let shown = show(&load, Span::minutes(1), Zone(Tz::Europe__Berlin));
        assert!(shown.contains("acme        4  2026-03-01 13:30:00            4\n"), "{shown}");
    }
}
