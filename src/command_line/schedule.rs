//! `schedule`: what a cron expression means, tried out without a node.
//!
//! Absent on purpose: evaluation, which is the domain's; this only asks it and shows where a zone's clocks change.

use std::path::PathBuf;

use chrono_tz::Tz;
use clap::{Args, Subcommand};
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::{Schedule, ScheduleError, describe};
use escapement_domain::task::trigger::{Dst, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};
use serde_json::json;

use super::connection::Output;
use super::failure::Failure;
use super::screen::Screen;
use super::table::Table;
use super::zone::Zone;
use super::{parse_instant, system, vectors};

/// Instants that one preview shows at most.
const COUNT_MAX: i64 = 100_000;

const PREVIEW_EXAMPLES: &str = "\
Examples:
  escapement schedule preview --cron '0 2 * * 1-5' --timezone Europe/Berlin
  escapement schedule preview --cron '30 2 * * *' --timezone Europe/Berlin --from 2026-03-27T00:00:00Z
  escapement schedule preview --cron '@daily' --count 3 --output json

Five fields as in crontab, six with leading seconds, or @hourly, @daily, @weekly, @monthly, @yearly. When day of month \
and day of week are both restricted, either is enough. On nights when clocks change, jobs at fixed times run once, and \
jobs with * in minute or hour follow the clock, as with Debian's cron.";

const CHECK_EXAMPLES: &str = "\
Examples:
  escapement schedule check vectors.jsonl

Each line is an object: {\"expr\": \"0 2 * * *\", \"tz\": \"Europe/Berlin\", \"from\": \"2026-03-28T00:00:00Z\", \
\"next\": [\"2026-03-28T01:00:00Z\", …]}. `next` holds the instants after `from`; none means that it never fires again. \
Prints each line that differs, closes with `N passed, N failed`, and ends with status 1 if any failed.";

/// Commands on schedules.
#[derive(Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// Show when a cron expression fires
    #[command(after_long_help = PREVIEW_EXAMPLES)]
    Preview(PreviewOptions),
    /// Compare expressions with the instants that they should fire at
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check {
        /// One JSON object a line
        file: PathBuf,
    },
}

/// What to preview.
#[derive(Debug, Args)]
pub(super) struct PreviewOptions {
    /// The expression
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    /// The IANA zone whose local time it means
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    timezone: String,
    /// Show what comes after this instant [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    from: Option<Timestamp>,
    /// How many instants to show
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    count: u32,
}

impl ScheduleCommand {
    pub(super) fn run(self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Preview(options) => options.run(screen),
            Self::Check { file } => vectors::check(&file, screen),
        }
    }
}

/// Compiles a cron expression as a task of this instant would; `H` is the choice of the nil task.
pub(super) fn compile(
    expression: &str,
    timezone: &str,
    from: Timestamp,
) -> Result<(Trigger, Schedule), ScheduleError> {
    let trigger = Trigger::Cron {
        expression: expression.to_owned(),
        timezone: timezone.to_owned(),
        dst: Dst::default(),
    };
    let schedule = Schedule::compile(&trigger, TaskId(0), from)?;
    Ok((trigger, schedule))
}

impl PreviewOptions {
    fn run(&self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let from = self.from.unwrap_or_else(system::now);
        let (trigger, schedule) =
            compile(&self.cron, &self.timezone, from).map_err(|error| self.refused(&error))?;
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        let fires: Vec<Timestamp> = schedule.between(from, Timestamp::MAX).take(count).collect();
        let zone = self.zone();
        match screen.output {
            Output::Json => {
                let fires: Vec<String> = fires.iter().map(Timestamp::to_string).collect();
                screen.line(
                    &json!({ "fires": fires, "description": describe(&trigger), "timezone": zone.name() })
                        .to_string(),
                )
            }
            Output::Table => {
                screen.line(&describe(&trigger))?;
                screen.text(&table(from, &fires, zone))
            }
        }
    }

    /// Shows where in the expression each fault is.
    fn refused(&self, error: &ScheduleError) -> Failure {
        let mut message = "the expression is refused".to_owned();
        for fault in &error.faults {
            let option = if fault.pointer == "/timezone" { "--timezone" } else { "--cron" };
            message.push_str(&format!("\n  {option}: {}", fault.detail));
            if let Some(column) = fault.column.filter(|_| !self.cron.contains('\n')) {
                let indent = usize::try_from(column).unwrap_or(1).saturating_sub(1);
                message.push_str(&format!("\n    {}\n    {}^", self.cron, " ".repeat(indent)));
            }
        }
        Failure::stopped(message).advise("`escapement help schedule preview` shows what may stand there")
    }

    /// The expression's own zone goes before UTC, which is also what it is when it was left out.
    fn zone(&self) -> Zone {
        let own = ["CRON_TZ=", "TZ="].iter().find_map(|prefix| self.cron.trim_start().strip_prefix(prefix));
        let name = own.and_then(|rest| rest.split_whitespace().next()).unwrap_or(&self.timezone);
        Zone(name.parse().unwrap_or(Tz::UTC))
    }
}

fn table(from: Timestamp, fires: &[Timestamp], zone: Zone) -> String {
    let mut table = Table::new(["UTC", &format!("LOCAL ({})", zone.name()), "DAY", ""]);
    let mut before = from;
    for &fire in fires {
        let day = zone.local(fire).map_or_else(String::new, |local| local.format("%a").to_string());
        let note = change_between(before, fire, zone).unwrap_or_default();
        table.row([fire.to_string(), zone.show_exactly(fire), day, note]);
        before = fire;
    }
    if table.is_empty() { "it does not fire again before the year 10000\n".into() } else { table.to_string() }
}

/// Says when and how a zone's clocks were changed between two instants, if they differ in it.
fn change_between(before: Timestamp, after: Timestamp, zone: Zone) -> Option<String> {
    let offset = zone.offset_seconds(before);
    let change = zone.offset_seconds(after) - offset;
    if change == 0 {
        return None;
    }
    // The offset at `low` is the old one, at `high` it is not; they close in on the change.
    let (mut low, mut high) = (before.0, after.0);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if zone.offset_seconds(Timestamp(middle)) == offset { low = middle } else { high = middle }
    }
    let direction = if change > 0 { "forward" } else { "back" };
    let length = Span::seconds(u64::from(change.unsigned_abs()));
    // The old clock's face at the moment of the change.
    let face = zone.local(Timestamp(low))? + chrono::Duration::milliseconds(1);
    let old_face = face.naive_utc() + chrono::Duration::seconds(i64::from(offset));
    Some(format!("clocks {direction} {length} on {}", old_face.format("%b %-d at %H:%M")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(cron: &str, timezone: &str, from: &str, output: Output) -> Result<String, Failure> {
        let from = Some(Timestamp::parse(from).expect("an instant"));
        let options = PreviewOptions { cron: cron.into(), timezone: timezone.into(), from, count: 3 };
        let mut out = Vec::new();
        options.run(&mut Screen { out: &mut out, output, zone: Zone(Tz::UTC) })?;
        Ok(String::from_utf8(out).expect("a text"))
    }

    #[test]
    fn a_night_without_half_past_two_is_noted() {
        let expected = "\
at 02:30 every day, Berlin time
UTC                       LOCAL (Europe/Berlin)           DAY
2026-03-28T01:30:00.000Z  2026-03-28 02:30:00.000 +01:00  Sat
2026-03-29T01:00:00.000Z  2026-03-29 03:00:00.000 +02:00  Sun  clocks forward 1h on Mar 29 at 02:00
2026-03-30T00:30:00.000Z  2026-03-30 02:30:00.000 +02:00  Mon
";
        let found =
            preview("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", Output::Table).expect("previewed");
        assert_eq!(found, expected);
    }

    #[test]
    fn an_hour_that_comes_twice_is_noted() {
        let found = preview("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:10:00Z", Output::Table)
            .expect("previewed");
        assert!(found.contains("2026-10-25T01:00:00.000Z  2026-10-25 02:00:00.000 +01:00  Sun  clocks back 1h on Oct 25 at 03:00\n"), "{found}");
        assert_eq!(found.matches("clocks").count(), 1, "{found}");
    }

    #[test]
    fn scripts_get_the_fires_as_from_the_api() {
        let found = preview("CRON_TZ=Asia/Tokyo @daily", "UTC", "2026-01-01T00:00:00Z", Output::Json)
            .expect("previewed");
        let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
        assert_eq!(found["fires"][0], "2026-01-01T15:00:00.000Z");
        assert_eq!(found["timezone"], "Asia/Tokyo");
    }

    #[test]
    fn a_fault_is_pointed_at() {
        let failure =
            preview("0 25 * * *", "UTC", "2026-01-01T00:00:00Z", Output::Table).expect_err("refused");
        let text = failure.to_string();
        assert!(text.contains("--cron: ") && text.contains("\n    0 25 * * *\n      ^"), "{text}");
        let failure =
            preview("0 2 * * *", "Europe/Berln", "2026-01-01T00:00:00Z", Output::Table).expect_err("refused");
        assert!(
            failure.to_string().contains("--timezone: ") && failure.to_string().contains("Europe/Berlin"),
            "{failure}"
        );
    }

    #[test]
    fn the_first_row_is_compared_with_the_start() {
        let found =
            preview("0 12 1 7 *", "Europe/Berlin", "2026-01-01T00:00:00Z", Output::Table).expect("previewed");
        assert_eq!(found.matches("clocks forward 1h on Mar 29 at 02:00").count(), 1, "{found}");
    }
}
