//! `task backfill`, `backfills` and `cancel-backfill`: the occurrences of a range of the past, run so many at once.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use escapement_domain::identifier::CommandId;
use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};

use super::client::{Client, Request};
use super::failure::Failure;
use super::parse_instant;
use super::progress::Progress;
use super::screen::{Screen, field, instant, items, note, when};
use super::table::Table;
use super::task::TaskName;
use super::zone::Zone;

/// How often a backfill that is followed is looked at.
const POLL: Duration = Duration::from_millis(250);
/// Executions that are asked for at once.
const PAGE: u32 = 1_000;

const BACKFILL_EXAMPLES: &str = "\
Examples:
  escapement task backfill ID --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z
  escapement task backfill ID --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z --concurrency 4 --follow

Every occurrence of the range runs once, oldest first, whether it ran before or not; what a calendar forbids is left out. \
Nothing but --concurrency holds them back: the overlap policy does not count them. At most 10000 occurrences are allowed.";

const BACKFILLS_EXAMPLES: &str = "\
Examples:
  escapement task backfills ID
  escapement task cancel-backfill ID \"$(escapement task backfills ID --output json | jq -r '.items[0].id')\"";

const CANCEL_EXAMPLES: &str = "\
Examples:
  escapement task backfills ID                  which there are
  escapement task cancel-backfill ID BACKFILL

What is left is not run, and what runs of it is cancelled.";

/// Commands on backfills.
#[derive(Debug, Subcommand)]
pub(super) enum BackfillCommand {
    /// Run every occurrence of a range of the past
    #[command(after_long_help = BACKFILL_EXAMPLES)]
    Backfill(BackfillOptions),
    /// List the backfills of a task that have not ended
    #[command(after_long_help = BACKFILLS_EXAMPLES)]
    Backfills(TaskName),
    /// Stop a backfill
    #[command(after_long_help = CANCEL_EXAMPLES)]
    CancelBackfill {
        #[command(flatten)]
        task: TaskName,
        /// The backfill's id
        #[arg(value_name = "BACKFILL", value_parser = parse_backfill)]
        backfill: CommandId,
    },
}

/// Which range to run, and how.
#[derive(Debug, Args)]
pub(super) struct BackfillOptions {
    #[command(flatten)]
    task: TaskName,
    /// The range begins with this instant
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    from: Timestamp,
    /// And ends with this one, which is past
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    to: Timestamp,
    /// How many run at once, up to 100
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100))]
    concurrency: u32,
    /// Show how far it is until it has ended
    #[arg(short, long)]
    follow: bool,
}

fn parse_backfill(text: &str) -> Result<CommandId, String> {
    text.parse().map_err(|_| "a backfill's id is a UUID, as `escapement task backfills` shows it".into())
}

impl BackfillCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Backfill(options) => options.run(client, screen).await,
            Self::Backfills(task) => {
                screen.list(&client.ask(&Request::get(task.path(&["backfills"]))).await?, table)
            }
            Self::CancelBackfill { task, backfill } => {
                let path = task.path(&["backfills", &backfill.to_string()]);
                client.ask(&Request::delete(path).keyed()?).await?;
                note(&format!("cancelled backfill {backfill} of task {}", task.id));
                Ok(())
            }
        }
    }
}

impl BackfillOptions {
    async fn run(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let (from, to) = (self.from.to_string(), self.to.to_string());
        let body = json!({ "from": from, "to": to, "concurrency": self.concurrency });
        let request = Request::post(self.task.path(&["backfill"])).keyed()?.body(body.to_string());
        let answer = client.ask(&request).await?;
        screen.answer(&answer, started)?;
        if self.follow { self.follow(client, &answer.json()?).await } else { Ok(()) }
    }

    /// Shows how far a backfill is until the node no longer knows it, then what became of its instants.
    async fn follow(&self, client: &Client, started: &Value) -> Result<(), Failure> {
        let total = started["total"].as_u64().unwrap_or(0);
        let mut progress = Progress::new("instants run");
        loop {
            let running = client.ask(&Request::get(self.task.path(&["backfills"]))).await?.json()?;
            let Some(backfill) = items(&running).iter().find(|running| running["id"] == started["id"]) else {
                break;
            };
            progress.show(ended(backfill), total);
            tokio::time::sleep(POLL).await;
        }
        let outcomes = self.outcomes(client, instant(started, "/started_at")).await?;
        let run = outcomes.values().sum();
        progress.show(run, total);
        progress.finish();
        note(&tally(&outcomes, total.saturating_sub(run)));
        Ok(())
    }

    /// How many executions that were made of the range since then stand how.
    async fn outcomes(
        &self,
        client: &Client,
        since: Option<Timestamp>,
    ) -> Result<BTreeMap<String, u64>, Failure> {
        let (mut outcomes, mut cursor) = (BTreeMap::new(), None::<String>);
        loop {
            // The API's range ends before `to`, this one with it.
            let request = Request::get(["api", "executions", ""])
                .query("task_id", Some(self.task.id))
                .query("from", Some(self.from))
                .query("to", Some(Timestamp(self.to.0.saturating_add(1))))
                .query("limit", Some(PAGE))
                .query("cursor", cursor.as_ref());
            let page = client.ask(&request).await?.json()?;
            let made = |one: &&Value| one["trigger"] == "backfill" && instant(one, "/fired_at") >= since;
            for execution in items(&page).iter().filter(made) {
                *outcomes.entry(field(execution, "/status")).or_default() += 1;
            }
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(outcomes);
            }
        }
    }
}

/// Says how a backfill ended.
fn tally(outcomes: &BTreeMap<String, u64>, not_run: u64) -> String {
    let mut parts: Vec<String> = outcomes.iter().map(|(status, count)| format!("{count} {status}")).collect();
    if not_run > 0 {
        parts.push(format!("{not_run} not run"));
    }
    format!("the backfill has ended: {}", parts.join(", "))
}

/// How many of a backfill's executions have ended.
fn ended(backfill: &Value) -> u64 {
    let count = |name: &str| backfill[name].as_u64().unwrap_or(0);
    count("total").saturating_sub(count("left")).saturating_sub(count("open"))
}

fn started(backfill: &Value, zone: Zone) -> String {
    format!(
        "backfill {} runs {} occurrences from {} to {} ({}), {} at once\n",
        field(backfill, "/id"),
        field(backfill, "/total"),
        when(backfill, "/from", zone),
        when(backfill, "/to", zone),
        zone.name(),
        field(backfill, "/concurrency"),
    )
}

fn table(backfills: &[Value], zone: Zone) -> String {
    if backfills.is_empty() {
        return "no backfill is running\n".into();
    }
    let (from, to) = (format!("FROM ({})", zone.name()), format!("TO ({})", zone.name()));
    let mut table = Table::new(["ID", &from, &to, ">TOTAL", ">ENDED", ">OPEN", ">LEFT", ">AT ONCE"]);
    for backfill in backfills {
        table.row([
            field(backfill, "/id"),
            when(backfill, "/from", zone),
            when(backfill, "/to", zone),
            field(backfill, "/total"),
            ended(backfill).to_string(),
            field(backfill, "/open"),
            field(backfill, "/left"),
            field(backfill, "/concurrency"),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    #[test]
    fn a_backfill_shows_how_far_it_is() {
        let backfill = json!({ "id": "b", "task_id": "t", "from": "2026-03-01T00:00:00.000Z",
            "to": "2026-03-01T04:00:00.000Z", "total": 5, "concurrency": 2, "open": 2, "left": 1 });
        let expected = "\
ID  FROM (UTC)           TO (UTC)             TOTAL  ENDED  OPEN  LEFT  AT ONCE
b   2026-03-01 00:00:00  2026-03-01 04:00:00      5      2     2     1        2
";
        assert_eq!(table(std::slice::from_ref(&backfill), Zone(Tz::UTC)), expected);
        let told = "backfill b runs 5 occurrences from 2026-03-01 00:00:00 to 2026-03-01 04:00:00 (UTC), 2 at once\n";
        assert_eq!(started(&backfill, Zone(Tz::UTC)), told);
        let outcomes = [("failed".to_owned(), 1), ("succeeded".to_owned(), 3)].into();
        assert_eq!(tally(&outcomes, 1), "the backfill has ended: 1 failed, 3 succeeded, 1 not run");
    }
}
