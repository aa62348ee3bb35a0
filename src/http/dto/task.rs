//! A task, as it is sent and answered.

use std::collections::BTreeMap;

use escapement_domain::task::definition as domain;
use escapement_domain::task::retry_on::{Numbers, RetryOn as DomainRetryOn};
use escapement_domain::task::state::LastExecution as DomainLastExecution;
use serde::Serialize;
use utoipa::ToSchema;

use super::action::Action;
use super::trigger::Trigger;
use crate::service::validation::KINDS;
use crate::service::{TaskView, Upcoming};

/// A task. Fields that only the node sets may be sent back and are ignored.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Task {
    /// Its name for ever.
    #[schema(read_only, format = "uuid")]
    id: String,
    /// Whose it is.
    #[schema(read_only)]
    tenant: String,
    /// Who created it.
    #[schema(read_only)]
    owner: String,
    /// Counts the changes of its definition.
    #[schema(read_only)]
    version: u32,
    /// A name for people.
    #[schema(max_length = 256)]
    name: String,
    /// A text for people.
    #[serde(default)]
    #[schema(max_length = 4096)]
    description: String,
    /// What sort of work it is.
    #[serde(default)]
    #[schema(value_type = Kind, default = "generic")]
    kind: &'static str,
    /// What makes it due.
    trigger: Trigger,
    /// What it does.
    action: Action,
    /// Values of what made an execution, put into the action's JSON: where they are put, and where in the cause they are,
    /// both as JSON Pointers. With a trigger of type `event` or `after` only.
    #[serde(default)]
    #[schema(example = json!({ "/commit": "/event/payload/commit" }))]
    inputs: BTreeMap<String, String>,
    /// How long one attempt may take.
    #[serde(default)]
    #[schema(default = "5m")]
    timeout: String,
    /// How long an execution may take in all, from its fire to its end; without a limit if it is left out.
    #[serde(default)]
    execution_timeout: Option<String>,
    /// How long an execution may wait for a worker each time, or for its turn; without a limit if it is left out.
    #[serde(default)]
    queue_timeout: Option<String>,
    /// How failed attempts are made again; one attempt if it is left out.
    #[serde(default)]
    retry: Retry,
    /// When to stop calling a target that keeps failing. Not available yet.
    #[serde(default)]
    circuit_breaker: Option<CircuitBreaker>,
    /// What happens to instants that nobody fired in time.
    #[serde(default)]
    misfire: Misfire,
    /// What happens when it is due while an earlier execution is open.
    #[serde(default)]
    #[schema(default = "skip")]
    overlap: Overlap,
    /// What happens to an attempt whose worker is lost, or of which nobody knows what it did.
    #[serde(default)]
    #[schema(default = "at_least_once")]
    delivery: Delivery,
    /// From 0, the lowest, to 9.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 9, default = 5)]
    priority: u8,
    /// Shares of pools that an execution holds while it runs.
    #[serde(default)]
    #[schema(example = json!({ "staging": 1 }))]
    resources: BTreeMap<String, u32>,
    /// The longest delay added to each instant.
    #[serde(default)]
    #[schema(default = "0s")]
    jitter: String,
    /// Names of calendars that narrow the schedule: an instant runs only if each of them lets it.
    #[serde(default)]
    #[schema(max_items = 16)]
    calendars: Vec<String>,
    /// Names and values for people and filters.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Nothing is due before this instant.
    #[serde(default)]
    start_at: Option<String>,
    /// Nothing is due after this instant.
    #[serde(default)]
    end_at: Option<String>,
    /// Finished after so many fires.
    #[serde(default)]
    #[schema(minimum = 1)]
    max_runs: Option<u32>,
    /// How many of its executions may run at once; more of them wait in the queue.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    max_concurrent: Option<u32>,
    /// Paused when so many executions in a row have failed for good.
    #[serde(default)]
    #[schema(minimum = 1)]
    pause_after_failures: Option<u32>,
    /// Whether it fires. `active` or `paused` may be asked for.
    #[serde(default)]
    #[schema(value_type = State, default = "active")]
    state: &'static str,
    /// Why it is paused, if it is.
    #[schema(read_only, required = true)]
    pause_reason: Option<String>,
    /// How many of its executions in a row have failed for good.
    #[schema(read_only)]
    failures_in_a_row: u32,
    /// When it was created.
    #[schema(read_only)]
    created_at: String,
    /// When its definition or state last changed.
    #[schema(read_only)]
    updated_at: String,
    /// The instant for which it fires next.
    #[schema(read_only, required = true)]
    next_fire_at: Option<String>,
    /// The execution that ended or was skipped last.
    #[schema(read_only, required = true)]
    last_execution: Option<LastExecution>,
}

/// What sort of work a task is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the words of a schema")]
pub(in crate::http) enum Kind {
    TestExecution,
    Maintenance,
    Report,
    Alert,
    Generic,
}

/// Whether a task fires.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the words of a schema")]
pub(in crate::http) enum State {
    Active,
    Paused,
    Finished,
}

/// How failed attempts are made again.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::http) struct Retry {
    /// How many attempts may fail in all.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000, default = 5)]
    max_attempts: u32,
    /// The wait after the first failure.
    #[serde(default)]
    #[schema(default = "1s")]
    initial_delay: String,
    /// By what each wait grows.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100, default = 2.0)]
    multiplier: f64,
    /// The longest wait.
    #[serde(default)]
    #[schema(default = "5m")]
    max_delay: String,
    /// By which share a wait may be longer or shorter.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1, default = 0.2)]
    jitter: f64,
    /// Which failures are retried; every one if it is left out.
    #[serde(default)]
    retry_on: Option<RetryOn>,
}

/// The classes of failures that are retried; what is not listed is final.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::http) struct RetryOn {
    /// Statuses of responses: `429`, `500-599`, or `5xx`.
    #[serde(default)]
    #[schema(max_items = 32, example = json!(["5xx", "429"]))]
    http_status: Vec<String>,
    /// Exit codes of programs: `75`, or `1-5`.
    #[serde(default)]
    #[schema(max_items = 32, example = json!(["1-5", "75"]))]
    exit_codes: Vec<String>,
    /// Programs that a signal ended.
    #[serde(default)]
    signal: bool,
    /// Attempts that took too long.
    #[serde(default)]
    timeout: bool,
    /// Connections that could not be made, or broke.
    #[serde(default)]
    connection: bool,
    /// Anything else, such as a program that cannot be started.
    #[serde(default)]
    other: bool,
}

/// When to stop calling a target that keeps failing.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CircuitBreaker {
    /// How many failures in a row open it.
    failure_threshold: u32,
    /// How long it stays open.
    open_for: String,
}

/// What happens to instants that nobody fired in time.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::http) struct Misfire {
    /// Which of them are run.
    #[serde(default)]
    policy: MisfirePolicy,
    /// A fire up to so long after its instant, and what its jitter may take, is late, not missed.
    #[serde(default)]
    #[schema(default = "1m")]
    grace: String,
    /// A missed instant that is older than this, and than what its jitter may take, is never run.
    #[serde(default)]
    #[schema(default = "1h")]
    window: String,
}

/// Which missed instants are run.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum MisfirePolicy {
    Skip,
    #[default]
    RunLatest,
    RunAll,
}

/// What happens when a task is due while an earlier execution is open.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Overlap {
    #[default]
    Skip,
    QueueOne,
    QueueAll,
    CancelRunning,
    Allow,
}

/// What happens to an attempt whose worker is lost, or of which nobody knows what it did.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Delivery {
    #[default]
    AtLeastOnce,
    AtMostOnce,
}

/// The execution of a task that ended last.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct LastExecution {
    /// Which.
    #[schema(format = "uuid")]
    id: String,
    /// How it ended.
    #[schema(value_type = super::execution::Status)]
    status: &'static str,
    /// The instant it was for.
    scheduled_at: String,
    /// When it ended.
    finished_at: String,
}

/// One fire to come.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct UpcomingFire {
    /// The task.
    #[schema(format = "uuid")]
    task_id: String,
    /// Its name for people.
    name: String,
    /// What sort of work it is.
    #[schema(value_type = Kind)]
    kind: &'static str,
    /// The instant for which it fires.
    at: String,
}

fn kind_name(kind: domain::Kind) -> &'static str {
    KINDS.iter().find(|(_, other)| *other == kind).map_or("generic", |(name, _)| name)
}

impl From<TaskView> for Task {
    fn from(task: TaskView) -> Self {
        let definition = task.definition;
        Self {
            id: task.id.to_string(),
            tenant: task.tenant.to_string(),
            owner: task.owner.to_string(),
            version: task.version,
            name: definition.name,
            description: definition.description,
            kind: kind_name(definition.kind),
            trigger: definition.trigger.into(),
            action: definition.action.into(),
            inputs: definition.inputs,
            timeout: definition.timeout.to_string(),
            execution_timeout: definition.execution_timeout.map(|span| span.to_string()),
            queue_timeout: definition.queue_timeout.map(|span| span.to_string()),
            retry: Retry::of(definition.retry, definition.retry_on),
            circuit_breaker: definition.circuit_breaker.map(|breaker| CircuitBreaker {
                failure_threshold: breaker.failure_threshold,
                open_for: breaker.open_for.to_string(),
            }),
            misfire: definition.misfire.into(),
            overlap: definition.overlap.into(),
            delivery: definition.delivery.into(),
            priority: definition.priority,
            resources: definition.resources,
            jitter: definition.jitter.to_string(),
            calendars: definition.calendars,
            labels: definition.labels,
            start_at: definition.start_at.map(|instant| instant.to_string()),
            end_at: definition.end_at.map(|instant| instant.to_string()),
            max_runs: definition.max_runs,
            max_concurrent: definition.max_concurrent,
            pause_after_failures: definition.pause_after_failures,
            state: task.state.name(),
            pause_reason: task.paused.map(|cause| cause.explanation().into_owned()),
            failures_in_a_row: task.failures,
            created_at: task.created_at.to_string(),
            updated_at: task.updated_at.to_string(),
            next_fire_at: task.next_fire_at.map(|instant| instant.to_string()),
            last_execution: task.last_execution.map(LastExecution::from),
        }
    }
}

impl Retry {
    fn of(retry: domain::Retry, on: Option<DomainRetryOn>) -> Self {
        Self {
            retry_on: on.map(RetryOn::from),
            max_attempts: retry.max_attempts,
            initial_delay: retry.initial_delay.to_string(),
            multiplier: f64::from(retry.multiplier_per_mille) / 1_000.0,
            max_delay: retry.max_delay.to_string(),
            jitter: f64::from(retry.jitter_per_mille) / 1_000.0,
        }
    }
}

impl From<DomainRetryOn> for RetryOn {
    fn from(on: DomainRetryOn) -> Self {
        let numbers = |listed: &[Numbers]| listed.iter().map(ToString::to_string).collect();
        Self {
            http_status: numbers(&on.http_status),
            exit_codes: numbers(&on.exit_codes),
            signal: on.signal,
            timeout: on.timeout,
            connection: on.connection,
            other: on.other,
        }
    }
}

impl From<domain::Misfire> for Misfire {
    fn from(misfire: domain::Misfire) -> Self {
        Self {
            policy: match misfire.policy {
                domain::MisfirePolicy::Skip => MisfirePolicy::Skip,
                domain::MisfirePolicy::RunLatest => MisfirePolicy::RunLatest,
                domain::MisfirePolicy::RunAll => MisfirePolicy::RunAll,
            },
            grace: misfire.grace.to_string(),
            window: misfire.window.to_string(),
        }
    }
}

impl From<domain::Overlap> for Overlap {
    fn from(overlap: domain::Overlap) -> Self {
        match overlap {
            domain::Overlap::Skip => Self::Skip,
            domain::Overlap::QueueOne => Self::QueueOne,
            domain::Overlap::QueueAll => Self::QueueAll,
            domain::Overlap::CancelRunning => Self::CancelRunning,
            domain::Overlap::Allow => Self::Allow,
        }
    }
}

impl From<domain::Delivery> for Delivery {
    fn from(delivery: domain::Delivery) -> Self {
        match delivery {
            domain::Delivery::AtLeastOnce => Self::AtLeastOnce,
            domain::Delivery::AtMostOnce => Self::AtMostOnce,
        }
    }
}

impl From<DomainLastExecution> for LastExecution {
    fn from(last: DomainLastExecution) -> Self {
        Self {
            id: last.id.to_string(),
            status: last.status.name(),
            scheduled_at: last.scheduled_at.to_string(),
            finished_at: last.finished_at.to_string(),
        }
    }
}

impl From<Upcoming> for UpcomingFire {
    fn from(upcoming: Upcoming) -> Self {
        Self {
            task_id: upcoming.task.to_string(),
            name: upcoming.name,
            kind: kind_name(upcoming.kind),
            at: upcoming.at.to_string(),
        }
    }
}
