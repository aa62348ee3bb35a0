//! `task`: definitions, from their creation to their deletion, and the fires to come.
//!
//! Absent on purpose: defaults and validation of definitions. What a file holds is sent as it is, so that the node's
//! answer is the only word on it.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use escapement_domain::identifier::TaskId;
use escapement_domain::timestamp::Timestamp;
use serde_json::Value;

use super::backfill::BackfillCommand;
use super::client::{Client, Request};
use super::document::read_json;
use super::failure::Failure;
use super::occurrence::OccurrenceCommand;
use super::screen::{Screen, exactly_when, field, note, optional, pairs, when};
use super::table::{Sheet, Table, shortened};
use super::zone::Zone;
use super::{explanation, parse_instant, parse_task, system, word};

/// How several tasks are sent.
const OF_MANY: &str = "create them one by one, or all at once with POST /api/scheduled-tasks/bulk";

const CREATE_EXAMPLES: &str = "\
Examples:
  escapement task create -f task.json
  jq '.timeout = \"30m\"' task.json | escapement task create -f -

A task needs a name, a trigger and an action:
  { \"name\": \"nightly-regression\", \"kind\": \"test_execution\",
    \"trigger\": {\"type\": \"cron\", \"expression\": \"0 2 * * 1-5\", \"timezone\": \"Europe/Berlin\"},
    \"action\": {\"type\": \"http\", \"method\": \"POST\", \"url\": \"https://runner.example/suites/7\"},
    \"retry\": {\"max_attempts\": 5}, \"overlap\": \"skip\" }

Triggers: cron, interval (every), once (at), manual. Actions: http, process, builtin.
Try a cron expression out first with `escapement schedule preview`.";

const LIST_EXAMPLES: &str = "\
Examples:
  escapement task list --state paused
  escapement task list --label team=qa --limit 1000
  escapement task list --output json | jq -r '.items[].id'";

const SHOW_EXAMPLES: &str = "\
Examples:
  escapement task show 0190d1c2-…
  escapement task show 0190d1c2-… --output json > task.json     edit it, then: escapement task update 0190d1c2-… -f task.json";

const UPDATE_EXAMPLES: &str = "\
Examples:
  escapement task show ID --output json > task.json
  escapement task update ID -f task.json
  escapement task update ID -f task.json --if-version 3     refused if someone else was faster

The file replaces the whole definition; what only the node sets (id, version, next_fire_at …) may stay in it.";

const RUN_EXAMPLES: &str = "\
Examples:
  escapement task run ID
  escapement execution logs \"$(escapement task run ID --output json | jq -r .id)\" --follow

The task's overlap policy holds for a run by hand too: with `skip` it is refused or skipped while another one runs.";

const NEXT_EXAMPLES: &str = "\
Examples:
  escapement task next ID
  escapement task next ID --count 20 --output json | jq -r '.fires[]'";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  escapement task explain ID                              when it fires, in English, and what it waits for now
  escapement task explain ID --at 2026-03-29T02:30:00+02:00
  escapement task explain ID --at 2026-03-29T00:30:00Z --output json | jq .instant

Says of an instant why it ran, is late, was skipped or missed, waits, or was never one of this schedule: read off the task's \
events, by the definition that held then. A deleted task is explained too.";

/// Commands on tasks.
#[derive(Debug, Subcommand)]
pub(super) enum TaskCommand {
    /// Create a task
    #[command(after_long_help = CREATE_EXAMPLES)]
    Create {
        /// The definition in JSON; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Names this creation: repeated within an hour it changes nothing and answers the same
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// List tasks
    #[command(after_long_help = LIST_EXAMPLES)]
    List(ListOptions),
    /// Show a task
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(TaskName),
    /// Replace a task's definition
    #[command(after_long_help = UPDATE_EXAMPLES)]
    Update {
        #[command(flatten)]
        task: TaskName,
        /// The definition in JSON; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Only if the task still has this version
        #[arg(long, value_name = "VERSION")]
        if_version: Option<NonZeroU64>,
    },
    /// Delete a task; its executions stay in the history
    Delete(TaskName),
    /// Run a task now
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(TaskName),
    /// Stop a task from firing until it is resumed
    Pause(TaskName),
    /// Let a paused task fire again; what it missed is settled by its misfire policy
    Resume(TaskName),
    /// Show when a task fires next
    #[command(after_long_help = NEXT_EXAMPLES)]
    Next {
        #[command(flatten)]
        task: TaskName,
        /// How many fires to show
        #[arg(long, default_value = "5")]
        count: NonZeroU32,
    },
    /// Say in English when a task fires, what it waits for, and why it ran at an instant or did not
    #[command(after_long_help = EXPLAIN_EXAMPLES)]
    Explain {
        #[command(flatten)]
        task: TaskName,
        /// The instant, past or to come
        #[arg(long, value_name = "TIME", value_parser = parse_instant)]
        at: Option<Timestamp>,
        /// How many of the next fires to show
        #[arg(long, default_value = "5")]
        count: NonZeroU32,
    },
    #[command(flatten)]
    Occurrence(OccurrenceCommand),
    #[command(flatten)]
    Backfill(BackfillCommand),
}

/// The task that is meant.
#[derive(Debug, Args)]
pub(super) struct TaskName {
    /// The task's id
    #[arg(value_name = "ID", value_parser = parse_task)]
    pub(super) id: TaskId,
}

/// Which tasks to list.
#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// Only tasks in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only tasks of this kind
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only tasks with this label, such as team=qa
    #[arg(long, value_name = "NAME=VALUE")]
    label: Option<String>,
    /// Only tasks of this name
    #[arg(long)]
    name: Option<String>,
    /// Only tasks that name this calendar
    #[arg(long, value_name = "NAME")]
    calendar: Option<String>,
    /// How many to show at most, up to 1000
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

/// The states of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Active,
    Paused,
    Finished,
}

/// The kinds of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Kind {
    TestExecution,
    Maintenance,
    Report,
    Alert,
    Generic,
}

impl TaskName {
    pub(super) fn path(&self, rest: &[&str]) -> Vec<String> {
        let mut path = vec!["api".to_owned(), "scheduled-tasks".to_owned(), self.id.to_string()];
        path.extend(rest.iter().map(|segment| (*segment).to_owned()));
        path
    }
}

impl TaskCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Create { file, idempotency_key } => create(client, screen, &file, idempotency_key).await,
            Self::List(options) => options.run(client, screen).await,
            Self::Show(task) => {
                let answer = client.ask(&Request::get(task.path(&[]))).await?;
                screen.answer(&answer, sheet)
            }
            Self::Update { task, file, if_version } => {
                let mut request = Request::put(task.path(&[])).keyed()?.body(read_json(&file, OF_MANY)?);
                if let Some(version) = if_version {
                    request = request.header("if-match", &format!("\"{version}\""))?;
                }
                let answer = client.ask(&request).await?;
                screen.answer(&answer, |task, zone| changed("updated", task, zone))
            }
            Self::Delete(task) => {
                client.ask(&Request::delete(task.path(&[])).keyed()?).await?;
                note(&format!("deleted task {}", task.id));
                Ok(())
            }
            Self::Run(task) => {
                let answer = client.ask(&Request::post(task.path(&["run"])).keyed()?).await?;
                screen.answer(&answer, |execution, _| {
                    format!("execution {} is {}\n", field(execution, "/id"), field(execution, "/status"))
                })
            }
            Self::Pause(task) => {
                let answer = client.ask(&Request::post(task.path(&["pause"])).keyed()?).await?;
                screen.answer(&answer, |task, zone| changed("paused", task, zone))
            }
            Self::Resume(task) => {
                let answer = client.ask(&Request::post(task.path(&["resume"])).keyed()?).await?;
                screen.answer(&answer, |task, zone| changed("resumed", task, zone))
            }
            Self::Next { task, count } => {
                let answer =
                    client.ask(&Request::get(task.path(&["next"])).query("count", Some(count))).await?;
                screen.answer(&answer, explanation::fires)
            }
            Self::Explain { task, at, count } => {
                let request =
                    Request::get(task.path(&["explain"])).query("at", at).query("count", Some(count));
                screen.answer(&client.ask(&request).await?, explanation::explanation)
            }
            Self::Occurrence(command) => command.run(client, screen).await,
            Self::Backfill(command) => command.run(client, screen).await,
        }
    }
}

async fn create(
    client: &Client,
    screen: &mut Screen<'_>,
    file: &Path,
    key: Option<String>,
) -> Result<(), Failure> {
    let key = key.unwrap_or_else(|| system::fresh_id().to_string());
    let request = Request::post(["api", "scheduled-tasks", ""]).key(&key)?.body(read_json(file, OF_MANY)?);
    let answer = client.ask(&request).await.inspect_err(|failure| {
        if failure.leaves_open() {
            note(&format!("the task may exist: the same command with --idempotency-key {key} answers with it or creates it"));
        }
    })?;
    screen.answer(&answer, |task, zone| changed("created", task, zone))
}

fn changed(what: &str, task: &Value, zone: Zone) -> String {
    let next = when(task, "/next_fire_at", zone);
    let next =
        if next == "-" { "no fire is due".into() } else { format!("fires next at {next} ({})", zone.name()) };
    format!(
        "{what} task {} ({}), version {}, {next}\n",
        field(task, "/id"),
        field(task, "/name"),
        field(task, "/version")
    )
}

impl ListOptions {
    async fn run(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let request = Request::get(["api", "scheduled-tasks", ""])
            .query("limit", Some(self.limit))
            .query("state", self.state.as_ref().map(word))
            .query("kind", self.kind.as_ref().map(word))
            .query("label", self.label.as_ref())
            .query("name", self.name.as_ref())
            .query("calendar", self.calendar.as_ref())
            .query("cursor", self.cursor.as_ref());
        let answer = client.ask(&request).await?;
        screen.list(&answer, table)
    }
}

fn table(tasks: &[Value], zone: Zone) -> String {
    if tasks.is_empty() {
        return "no tasks; create one with `escapement task create -f task.json`\n".into();
    }
    let next = format!("NEXT FIRE ({})", zone.name());
    let mut table = Table::new(["ID", "NAME", "STATE", "TRIGGER", &next, "LAST"]);
    for task in tasks {
        table.row([
            field(task, "/id"),
            shortened(&field(task, "/name")),
            field(task, "/state"),
            shortened(&trigger(task)),
            when(task, "/next_fire_at", zone),
            field(task, "/last_execution/status"),
        ]);
    }
    table.to_string()
}

/// Says in a few words what makes a task due.
fn trigger(task: &Value) -> String {
    let part = |name: &str| optional(task, &format!("/trigger/{name}"));
    match part("type").as_str() {
        "cron" => format!("cron {} {}", part("expression"), part("timezone")).trim_end().to_owned(),
        "interval" => format!("every {}", part("every")),
        "once" => format!("once at {}", part("at")),
        "event" => format!("event {}", part("name")),
        "after" => format!("after {}", part("condition")),
        other => other.to_owned(),
    }
}

fn sheet(task: &Value, zone: Zone) -> String {
    let mut sheet = Sheet::default();
    for name in ["id", "name", "description", "kind", "state"] {
        sheet.line(name, optional(task, &format!("/{name}")));
    }
    sheet.line("paused because", optional(task, "/pause_reason"));
    sheet.line("trigger", trigger(task));
    sheet.line("next fire", exactly_when(task, "/next_fire_at", zone));
    let last = optional(task, "/last_execution/id");
    sheet.line(
        "last execution",
        if last.is_empty() { last } else { format!("{last} {}", field(task, "/last_execution/status")) },
    );
    for name in
        ["action", "timeout", "retry", "circuit_breaker", "misfire", "overlap", "delivery", "priority"]
    {
        sheet.line(name, optional(task, &format!("/{name}")));
    }
    sheet.line("inputs", pairs(task, "/inputs"));
    sheet.line("resources", pairs(task, "/resources"));
    sheet.line("calendars", optional(task, "/calendars"));
    sheet.line("labels", pairs(task, "/labels"));
    for (label, pointer) in [("starts", "/start_at"), ("ends", "/end_at")] {
        sheet.line(label, exactly_when(task, pointer, zone));
    }
    sheet.line("runs at once", optional(task, "/max_concurrent"));
    sheet.line("runs at most", optional(task, "/max_runs"));
    sheet.line("pause after", optional(task, "/pause_after_failures"));
    for name in ["tenant", "owner", "version"] {
        sheet.line(name, optional(task, &format!("/{name}")));
    }
    sheet.line("created", exactly_when(task, "/created_at", zone));
    sheet.line("updated", exactly_when(task, "/updated_at", zone));
    sheet.to_string()
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
