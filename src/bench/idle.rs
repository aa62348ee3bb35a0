//! `bench idle`: many workers outside that wait for a queue in which nothing comes, and what they cost the nodes.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use reqwest::StatusCode;
use serde_json::json;

use super::load::Load;
use super::nodes::Nodes;
use super::report::Report;
use super::statistics::figure;
use crate::command_line::client::Request;
use crate::command_line::failure::Failure;
use crate::command_line::progress::Progress;
use crate::command_line::system::Stopwatch;

/// Connections that are made at once.
const CONNECTING: usize = 200;
/// How long nodes may settle before they are looked at.
const SETTLING: Duration = Duration::from_secs(2);
/// What is left of a poll for its answer.
const ANSWERING: Duration = Duration::from_secs(20);
const BYTES_PER_MIB: f64 = 1_048_576.0;

/// Measures what `clients` long polls cost for `seconds`.
pub(super) async fn measure(
    load: &Load,
    clients: u64,
    seconds: u64,
    nodes: Option<&Nodes>,
    report: &mut Report,
) -> Result<(), Failure> {
    let before = nodes.and_then(Nodes::memory_mib);
    let wait = Duration::from_secs(seconds) + SETTLING + Duration::from_secs(clients / 500);
    let mut progress = Progress::new("workers wait");
    let mut polls = FuturesUnordered::new();
    for number in 0..clients {
        polls.push(poll(load, number, wait));
        if polls.len().is_multiple_of(CONNECTING) {
            // They are polled on the way, so that not all connect at one moment.
            let _ = tokio::time::timeout(Duration::from_millis(50), polls.next()).await;
            progress.show(number, clients);
        }
    }
    let _ = tokio::time::timeout(SETTLING, polls.next()).await;
    let (used, watch) = (nodes.and_then(Nodes::cpu_seconds), Stopwatch::start());
    let early = tokio::time::timeout(Duration::from_secs(seconds), polls.next()).await;
    let elapsed = watch.elapsed().as_secs_f64();
    let spent = nodes.and_then(Nodes::cpu_seconds).zip(used).map(|(after, before)| after - before);
    report.memory_mib = nodes.and_then(Nodes::memory_mib);
    if let Ok(Some(ended)) = early {
        ended?;
        return Err(Failure::stopped("a worker was answered while it should have waited"));
    }
    let mut answered = 0;
    while let Some(ended) = polls.next().await {
        ended?;
        answered += 1;
        progress.show(answered, clients);
    }
    report.clients = Some(clients);
    report.seconds = elapsed;
    report.cpu_percent = spent.map(|spent| spent / elapsed * 100.0);
    let grown = before.zip(report.memory_mib).map(|(before, after)| after - before);
    report.bytes_per_client = grown.map(|mib| mib * BYTES_PER_MIB / figure(clients.max(1)));
    Ok(())
}

/// One worker that waits, and gets nothing.
async fn poll(load: &Load, number: u64, wait: Duration) -> Result<(), Failure> {
    let body =
        json!({ "worker": format!("idle-{number}"), "max": 1, "wait": format!("{}s", wait.as_secs()) });
    let request = Request::post(["api", "workers", "idle", "lease"]).body(body.to_string());
    let (status, _, body) = load.client().ask_once(&request.timeout(wait + ANSWERING)).await?;
    match status {
        StatusCode::OK => Ok(()),
        other => Err(Failure::stopped(format!("a worker that waits was answered {other}: {body}"))),
    }
}
