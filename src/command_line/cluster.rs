//! `cluster`: who is in it, who leads, and the changes of membership.
//!
//! Absent on purpose: what makes a change safe, which the cluster decides; this asks, and waits where waiting is what
//! a person would do.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Request};
use super::failure::Failure;
use super::progress::Progress;
use super::screen::{Screen, field, note};
use super::system::Stopwatch;
use super::table::Table;
use super::zone::Zone;
use crate::command_line::connection::Output;

/// How often a new node is looked at while it catches up.
const POLL: Duration = Duration::from_millis(250);
/// How long a new node may stand still before this stops waiting.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// A learner this many entries behind is as good as caught up: the rest arrives while it is promoted.
const CAUGHT_UP_LAG: u64 = 100;

const ADD_EXAMPLES: &str = "\
Examples:
  escapement server --config cluster.toml --node 4 --join          on the new machine, first
  escapement cluster add-node 4 --api 10.0.0.4:7070 --peer 10.0.0.4:7170
  escapement cluster promote 4

The node becomes a learner: it receives the log and has no vote. This waits until it has caught up with the state and has \
the history of events; then promote it. An id that was used once is never used again for another disk.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  escapement cluster remove-node 2

Replacing a node whose disk is lost: remove it, start a new one under a new id with --join, add it, promote it. \
A node that holds more of the history of events than every other one is not removed before another has it.";

const DRAIN_EXAMPLES: &str = "\
Examples:
  escapement cluster drain 2 --wait      then stop the node, mend the machine, start it again
  escapement cluster undrain 2

Nothing new starts on a drained node; what runs there goes on to its end. --wait shows how much is left and returns when \
nothing is. It holds until you undrain the node, whoever leads and however often it is restarted. A node that leads goes on \
leading: `escapement cluster transfer-leadership` lets another one lead. Without a node that takes work, tasks fall due, \
and wait.";

const UNDRAIN_EXAMPLES: &str = "\
Examples:
  escapement cluster undrain 2";

const TRANSFER_EXAMPLES: &str = "\
Examples:
  escapement cluster transfer-leadership        to whichever node is furthest
  escapement cluster transfer-leadership 3";

/// Commands on the cluster.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Show the nodes, their roles, and how far behind they are
    Status,
    /// Add a node as a learner and wait until it has caught up
    #[command(after_long_help = ADD_EXAMPLES)]
    AddNode(AddOptions),
    /// Give a learner that has caught up a vote
    Promote {
        /// The node's id
        id: u64,
    },
    /// Take a node out of the cluster
    #[command(after_long_help = REMOVE_EXAMPLES)]
    RemoveNode {
        /// The node's id
        id: u64,
    },
    /// Let a node finish what it has and take nothing new
    #[command(after_long_help = DRAIN_EXAMPLES)]
    Drain {
        /// The node's id
        id: u64,
        /// Wait until nothing runs there any more
        #[arg(long)]
        wait: bool,
    },
    /// Let a node that was drained take work again
    #[command(after_long_help = UNDRAIN_EXAMPLES)]
    Undrain {
        /// The node's id
        id: u64,
    },
    /// Hand the leadership to another node
    #[command(after_long_help = TRANSFER_EXAMPLES)]
    TransferLeadership {
        /// The node that is to lead
        id: Option<u64>,
    },
}

/// The node to add.
#[derive(Debug, Args)]
pub(super) struct AddOptions {
    /// The node's id, never used before
    id: u64,
    /// Where its API listens
    #[arg(long, value_name = "HOST:PORT")]
    api: String,
    /// Where it listens for the other nodes
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// Do not wait until it has caught up
    #[arg(long)]
    no_wait: bool,
}

fn nodes_path(rest: &[String]) -> Vec<String> {
    ["api".to_owned(), "cluster".to_owned(), "nodes".to_owned()]
        .into_iter()
        .chain(rest.iter().cloned())
        .collect()
}

impl ClusterCommand {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Self::Status => {
                let answer = client.ask(&Request::get(["api", "cluster", "status"])).await?;
                screen.answer(&answer, status)
            }
            Self::AddNode(options) => options.run(client, screen).await,
            Self::Promote { id } => {
                let path = nodes_path(&[id.to_string(), "promote".into()]);
                change(client, screen, Request::post(path).idempotent(), &format!("node {id} has a vote now"))
                    .await
            }
            Self::Drain { id, wait } => {
                let path = nodes_path(&[id.to_string(), "drain".into()]);
                let done = format!("node {id} takes nothing new");
                change(client, screen, Request::post(path).idempotent(), &done).await?;
                if wait { await_idle(client, id).await } else { Ok(()) }
            }
            Self::Undrain { id } => {
                let path = nodes_path(&[id.to_string(), "undrain".into()]);
                change(
                    client,
                    screen,
                    Request::post(path).idempotent(),
                    &format!("node {id} takes work again"),
                )
                .await
            }
            Self::RemoveNode { id } => {
                let path = nodes_path(&[id.to_string()]);
                change(
                    client,
                    screen,
                    Request::delete(path),
                    &format!("node {id} is no longer part of the cluster"),
                )
                .await
            }
            Self::TransferLeadership { id } => {
                let body = id.map_or_else(|| json!({}), |id| json!({ "to": id }));
                let request = Request::post(["api", "cluster", "leader"]).body(body.to_string());
                let done = id
                    .map_or_else(|| "another node leads now".to_owned(), |id| format!("node {id} leads now"));
                change(client, screen, request, &done).await
            }
        }
    }
}

/// Asks for a change of membership; for people, says that it is done.
async fn change(
    client: &Client,
    screen: &mut Screen<'_>,
    request: Request,
    done: &str,
) -> Result<(), Failure> {
    let answer = client.ask(&request.timeout(STANDSTILL_MAX)).await?;
    match screen.output {
        Output::Table => screen.line(done),
        Output::Json if answer.body.trim().is_empty() => Ok(()),
        Output::Json => screen.line(answer.body.trim_end()),
    }
}

impl AddOptions {
    async fn run(&self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let body = json!({ "id": self.id, "api": self.api, "peer": self.peer });
        let request = Request::post(nodes_path(&[])).body(body.to_string());
        let done = format!("node {} is a learner now", self.id);
        change(client, screen, request, &done).await?;
        if !self.no_wait {
            self.wait(client).await?;
            note(&format!(
                "node {0} has caught up: give it a vote with `escapement cluster promote {0}`",
                self.id
            ));
        }
        Ok(())
    }

    /// Waits until the learner has caught up; gives up when it stands still.
    async fn wait(&self, client: &Client) -> Result<(), Failure> {
        let mut progress = Progress::new(format!("node {} catches up", self.id));
        let (mut best, mut moved) = (None, Stopwatch::start());
        loop {
            let status = leaders_status(client).await?;
            let behind = position(&status, self.id);
            if let Some((applied, target)) = behind {
                progress.show(applied, target);
                if applied.saturating_add(CAUGHT_UP_LAG) >= target {
                    progress.show(target, target);
                    return self.await_history(client, status).await;
                }
            }
            let applied = behind.map(|(applied, _)| applied);
            if applied > best {
                (best, moved) = (applied, Stopwatch::start());
            } else if moved.elapsed() > STANDSTILL_MAX {
                progress.finish();
                let message =
                    format!("node {} has received nothing for {} s", self.id, STANDSTILL_MAX.as_secs());
                let advice = format!("is it running with --join, and can the leader reach {}?", self.peer);
                return Err(Failure::stopped(message).advise(advice));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the learner holds the history of events, too, however long that takes.
    async fn await_history(&self, client: &Client, mut status: Value) -> Result<(), Failure> {
        let (mut told, mut silent) = (false, Stopwatch::start());
        loop {
            match holds_history(&status, self.id) {
                Some(true) => return Ok(()),
                // Then there is nowhere to fetch it from, and no reason to wait.
                Some(false) if nobody_holds_history(&status) => {
                    note("no member holds the whole history of events any more");
                    return Ok(());
                }
                Some(false) => {
                    if !std::mem::replace(&mut told, true) {
                        note(&format!("node {} has the state, and fetches the history of events", self.id));
                    }
                    silent = Stopwatch::start();
                }
                None if silent.elapsed() > STANDSTILL_MAX => {
                    let id = self.id;
                    let message = format!("node {id} does not say whether it holds the history of events");
                    return Err(Failure::stopped(message).advise("is it running, and of this version?"));
                }
                None => {}
            }
            tokio::time::sleep(POLL).await;
            status = leaders_status(client).await?;
        }
    }
}

/// Waits until nothing runs on a drained node, however long that takes; gives up when somebody undrains it.
async fn await_idle(client: &Client, id: u64) -> Result<(), Failure> {
    let mut progress = Progress::new(format!("node {id} finishes what it has"));
    let mut most = 0;
    loop {
        let status = client.ask(&Request::get(["api", "cluster", "status"])).await?.json()?;
        let running = left_on(&status, id).ok_or_else(|| {
            let message = format!("node {id} is not drained any more: somebody undrained or removed it");
            Failure::stopped(message).advise("`escapement cluster status` shows how it stands")
        })?;
        most = running.max(most);
        progress.show(most - running, most);
        if running == 0 {
            progress.finish();
            note(&format!("nothing runs on node {id}"));
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Returns how many attempts a drained node has; nothing if it is not drained.
fn left_on(status: &Value, id: u64) -> Option<u64> {
    let nodes = status["nodes"].as_array()?;
    let node = nodes.iter().find(|node| node["id"].as_u64() == Some(id))?;
    if node["drained"] == true { node["running"].as_u64() } else { None }
}

/// Returns the status as the leader tells it, who alone knows how far behind the others are; as the node that was asked
/// tells it, if the leader cannot be reached from here.
async fn leaders_status(client: &Client) -> Result<Value, Failure> {
    let request = Request::get(["api", "cluster", "status"]);
    let status = client.ask(&request).await?.json()?;
    let leader = status["nodes"].as_array().into_iter().flatten().find(|node| node["id"] == status["leader"]);
    let Some(leader) = leader.and_then(|leader| leader["api"].as_str()).and_then(|api| client.at(api)) else {
        return Ok(status);
    };
    match leader.ask(&request).await {
        Ok(answer) => answer.json(),
        Err(_) => Ok(status),
    }
}

/// Returns how far a node has come and how far the furthest has; nothing while the node has not answered.
fn position(status: &Value, id: u64) -> Option<(u64, u64)> {
    let nodes = status["nodes"].as_array()?;
    let applied = |node: &Value| node["applied"].as_u64();
    let node = nodes.iter().find(|node| node["id"].as_u64() == Some(id))?;
    let furthest = nodes.iter().filter_map(applied).max()?;
    let own = applied(node)?;
    // A node that says nothing of its lag yet has not been heard of.
    let lag = node["lag"].as_u64()?;
    (own > 0).then(|| (own, furthest.max(own.saturating_add(lag))))
}

/// Whether a member says that it holds the whole history of events; none if it does not say.
fn holds_history(status: &Value, id: u64) -> Option<bool> {
    let mut nodes = status["nodes"].as_array()?.iter();
    nodes.find(|node| node["id"] == id)?["history_complete"].as_bool()
}

/// Whether every member says that it does not.
fn nobody_holds_history(status: &Value) -> bool {
    status["nodes"].as_array().into_iter().flatten().all(|node| node["history_complete"] == false)
}

fn status(status: &Value, _: Zone) -> String {
    let leader = match status["leader"].as_u64() {
        Some(leader) => format!("node {leader} leads in term {}", field(status, "/term")),
        None => "no node leads: nothing can be changed until a majority of the nodes is up".into(),
    };
    let mut table =
        Table::new([">NODE", "ROLE", "API", "WORK", ">RUNNING", ">APPLIED", ">LAG", "ZONE DATA", ">CLOCK"]);
    for node in status["nodes"].as_array().map_or(&[][..], Vec::as_slice) {
        let [id, role, api, work, running, applied, lag, zone_data] =
            ["/id", "/role", "/api", "/work", "/running", "/applied", "/lag", "/zone_data"]
                .map(|pointer| field(node, pointer));
        let clock = node["clock_offset_ms"].as_i64().map_or("-".into(), |offset| format!("{offset:+} ms"));
        table.row([id, role, api, work, running, applied, lag, zone_data, clock]);
    }
    let warnings = status["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let warnings: String = warnings.map(|warning| format!("\nwarning: {warning}\n")).collect();
    let zone_data = field(status, "/zone_data");
    format!("{leader}; version {}, zone data {zone_data}\n\n{table}{warnings}", field(status, "/version"))
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    fn cluster() -> Value {
        json!({"leader": 2, "term": 7, "version": "0.1.0", "zone_data": "2025b", "warnings": ["they differ"], "nodes": [
            {"id": 1, "role": "follower", "api": "127.0.0.1:7070", "applied": 120, "lag": 3, "zone_data": "2026f",
             "clock_offset_ms": -12, "work": "draining", "running": 3, "drained": true},
            {"id": 2, "role": "leader", "api": "127.0.0.1:7071", "applied": 123, "lag": 0, "zone_data": "2025b",
             "clock_offset_ms": 3600000, "work": "ready", "running": 0, "drained": false},
            {"id": 4, "role": "learner", "api": "127.0.0.1:7073", "applied": null, "lag": null}]})
    }

    #[test]
    fn the_status_says_who_leads_and_who_is_behind() {
        let expected = "\
node 2 leads in term 7; version 0.1.0, zone data 2025b

NODE  ROLE      API             WORK      RUNNING  APPLIED  LAG  ZONE DATA        CLOCK
   1  follower  127.0.0.1:7070  draining        3      120    3  2026f           -12 ms
   2  leader    127.0.0.1:7071  ready           0      123    0  2025b      +3600000 ms
   4  learner   127.0.0.1:7073  -               -        -    -  -                    -

warning: they differ
";
        assert_eq!(status(&cluster(), Zone(Tz::UTC)), expected);
        assert!(status(&json!({"leader": null}), Zone(Tz::UTC)).starts_with("no node leads"));
    }

    #[test]
    fn a_learner_holds_the_history_when_it_says_so() {
        let status = json!({"nodes": [{"id": 4, "history_complete": false}, {"id": 5, "history_complete": true},
            {"id": 6, "history_complete": null}, {"id": 7}]});
        let held = [4, 5, 6, 7, 8].map(|id| holds_history(&status, id));
        assert_eq!(held, [Some(false), Some(true), None, None, None]);
        assert!(!nobody_holds_history(&status));
        assert!(nobody_holds_history(&json!({"nodes": [{"id": 4, "history_complete": false}]})));
    }

    #[test]
    fn what_is_left_is_told_of_a_drained_node_only() {
        assert_eq!([1, 2, 4, 9].map(|id| left_on(&cluster(), id)), [Some(3), None, None, None]);
    }

    #[test]
    fn a_learner_is_measured_against_the_furthest_node() {
        assert_eq!(position(&cluster(), 1), Some((120, 123)));
        assert_eq!(position(&cluster(), 4), None);
        assert_eq!(position(&cluster(), 9), None);
    }
}
