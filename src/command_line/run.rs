//! `run`: the runs of chains as wholes.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use escapement_domain::identifier::ExecutionId;
use serde_json::Value;

use super::client::{Client, Request};
use super::failure::Failure;
use super::parse_execution;
use super::screen::{Screen, exactly_when, field, optional, when};
use super::table::{Sheet, Table, shortened};
use super::zone::Zone;

const EXAMPLES: &str = "\
Examples:
  escapement run show ID
  escapement run retry ID       go on from what failed; what succeeded is not run again
  escapement run cancel ID      stop what is open of it; nothing follows any more
  escapement execution list --run ID

A task with \"trigger\": {\"type\": \"after\", \"tasks\": [ID, …], \"condition\": \"all_succeeded\"} runs after others. The execution of \
a task that follows no others begins a run, which has its id; every execution tells its run as `run_id`.";

/// Commands on runs of chains.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum RunCommand {
    /// Show a run with its steps, each after those that it waits for
    #[command(after_long_help = EXAMPLES)]
    Show(RunName),
    /// Stop what is open of a run, and let nothing follow in it
    #[command(after_long_help = EXAMPLES)]
    Cancel(RunName),
    /// Let a run that has ended go on from its failed steps
    #[command(after_long_help = EXAMPLES)]
    Retry(RunName),
}

/// The run that is meant.
#[derive(Debug, Args)]
pub(super) struct RunName {
    /// The run's id: that of the execution that began it
    #[arg(value_name = "ID", value_parser = parse_execution)]
    id: ExecutionId,
}

impl RunName {
    async fn tell(
        &self,
        what: &str,
        told: &str,
        client: &Client,
        screen: &mut Screen<'_>,
    ) -> Result<(), Failure> {
        let request = Request::post(["api", "runs", &self.id.to_string(), what]).keyed()?;
        let answer = client.ask(&request).await?;
        screen.answer(&answer, |_, _| format!("run {} {told}\n", self.id))
    }
}

impl RunCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Show(run) => {
                let answer = client.ask(&Request::get(["api", "runs", &run.id.to_string()])).await?;
                screen.answer(&answer, sheet)
            }
            Self::Cancel(run) => run.tell("cancel", "is being cancelled", client, screen).await,
            Self::Retry(run) => run.tell("retry", "goes on", client, screen).await,
        }
    }
}

fn sheet(run: &Value, zone: Zone) -> String {
    let mut sheet = Sheet::default();
    for (label, name) in [("id", "id"), ("task", "task_id"), ("status", "status")] {
        sheet.line(label, optional(run, &format!("/{name}")));
    }
    sheet.line("started", exactly_when(run, "/started_at", zone));
    sheet.line("finished", exactly_when(run, "/finished_at", zone));
    format!("{sheet}\n{}", steps(run, zone))
}

fn steps(run: &Value, zone: Zone) -> String {
    let steps = run["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let named = |step: &Value| {
        let name = optional(step, "/task_name");
        if name.is_empty() { field(step, "/task_id") } else { name }
    };
    let names: BTreeMap<String, String> =
        steps.iter().map(|step| (field(step, "/task_id"), named(step))).collect();
    let finished = format!("FINISHED ({})", zone.name());
    let mut table = Table::new([">STEP", "TASK", "AFTER", "STATUS", &finished, "EXECUTION", "REASON"]);
    for (number, step) in (1..).zip(steps) {
        let after = step["after"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let after: Vec<&str> = after.map(|task| names.get(task).map_or(task, String::as_str)).collect();
        let status = optional(step, "/status");
        table.row([
            format!("{number}"),
            named(step),
            if after.is_empty() { "-".into() } else { after.join(", ") },
            if status.is_empty() { "not reached".into() } else { status },
            when(step, "/finished_at", zone),
            field(step, "/execution_id"),
            shortened(&optional(step, "/reason")),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_told_in_order_with_the_names_that_they_follow() {
        let run = json!({ "steps": [
            {"task_id": "t1", "task_name": "build", "execution_id": "e1", "status": "succeeded",
             "finished_at": "2026-03-01T00:00:01.000Z", "reason": null, "after": []},
            {"task_id": "t2", "task_name": "deploy", "execution_id": null, "status": null,
             "finished_at": null, "reason": null, "after": ["t1", "gone"]}]});
        let expected = "\
STEP  TASK    AFTER        STATUS       FINISHED (UTC)       EXECUTION  REASON
   1  build   -            succeeded    2026-03-01 00:00:01  e1
   2  deploy  build, gone  not reached  -                    -
";
        assert_eq!(steps(&run, Zone(Tz::UTC)), expected);
    }
}
