//! `task skip`, `move`, `restore` and `occurrences`: single occurrences to come, without a change of the definition.

use clap::{Args, Subcommand};
use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};

use super::client::{Client, Request};
use super::failure::Failure;
use super::parse_instant;
use super::screen::{Screen, field, when};
use super::table::Table;
use super::task::TaskName;
use super::zone::Zone;

const SKIP_EXAMPLES: &str = "\
Examples:
  escapement task next ID                                      which occurrences there are
  escapement task skip ID --at 2026-12-24T02:00:00+01:00
  escapement task restore ID --at 2026-12-24T02:00:00+01:00    it runs after all

Once skipped, it leaves an event of type TaskSkipped with the reason `by_hand`.";

const MOVE_EXAMPLES: &str = "\
Examples:
  escapement task move ID --at 2026-12-24T02:00:00+01:00 --to 2026-12-24T06:00:00+01:00
  escapement task move ID --at 2026-12-24T02:00:00+01:00 --to 2026-12-23T22:00:00+01:00     earlier works too
  escapement task restore ID --at 2026-12-24T02:00:00+01:00                                 back to its own time

It runs once, at the new time, under the task's overlap and misfire policies; calendars do not hold it back.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  escapement task occurrences ID                               which are skipped or moved
  escapement task restore ID --at 2026-12-24T02:00:00+01:00";

const OCCURRENCES_EXAMPLES: &str = "\
Examples:
  escapement task occurrences ID
  escapement task occurrences ID --output json | jq '.items[] | select(.do == \"move\")'";

/// Commands on single occurrences to come.
#[derive(Debug, Subcommand)]
pub(super) enum OccurrenceCommand {
    /// Skip one coming occurrence of a task
    #[command(after_long_help = SKIP_EXAMPLES)]
    Skip(OccurrenceName),
    /// Move one coming occurrence of a task to another time
    #[command(after_long_help = MOVE_EXAMPLES)]
    Move {
        #[command(flatten)]
        occurrence: OccurrenceName,
        /// When it is to run instead
        #[arg(long, value_name = "TIME", value_parser = parse_instant)]
        to: Timestamp,
    },
    /// Let a skipped or moved occurrence run when its schedule says
    #[command(after_long_help = RESTORE_EXAMPLES)]
    Restore(OccurrenceName),
    /// List the occurrences of a task that are skipped or moved
    #[command(after_long_help = OCCURRENCES_EXAMPLES)]
    Occurrences(TaskName),
}

/// The occurrence that is meant.
#[derive(Debug, Args)]
pub(super) struct OccurrenceName {
    #[command(flatten)]
    task: TaskName,
    /// The occurrence's instant by the schedule, as `escapement task next` tells it
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    at: Timestamp,
}

impl OccurrenceCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let (occurrence, deed, to) = match self {
            Self::Skip(occurrence) => (occurrence, "skip", None),
            Self::Move { occurrence, to } => (occurrence, "move", Some(to.to_string())),
            Self::Restore(occurrence) => (occurrence, "restore", None),
            Self::Occurrences(task) => {
                let answer = client.ask(&Request::get(task.path(&["occurrences"]))).await?;
                return screen.list(&answer, table);
            }
        };
        let body = json!({ "at": occurrence.at.to_string(), "do": deed, "to": to });
        let request = Request::post(occurrence.task.path(&["occurrences"])).keyed()?.body(body.to_string());
        screen.answer(&client.ask(&request).await?, changed)
    }
}

fn changed(change: &Value, zone: Zone) -> String {
    let becomes = match change["do"].as_str() {
        Some("skip") => "is skipped".into(),
        Some("move") => format!("runs at {} instead", when(change, "/to", zone)),
        _ => "runs when its schedule says, after all".into(),
    };
    let at = when(change, "/at", zone);
    format!("task {}: the occurrence of {at} ({}) {becomes}\n", field(change, "/task_id"), zone.name())
}

fn table(changed: &[Value], zone: Zone) -> String {
    if changed.is_empty() {
        return "no occurrence is skipped or moved\n".into();
    }
    let headers = [format!("AT ({0})", zone.name()), "BECOMES".into(), format!("TO ({0})", zone.name())];
    let mut table = Table::new(headers.iter().map(String::as_str));
    for change in changed {
        let becomes = match (change["do"].as_str(), change["done"].as_bool()) {
            (Some("skip"), _) => "skipped",
            (_, Some(true)) => "moved, has run",
            _ => "moved",
        };
        table.row([when(change, "/at", zone), becomes.into(), when(change, "/to", zone)]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    const UTC: Zone = Zone(Tz::UTC);

    #[test]
    fn what_becomes_of_an_occurrence_is_told() {
        let at = "2026-03-01T02:00:00.000Z";
        let told =
            |deed: &str, to: Value| changed(&json!({"task_id": "t", "at": at, "do": deed, "to": to}), UTC);
        assert_eq!(
            told("skip", Value::Null),
            "task t: the occurrence of 2026-03-01 02:00:00 (UTC) is skipped\n"
        );
        assert!(
            told("move", json!("2026-03-01T04:00:00.000Z"))
                .ends_with("runs at 2026-03-01 04:00:00 instead\n")
        );
        assert!(told("restore", Value::Null).ends_with("after all\n"));
        let expected = "\
AT (UTC)             BECOMES         TO (UTC)
2026-03-01 02:00:00  skipped         -
2026-03-01 02:00:00  moved, has run  2026-03-01 01:00:00
";
        let listed = [
            json!({"at": at, "do": "skip", "to": null, "done": false}),
            json!({"at": at, "do": "move", "to": "2026-03-01T01:00:00.000Z", "done": true}),
        ];
        assert_eq!(table(&listed, UTC), expected);
    }
}
