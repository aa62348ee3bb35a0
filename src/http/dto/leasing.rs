//! What workers outside the cluster send and are answered.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::execution::Execution;
use crate::service::executions::Standing;
use crate::service::leasing::{LeaseExtension as Extension, LeasedExecution};

/// What a worker asks of a queue.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) struct LeaseRequest {
    /// What the worker calls itself; shown in attempts.
    #[schema(example = "runner-7")]
    worker: String,
    /// At most so many executions, 1 to 100; 1 if it is left out.
    #[serde(default)]
    max: Option<u32>,
    /// How long the lease holds from each sign of life, 1s to 1h; `1m` if it is left out.
    #[serde(default)]
    lease: Option<String>,
    /// How long the call waits if there is nothing, up to `1m`; not at all if it is left out.
    #[serde(default)]
    #[schema(example = "20s")]
    wait: Option<String>,
}

/// An execution that a worker has now.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Leased {
    #[serde(flatten)]
    execution: Execution,
    /// What the task hands to its worker.
    #[schema(required = true, value_type = Object)]
    payload: Option<Box<RawValue>>,
    /// Shows that the worker has the attempt; goes with every call about it.
    lease_token: String,
    /// When the lease ends unless the worker shows that it lives, by the cluster's clocks.
    lease_until: String,
    /// The same for a worker that does not trust its clock: how many milliseconds the lease holds from when this was answered.
    lease_ms: u64,
}

/// A sign of life.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) struct Heartbeat {
    /// The token of the lease.
    lease_token: String,
}

/// The answer to a sign of life.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct LeaseExtension {
    /// When the lease ends now, by the cluster's clocks.
    lease_until: String,
    /// How many milliseconds the lease holds from when the sign of life was sent.
    lease_ms: u64,
    /// Whether the attempt is to stop: somebody cancelled it.
    cancel: bool,
}

/// How far an attempt is: `percent`, `message` or both.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) struct ProgressReport {
    /// The token of the lease.
    lease_token: String,
    /// From 0 to 100.
    #[serde(default)]
    percent: Option<u8>,
    /// A sentence for people.
    #[serde(default)]
    message: Option<String>,
}

/// The end of an attempt.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) struct Completion {
    /// The token of the lease.
    lease_token: String,
    /// How it ended.
    #[schema(value_type = CompletionOutcome)]
    outcome: String,
    /// What it returned: any JSON, up to 16 KiB.
    #[serde(default)]
    #[schema(value_type = Object)]
    result: Option<Box<RawValue>>,
    /// Why it failed.
    #[serde(default)]
    error: Option<String>,
    /// What sort of failure it was, for the task's `retry_on`; `other` if it is left out.
    #[serde(default)]
    failure: Option<ReportedFailure>,
    /// How long the next attempt is to wait at least: a duration such as `90s`, up to a day.
    #[serde(default)]
    retry_after: Option<String>,
    /// The items that failed, of which the next attempt is told as `retry_items`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    failed_items: Option<Vec<Box<RawValue>>>,
}

/// What sort of failure it was, by whoever made the attempt.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) struct ReportedFailure {
    /// The sort.
    class: ReportedClass,
    /// The status, the exit code or the signal: required with these classes, and with no other.
    #[serde(default)]
    code: Option<u16>,
}

/// Sorts of failures that can be reported.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the words of a schema")]
pub(in crate::http) enum ReportedClass {
    HttpStatus,
    ExitCode,
    Signal,
    Timeout,
    Connection,
    Other,
}

/// How an attempt ended, by its worker.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the words of a schema")]
pub(in crate::http) enum CompletionOutcome {
    Succeeded,
    Failed,
}

impl Leased {
    pub(in crate::http) fn of(leased: &LeasedExecution, tenant: &str, standing: Option<Standing>) -> Self {
        Self {
            execution: Execution::of(&leased.row, tenant, standing),
            payload: leased.payload.as_deref().and_then(super::raw),
            lease_token: leased.token.to_string(),
            lease_until: leased.until.to_string(),
            lease_ms: leased.holds.0,
        }
    }
}

impl From<Extension> for LeaseExtension {
    fn from(extension: Extension) -> Self {
        let Extension { holds, until, cancel } = extension;
        Self { lease_until: until.to_string(), lease_ms: holds.0, cancel }
    }
}
