//! `audit`: the event log, from a node or from a stopped node's directory.
//!
//! Absent on purpose: reading the log, which is the audit's for a directory and the API's for a node.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use escapement_domain::identifier::TaskId;
use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};

use super::connection::{ConnectionOptions, Output};
use super::events::Events;
use super::failure::Failure;
use super::fetching::{Wanted, fetch};
use super::fires::Account;
use super::progress::Progress;
use super::screen::{Screen, note};
use super::table::{Sheet, Table};
use super::{ask, parse_instant, parse_task};
use crate::audit::fires::Range;
use crate::audit::{self, Archive, AuditError, ReplayUntil, Verified};

const EXPORT_EXAMPLES: &str = "\
Examples:
  escapement audit export --format jsonl > events.jsonl
  escapement audit export --format csv --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z --task ID
  escapement audit export --format jsonl --data /backup/node-1      a stopped node's copy, without a node";

const VERIFY_EXAMPLES: &str = "\
Examples:
  escapement audit verify                     all that the token may see, from a running node
  escapement audit verify --tenant acme
  escapement audit verify --data /backup/node-1

Each event holds the hash of the one before it in its tenant's chain. Every hash is computed again here from what is stored, \
which finds an event that was changed, is missing or out of order, and an end that was cut off; the first one is named with its \
tenant and sequence, and the exit status is 1. A running node is asked for its stored blocks and for where its state says that \
the chains end: with the role admin for those of one's own tenant, with cluster-admin for those of all. They are kept in the \
temporary directory meanwhile. A node answers for its own disk: ask each one, by --address.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  escapement audit replay                     from a running node
  escapement audit replay --data /backup/node-1
  escapement audit replay --data /backup/node-1 --until 4711
  escapement audit replay --until 2026-03-01T02:00:00Z --task ID

The state is rebuilt from the events alone, up to a point, and told with its hash, which every replica had there. That takes \
the events of every tenant: from a running node, the role cluster-admin. Their blocks are kept in the temporary directory \
meanwhile, and the node's own state at the same point must have the same hash. A sequence counts the events of one tenant, named by --tenant or --task. With --task, the task's events are printed \
first, one JSON object a line, and its state as it then was is told.";

const FIRES_EXAMPLES: &str = "\
Examples:
  escapement audit fires --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z
  escapement audit fires --from 2026-03-29T00:00:00Z --to 2026-03-30T00:00:00Z --task ID --output json
  escapement audit fires --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z --data /backup/node-1

Every instant that a task should have fired, by the definitions that held then, is told with what became of it, its execution \
and its log index, from the event log alone:
  on_time             fired a second after it was due, or less
  late                fired later than that; made_good where its misfire policy did, paused where a pause kept it back
  delayed_by_overlap  fired, and its execution waited for an earlier one
  skipped             was not to fire: overlap, calendar, by_hand, moved (the time it was moved to is told by itself), paused …
  missed              should have fired and did not
  pending             is to come, or not settled yet
  unexpected          fired, and no definition named it, or it was not to fire
A node takes the role admin; a stopped node's log is accounted for as of its last event.";

/// Commands on the event log.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Print events, oldest first
    #[command(after_long_help = EXPORT_EXAMPLES)]
    Export(ExportOptions),
    /// Check that no event was changed, removed or added
    #[command(after_long_help = VERIFY_EXAMPLES)]
    Verify {
        /// Only this tenant's; from a node, another than one's own takes the role cluster-admin
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        source: Source,
    },
    /// Rebuild the state from the events
    #[command(after_long_help = REPLAY_EXAMPLES)]
    Replay {
        /// Only up to this sequence, or to this instant
        #[arg(long, value_name = "SEQ|TIME", value_parser = parse_until)]
        until: Option<ReplayUntil>,
        /// The tenant whose events that sequence counts
        #[arg(long)]
        tenant: Option<String>,
        /// Print this task's events, and its state as it then was
        #[arg(long, value_name = "ID", value_parser = parse_task)]
        task: Option<TaskId>,
        #[command(flatten)]
        source: Source,
    },
    /// Account for every instant that tasks should have fired; exit status 1 if any was missed
    #[command(after_long_help = FIRES_EXAMPLES)]
    Fires(FiresOptions),
}

/// Which instants to account for.
#[derive(Debug, Args)]
pub(super) struct FiresOptions {
    /// From this instant on
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    from: Timestamp,
    /// Before this instant
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    to: Timestamp,
    /// Only this task's
    #[arg(long, value_name = "ID", value_parser = parse_task)]
    task: Option<TaskId>,
    /// Only this tenant's; from a node, another than one's own takes the role cluster-admin
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    source: Source,
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
    /// Only this tenant's; from a node, another than one's own takes the role cluster-admin
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    source: Source,
}

/// Where the events are.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Read a stopped node's data directory, or a copy of it, rather than asking a node
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// The forms of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Jsonl,
    Csv,
}

fn parse_until(text: &str) -> Result<ReplayUntil, String> {
    match text.parse() {
        Ok(sequence) => Ok(ReplayUntil::Sequence(sequence)),
        Err(_) => Timestamp::parse(text)
            .map(ReplayUntil::Instant)
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

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Write(error) => Self::Output(error),
            error @ AuditError::WhichTenant { .. } => {
                Self::caused_by(&error).advise("add --tenant or --task")
            }
            error @ AuditError::Partial => Self::caused_by(&error)
                .advise("use a token with the role cluster-admin, or a stopped node's data with --data DIR"),
            error => Self::caused_by(&error),
        }
    }
}

impl AuditCommand {
    pub(super) fn run(self, connection: &ConnectionOptions, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Export(options) => options.run(connection, screen),
            Self::Verify { tenant, source } => source.verify(tenant.as_deref(), connection, screen),
            Self::Fires(options) => options.run(connection, screen),
            Self::Replay { until, tenant, task, source } => {
                let options = audit::ReplayOptions { until, tenant, task };
                replay(&source.archive(connection, Wanted::State)?, &options, screen)
            }
        }
    }
}

impl ExportOptions {
    fn run(self, connection: &ConnectionOptions, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Self { format, from, to, task, tenant, source } = self;
        match &source.data {
            Some(data) => {
                let node = open(data)?;
                let options = audit::ExportOptions { format: format.into(), from, to, tenant, task };
                let mut progress = Progress::new("events read");
                let exported =
                    audit::export(&node, &options, screen.out, &mut |done, all| progress.show(done, all))?;
                progress.finish();
                note(&format!("{} events", exported.events));
            }
            None => {
                let events = Events { tenant, task, from, to };
                let count = ask(connection, async |client| events.export(&client, format, screen).await)?;
                note(&format!("{count} events"));
            }
        }
        Ok(())
    }
}

impl FiresOptions {
    fn run(self, connection: &ConnectionOptions, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Self { from, to, task, tenant, source } = self;
        if to <= from {
            return Err(Failure::Usage("--to is an instant after --from".into()));
        }
        let range = Range { from, to };
        let account = match &source.data {
            Some(data) => {
                Account::archived(&open(data)?, audit::fires::FiresOptions { range, tenant, task })?
            }
            None => ask(connection, async |client| Account::fetch(&client, range, tenant, task).await)?,
        };
        account.show(screen)
    }
}

impl Source {
    /// The events of a directory, or what is wanted of a running node.
    fn archive(&self, connection: &ConnectionOptions, wanted: Wanted<'_>) -> Result<Archive, Failure> {
        match &self.data {
            Some(data) => open(data),
            None => ask(connection, async |client| fetch(&client, wanted).await),
        }
    }

    fn verify(
        &self,
        tenant: Option<&str>,
        connection: &ConnectionOptions,
        screen: &mut Screen<'_>,
    ) -> Result<(), Failure> {
        let archive = self.archive(connection, tenant.map_or(Wanted::Visible, Wanted::Tenant))?;
        let mut progress = Progress::new("events verified");
        let verified = audit::verify(&archive, tenant, &mut |done, all| progress.show(done, all))?;
        progress.finish();
        match screen.output {
            Output::Json => screen.line(&verified_json(&verified).to_string()),
            Output::Table => screen.text(&verified_table(&verified)),
        }
    }
}

fn open(data: &Path) -> Result<Archive, Failure> {
    Ok(Archive::open(data)?)
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

fn replay(archive: &Archive, options: &audit::ReplayOptions, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut progress = Progress::new("events replayed");
    let replayed = audit::replay(archive, options, screen.out, &mut |done, all| progress.show(done, all))?;
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
        assert_eq!(parse_until("4711"), Ok(ReplayUntil::Sequence(4_711)));
        assert_eq!(parse_until("1970-01-01T00:00:01Z"), Ok(ReplayUntil::Instant(Timestamp(1_000))));
        assert!(
            parse_until("yesterday").expect_err("neither").starts_with("neither a sequence nor an instant")
        );
    }
}
