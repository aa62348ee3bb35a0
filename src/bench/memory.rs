//! `bench memory` and `bench restart`: many tasks at rest, and how soon they are served again after a `kill -9`.

use std::time::Duration;

use serde_json::{Value, json};

use super::load::Load;
use super::nodes::Nodes;
use super::report::Report;
use super::statistics::figure;
use crate::command_line::client::Request;
use crate::command_line::failure::Failure;
use crate::command_line::system::Stopwatch;

/// How long nodes may settle before their memory is read.
const SETTLING: Duration = Duration::from_secs(2);
const BYTES_PER_MIB: f64 = 1_048_576.0;
/// How long the first answer may take once the nodes are ready.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(60);

/// Creates `tasks` tasks, each with a schedule of its own that is not due soon.
pub(super) async fn fill(
    load: &Load,
    tasks: u64,
    nodes: Option<&Nodes>,
    report: &mut Report,
) -> Result<(), Failure> {
    let before = nodes.and_then(Nodes::memory_mib);
    let watch = Stopwatch::start();
    let per_second = load.create_all("creating", tasks, definition).await?;
    report.seconds = watch.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLING).await;
    let after = nodes.and_then(Nodes::memory_mib);
    report.tasks = Some(tasks);
    report.bulk_per_second = Some(per_second);
    report.per_second = Some(per_second);
    let grown = before.zip(after).map(|(before, after)| after - before);
    report.bytes_per_task =
        grown.map(|mib| mib * BYTES_PER_MIB / figure(tasks) / figure(report.nodes.max(1)));
    Ok(())
}

/// Kills every node at once, starts them again, and waits for readiness and the first answer.
pub(super) async fn restart(load: &Load, nodes: &mut Nodes, report: &mut Report) -> Result<(), Failure> {
    nodes.kill();
    let watch = Stopwatch::start();
    nodes.start().await?;
    report.ready_ms = Some(watch.elapsed_ms());
    let request = Request::get(["api", "scheduled-tasks", ""]).query("limit", Some(1));
    loop {
        match load.client().ask(&request).await {
            Ok(answer) => {
                report.first_answer_ms = Some(watch.elapsed_ms());
                let kept = answer.json()?["items"].as_array().is_some_and(|items| !items.is_empty());
                report.lost = Some(if kept { 0 } else { report.tasks.unwrap_or_default() });
                return Ok(());
            }
            Err(failure) if watch.elapsed() > FIRST_ANSWER_MAX => return Err(failure),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A task as people write them, due on a minute of New Year's Day.
fn definition(number: u64) -> Value {
    json!({
        "name": format!("bench task {number}"),
        "kind": "maintenance",
        "trigger": { "type": "cron", "expression": format!("{} {} 1 1 *", number % 60, number / 60 % 24), "timezone": "Europe/Berlin" },
        "action": { "type": "builtin", "operation": "noop" },
        "labels": { "team": format!("team-{}", number % 100) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_a_minute_of_the_year() {
        assert_eq!(definition(0)["trigger"]["expression"], "0 0 1 1 *");
        assert_eq!(definition(1_439)["trigger"]["expression"], "59 23 1 1 *");
        assert_eq!(definition(1_440)["trigger"]["expression"], "0 0 1 1 *");
    }
}
