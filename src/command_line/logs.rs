//! `execution logs`: what the attempts of an execution wrote; with `--follow` by asking again until it has ended.
//!
//! Invariant: each piece is printed once, in order. Absent on purpose: a stream from the node; asking twice a second
//! is as good for eyes and works through every proxy.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use escapement_domain::timestamp::Timestamp;
use serde_json::Value;

use super::client::{Client, Request};
use super::connection::Output;
use super::execution::ExecutionName;
use super::failure::Failure;
use super::screen::{Screen, field, items};
use super::zone::Zone;

/// How long to wait before asking for more.
const POLL: Duration = Duration::from_millis(500);
/// Pieces that are asked for at once.
const PAGE: u32 = 1_000;

const LOGS_EXAMPLES: &str = "\
Examples:
  escapement execution logs ID
  escapement execution logs ID --attempt 1
  escapement execution logs ID --follow             until it has ended
  escapement execution logs ID --output json        one JSON object a line: at, stream, text

Output is kept, up to a bound, on the node that made the attempt.";

/// Print what an execution wrote
#[derive(Debug, Args)]
#[command(after_long_help = LOGS_EXAMPLES)]
pub(super) struct LogsOptions {
    #[command(flatten)]
    execution: ExecutionName,
    /// Only this attempt
    #[arg(long, value_name = "NUMBER")]
    attempt: Option<NonZeroU32>,
    /// Go on until the execution has ended
    #[arg(short, long)]
    follow: bool,
}

/// How far a log was read.
#[derive(Debug, Default)]
struct Position {
    cursor: Option<String>,
    /// Pieces of the page at `cursor` that were printed.
    printed: usize,
}

impl LogsOptions {
    pub(super) async fn run(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        if !self.follow {
            return self.print(client, screen, self.attempt, &mut Position::default()).await;
        }
        // Without --attempt one attempt after the other, from the first.
        let mut attempt = self.attempt.unwrap_or(NonZeroU32::MIN);
        let mut position = Position::default();
        loop {
            // Asked before the output, so that what came last is not missed.
            let execution = client.ask(&Request::get(self.execution.path(&[]))).await?.json()?;
            self.print(client, screen, Some(attempt), &mut position).await?;
            let later = execution["attempt"].as_u64().is_some_and(|latest| latest > u64::from(attempt.get()));
            match (later && self.attempt.is_none(), later || has_ended(&execution)) {
                (true, _) => {
                    attempt = attempt.saturating_add(1);
                    position = Position::default();
                }
                (false, true) => return Ok(()),
                (false, false) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Prints everything from a position on that is there now.
    async fn print(
        &self,
        client: &Client,
        screen: &mut Screen<'_>,
        attempt: Option<NonZeroU32>,
        position: &mut Position,
    ) -> Result<(), Failure> {
        loop {
            let request = Request::get(self.execution.path(&["logs"]))
                .query("attempt", attempt)
                .query("limit", Some(PAGE))
                .query("cursor", position.cursor.as_ref());
            let page = client.ask(&request).await?.json()?;
            for piece in items(&page).iter().skip(position.printed) {
                match screen.output {
                    Output::Json => screen.line(&piece.to_string())?,
                    Output::Table => screen.text(&lines(piece, screen.zone))?,
                }
            }
            if !position.turn(&page) {
                return Ok(());
            }
        }
    }
}

impl Position {
    /// Moves behind a page; says whether there is another.
    fn turn(&mut self, page: &Value) -> bool {
        match page["next_cursor"].as_str() {
            Some(next) => {
                *self = Self { cursor: Some(next.to_owned()), printed: 0 };
                true
            }
            None => {
                self.printed = items(page).len().max(self.printed);
                false
            }
        }
    }
}

fn has_ended(execution: &Value) -> bool {
    !matches!(field(execution, "/status").as_str(), "queued" | "running" | "retrying")
}

fn lines(piece: &Value, zone: Zone) -> String {
    let at = Timestamp::parse(&field(piece, "/at")).map_or_else(|_| "-".into(), |at| zone.show_time(at));
    let stream = field(piece, "/stream");
    piece["text"]
        .as_str()
        .unwrap_or_default()
        .lines()
        .map(|line| format!("{at} {stream:<6} {line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_line_says_when_and_from_where() {
        let piece = json!({"at": "2026-03-01T00:00:00.010Z", "stream": "stdout", "text": "one\ntwo\n"});
        assert_eq!(lines(&piece, Zone(Tz::UTC)), "00:00:00.010 stdout one\n00:00:00.010 stdout two\n");
    }

    #[test]
    fn a_page_that_grows_is_printed_from_where_it_ended() {
        let mut position = Position::default();
        assert!(position.turn(&json!({"items": [1, 2], "next_cursor": "c"})));
        assert!(!position.turn(&json!({"items": [3], "next_cursor": null})));
        assert_eq!((position.cursor.as_deref(), position.printed), (Some("c"), 1));
        assert!(!position.turn(&json!({"items": [3, 4], "next_cursor": null})));
        assert_eq!(position.printed, 2);
    }

    #[test]
    fn an_execution_that_waits_for_a_retry_has_not_ended() {
        for (status, ended) in
            [("queued", false), ("running", false), ("retrying", false), ("lost", true), ("succeeded", true)]
        {
            assert_eq!(has_ended(&json!({ "status": status })), ended, "{status}");
        }
    }
}
