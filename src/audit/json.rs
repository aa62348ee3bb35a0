//! A record of the event log as the API tells it, and as a line of an export.
//!
//! Instants are RFC 3339 in UTC with milliseconds, durations strings such as `1h30m`, enumerations snake_case. What is
//! sealed in a way that this program cannot open is told as `{"sealed": bytes}`.

use std::io::{self, Write};

use escapement_domain::record::Record;
use serde::Serialize;
use serde_json::Value;

use super::event::event_data;

/// Who wanted what nobody asked for.
const SCHEDULER: &str = "scheduler";
/// The columns of the CSV form.
const COLUMNS: [&str; 10] =
    ["seq", "log_index", "at", "tenant", "actor", "correlation_id", "type", "data", "hash", "previous_hash"];

/// A record as the API tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditEvent {
    /// Its place in its tenant's chain.
    pub seq: u64,
    /// The index of the log entry that led to it.
    pub log_index: u64,
    /// When the leader stamped the command.
    pub at: String,
    /// Milliseconds by which its clock was then ahead of most voters', as far as it knew; left out if nothing was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i32>,
    /// The tenant's name.
    pub tenant: String,
    /// Who wanted it; `scheduler` for the scheduler itself.
    pub actor: String,
    /// The request that it goes back to; an execution's own name where it goes back to none.
    pub correlation_id: String,
    /// The name of the event.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The event.
    pub data: Value,
    /// Its hash in hexadecimal digits.
    pub hash: String,
    /// The hash of the record before it in the chain.
    pub previous_hash: String,
}

impl AuditEvent {
    /// Tells a record of the tenant with this name.
    #[must_use]
    pub fn of(record: &Record, tenant: &str) -> Self {
        let header = &record.header;
        let correlation_id = match record.event.execution() {
            Some(execution) if header.correlation_id.is_empty() => execution.to_string(),
            _ => header.correlation_id.to_string(),
        };
        let actor = if header.actor.is_empty() { SCHEDULER } else { &header.actor };
        Self {
            seq: header.sequence,
            log_index: header.log_index,
            at: header.at.to_string(),
            clock_ahead_ms: Some(header.ahead_ms).filter(|ahead| *ahead != 0),
            tenant: tenant.to_owned(),
            actor: actor.to_owned(),
            correlation_id,
            kind: record.event.name(),
            data: event_data(&record.event),
            hash: record.hash.to_string(),
            previous_hash: record.previous_hash.to_string(),
        }
    }

    /// Writes it as one line of JSON.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }

    /// Writes it as one line of CSV (RFC 4180), the event as JSON text in its column.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let (seq, log_index, data) =
            (self.seq.to_string(), self.log_index.to_string(), self.data.to_string());
        let cells: [&str; COLUMNS.len()] = [
            &seq,
            &log_index,
            &self.at,
            &self.tenant,
            &self.actor,
            &self.correlation_id,
            self.kind,
            &data,
            &self.hash,
            &self.previous_hash,
        ];
        write_cells(&cells, out)
    }
}

/// Writes the first line of the CSV form.
///
/// # Errors
/// Those of the writer.
pub fn write_csv_head(out: &mut dyn Write) -> io::Result<()> {
    write_cells(&COLUMNS, out)
}

fn write_cells(cells: &[&str], out: &mut dyn Write) -> io::Result<()> {
    for (place, cell) in cells.iter().enumerate() {
        if place > 0 {
            out.write_all(b",")?;
        }
        if cell.contains([',', '"', '\n', '\r']) {
            write!(out, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            out.write_all(cell.as_bytes())?;
        }
    }
    out.write_all(b"\r\n")
}
