//! `execution logs`: what the attempts of an execution wrote; with `--follow` as it is written, until it has ended.
//!
//! Invariant: each piece is printed once, in order, also when the stream breaks off and is taken up again.

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

/// How long to wait before a stream that broke off is taken up again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often in a row that is tried.
const TRIES_MAX: u32 = 10;
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

impl LogsOptions {
    pub(super) async fn run(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        if self.follow { self.follow(client, screen).await } else { self.print(client, screen).await }
    }

    /// Prints what is written as it is written.
    async fn follow(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let mut seen: Option<String> = None;
        let mut tries = 0;
        loop {
            let mut request = Request::get(self.execution.path(&["logs"]))
                .query("follow", Some(true))
                .query("attempt", self.attempt);
            if let Some(id) = &seen {
                request = request.header("last-event-id", id)?;
            }
            match client.open(&request).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        tries = 0;
                        match event.name.as_str() {
                            "line" => show(&piece(&event.data)?, screen)?,
                            "end" => return Ok(()),
                            _ => {}
                        }
                        seen = event.id.or(seen);
                    }
                    // What it has not said by now, it, or whoever is there in its place, says after a moment.
                    if tries >= TRIES_MAX {
                        return Err(Failure::stopped("the stream breaks off each time it is taken up"));
                    }
                }
                Err(error) if tries == 0 && seen.is_none() || tries >= TRIES_MAX => return Err(error),
                Err(_) => {}
            }
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Prints everything that is there now.
    async fn print(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let mut cursor: Option<String> = None;
        loop {
            let request = Request::get(self.execution.path(&["logs"]))
                .query("attempt", self.attempt)
                .query("limit", Some(PAGE))
                .query("cursor", cursor.as_ref());
            let page = client.ask(&request).await?.json()?;
            items(&page).iter().try_for_each(|piece| show(piece, screen))?;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(()),
            }
        }
    }
}

fn piece(data: &str) -> Result<Value, Failure> {
    serde_json::from_str(data).map_err(|error| Failure::stopped(format!("an event is not JSON: {error}")))
}

fn show(piece: &Value, screen: &mut Screen<'_>) -> Result<(), Failure> {
    match screen.output {
        Output::Json => Ok(screen.line(&piece.to_string())?),
        Output::Table => Ok(screen.text(&lines(piece, screen.zone))?),
    }
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
}
