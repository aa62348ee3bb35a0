//! `event`: what happened outside, for the tasks that listen to it.

use std::fs;
use std::io::{self, Read as _};

use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Client, Request};
use super::failure::Failure;
use super::screen::{Screen, field};
use super::zone::Zone;

/// Bytes of the longest payload that is read; the API takes less and says so.
const PAYLOAD_BYTES_MAX: u64 = 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  escapement event publish build.finished
  escapement event publish build.finished --payload '{\"branch\": \"main\", \"commit\": \"4f2a91c\"}'
  escapement event publish build.finished --payload @result.json
  make report | escapement event publish report.ready --payload -
  escapement event publish build.finished --key build-4711      sent twice, it fires once

A task listens with the trigger {\"type\": \"event\", \"name\": \"build.finished\", \"filter\": {\"/branch\": \"main\"}}: every value of \
the filter must be equal, and an empty filter meets every event of the name. Its \"inputs\" take values of the payload over \
into the action: {\"/commit\": \"/event/payload/commit\"}.";

/// Commands on events from outside.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum EventCommand {
    /// Say that something happened: the tasks run that listen to it
    #[command(after_long_help = EXAMPLES)]
    Publish(Publication),
}

/// The event.
#[derive(Debug, Args)]
pub(super) struct Publication {
    /// What happened
    #[arg(value_name = "NAME")]
    name: String,
    /// What there is to say about it: JSON, `@FILE`, or `-` for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    payload: Option<String>,
    /// Name the event yourself, so that publishing it again within an hour fires nothing twice
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
}

impl EventCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Self::Publish(event) = self;
        let payload = event.payload.as_deref().map(payload).transpose()?;
        let body = match payload {
            None => json!({ "name": event.name }).to_string(),
            Some(payload) => format!("{{\"name\":{},\"payload\":{payload}}}", Value::from(event.name)),
        };
        let request = Request::post(["api", "events"]);
        let request = match &event.key {
            Some(key) => request.key(key)?,
            None => request.keyed()?,
        };
        screen.answer(&client.ask(&request.body(body)).await?, published)
    }
}

/// The JSON text that an option names.
fn payload(option: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let (place, read) = match (option, option.strip_prefix('@')) {
        ("-", _) => ("standard input", io::stdin().lock().take(PAYLOAD_BYTES_MAX).read_to_string(&mut text)),
        (_, Some(file)) => {
            let opened = fs::File::open(file);
            (file, opened.and_then(|opened| opened.take(PAYLOAD_BYTES_MAX).read_to_string(&mut text)))
        }
        (json, None) => ("--payload", {
            text.push_str(json);
            Ok(json.len())
        }),
    };
    read.map_err(|error| Failure::stopped(format!("cannot read {place}: {error}")))?;
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::stopped(format!("{place} is not JSON: {error}"))
            .advise("a text is written with quotes: --payload '\"main\"'")),
    }
}

fn published(event: &Value, _: Zone) -> String {
    let (id, matched) = (field(event, "/id"), field(event, "/matched"));
    let rest = if event["complete"] == true { "" } else { " so far; the rest follows" };
    let tasks = if matched == "1" { "task" } else { "tasks" };
    let mut text = format!("published {id}: {matched} {tasks} met{rest}\n");
    for execution in event["executions"].as_array().into_iter().flatten() {
        text += &format!("  execution {}\n", execution.as_str().unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    #[test]
    fn a_payload_is_json_from_wherever_it_is_named() {
        assert_eq!(payload("{\"n\": 1.50}").expect("JSON"), "{\"n\": 1.50}");
        let failure = payload("main").expect_err("no JSON");
        assert!(failure.to_string().starts_with("--payload is not JSON"), "{failure}");
        let missing = payload("@/nowhere/payload.json").expect_err("missing");
        assert!(missing.to_string().starts_with("cannot read /nowhere/payload.json: "), "{missing}");
    }

    #[test]
    fn it_is_said_whether_all_were_met() {
        let event = json!({ "id": "7", "matched": 2, "executions": ["a", "b"], "complete": true });
        assert_eq!(
            published(&event, Zone(Tz::UTC)),
            "published 7: 2 tasks met\n  execution a\n  execution b\n"
        );
        let event = json!({ "id": "7", "matched": 1, "executions": [], "complete": true });
        assert_eq!(published(&event, Zone(Tz::UTC)), "published 7: 1 task met\n");
        let event = json!({ "id": "7", "matched": 512, "executions": [], "complete": false });
        assert_eq!(published(&event, Zone(Tz::UTC)), "published 7: 512 tasks met so far; the rest follows\n");
    }
}
