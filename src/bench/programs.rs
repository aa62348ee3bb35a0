//! `bench programs`: many programs at once, how soon all of them run, the memory of the nodes meanwhile, and what is left of them.

use std::fs;
use std::time::Duration;

use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};

use super::fires::{patience, settle};
use super::load::{Load, ahead, creation, sleep_until};
use super::nodes::Nodes;
use super::report::Report;
use crate::command_line::failure::Failure;
use crate::command_line::progress::Progress;
use crate::command_line::system::{self, Stopwatch};

/// The program.
pub(super) const PROGRAM: &str = "/bin/sleep";
/// How long it takes, in seconds, as nobody else writes it: by it the programs are told from others.
const SECONDS: &str = "20.0417";
/// How often to count them, which takes a while itself.
const POLL: Duration = Duration::from_millis(250);
/// How long what has ended may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Measures: until every program runs. What the nodes take is read then, before any has ended.
pub(super) async fn measure(
    load: &Load,
    tasks: u64,
    nodes: &Nodes,
    report: &mut Report,
) -> Result<(), Failure> {
    let due = ahead(creation(tasks));
    let (_, ended_before) = load.execution_counts().await?;
    let definition = |number| program(&format!("bench program {number}"), due);
    report.bulk_per_second = Some(load.create_all("creating", tasks, definition).await?);
    sleep_until(due).await;
    let mut progress = Progress::new("programs at once");
    let (mut most, mut seen) = (0, due);
    while most < tasks && load.execution_counts().await?.1 == ended_before {
        tokio::time::sleep(POLL).await;
        (most, seen) = (most.max(running()), system::now());
        progress.show(most, tasks);
    }
    report.memory_mib = nodes.memory_mib();
    load.wait_for_ends(ended_before, tasks, patience(tasks), POLL).await?;
    let ended = Stopwatch::start();
    while ended.elapsed() < GONE_WITHIN && nodes.descendants() > 0 {
        tokio::time::sleep(POLL).await;
    }
    report.left_over = Some(nodes.descendants().max(running()));
    let fires = load.fires(due, due, tasks).await?;
    (report.tasks, report.at_once) = (Some(tasks), Some(most));
    settle(report, &fires, tasks, due, Some(seen));
    Ok(())
}

fn program(name: &str, at: Timestamp) -> Value {
    json!({
        "name": name,
        "trigger": { "type": "once", "at": at.to_string() },
        "action": { "type": "process", "program": PROGRAM, "args": [SECONDS] },
    })
}

/// Counts the programs that run, whoever's children they are by now (proc_pid_cmdline(5)).
fn running() -> u64 {
    let wanted = format!("{PROGRAM}\0{SECONDS}\0");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| *line == wanted.as_bytes()).count() as u64
}
