//! `audit` from a running node: its pages of events, one after the other.
//!
//! Invariant: an event is read once, in the order of its chain; a page that does not move on ends the reading with an
//! error. Absent on purpose: computing hashes, which cover what is stored and not what the API tells; only the links
//! between events are held against each other here.

use std::collections::BTreeMap;

use escapement_domain::identifier::TaskId;
use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};

use super::audit::{Format, Until};
use super::client::{Client, Request};
use super::connection::Output;
use super::failure::Failure;
use super::screen::{Screen, field, instant, items};
use super::table::Sheet;

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

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    events: u64,
    last: Option<Value>,
    by_type: BTreeMap<String, u64>,
}

/// Whether to go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Event,
    Nothing,
}

impl Events {
    /// Reads events until there are no more or `take` has seen enough.
    async fn read(
        &self,
        client: &Client,
        mut take: impl FnMut(&Value) -> Result<Next, Failure>,
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
                if take(event)? == Next::Nothing {
                    return Ok(());
                }
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
            Ok(Next::Event)
        })
        .await?;
        screen.out.flush()?;
        Ok(count)
    }

    /// Follows the links of a chain.
    pub(super) async fn verify(&self, client: &Client) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        self.read(client, |event| {
            link(tally.last.as_ref(), event)?;
            tally.add(event);
            Ok(Next::Event)
        })
        .await?;
        Ok(tally)
    }

    /// Reads up to a point, prints the events if asked to, and counts them.
    pub(super) async fn replay(
        &self,
        client: &Client,
        until: Option<Until>,
        print: bool,
        screen: &mut Screen<'_>,
    ) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        self.read(client, |event| {
            if until.is_some_and(|until| is_past(event, until)) {
                return Ok(Next::Nothing);
            }
            if print {
                screen.out.write_all(format!("{event}\n").as_bytes())?;
            }
            tally.add(event);
            Ok(Next::Event)
        })
        .await?;
        Ok(tally)
    }
}

fn is_past(event: &Value, until: Until) -> bool {
    match until {
        Until::Sequence(sequence) => event["seq"].as_u64().is_some_and(|seq| seq > sequence),
        Until::Instant(bound) => instant(event, "/at").is_some_and(|at| at > bound),
    }
}

/// Holds an event against the one before it.
fn link(before: Option<&Value>, event: &Value) -> Result<(), Failure> {
    let Some(before) = before else { return Ok(()) };
    let (seq, expected) = (event["seq"].as_u64(), before["seq"].as_u64().map(|seq| seq + 1));
    if seq != expected {
        return Err(Failure::stopped(format!(
            "a gap: event {} follows event {}",
            field(event, "/seq"),
            field(before, "/seq")
        )));
    }
    if event["previous_hash"] != before["hash"] {
        let message = format!(
            "the chain is broken at event {}: it does not hold the hash of the one before it",
            field(event, "/seq")
        );
        return Err(Failure::stopped(message).advise("verify a copy of each node's data with --data DIR"));
    }
    Ok(())
}

impl Tally {
    fn add(&mut self, event: &Value) {
        self.events += 1;
        *self.by_type.entry(field(event, "/type")).or_default() += 1;
        self.last = Some(event.clone());
    }

    pub(super) fn print(&self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let nothing = Value::Null;
        let last = self.last.as_ref().unwrap_or(&nothing);
        match screen.output {
            Output::Json => {
                let told = json!({
                    "events": self.events, "by_type": self.by_type, "tenant": last["tenant"], "seq": last["seq"],
                    "log_index": last["log_index"], "at": last["at"], "hash": last["hash"],
                });
                screen.line(&told.to_string())
            }
            Output::Table => {
                let mut sheet = Sheet::default();
                sheet.line("events", self.events.to_string());
                for (label, pointer) in [
                    ("tenant", "/tenant"),
                    ("last sequence", "/seq"),
                    ("log index", "/log_index"),
                    ("at", "/at"),
                    ("hash", "/hash"),
                ] {
                    sheet.line(label, field(last, pointer));
                }
                self.by_type.iter().for_each(|(name, count)| sheet.line(name, count.to_string()));
                screen.text(&sheet.to_string())
            }
        }
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

    #[test]
    fn a_gap_or_another_hash_breaks_the_chain() {
        let first = event(1, "h1", "h0");
        assert!(link(None, &first).is_ok());
        assert!(link(Some(&first), &event(2, "h2", "h1")).is_ok());
        let failure = link(Some(&first), &event(3, "h3", "h1")).expect_err("a gap");
        assert_eq!(failure.to_string(), "a gap: event 3 follows event 1");
        let failure = link(Some(&first), &event(2, "h2", "hx")).expect_err("broken");
        assert!(failure.to_string().starts_with("the chain is broken at event 2"), "{failure}");
    }

    #[test]
    fn a_replay_ends_behind_its_bound() {
        let event = event(7, "h", "h");
        assert!(!is_past(&event, Until::Sequence(7)) && is_past(&event, Until::Sequence(6)));
        let at = Timestamp::parse("2026-03-01T00:00:00Z").expect("an instant");
        assert!(!is_past(&event, Until::Instant(at)) && is_past(&event, Until::Instant(Timestamp(at.0 - 1))));
    }
}
