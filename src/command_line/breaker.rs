//! `breaker` and `queue`: what is called, and what is granted.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Request};
use super::failure::Failure;
use super::gate::ListOptions;
use super::screen::{Screen, exactly_when, field, optional, when};
use super::table::{Sheet, Table};
use super::zone::Zone;

const BREAKER_EXAMPLES: &str = "\
Examples:
  escapement breaker list
  escapement breaker open http:runner.example      call it no more, until it is closed by hand
  escapement breaker close http:runner.example

A task asks for a breaker: \"circuit_breaker\": {\"failure_threshold\": 5, \"open_for\": \"1m\"}. Its target is `http:` and the \
host, `process:` and the program, or `queue:` and the queue; tasks of the tenant with the same target share it. While it is \
open, executions wait and no attempt is made.";

const QUEUE_EXAMPLES: &str = "\
Examples:
  escapement queue pause ios      workers are given nothing more of it, and finish what they have
  escapement queue list           it is drained once nothing runs
  escapement queue resume ios";

/// Commands on circuit breakers.
#[derive(Debug, Subcommand)]
#[command(after_long_help = BREAKER_EXAMPLES)]
pub(super) enum BreakerCommand {
    /// List the targets that failed once or were set by hand
    List(ListOptions),
    /// Show the breaker of a target
    Show(Target),
    /// Call a target no more
    #[command(after_long_help = BREAKER_EXAMPLES)]
    Open(Target),
    /// Call a target again
    #[command(after_long_help = BREAKER_EXAMPLES)]
    Close(Target),
}

/// Commands on queues.
#[derive(Debug, Subcommand)]
#[command(after_long_help = QUEUE_EXAMPLES)]
pub(super) enum QueueCommand {
    /// List the queues in which something waits or runs, and those that are paused
    List(ListOptions),
    /// Grant nothing more of a queue
    #[command(after_long_help = QUEUE_EXAMPLES)]
    Pause(QueueName),
    /// Grant what waits in a queue again
    Resume(QueueName),
}

/// The target that is meant.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The target, such as `http:runner.example`
    #[arg(value_name = "TARGET")]
    target: String,
}

/// The queue that is meant.
#[derive(Debug, Args)]
pub(super) struct QueueName {
    /// The queue's name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Target {
    fn path(&self) -> [&str; 3] {
        ["api", "breakers", &self.target]
    }

    async fn set(&self, state: &str, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let body = json!({ "state": state }).to_string();
        let answer = client.ask(&Request::put(self.path()).keyed()?.body(body)).await?;
        screen.answer(&answer, |breaker, _| {
            format!("the breaker of {} is {}\n", field(breaker, "/key"), field(breaker, "/state"))
        })
    }
}

impl BreakerCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::List(options) => screen.list(&client.ask(&options.request("breakers")).await?, breakers),
            Self::Show(target) => {
                screen.answer(&client.ask(&Request::get(target.path())).await?, breaker_sheet)
            }
            Self::Open(target) => target.set("open", client, screen).await,
            Self::Close(target) => target.set("closed", client, screen).await,
        }
    }
}

impl QueueName {
    async fn ask(&self, what: &str, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let request = Request::post(["api", "queues", &self.name, what]).keyed()?;
        screen.answer(&client.ask(&request).await?, |queue, _| {
            let state = if queue["paused"] == true { "paused" } else { "open" };
            let (name, waiting, running) =
                (field(queue, "/name"), field(queue, "/waiting"), field(queue, "/running"));
            format!("queue {name} is {state}: {waiting} wait, {running} run\n")
        })
    }
}

impl QueueCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::List(options) => screen.list(&client.ask(&options.request("queues")).await?, queues),
            Self::Pause(queue) => queue.ask("pause", client, screen).await,
            Self::Resume(queue) => queue.ask("resume", client, screen).await,
        }
    }
}

fn breakers(breakers: &[Value], zone: Zone) -> String {
    if breakers.is_empty() {
        return "no breakers: no target of a task with a circuit_breaker has failed yet\n".into();
    }
    let [until, changed] = ["OPEN UNTIL", "CHANGED"].map(|title| format!("{title} ({})", zone.name()));
    let mut table = Table::new(["TARGET", "STATE", ">FAILURES", ">WAITING", &until, &changed]);
    for breaker in breakers {
        let [target, state, failures, waiting] =
            ["/key", "/state", "/failures", "/waiting"].map(|pointer| field(breaker, pointer));
        let [until, changed] = ["/open_until", "/changed_at"].map(|pointer| when(breaker, pointer, zone));
        table.row([target, state, failures, waiting, until, changed]);
    }
    table.to_string()
}

fn breaker_sheet(breaker: &Value, zone: Zone) -> String {
    let mut sheet = Sheet::default();
    for (label, name) in
        [("target", "key"), ("state", "state"), ("failures", "failures"), ("waiting", "waiting")]
    {
        sheet.line(label, optional(breaker, &format!("/{name}")));
    }
    sheet.line("open until", exactly_when(breaker, "/open_until", zone));
    sheet.line("probe", optional(breaker, "/probe"));
    sheet.line("changed", exactly_when(breaker, "/changed_at", zone));
    sheet.to_string()
}

fn queues(queues: &[Value], _: Zone) -> String {
    if queues.is_empty() {
        return "no queues: nothing waits in one, and none is paused\n".into();
    }
    let mut table = Table::new(["NAME", "STATE", ">WAITING", ">RUNNING"]);
    for queue in queues {
        let state = match (&queue["paused"], &queue["drained"]) {
            (Value::Bool(true), Value::Bool(true)) => "drained",
            (Value::Bool(true), _) => "paused",
            _ => "open",
        };
        let [name, waiting, running] = ["/name", "/waiting", "/running"].map(|pointer| field(queue, pointer));
        table.row([name, state.into(), waiting, running]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    const UTC: Zone = Zone(Tz::UTC);

    #[test]
    fn lists_say_how_things_stand() {
        let breaker = json!({ "key": "http:runner.example", "state": "open", "failures": 5, "waiting": 2,
                              "open_until": "2026-03-01T12:01:00.000Z", "probe": null, "changed_at": null });
        let text = breakers(&[breaker], UTC);
        assert!(
            text.contains("http:runner.example  open          5        2  2026-03-01 12:01:00"),
            "{text}"
        );
        let queue = json!({ "name": "ios", "paused": true, "drained": false, "waiting": 3, "running": 1 });
        assert_eq!(queues(&[queue], UTC), "NAME  STATE   WAITING  RUNNING\nios   paused        3        1\n");
    }
}
