//! An execution with its attempts, counts of them, and what they wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::super::problem::Problem;
use crate::service::dead_letters::Retried;
use crate::service::executions::{ExecutionCounts, Standing};
use crate::service::history::{AttemptRow, ExecutionRow, OutputLine};
use crate::service::{OutsideWorkerView, WorkerView};

/// An execution: one occurrence of a task with all of its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Execution {
    /// Its name, and the `Idempotency-Key` that its target sees.
    #[schema(format = "uuid")]
    id: String,
    /// Its task.
    #[schema(format = "uuid")]
    task_id: String,
    /// The run of a chain that it belongs to: its own name, unless it follows others in their run.
    #[schema(format = "uuid")]
    run_id: String,
    /// The version of the definition that it runs.
    task_version: u32,
    /// Whose it is.
    tenant: String,
    /// What made it.
    #[schema(value_type = TriggeredBy)]
    trigger: &'static str,
    /// How it stands.
    #[schema(value_type = Status)]
    status: &'static str,
    /// The instant it is for.
    scheduled_at: String,
    /// When the leader stamped its fire, to propose it; the commit follows within the latency of one (the metric
    /// `escapement_commit_latency_seconds`). Null if it was skipped.
    #[schema(required = true)]
    fired_at: Option<String>,
    /// When its first attempt was granted.
    #[schema(required = true)]
    started_at: Option<String>,
    /// When it ended.
    #[schema(required = true)]
    finished_at: Option<String>,
    /// Milliseconds from its instant to `fired_at`. The metric `escapement_lateness_seconds` of the leader counts to the
    /// commit.
    #[schema(required = true)]
    lateness_ms: Option<u64>,
    /// By how many milliseconds the leader's clock was ahead of most nodes' when it fired: by theirs it came so much earlier.
    /// Below zero if it came later; null where nothing of the kind was known.
    #[schema(required = true)]
    clock_ahead_ms: Option<i32>,
    /// The number of its latest attempt; 0 before the first.
    attempt: u32,
    /// Its latest attempts, oldest first.
    attempts: Vec<Attempt>,
    /// How far it has come.
    #[schema(required = true)]
    progress: Option<Progress>,
    /// What it returned.
    #[schema(required = true, value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
    /// Why its last attempt failed.
    #[schema(required = true)]
    error: Option<String>,
    /// The items that its attempts named as failed last; its next attempt is told of them.
    #[schema(required = true, value_type = Option<Vec<serde_json::Value>>)]
    retry_items: Option<Box<RawValue>>,
    /// Why it waited for an earlier one, or was skipped, cancelled, lost or given up.
    #[schema(required = true)]
    reason: Option<String>,
    /// From 0, the lowest, to 9; null once it has ended.
    #[schema(required = true)]
    priority: Option<u8>,
    /// What it waits for; null while it runs and once it has ended.
    #[schema(required = true)]
    waiting_for: Option<String>,
    /// The index of the log entry that made it.
    log_index: u64,
    /// The request that it goes back to.
    correlation_id: String,
}

/// One attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Attempt {
    /// Counted from 1.
    number: u32,
    /// The worker that made it.
    worker: String,
    /// When it began.
    started_at: String,
    /// When it ended.
    #[schema(required = true)]
    finished_at: Option<String>,
    /// How it ended; null while it runs.
    #[schema(required = true)]
    outcome: Option<&'static str>,
    /// What sort of failure it was; null if it did not fail.
    #[schema(required = true)]
    failure: Option<Failure>,
    /// Why it failed.
    #[schema(required = true)]
    error: Option<String>,
    /// Processor time of the program and all that it started; null for other actions, and where it is not known.
    #[schema(required = true)]
    cpu_seconds: Option<f64>,
    /// Bytes of memory of the largest of its processes at its peak.
    #[schema(required = true)]
    peak_memory_bytes: Option<u64>,
}

/// What sort of failure ended an attempt: what `retry.retry_on` of a task tells apart.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Failure {
    /// `http_status`, `exit_code`, `signal`, `timeout`, `connection`, `other`, or `inputs`, which is never tried again.
    class: &'static str,
    /// The status, the exit code or the signal.
    #[schema(required = true)]
    code: Option<i32>,
}

/// How far an execution has come.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Progress {
    /// From 0 to 100.
    percent: u8,
    /// A sentence.
    message: String,
}

/// What made an execution.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the words of a schema")]
pub(in crate::http) enum TriggeredBy {
    Schedule,
    Manual,
    Event,
    After,
    Backfill,
}

/// How an execution stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the words of a schema")]
pub(in crate::http) enum Status {
    Queued,
    Running,
    Retrying,
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
    Lost,
    Skipped,
}

/// What became of dead letters that were to be tried again.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct DeadLettersRetried {
    /// The executions that get another attempt.
    retried: Vec<String>,
    /// Those that do not.
    refused: Vec<NotRetried>,
    /// Where to go on: the `cursor` of the next call; null when these were all.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// An execution that gets no other attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct NotRetried {
    /// The execution.
    #[schema(format = "uuid")]
    execution_id: String,
    /// The status that a retry of it alone would have been answered with.
    status: u16,
    /// The sort of problem.
    code: &'static str,
    /// The problem in words.
    detail: String,
}

/// One piece of what an attempt wrote.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct LogLine {
    /// When it was read.
    at: String,
    /// `stdout`, `stderr`, or `system` for what the scheduler says.
    stream: &'static str,
    /// The text.
    text: String,
    /// Which attempt.
    attempt: u32,
}

/// The end of what an execution wrote.
#[derive(Debug, Serialize)]
pub(in crate::http) struct LogEnd {
    /// How the execution stands.
    status: &'static str,
}

impl LogEnd {
    pub(in crate::http) fn of(status: escapement_domain::execution::state::Status) -> Self {
        Self { status: status.name() }
    }
}

/// Counts of executions.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Counts {
    /// How many stand how.
    counts: BTreeMap<&'static str, u64>,
    /// Executions that wait for a worker.
    queue_depth: u64,
    /// Executions whose attempt is in the hands of a worker.
    running: u64,
    /// How late half of the last hour's fires were at most, each to its `fired_at`; null without fires.
    #[schema(required = true)]
    lateness_p50_ms: Option<u64>,
    /// How late 99 of 100 of them were at most.
    #[schema(required = true)]
    lateness_p99_ms: Option<u64>,
    /// Workers that take something new.
    workers: usize,
}

/// A worker.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Worker {
    /// Its name, as attempts tell it.
    id: String,
    /// Its node; null if it is a worker outside the cluster.
    #[schema(required = true)]
    node: Option<u64>,
    /// This start of its node; null if it is a worker outside the cluster.
    #[schema(required = true)]
    incarnation: Option<String>,
    /// `ready`, `draining` or `lost`.
    state: &'static str,
    /// Attempts at once; null if it is a worker outside the cluster, which takes as many as it asks for.
    #[schema(required = true)]
    slots: Option<u32>,
    /// Attempts that it has.
    running: usize,
    /// Those of this tenant, of which a thousand are shown at most.
    holds: Vec<Held>,
    /// What it can carry out; null if it is a worker outside the cluster, which leases from queues.
    #[schema(required = true)]
    offers: Option<Offers>,
}

/// An attempt in the hands of a worker.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Held {
    /// The execution.
    execution_id: String,
    /// Its task.
    task_id: String,
}

/// What a worker can carry out.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Offers {
    /// Calls of URLs.
    http: bool,
    /// The scheduler's own operations.
    builtin: bool,
    /// Programs: these, or any if it is null.
    #[schema(required = true)]
    programs: Option<Vec<String>>,
}

fn worker_name(node: escapement_domain::identifier::NodeId) -> String {
    format!("node-{node}")
}

impl Execution {
    pub(in crate::http) fn of(row: &ExecutionRow, tenant: &str, standing: Option<Standing>) -> Self {
        Self {
            id: row.id.to_string(),
            task_id: row.task.to_string(),
            run_id: row.run().to_string(),
            task_version: row.task_version,
            tenant: tenant.to_owned(),
            trigger: row.trigger(),
            status: row.status.name(),
            scheduled_at: row.scheduled_at.to_string(),
            fired_at: row.fired_at.map(|instant| instant.to_string()),
            started_at: row.started_at.map(|instant| instant.to_string()),
            finished_at: row.finished_at.map(|instant| instant.to_string()),
            lateness_ms: row.lateness_ms(),
            clock_ahead_ms: Some(row.clock_ahead_ms).filter(|ahead| *ahead != 0),
            attempt: row.attempt,
            attempts: row.attempts.iter().map(Attempt::from).collect(),
            progress: row.progress.as_ref().map(|progress| Progress {
                percent: progress.percent,
                message: progress.message.to_string(),
            }),
            result: row.result_text().and_then(super::raw),
            error: row.error.as_ref().map(ToString::to_string),
            retry_items: row.retry_items_text().and_then(super::raw),
            reason: row.reason.as_ref().map(|reason| reason.explanation().into_owned()),
            priority: standing.as_ref().map(|standing| standing.priority),
            waiting_for: standing.and_then(|standing| standing.waiting_for),
            log_index: row.log_index,
            correlation_id: row.correlation(),
        }
    }
}

impl From<&AttemptRow> for Attempt {
    fn from(attempt: &AttemptRow) -> Self {
        Self {
            number: attempt.number,
            worker: attempt.worker.to_string(),
            started_at: attempt.started_at.to_string(),
            finished_at: attempt.finished_at.map(|instant| instant.to_string()),
            outcome: attempt.outcome.map(|outcome| outcome.name()),
            failure: attempt.failure.map(|class| Failure { class: class.name(), code: class.code() }),
            error: attempt.error.as_ref().map(ToString::to_string),
            cpu_seconds: attempt.usage.map(|usage| Duration::from_millis(usage.cpu_ms).as_secs_f64()),
            peak_memory_bytes: attempt.usage.map(|usage| usage.peak_memory_bytes),
        }
    }
}

impl DeadLettersRetried {
    pub(in crate::http) fn of(retried: Retried, next_cursor: Option<String>) -> Self {
        let refused = retried.refused.into_iter().map(|(execution, error)| {
            let problem = Problem::from(error);
            NotRetried {
                execution_id: execution.to_string(),
                status: problem.status.as_u16(),
                code: problem.code(),
                detail: problem.detail().to_owned(),
            }
        });
        Self {
            retried: retried.retried.iter().map(ToString::to_string).collect(),
            refused: refused.collect(),
            next_cursor,
        }
    }
}

impl From<OutputLine> for LogLine {
    fn from(line: OutputLine) -> Self {
        Self { at: line.at.to_string(), stream: line.stream.name(), text: line.text, attempt: line.attempt }
    }
}

impl From<ExecutionCounts> for Counts {
    fn from(counts: ExecutionCounts) -> Self {
        let by_status: BTreeMap<&'static str, u64> =
            counts.by_status.iter().map(|(status, count)| (status.name(), *count)).collect();
        let of = |name| by_status.get(name).copied().unwrap_or(0);
        Self {
            queue_depth: of("queued"),
            running: of("running"),
            lateness_p50_ms: counts.lateness_p50_ms,
            lateness_p99_ms: counts.lateness_p99_ms,
            workers: counts.workers,
            counts: by_status,
        }
    }
}

impl From<WorkerView> for Worker {
    fn from(worker: WorkerView) -> Self {
        let held = |(execution, task): (_, _)| held(execution, task);
        Self {
            id: worker_name(worker.node),
            node: Some(worker.node.0),
            incarnation: Some(worker.incarnation.to_string()),
            state: worker.state.name(),
            slots: Some(worker.slots),
            running: worker.running,
            holds: worker.holds.into_iter().map(held).collect(),
            offers: Some(Offers {
                http: worker.http,
                builtin: worker.builtin,
                programs: worker.programs.map(|listed| listed.iter().map(ToString::to_string).collect()),
            }),
        }
    }
}

impl From<OutsideWorkerView> for Worker {
    fn from(worker: OutsideWorkerView) -> Self {
        Self {
            id: worker.name.to_string(),
            node: None,
            incarnation: None,
            state: "ready",
            slots: None,
            running: worker.running,
            holds: worker.holds.into_iter().map(|(execution, task)| held(execution, task)).collect(),
            offers: None,
        }
    }
}

fn held(
    execution: escapement_domain::identifier::ExecutionId,
    task: escapement_domain::identifier::TaskId,
) -> Held {
    Held { execution_id: execution.to_string(), task_id: task.to_string() }
}
