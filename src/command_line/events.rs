//! `audit` from a running node: its pages of events, one after the other.
//!
//! Invariant: an event is read once, in the order of its chain; a page that does not move on ends the reading with an
//! error. Absent on purpose: verifying and replaying, which need what is stored and not what is told of it.

use escapement_domain::identifier::TaskId;
use escapement_domain::timestamp::Timestamp;
use serde_json::Value;

use super::audit::Format;
use super::client::{Client, Request};
use super::failure::Failure;
use super::screen::{Screen, items};

/// Events of one page.
const PAGE: u32 = 1_000;
/// The columns of the CSV form, as an export of a stopped node has them.
const COLUMNS: [&str; 10] =
    ["seq", "log_index", "at", "tenant", "actor", "correlation_id", "type", "data", "hash", "previous_hash"];

/// Which events are read.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) tenant: Option<String>,
    pub(super) task: Option<TaskId>,
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
}

impl Events {
    /// Reads events until there are no more.
    async fn read(
        &self,
        client: &Client,
        mut take: impl FnMut(&Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut after = 0;
        loop {
            let request = Request::get(["api", "audit", "events"])
                .query("after", Some(after))
                .query("limit", Some(PAGE))
                .query("tenant", self.tenant.as_ref())
                .query("task", self.task)
                .query("from", self.from)
                .query("to", self.to);
            let page = client.ask(&request).await?.json()?;
            for event in items(&page) {
                take(event)?;
            }
            if page["next_cursor"].is_null() {
                return Ok(());
            }
            let last = items(&page).last().and_then(|event| event["seq"].as_u64());
            match last.filter(|last| *last > after) {
                Some(last) => after = last,
                None => {
                    return Err(Failure::stopped(format!(
                        "the node says that there is more after event {after}, and gives nothing"
                    )));
                }
            }
        }
    }

    /// Prints events; returns how many.
    pub(super) async fn export(
        &self,
        client: &Client,
        format: Format,
        screen: &mut Screen<'_>,
    ) -> Result<u64, Failure> {
        let mut count = 0;
        if format == Format::Csv {
            screen.out.write_all(csv(&COLUMNS.map(String::from)).as_bytes())?;
        }
        self.read(client, |event| {
            let line = match format {
                Format::Jsonl => format!("{event}\n"),
                Format::Csv => csv(&COLUMNS.map(|column| cell(&event[column]))),
            };
            screen.out.write_all(line.as_bytes())?;
            count += 1;
            Ok(())
        })
        .await?;
        screen.out.flush()?;
        Ok(count)
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A line of RFC 4180.
fn csv(cells: &[String]) -> String {
    let quoted = cells.iter().map(|cell| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    });
    quoted.collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: u64, hash: &str, previous: &str) -> Value {
        json!({"seq": seq, "log_index": seq * 2, "at": "2026-03-01T00:00:00.000Z", "tenant": "acme", "actor": "ada", "correlation_id": "c",
            "type": "TaskPaused", "data": {"a": "x,\"y\""}, "hash": hash, "previous_hash": previous})
    }

    #[test]
    fn a_line_of_csv_quotes_what_needs_it() {
        let line = csv(&COLUMNS.map(|column| cell(&event(1, "h1", "h0")[column])));
        assert_eq!(
            line,
            "1,2,2026-03-01T00:00:00.000Z,acme,ada,c,TaskPaused,\"{\"\"a\"\":\"\"x,\\\"\"y\\\"\"\"\"}\",h1,h0\r\n"
        );
    }
}
