//! Exporting the events of an archive, oldest first, one record in memory at a time.

use std::io::Write;

use escapement_actors::projection::merged_from;
use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::timestamp::Timestamp;

use super::archive::{Archive, AuditError};
use super::json::{AuditEvent, write_csv_head};

/// Records between two words about the progress.
const PROGRESS_EVERY: u64 = 1_000;

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a head (RFC 4180).
    Csv,
}

/// What is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// The form.
    pub format: Format,
    /// Only events stamped at or after this instant.
    pub from: Option<Timestamp>,
    /// Only events stamped before this instant.
    pub to: Option<Timestamp>,
    /// Only the events of this tenant.
    pub tenant: Option<String>,
    /// Only the events of this task.
    pub task: Option<TaskId>,
}

/// What an export did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Events that were written.
    pub events: u64,
}

/// Writes the events of a stopped archive. `progress` hears now and then how many records of how many were looked at.
///
/// # Errors
/// [`AuditError::Broken`] at the first record that is not what it was: everything before it was written. Others when
/// the tenant is not known or the output cannot be written.
pub fn export(
    archive: &Archive,
    options: &ExportOptions,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Exported, AuditError> {
    let log = archive.log();
    let heads = log.heads();
    let tenants: Vec<TenantId> = match &options.tenant {
        Some(name) => vec![archive.number(name)?],
        None => heads.keys().copied().collect(),
    };
    let (mut chains, mut total) = (Vec::with_capacity(tenants.len()), 0);
    for tenant in tenants {
        let first = match options.from {
            Some(from) => log.first_at(tenant, from).map_err(|fault| archive.broken(fault))?,
            None => 1,
        };
        total += (log.head(tenant).sequence + 1).saturating_sub(first);
        chains.push((tenant, first));
    }
    if options.format == Format::Csv {
        write_csv_head(out)?;
    }
    let (mut exported, mut looked_at) = (Exported::default(), 0);
    for record in merged_from(log, chains).map_err(|fault| archive.broken(fault))? {
        let record = record.map_err(|fault| archive.broken(fault))?;
        // Stamps never go back from one log entry to the next.
        if options.to.is_some_and(|to| record.header.at >= to) {
            break;
        }
        looked_at += 1;
        if looked_at % PROGRESS_EVERY == 0 {
            progress(looked_at, total);
        }
        if options.task.is_some_and(|task| record.event.task() != Some(task)) {
            continue;
        }
        let event = AuditEvent::of(&record, &archive.name(record.header.tenant));
        match options.format {
            Format::Jsonl => event.write_json(out)?,
            Format::Csv => event.write_csv(out)?,
        }
        exported.events += 1;
    }
    progress(total, total);
    out.flush()?;
    Ok(exported)
}
