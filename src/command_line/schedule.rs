//! `schedule`: what a cron expression means, tried out without a node, and the fires to come on one.
//!
//! Absent on purpose: evaluation, and where a zone's clocks change, which are the domain's.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::{LocalClock, Occasion, Schedule, ScheduleError, describe};
use escapement_domain::task::trigger::{self, Dst, Trigger};
use escapement_domain::timestamp::Timestamp;
use serde_json::json;

use super::connection::{ConnectionOptions, Output};
use super::failure::Failure;
use super::screen::Screen;
use super::table::Table;
use super::{ask, forecast, parse_instant, system, vectors};

/// Instants that one preview shows at most.
const COUNT_MAX: i64 = 100_000;

const PREVIEW_EXAMPLES: &str = "\
Examples:
  escapement schedule preview --cron '0 2 * * 1-5' --timezone Europe/Berlin
  escapement schedule preview --cron '30 2 * * *' --timezone Europe/Berlin --from 2026-03-27T00:00:00Z
  escapement schedule preview --cron '30 2 * * *' --timezone Europe/Berlin --from 2026-03-27T00:00:00Z --gap skip
  escapement schedule preview --cron 'CRON_TZ=Asia/Tokyo @daily' --count 3 --output json

Five fields as in crontab, six with leading seconds, or @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, \
@every 10m, @at 2026-03-01T02:00:00Z; CRON_TZ= or TZ= in front names the zone. When day of month and day of week are both \
restricted, either is enough. On nights when clocks change, jobs at fixed times run once, and jobs with * in minute or hour \
follow the clock, as with Debian's cron; --gap and --fold choose otherwise, as `dst` of a task does.";

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
    /// Show how many fires the time to come will see, as a node counts them
    #[command(after_long_help = forecast::EXAMPLES)]
    Forecast(forecast::ForecastOptions),
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
    /// What becomes of a local time that a change of clocks skips: as cron has it, none, or later by the gap
    #[arg(long, value_enum, default_value_t = Gap::Cron)]
    gap: Gap,
    /// What becomes of a local time that a change of clocks repeats: as cron has it, or which of the two
    #[arg(long, value_enum, default_value_t = Fold::Cron)]
    fold: Fold,
}

/// What becomes of a skipped local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Gap {
    Cron,
    Skip,
    Shift,
}

/// What becomes of a repeated local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Fold {
    Cron,
    First,
    Second,
    Both,
}

impl ScheduleCommand {
    pub(super) fn run(self, connection: &ConnectionOptions, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Preview(options) => options.run(screen),
            Self::Check { file } => vectors::check(&file, screen),
            Self::Forecast(options) => ask(connection, async |client| options.run(&client, screen).await),
        }
    }
}

/// Compiles a cron expression as a task of this instant would; `H` is the choice of the nil task.
pub(super) fn compile(
    expression: &str,
    timezone: &str,
    dst: Dst,
    from: Timestamp,
) -> Result<(Trigger, Schedule), ScheduleError> {
    let trigger = Trigger::Cron { expression: expression.to_owned(), timezone: timezone.to_owned(), dst };
    let schedule = Schedule::compile(&trigger, TaskId(0), from)?;
    Ok((trigger, schedule))
}

impl PreviewOptions {
    fn run(&self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let from = self.from.unwrap_or_else(system::now);
        let (trigger, schedule) =
            compile(&self.cron, &self.timezone, self.dst(), from).map_err(|error| self.refused(&error))?;
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        let clock = LocalClock::of(&trigger);
        let fires = Occasion::row(clock, from, schedule.between(from, Timestamp::MAX).take(count));
        match screen.output {
            Output::Json => {
                let instants: Vec<String> = fires.iter().map(|fire| fire.at.to_string()).collect();
                let occurrences: Vec<_> = fires
                    .iter()
                    .map(|fire| json!({ "at": fire.at.to_string(), "local": fire.local, "note": fire.note }))
                    .collect();
                let told = json!({ "fires": instants, "occurrences": occurrences, "description": describe(&trigger),
                                   "timezone": clock.name() });
                screen.line(&told.to_string())
            }
            Output::Table => {
                screen.line(&describe(&trigger))?;
                screen.text(&table(&fires, clock))
            }
        }
    }

    fn dst(&self) -> Dst {
        let gap = match self.gap {
            Gap::Cron => trigger::Gap::Cron,
            Gap::Skip => trigger::Gap::Skip,
            Gap::Shift => trigger::Gap::Shift,
        };
        let fold = match self.fold {
            Fold::Cron => trigger::Fold::Cron,
            Fold::First => trigger::Fold::First,
            Fold::Second => trigger::Fold::Second,
            Fold::Both => trigger::Fold::Both,
        };
        Dst { gap, fold }
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
}

fn table(fires: &[Occasion], clock: LocalClock) -> String {
    let mut table = Table::new(["UTC", &format!("LOCAL ({})", clock.name()), "DAY", ""]);
    for fire in fires {
        table.row([
            fire.at.to_string(),
            fire.local.clone(),
            clock.weekday(fire.at).into(),
            fire.note.clone().unwrap_or_default(),
        ]);
    }
    if table.is_empty() { "it does not fire again before the year 10000\n".into() } else { table.to_string() }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::super::zone::Zone;
    use super::*;

    fn preview(cron: &str, timezone: &str, from: &str, output: Output) -> Result<String, Failure> {
        let from = Some(Timestamp::parse(from).expect("an instant"));
        let (cron, timezone) = (cron.into(), timezone.into());
        run(&PreviewOptions { cron, timezone, from, count: 3, gap: Gap::Cron, fold: Fold::Cron }, output)
    }

    fn run(options: &PreviewOptions, output: Output) -> Result<String, Failure> {
        let mut out = Vec::new();
        options.run(&mut Screen { out: &mut out, output, zone: Zone(Tz::UTC) })?;
        Ok(String::from_utf8(out).expect("a text"))
    }

    #[test]
    fn a_night_without_half_past_two_is_noted() {
        let expected = "\
at 02:30 every day, Berlin time
UTC                       LOCAL (Europe/Berlin)          DAY
2026-03-28T01:30:00.000Z  2026-03-28T02:30:00.000+01:00  Sat
2026-03-29T01:00:00.000Z  2026-03-29T03:00:00.000+02:00  Sun  clocks forward 1h on Mar 29 at 02:00
2026-03-30T00:30:00.000Z  2026-03-30T02:30:00.000+02:00  Mon
";
        let found =
            preview("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", Output::Table).expect("previewed");
        assert_eq!(found, expected);
    }

    #[test]
    fn an_hour_that_comes_twice_is_noted() {
        let found = preview("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:10:00Z", Output::Table)
            .expect("previewed");
        assert!(found.contains("2026-10-25T01:00:00.000Z  2026-10-25T02:00:00.000+01:00  Sun  clocks back 1h on Oct 25 at 03:00\n"), "{found}");
        assert_eq!(found.matches("clocks").count(), 1, "{found}");
    }

    #[test]
    fn scripts_get_the_fires_as_from_the_api() {
        let found = preview("CRON_TZ=Asia/Tokyo @daily", "UTC", "2026-01-01T00:00:00Z", Output::Json)
            .expect("previewed");
        let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
        assert_eq!(found["fires"][0], "2026-01-01T15:00:00.000Z");
        assert_eq!(found["timezone"], "Asia/Tokyo");
        let first = json!({ "at": "2026-01-01T15:00:00.000Z", "local": "2026-01-02T00:00:00.000+09:00", "note": null });
        assert_eq!(found["occurrences"][0], first);
    }

    /// The first fires after `from` in Berlin under a choice of gap and fold.
    fn chosen(gap: Gap, fold: Fold, from: &str) -> Vec<String> {
        let from = Some(Timestamp::parse(from).expect("an instant"));
        let (cron, timezone) = ("30 2 * * *".into(), "Europe/Berlin".into());
        let found = run(&PreviewOptions { cron, timezone, from, count: 2, gap, fold }, Output::Json);
        let found: serde_json::Value = serde_json::from_str(&found.expect("previewed")).expect("JSON");
        let fires = found["fires"].as_array().expect("a list").iter();
        fires.map(|fire| fire.as_str().expect("a text")[5..16].to_owned()).collect()
    }

    #[test]
    fn gap_and_fold_are_chosen_as_a_task_chooses_them() {
        let gap = |gap| chosen(gap, Fold::Cron, "2026-03-28T12:00:00Z");
        assert_eq!(gap(Gap::Cron), ["03-29T01:00", "03-30T00:30"]);
        assert_eq!(gap(Gap::Skip), ["03-30T00:30", "03-31T00:30"]);
        assert_eq!(gap(Gap::Shift), ["03-29T01:30", "03-30T00:30"]);
        let fold = |fold| chosen(Gap::Cron, fold, "2026-10-24T12:00:00Z");
        assert_eq!(fold(Fold::Cron), ["10-25T00:30", "10-26T01:30"]);
        assert_eq!(fold(Fold::First), ["10-25T00:30", "10-26T01:30"]);
        assert_eq!(fold(Fold::Second), ["10-25T01:30", "10-26T01:30"]);
        assert_eq!(fold(Fold::Both), ["10-25T00:30", "10-25T01:30"]);
    }

    #[test]
    fn every_nickname_and_prefix_is_understood() {
        for (cron, first) in [
            ("@annually", "2027-01-01T00:00:00.000Z"),
            ("@midnight", "2026-01-02T00:00:00.000Z"),
            ("@every 10m", "2026-01-01T12:10:00.000Z"),
            ("@at 2026-03-01T02:00:00+01:00", "2026-03-01T01:00:00.000Z"),
            ("TZ=Asia/Tokyo 0 9 * * *", "2026-01-02T00:00:00.000Z"),
            ("CRON_TZ=America/New_York @daily", "2026-01-02T05:00:00.000Z"),
        ] {
            let found = preview(cron, "UTC", "2026-01-01T12:00:00Z", Output::Json).expect("previewed");
            let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
            assert_eq!(found["fires"][0], first, "{cron}");
        }
    }

    #[test]
    fn what_can_never_fire_is_refused() {
        let refused = |cron: &str, zone: &str| preview(cron, zone, "2026-01-01T00:00:00Z", Output::Table);
        let failure = refused("0 0 30 2 *", "UTC").expect_err("there is no 30 February");
        assert!(failure.to_string().contains("never fire"), "{failure}");
        let found = refused("0 0 29 2 *", "UTC").expect("there is a 29 February");
        assert!(found.contains("2028-02-29T00:00:00.000Z"), "{found}");
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
