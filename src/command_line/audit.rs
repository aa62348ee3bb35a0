//! `audit`: the event log, from a node or from a stopped node's directory.
//!
//! Absent on purpose: reading the log, which is the audit's for a directory and the API's for a node.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use escapement_domain::identifier::TaskId;
use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};

use super::connection::{ConnectionOptions, Output};
use super::events::{Events, Tally};
use super::failure::Failure;
use super::progress::Progress;
use super::screen::{Screen, note};
use super::table::{Sheet, Table};
use super::{ask, parse_instant, parse_task};
use crate::audit::{self, AuditError, StoppedNode, Verified};

const EXPORT_EXAMPLES: &str = "\
Examples:
  escapement audit export --format jsonl > events.jsonl
  escapement audit export --format csv --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z --task ID
  escapement audit export --format jsonl --data /backup/node-1      a stopped node's copy, without a node";

const VERIFY_EXAMPLES: &str = "\
Examples:
  escapement audit verify
  escapement audit verify --data /backup/node-1

Each event holds the hash of the one before it in its tenant's chain. From a node, the links of one tenant's chain are \
followed from the first event to the last. From a stopped node's data, every hash of every chain is computed again from \
what is stored, which also finds an event whose contents were changed, or an end that was cut off. What does not hold is \
named with its sequence, and the exit status is 1.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  escapement audit replay --data /backup/node-1
  escapement audit replay --data /backup/node-1 --until 4711
  escapement audit replay --until 2026-03-01T02:00:00Z --task ID

With --data the state is rebuilt from the events, up to a point, and told with its hash, which every replica had there. \
From a node the events are read and counted; their state is the node's to tell. With --task, the task's events are \
printed first, one JSON object a line.";

/// Commands on the event log.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Print events, oldest first
    #[command(after_long_help = EXPORT_EXAMPLES)]
    Export(ExportOptions),
    /// Check that no event was changed, removed or added
    #[command(after_long_help = VERIFY_EXAMPLES)]
    Verify {
        #[command(flatten)]
        source: Source,
    },
    /// Rebuild the state from the events
    #[command(after_long_help = REPLAY_EXAMPLES)]
    Replay {
        /// Only up to this sequence, or to this instant
        #[arg(long, value_name = "SEQ|TIME", value_parser = parse_until)]
        until: Option<Until>,
        /// Only this task
        #[arg(long, value_name = "ID", value_parser = parse_task)]
        task: Option<TaskId>,
        #[command(flatten)]
        source: Source,
    },
}

/// What to export.
#[derive(Debug, Args)]
pub(super) struct ExportOptions {
    /// One JSON object a line, or comma-separated values with a header
    #[arg(long, value_enum)]
    format: Format,
    /// Only from this instant on
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    from: Option<Timestamp>,
    /// Only before this instant
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    to: Option<Timestamp>,
    /// Only this task's events
    #[arg(long, value_name = "ID", value_parser = parse_task)]
    task: Option<TaskId>,
    #[command(flatten)]
    source: Source,
}

/// Where the events are.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Read a stopped node's data directory, or a copy of it, rather than asking a node
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only this tenant; from a node, another than one's own takes the role cluster-admin
    #[arg(long)]
    tenant: Option<String>,
}

/// The forms of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Jsonl,
    Csv,
}

/// Where a replay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Sequence(u64),
    Instant(Timestamp),
}

fn parse_until(text: &str) -> Result<Until, String> {
    match text.parse() {
        Ok(sequence) => Ok(Until::Sequence(sequence)),
        Err(_) => Timestamp::parse(text)
            .map(Until::Instant)
            .map_err(|error| format!("neither a sequence nor an instant: {error}")),
    }
}

impl From<Format> for audit::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Jsonl => Self::Jsonl,
            Format::Csv => Self::Csv,
        }
    }
}

impl From<Until> for audit::ReplayUntil {
    fn from(until: Until) -> Self {
        match until {
            Until::Sequence(sequence) => Self::Sequence(sequence),
            Until::Instant(instant) => Self::Instant(instant),
        }
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Write(error) => Self::Output(error),
            error @ AuditError::WhichTenant { .. } => {
                Self::caused_by(&error).advise("add --tenant or --task")
            }
            error => Self::caused_by(&error),
        }
    }
}

impl AuditCommand {
    pub(super) fn run(self, connection: &ConnectionOptions, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Export(options) => options.run(connection, screen),
            Self::Verify { source } => source.verify(connection, screen),
            Self::Replay { until, task, source } => match &source.data {
                Some(data) => {
                    let options = audit::ReplayOptions {
                        until: until.map(Into::into),
                        tenant: source.tenant.clone(),
                        task,
                    };
                    replay_stopped(data, &options, screen)
                }
                None => {
                    let events = Events { tenant: source.tenant, task, from: None, to: None };
                    let tally = ask(connection, async |client| {
                        events.replay(&client, until, task.is_some(), screen).await
                    })?;
                    note(
                        "to rebuild the state, replay a stopped node's data, or a copy of it, with --data DIR",
                    );
                    tally.print(screen)
                }
            },
        }
    }
}

impl ExportOptions {
    fn run(self, connection: &ConnectionOptions, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Self { format, from, to, task, source } = self;
        match &source.data {
            Some(data) => {
                let node = open(data)?;
                let options =
                    audit::ExportOptions { format: format.into(), from, to, tenant: source.tenant, task };
                let mut progress = Progress::new("events read");
                let exported =
                    audit::export(&node, &options, screen.out, &mut |done, all| progress.show(done, all))?;
                progress.finish();
                note(&format!("{} events", exported.events));
            }
            None => {
                let events = Events { tenant: source.tenant, task, from, to };
                let count = ask(connection, async |client| events.export(&client, format, screen).await)?;
                note(&format!("{count} events"));
            }
        }
        Ok(())
    }
}

impl Source {
    fn verify(self, connection: &ConnectionOptions, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Some(data) = &self.data else {
            let events = Events { tenant: self.tenant, ..Events::default() };
            let tally: Tally = ask(connection, async |client| events.verify(&client).await)?;
            return tally.print(screen);
        };
        let node = open(data)?;
        let mut progress = Progress::new("events verified");
        let verified = audit::verify(&node, &mut |done, all| progress.show(done, all))?;
        progress.finish();
        match screen.output {
            Output::Json => screen.line(&verified_json(&verified).to_string()),
            Output::Table => screen.text(&verified_table(&verified)),
        }
    }
}

fn open(data: &Path) -> Result<StoppedNode, Failure> {
    StoppedNode::open(data).map_err(Failure::from)
}

fn verified_json(verified: &Verified) -> Value {
    let tenant = |tenant: &audit::VerifiedTenant| json!({ "tenant": tenant.name, "events": tenant.head.sequence, "hash": tenant.head.hash.to_string() });
    let tenants: Vec<Value> = verified.tenants.iter().map(tenant).collect();
    json!({ "events": verified.events, "log_index": verified.log_index, "tenants": tenants })
}

fn verified_table(verified: &Verified) -> String {
    let mut table = Table::new(["TENANT", ">EVENTS", "HASH OF THE LAST"]);
    for tenant in &verified.tenants {
        table.row([tenant.name.clone(), tenant.head.sequence.to_string(), tenant.head.hash.to_string()]);
    }
    format!("{table}\n{} events up to log index {}: every chain holds\n", verified.events, verified.log_index)
}

fn replay_stopped(
    data: &Path,
    options: &audit::ReplayOptions,
    screen: &mut Screen<'_>,
) -> Result<(), Failure> {
    let node = open(data)?;
    let mut progress = Progress::new("events replayed");
    let replayed = audit::replay(&node, options, screen.out, &mut |done, all| progress.show(done, all))?;
    progress.finish();
    let told = replayed.to_json();
    match screen.output {
        Output::Json => screen.line(&told.to_string()),
        Output::Table => screen.text(&state(&told)),
    }
}

/// A state as a sheet, with its tenants and, if one was asked for, its task.
fn state(told: &Value) -> String {
    let mut sheet = Sheet::default();
    for (label, name) in [
        ("events", "events"),
        ("log index", "log_index"),
        ("at", "at"),
        ("state hash", "state_hash"),
        ("tasks", "tasks"),
        ("queued", "queued"),
        ("running", "running"),
        ("retrying", "retrying"),
    ] {
        sheet.line(label, super::screen::field(told, &format!("/{name}")));
    }
    let mut tenants = Table::new(["TENANT", ">EVENTS", "HASH OF THE LAST"]);
    for tenant in told["tenants"].as_array().map_or(&[][..], Vec::as_slice) {
        tenants.row(["/tenant", "/events", "/hash"].map(|pointer| super::screen::field(tenant, pointer)));
    }
    let task = match &told["task"] {
        Value::Null => String::new(),
        task => format!("\n{task:#}\n"),
    };
    format!("{sheet}\n{tenants}{task}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_ends_at_a_sequence_or_an_instant() {
        assert_eq!(parse_until("4711"), Ok(Until::Sequence(4_711)));
        assert_eq!(parse_until("1970-01-01T00:00:01Z"), Ok(Until::Instant(Timestamp(1_000))));
        assert!(
            parse_until("yesterday").expect_err("neither").starts_with("neither a sequence nor an instant")
        );
    }
}
