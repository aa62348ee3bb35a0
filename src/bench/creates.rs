//! `bench creates`: single creates over many connections, and whether each that was acknowledged is there.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::load::Load;
use super::report::Report;
use super::statistics::{Samples, figure};
use crate::command_line::client::{Client, Request};
use crate::command_line::failure::Failure;
use crate::command_line::progress::Progress;
use crate::command_line::system::{self, Stopwatch};

/// How long a client waits that a node was too busy for, if the node does not say.
const PAUSE: Duration = Duration::from_millis(100);
/// Items of a page.
const PAGE: u64 = 1_000;

/// What one connection, or all, have seen.
#[derive(Debug, Default)]
struct Seen {
    latency: Samples,
    acknowledged: Vec<String>,
    refused: u64,
}

/// Measures.
pub(super) async fn measure(
    load: &Load,
    clients: u64,
    seconds: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let run = system::fresh_id().to_string();
    let watch = Stopwatch::start();
    let longest = Duration::from_secs(seconds);
    let connections =
        (0..clients).map(|number| create(load.client(), format!("{run}-{number}"), watch, longest));
    let all = try_join_all(connections).await?;
    let elapsed = watch.elapsed().as_secs_f64();
    let mut seen = Seen::default();
    for one in all {
        seen.latency.merge(one.latency);
        seen.acknowledged.extend(one.acknowledged);
        seen.refused += one.refused;
    }
    let created = seen.latency.count();
    report.tasks = Some(created);
    report.clients = Some(clients);
    report.refused = Some(seen.refused);
    report.seconds = elapsed;
    report.per_second = Some(figure(created) / elapsed);
    (report.p50_ms, report.p99_ms) = seen.latency.p50_p99().unzip();
    let found = names(load, &run, created).await?;
    report.lost = Some(seen.acknowledged.iter().filter(|name| !found.contains_key(*name)).count() as u64);
    report.doubled = Some(found.values().map(|count| count - 1).sum());
    Ok(())
}

/// Creates one task after the other until the time is over.
async fn create(
    client: &Client,
    prefix: String,
    watch: Stopwatch,
    longest: Duration,
) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let mut number = 0_u64;
    while watch.elapsed() < longest {
        let name = format!("{prefix}-{number}");
        number += 1;
        let body = definition(&name).to_string();
        let request = Request::post(["api", "scheduled-tasks", ""]).key(&name)?.body(body);
        let one = Stopwatch::start();
        let (status, wait, body) = client.ask_once(&request).await?;
        match status {
            StatusCode::CREATED => {
                seen.latency.add(one.elapsed_ms());
                seen.acknowledged.push(name);
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                seen.refused += 1;
                tokio::time::sleep(wait.map_or(PAUSE, |wait| wait.min(longest))).await;
            }
            other => return Err(Failure::stopped(format!("a create was answered {other}: {body}"))),
        }
    }
    Ok(seen)
}

/// A task that waits for a night which is not in this run.
fn definition(name: &str) -> Value {
    json!({
        "name": name,
        "trigger": { "type": "once", "at": "2099-01-01T00:00:00Z" },
        "action": { "type": "builtin", "operation": "noop" },
    })
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Named>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

/// Counts the tasks of this run by name, over every page there is.
async fn names(load: &Load, run: &str, expected: u64) -> Result<BTreeMap<String, u64>, Failure> {
    let mut progress = Progress::new("tasks read");
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let mut cursor: Option<String> = None;
    for _ in 0..super::TASKS_MAX / PAGE {
        let request = Request::get(["api", "scheduled-tasks", ""])
            .query("limit", Some(PAGE))
            .query("cursor", cursor.as_ref());
        let page: Page = serde_json::from_str(&load.client().ask(&request).await?.body)
            .map_err(|error| Failure::stopped(format!("a list of tasks cannot be read: {error}")))?;
        for task in page.items.into_iter().filter(|task| task.name.starts_with(run)) {
            *found.entry(task.name).or_default() += 1;
        }
        progress.show(found.len() as u64, expected);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(found)
}
