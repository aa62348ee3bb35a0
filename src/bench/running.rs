//! `bench running`: many attempts at once on one node, each a call of a target that takes ten seconds, and the memory that they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::fires::{patience, settle};
use super::load::{Load, ahead, creation, sleep_until};
use super::nodes::Nodes;
use super::report::Report;
use crate::command_line::failure::Failure;
use crate::command_line::progress::Progress;

/// How long the target takes.
const TAKES: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Measures: what the nodes take is read when every call has come in and none was answered.
pub(super) async fn measure(
    load: &Load,
    tasks: u64,
    nodes: Option<&Nodes>,
    report: &mut Report,
) -> Result<(), Failure> {
    let target = Target::start().await?;
    let due = ahead(creation(tasks));
    let (_, ended_before) = load.execution_counts().await?;
    let definition = |number| call(&format!("bench running {number}"), due, &target.url);
    report.bulk_per_second = Some(load.create_all("creating", tasks, definition).await?);
    sleep_until(due).await;
    let mut progress = Progress::new("calls at once");
    while target.calls.most() < tasks && target.calls.answered.load(Ordering::Relaxed) == 0 {
        progress.show(target.calls.most(), tasks);
        tokio::time::sleep(POLL).await;
    }
    report.memory_mib = nodes.and_then(Nodes::memory_mib);
    load.wait_for_ends(ended_before, tasks, patience(tasks), POLL).await?;
    let fires = load.fires(due, due, tasks).await?;
    (report.tasks, report.at_once) = (Some(tasks), Some(target.calls.most()));
    settle(report, &fires, tasks, due, fires.iter().filter_map(|fire| fire.begun_at).max());
    Ok(())
}

fn call(name: &str, at: Timestamp, url: &str) -> Value {
    json!({
        "name": name,
        "trigger": { "type": "once", "at": at.to_string() },
        "action": { "type": "http", "method": "GET", "url": url },
    })
}

/// A target on loopback that answers every call after [`TAKES`].
struct Target {
    url: String,
    calls: Arc<Calls>,
}

/// The calls that have come in.
#[derive(Default)]
struct Calls {
    /// How many wait for their answer, and waited at once at most.
    waiting: AtomicU64,
    most: AtomicU64,
    answered: AtomicU64,
}

impl Target {
    async fn start() -> Result<Self, Failure> {
        let no_target = |error| Failure::stopped(format!("no target on loopback: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_target)?;
        let url = format!("http://{}/", listener.local_addr().map_err(no_target)?);
        let calls = Arc::<Calls>::default();
        let seen = calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = seen.clone();
                // A connection that breaks shows as an attempt that failed.
                tokio::spawn(async move { drop(serve(stream, &seen).await) });
            }
        });
        Ok(Self { url, calls })
    }
}

impl Calls {
    fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, calls: &Calls) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let text = line.trim_end().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            if let Some(bytes) = text.strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap_or(0);
            }
        }
        stream.read_exact(&mut vec![0; length]).await?;
        let waiting = calls.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        calls.most.fetch_max(waiting, Ordering::Relaxed);
        tokio::time::sleep(TAKES).await;
        calls.waiting.fetch_sub(1, Ordering::Relaxed);
        calls.answered.fetch_add(1, Ordering::Relaxed);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await?;
    }
}
