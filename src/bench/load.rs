//! What every bench asks of the nodes: tasks in bulk, executions in full, and how far they are.
//!
//! Invariant: every loop ends, by a count or by a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use escapement_domain::identifier::TaskId;
use escapement_domain::limits::BULK_TASKS_MAX;
use escapement_domain::timestamp::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::statistics::figure;
use crate::command_line::client::{Client, Request};
use crate::command_line::connection::Connection;
use crate::command_line::failure::Failure;
use crate::command_line::progress::Progress;
use crate::command_line::system::{self, Stopwatch};

/// How long one bulk may take.
const BULK_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a page of a list may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Items of a page.
const PAGE: usize = 1_000;
/// Tasks a second that a bulk is taken to create at least.
const CREATES_PER_SECOND: u64 = 3_000;
/// How long the creation of a few is taken to last.
const CREATION_MIN: Duration = Duration::from_secs(5);

/// The nodes, asked in turn.
pub(super) struct Load {
    clients: Vec<Client>,
    turn: AtomicUsize,
}

/// What a bench needs to know of an execution.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Execution {
    task_id: String,
    status: String,
    scheduled_at: String,
    fired_at: Option<String>,
    finished_at: Option<String>,
    attempts: Vec<Attempt>,
}

#[derive(Clone, Debug, Deserialize)]
struct Attempt {
    started_at: String,
}

/// An execution of a task of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fire {
    pub(super) task: TaskId,
    pub(super) scheduled_at: Timestamp,
    /// When the leader stamped the fire, to propose it.
    pub(super) fired_at: Timestamp,
    /// When its first attempt began, by the worker's clock: not before the fire was committed.
    pub(super) begun_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
}

impl Load {
    /// Connects to nodes.
    pub(super) fn new(connections: Vec<Connection>) -> Result<Self, Failure> {
        let clients = connections.iter().map(Client::new).collect::<Result<_, _>>()?;
        Ok(Self { clients, turn: AtomicUsize::new(0) })
    }

    /// Returns the next node's client.
    pub(super) fn client(&self) -> &Client {
        &self.clients[self.turn.fetch_add(1, Ordering::Relaxed) % self.clients.len()]
    }

    /// Returns how many nodes the cluster has.
    pub(super) async fn node_count(&self) -> Result<u64, Failure> {
        let status = self.client().ask(&Request::get(["api", "cluster", "status"])).await?.json()?;
        Ok(status["nodes"].as_array().map_or(0, Vec::len) as u64)
    }

    /// Creates `count` tasks in bulk, the definition of each from its number. Returns how many a second.
    pub(super) async fn create_all(
        &self,
        label: &str,
        count: u64,
        definition: impl Fn(u64) -> Value,
    ) -> Result<f64, Failure> {
        let mut progress = Progress::new(label);
        let whole = Stopwatch::start();
        let mut created = 0;
        while created < count {
            let some = (count - created).min(BULK_TASKS_MAX as u64);
            let tasks: Vec<Value> = (created..created + some).map(&definition).collect();
            self.create_some(&tasks).await?;
            created += some;
            progress.show(created, count);
        }
        Ok(figure(count) / whole.elapsed().as_secs_f64())
    }

    async fn create_some(&self, tasks: &[Value]) -> Result<(), Failure> {
        let body = Value::from(tasks).to_string();
        let request = Request::post(["api", "scheduled-tasks", "bulk"]).keyed()?;
        let answer = self.client().ask(&request.body(body).timeout(BULK_TIMEOUT)).await?.json()?;
        let results = answer["items"]
            .as_array()
            .ok_or_else(|| Failure::stopped("the answer to a bulk holds no items"))?;
        match results.iter().find(|result| result["status"].as_u64().is_some_and(|status| status >= 400)) {
            Some(refused) => Err(Failure::stopped(format!("a task of the bulk was refused: {refused}"))),
            None if results.len() == tasks.len() => Ok(()),
            None => Err(Failure::stopped(format!(
                "{} of {} tasks of a bulk were answered",
                results.len(),
                tasks.len()
            ))),
        }
    }

    /// Returns how many executions there are by status: in all, and those that have ended.
    pub(super) async fn execution_counts(&self) -> Result<(u64, u64), Failure> {
        let status = self.client().ask(&Request::get(["api", "executions", "status"])).await?.json()?;
        let counts = status["counts"]
            .as_object()
            .ok_or_else(|| Failure::stopped("the status of executions holds no counts"))?;
        let all: u64 = counts.values().filter_map(Value::as_u64).sum();
        let open: u64 =
            counts.iter().filter(|(name, _)| is_open(name)).filter_map(|(_, count)| count.as_u64()).sum();
        Ok((all, all - open))
    }

    /// Waits until `count` more executions than `before` have ended, or the time is over. Says whether they have.
    pub(super) async fn wait_for_ends(
        &self,
        before: u64,
        count: u64,
        longest: Duration,
        poll: Duration,
    ) -> Result<bool, Failure> {
        let mut progress = Progress::new("executions ended");
        let waited = Stopwatch::start();
        while waited.elapsed() < longest {
            let (_, ended) = self.execution_counts().await?;
            progress.show(ended.saturating_sub(before), count);
            if ended >= before + count {
                return Ok(true);
            }
            tokio::time::sleep(poll).await;
        }
        Ok(false)
    }

    /// Returns every execution scheduled from `from` up to and including `to`; at most about twice as many as expected.
    pub(super) async fn fires(
        &self,
        from: Timestamp,
        to: Timestamp,
        expected: u64,
    ) -> Result<Vec<Fire>, Failure> {
        let mut progress = Progress::new("executions read");
        let mut fires = Vec::new();
        let mut cursor: Option<String> = None;
        let pages_max = expected * 2 / PAGE as u64 + 10;
        for _ in 0..pages_max {
            let request = Request::get(["api", "executions", ""])
                .query("limit", Some(PAGE))
                .query("from", Some(from))
                .query("to", Some(Timestamp(to.0 + 1)))
                .query("cursor", cursor.as_ref())
                .timeout(PAGE_TIMEOUT);
            let page: Page = serde_json::from_str(&self.client().ask(&request).await?.body)
                .map_err(|error| Failure::stopped(format!("a list of executions cannot be read: {error}")))?;
            for execution in &page.items {
                fires.extend(execution.fire()?.filter(|fire| (from..=to).contains(&fire.scheduled_at)));
            }
            progress.show(fires.len() as u64, expected);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(fires)
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Execution>,
    next_cursor: Option<String>,
}

fn is_open(status: &str) -> bool {
    matches!(status, "queued" | "running" | "retrying")
}

impl Execution {
    /// Reads the instants; nothing for a recorded skip.
    fn fire(&self) -> Result<Option<Fire>, Failure> {
        let strange = |what: &str| Failure::stopped(format!("an execution's {what} cannot be read"));
        let instant = |text: &str, what: &str| Timestamp::parse(text).map_err(|_| strange(what));
        let Some(fired_at) = self.fired_at.as_deref().filter(|_| self.status != "skipped") else {
            return Ok(None);
        };
        let finished_at = self.finished_at.as_deref().map(|text| instant(text, "finished_at")).transpose()?;
        let begun = self.attempts.first().map(|attempt| attempt.started_at.as_str());
        Ok(Some(Fire {
            task: self.task_id.parse().map_err(|_| strange("task_id"))?,
            scheduled_at: instant(&self.scheduled_at, "scheduled_at")?,
            fired_at: instant(fired_at, "fired_at")?,
            begun_at: begun.map(|text| instant(text, "attempt")).transpose()?,
            finished_at,
        }))
    }
}

/// How long the creation of so many tasks may take: what they are due at lies so far ahead.
pub(super) fn creation(tasks: u64) -> Duration {
    Duration::from_secs(tasks / CREATES_PER_SECOND) + CREATION_MIN
}

/// Returns an instant so far ahead.
pub(super) fn ahead(by: Duration) -> Timestamp {
    Timestamp(system::now().0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

/// Waits until an instant.
pub(super) async fn sleep_until(instant: Timestamp) {
    tokio::time::sleep(instant.since(system::now()).into()).await;
}
