//! `execution`: what became of each fire, and the two things a person may still do about it.

use std::fmt::Write as _;

use clap::{Args, Subcommand, ValueEnum};
use escapement_domain::identifier::{ExecutionId, TaskId};
use serde_json::{Value, json};

use super::client::{Answer, Client, Request};
use super::failure::Failure;
use super::logs::LogsOptions;
use super::screen::{Screen, exactly_when, field, optional, when};
use super::table::{Sheet, Table, shortened};
use super::zone::Zone;
use super::{parse_execution, parse_instant, parse_task, word};
use escapement_domain::timestamp::Timestamp;

const LIST_EXAMPLES: &str = "\
Examples:
  escapement execution list --status failed
  escapement execution list --task ID --limit 20
  escapement execution list --from 2026-03-01T00:00:00Z --output json | jq '.items[] | {task_id, status, lateness_ms}'";

const SHOW_EXAMPLES: &str = "\
Examples:
  escapement execution show ID
  escapement execution show ID --output json | jq .attempts";

const DEAD_LETTERS_EXAMPLES: &str = "\
Examples:
  escapement execution dead-letters
  escapement execution dead-letters --task ID --from 2026-03-01T00:00:00Z
  escapement execution dead-letters --output json | jq '.items[] | {id, status, reason, error}'";

const RETRY_EXAMPLES: &str = "\
Examples:
  escapement execution retry ID
  escapement execution retry --all
  escapement execution retry --all --task ID --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z

With --all every execution that `execution dead-letters` lists under the same filter gets another attempt, but for steps of a
chain that followed others of them: their run decides these anew.

A retry is the next attempt of the same execution: its targets see the same Idempotency-Key.";

const PRIORITY_EXAMPLES: &str = "\
Examples:
  escapement execution list --status queued
  escapement execution priority ID 9

Within a priority, tenants get fair shares, and each tenant's executions go in the order of queueing.";

/// Commands on executions.
#[derive(Debug, Subcommand)]
pub(super) enum ExecutionCommand {
    /// List executions, newest first
    #[command(after_long_help = LIST_EXAMPLES)]
    List(ListOptions),
    /// Show an execution with its attempts
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(ExecutionName),
    Logs(LogsOptions),
    /// Stop an execution, or take it out of the queue
    Cancel(ExecutionName),
    /// Make another attempt of an execution that has ended
    #[command(after_long_help = RETRY_EXAMPLES)]
    Retry(RetryOptions),
    /// Give an execution in the queue another priority
    #[command(after_long_help = PRIORITY_EXAMPLES)]
    Priority {
        #[command(flatten)]
        execution: ExecutionName,
        /// From 0, the lowest, to 9
        #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
        priority: u8,
    },
    /// List the executions that failed for good, newest first, with the reason
    #[command(after_long_help = DEAD_LETTERS_EXAMPLES)]
    DeadLetters(DeadLettersOptions),
}

/// Which executions get another attempt.
#[derive(Debug, Args)]
pub(super) struct RetryOptions {
    /// The execution's id
    #[arg(value_name = "ID", value_parser = parse_execution, required_unless_present = "all", conflicts_with_all = ["all", "task", "status", "from", "to"])]
    id: Option<ExecutionId>,
    /// Every execution that failed for good
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: DeadLetterFilter,
}

/// Which executions that failed for good are meant.
#[derive(Debug, Args)]
pub(super) struct DeadLetterFilter {
    /// Only executions of this task
    #[arg(long, value_name = "ID", value_parser = parse_task)]
    task: Option<TaskId>,
    /// Only executions that ended so
    #[arg(long, value_name = "STATUS", value_parser = ["failed", "timed_out", "lost"])]
    status: Option<String>,
    /// Only from this instant on
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    from: Option<Timestamp>,
    /// Only before this instant
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    to: Option<Timestamp>,
}

/// Which executions that failed for good to list.
#[derive(Debug, Args)]
pub(super) struct DeadLettersOptions {
    #[command(flatten)]
    filter: DeadLetterFilter,
    /// How many to show at most, up to 1000
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

/// The execution that is meant.
#[derive(Debug, Args)]
pub(super) struct ExecutionName {
    /// The execution's id
    #[arg(value_name = "ID", value_parser = parse_execution)]
    pub(super) id: ExecutionId,
}

/// Which executions to list.
#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// Only executions of this task
    #[arg(long, value_name = "ID", value_parser = parse_task)]
    task: Option<TaskId>,
    /// Only executions of this run of a chain
    #[arg(long, value_name = "ID", value_parser = parse_execution)]
    run: Option<ExecutionId>,
    /// Only executions with this status
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only from this instant on
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    from: Option<Timestamp>,
    /// Only before this instant
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    to: Option<Timestamp>,
    /// How many to show at most, up to 1000
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

/// What an execution has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Status {
    Queued,
    Running,
    Retrying,
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
    Lost,
    Skipped,
}

impl ExecutionName {
    pub(super) fn path(&self, rest: &[&str]) -> Vec<String> {
        let mut path = vec!["api".to_owned(), "executions".to_owned(), self.id.to_string()];
        path.extend(rest.iter().map(|segment| (*segment).to_owned()));
        path
    }
}

impl ExecutionCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::List(options) => options.run(client, screen).await,
            Self::Logs(options) => options.run(client, screen).await,
            Self::Show(execution) => {
                let answer = client.ask(&Request::get(execution.path(&[]))).await?;
                screen.answer(&answer, sheet)
            }
            Self::Cancel(execution) => {
                let answer = client.ask(&Request::post(execution.path(&["cancel"])).keyed()?).await?;
                screen.answer(&answer, |_, _| format!("execution {} is being cancelled\n", execution.id))
            }
            Self::Priority { execution, priority } => {
                let body = serde_json::json!({ "priority": priority }).to_string();
                let answer = client.ask(&Request::patch(execution.path(&[])).keyed()?.body(body)).await?;
                screen.answer(&answer, |_, _| {
                    format!("execution {} has priority {priority} now\n", execution.id)
                })
            }
            Self::Retry(options) => options.run(client, screen).await,
            Self::DeadLetters(options) => options.run(client, screen).await,
        }
    }
}

impl ListOptions {
    async fn run(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let request = Request::get(["api", "executions", ""])
            .query("task_id", self.task)
            .query("run_id", self.run)
            .query("status", self.status.as_ref().map(word))
            .query("from", self.from)
            .query("to", self.to)
            .query("limit", Some(self.limit))
            .query("cursor", self.cursor.as_ref());
        let answer = client.ask(&request).await?;
        screen.list(&answer, table)
    }
}

impl DeadLetterFilter {
    fn narrow(&self, request: Request) -> Request {
        let request = request.query("task_id", self.task).query("status", self.status.as_ref());
        request.query("from", self.from).query("to", self.to)
    }
}

impl DeadLettersOptions {
    async fn run(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let request = self
            .filter
            .narrow(Request::get(["api", "dead-letters", ""]))
            .query("limit", Some(self.limit))
            .query("cursor", self.cursor.as_ref());
        let answer = client.ask(&request).await?;
        screen.list(&answer, table)
    }
}

impl RetryOptions {
    async fn run(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Some(id) = self.id else { return self.retry_all(client, screen).await };
        let request = Request::post(ExecutionName { id }.path(&["retry"])).keyed()?;
        let answer = client.ask(&request).await?;
        screen.answer(&answer, |_, _| format!("execution {id} gets another attempt\n"))
    }

    /// Goes through the dead letters page by page: what gets another attempt is none of them any more, what is refused stays.
    async fn retry_all(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let (mut retried, mut refused) = (Vec::new(), Vec::new());
        let mut cursor: Option<String> = None;
        loop {
            let request = self.filter.narrow(Request::post(["api", "dead-letters", "retry"]));
            let page = client.ask(&request.query("cursor", cursor.as_ref()).keyed()?).await?.json()?;
            let list = |name: &str| page[name].as_array().cloned().unwrap_or_default();
            retried.extend(list("retried"));
            refused.extend(list("refused"));
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        let answer = Answer { body: json!({ "retried": retried, "refused": refused }).to_string() };
        screen.answer(&answer, |answer, _| all_retried(answer))
    }
}

/// What became of all dead letters, in words.
fn all_retried(answer: &Value) -> String {
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let (retried, refused) = (list("retried"), list("refused"));
    let executions = |count: usize| if count == 1 { "execution" } else { "executions" };
    let gets = if retried.len() == 1 { "gets" } else { "get" };
    let mut told = match retried.len() {
        0 if refused.is_empty() => return "nothing failed for good\n".into(),
        count => format!("{count} {} {gets} another attempt\n", executions(count)),
    };
    if !refused.is_empty() {
        let _ = writeln!(told, "{} {} cannot be retried:", refused.len(), executions(refused.len()));
        for one in &refused {
            let _ = writeln!(told, "  {}: {}", field(one, "/execution_id"), field(one, "/detail"));
        }
    }
    told
}

fn table(executions: &[Value], zone: Zone) -> String {
    if executions.is_empty() {
        return "no executions\n".into();
    }
    let scheduled = format!("SCHEDULED ({})", zone.name());
    let mut table =
        Table::new(["ID", "TASK", "TRIGGER", "STATUS", &scheduled, ">LATE MS", ">ATTEMPT", "REASON"]);
    for execution in executions {
        table.row([
            field(execution, "/id"),
            field(execution, "/task_id"),
            field(execution, "/trigger"),
            field(execution, "/status"),
            when(execution, "/scheduled_at", zone),
            field(execution, "/lateness_ms"),
            field(execution, "/attempt"),
            shortened(&reason(execution)),
        ]);
    }
    table.to_string()
}

/// Why it is as it is: the recorded reason, else the error, else what it waits for.
fn reason(execution: &Value) -> String {
    let told = ["/reason", "/error", "/waiting_for"].map(|pointer| optional(execution, pointer));
    told.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn sheet(execution: &Value, zone: Zone) -> String {
    let mut sheet = Sheet::default();
    for (label, name) in [
        ("id", "id"),
        ("task", "task_id"),
        ("run", "run_id"),
        ("task version", "task_version"),
        ("tenant", "tenant"),
        ("trigger", "trigger"),
        ("status", "status"),
    ] {
        sheet.line(label, optional(execution, &format!("/{name}")));
    }
    for (label, name) in [
        ("scheduled", "scheduled_at"),
        ("fired", "fired_at"),
        ("started", "started_at"),
        ("finished", "finished_at"),
    ] {
        sheet.line(label, exactly_when(execution, &format!("/{name}"), zone));
    }
    let lateness = optional(execution, "/lateness_ms");
    sheet.line("late by", if lateness.is_empty() { lateness } else { format!("{lateness} ms") });
    let ahead = optional(execution, "/clock_ahead_ms");
    let ahead = if ahead.is_empty() { ahead } else { format!("{ahead} ms ahead of most nodes' clocks") };
    sheet.line("leader's clock", ahead);
    for (label, name) in [
        ("attempt", "attempt"),
        ("progress", "progress"),
        ("priority", "priority"),
        ("waiting for", "waiting_for"),
        ("reason", "reason"),
        ("error", "error"),
        ("retry items", "retry_items"),
        ("result", "result"),
        ("log index", "log_index"),
        ("correlation id", "correlation_id"),
    ] {
        sheet.line(label, optional(execution, &format!("/{name}")));
    }
    format!("{sheet}{}", attempts(execution, zone))
}

fn attempts(execution: &Value, zone: Zone) -> String {
    let attempts = execution["attempts"].as_array().map_or(&[][..], Vec::as_slice);
    if attempts.is_empty() {
        return String::new();
    }
    let started = format!("STARTED ({})", zone.name());
    let mut table =
        Table::new([">ATTEMPT", "WORKER", &started, "FINISHED", "OUTCOME", ">CPU S", ">PEAK MIB", "ERROR"]);
    for attempt in attempts {
        table.row([
            field(attempt, "/number"),
            field(attempt, "/worker"),
            when(attempt, "/started_at", zone),
            when(attempt, "/finished_at", zone),
            field(attempt, "/outcome"),
            field(attempt, "/cpu_seconds"),
            attempt["peak_memory_bytes"]
                .as_u64()
                .map_or("-".into(), |bytes| bytes.div_ceil(1 << 20).to_string()),
            shortened(&optional(attempt, "/error")),
        ]);
    }
    format!("\n{table}")
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use serde_json::json;

    use super::*;

    fn execution() -> Value {
        json!({
            "id": "e1", "task_id": "t1", "trigger": "schedule", "status": "failed", "scheduled_at": "2026-03-01T00:00:00.000Z",
            "lateness_ms": 4, "attempt": 2, "reason": null, "error": "HTTP 500", "attempts": [
                {"number": 1, "worker": "node 1", "started_at": "2026-03-01T00:00:00.010Z", "finished_at": "2026-03-01T00:00:01.000Z",
                 "outcome": "failed", "error": "HTTP 500", "cpu_seconds": 0.25, "peak_memory_bytes": 1_048_577}]
        })
    }

    #[test]
    fn a_list_shows_how_late_and_why() {
        let expected = "\
ID  TASK  TRIGGER   STATUS  SCHEDULED (UTC)      LATE MS  ATTEMPT  REASON
e1  t1    schedule  failed  2026-03-01 00:00:00        4        2  HTTP 500
";
        assert_eq!(table(&[execution()], Zone(Tz::UTC)), expected);
    }

    #[test]
    fn a_sheet_ends_with_the_attempts() {
        let sheet = sheet(&execution(), Zone(Tz::UTC));
        assert!(sheet.contains("late by    4 ms\n"), "{sheet}");
        assert!(
            sheet.contains("\n\nATTEMPT  WORKER  STARTED (UTC)        FINISHED             OUTCOME  CPU S  PEAK MIB  ERROR\n"),
            "{sheet}"
        );
        assert!(
            sheet.ends_with("      1  node 1  2026-03-01 00:00:00  2026-03-01 00:00:01  failed    0.25         2  HTTP 500\n"),
            "{sheet}"
        );
    }

    #[test]
    fn statuses_are_spelt_as_the_api_spells_them() {
        assert_eq!(word(&Status::TimedOut), "timed_out");
        assert_eq!(Status::value_variants().len(), 9);
    }
}
