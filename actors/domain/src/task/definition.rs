//! A task's definition: what a client wrote, immutable for each (task, version).
//!
//! Numbers that a client writes with a fraction are integers per mille here: nothing replicated computes with floats.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::retry_on::RetryOn;
use super::trigger::Trigger;
use crate::timestamp::{Span, Timestamp};

/// What a client wrote about a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// A name for people; need not be unique.
    pub name: String,
    /// A text for people.
    pub description: String,
    /// What sort of work it is.
    pub kind: Kind,
    /// What makes it due.
    pub trigger: Trigger,
    /// What it does.
    pub action: Action,
    /// Where in the action's JSON values of an execution's cause are put, and where in the cause they are: JSON Pointers.
    pub inputs: BTreeMap<String, String>,
    /// How long one attempt may take.
    pub timeout: Span,
    /// How long an execution may take in all, from its fire to its end.
    pub execution_timeout: Option<Span>,
    /// How long an execution may wait for a worker, each time.
    pub queue_timeout: Option<Span>,
    /// How failed attempts are made again.
    pub retry: Retry,
    /// Which failures are retried; every one if it is left out.
    pub retry_on: Option<RetryOn>,
    /// When to stop calling a target that keeps failing.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// What happens to instants that nobody fired in time.
    pub misfire: Misfire,
    /// What happens when it is due while an earlier execution is open.
    pub overlap: Overlap,
    /// What happens to an attempt whose worker is lost.
    pub delivery: Delivery,
    /// From 0, the lowest, to 9.
    pub priority: u8,
    /// Shares of named pools that an execution holds.
    pub resources: BTreeMap<String, u32>,
    /// The longest random-looking delay added to each instant.
    pub jitter: Span,
    /// Names of calendars that narrow the schedule.
    pub calendars: Vec<String>,
    /// Names and values for people and filters.
    pub labels: BTreeMap<String, String>,
    /// Nothing is due before this instant.
    pub start_at: Option<Timestamp>,
    /// Nothing is due after this instant.
    pub end_at: Option<Timestamp>,
    /// The task is finished after so many fires.
    pub max_runs: Option<u32>,
    /// How many of its executions may run at once; more of them wait in the queue.
    pub max_concurrent: Option<u32>,
    /// The task is paused when so many executions in a row have failed for good.
    pub pause_after_failures: Option<u32>,
}

impl Definition {
    /// A definition that says no more than it must: everything else is as if a client had left it out.
    #[must_use]
    pub fn new(name: impl Into<String>, trigger: Trigger, action: Action) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            kind: Kind::default(),
            trigger,
            action,
            inputs: BTreeMap::new(),
            timeout: Self::TIMEOUT,
            execution_timeout: None,
            queue_timeout: None,
            retry: Retry::NONE,
            retry_on: None,
            circuit_breaker: None,
            misfire: Misfire::default(),
            overlap: Overlap::default(),
            delivery: Delivery::default(),
            priority: Self::PRIORITY,
            resources: BTreeMap::new(),
            jitter: Span::ZERO,
            calendars: Vec::new(),
            labels: BTreeMap::new(),
            start_at: None,
            end_at: None,
            max_runs: None,
            max_concurrent: None,
            pause_after_failures: None,
        }
    }

    /// How long an attempt may take unless the definition says.
    pub const TIMEOUT: Span = Span::minutes(5);
    /// The priority unless the definition says.
    pub const PRIORITY: u8 = 5;
}

/// What sort of work a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Kind {
    /// Anything.
    #[default]
    Generic,
    /// A run of a test suite.
    TestExecution,
    /// Upkeep of a system.
    Maintenance,
    /// A report.
    Report,
    /// An alert.
    Alert,
}

/// How failed attempts are made again: exponential back-off with a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Retry {
    /// How many attempts may fail in all; at least 1.
    pub max_attempts: u32,
    /// The wait after the first failure.
    pub initial_delay: Span,
    /// What each wait is multiplied by to get the next one, in thousandths.
    pub multiplier_per_mille: u32,
    /// The longest wait.
    pub max_delay: Span,
    /// How much a wait may be shortened or lengthened, in thousandths of it.
    pub jitter_per_mille: u32,
}

impl Retry {
    /// One attempt and no retry.
    pub const NONE: Self = Self { max_attempts: 1, ..Self::DEFAULT };
    /// What a given retry takes for the fields it leaves out.
    pub const DEFAULT: Self = Self {
        max_attempts: 5,
        initial_delay: Span::seconds(1),
        multiplier_per_mille: 2_000,
        max_delay: Span::minutes(5),
        jitter_per_mille: 200,
    };
}

/// When to stop calling a target that keeps failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CircuitBreaker {
    /// How many failures in a row open it.
    pub failure_threshold: u32,
    /// How long it stays open before one probe.
    pub open_for: Span,
}

impl CircuitBreaker {
    /// What a given breaker takes for the fields it leaves out.
    pub const DEFAULT: Self = Self { failure_threshold: 5, open_for: Span::minutes(1) };
}

/// What happens to instants that nobody fired in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Misfire {
    /// Which of them are run.
    pub policy: MisfirePolicy,
    /// A fire up to so long after its instant, and what its jitter may take, is late, not missed.
    pub grace: Span,
    /// A missed instant that is older than this, and than what its jitter may take, is never run.
    pub window: Span,
}

impl Default for Misfire {
    fn default() -> Self {
        Self { policy: MisfirePolicy::RunLatest, grace: Span::minutes(1), window: Span::hours(1) }
    }
}

/// Which missed instants are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum MisfirePolicy {
    /// None.
    Skip,
    /// The latest, if it lies within the window.
    #[default]
    RunLatest,
    /// All that lie within the window.
    RunAll,
}

/// What happens when a task is due while an earlier execution of it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Overlap {
    /// The occurrence is skipped.
    #[default]
    Skip,
    /// One occurrence waits; further ones are skipped.
    QueueOne,
    /// Every occurrence waits its turn.
    QueueAll,
    /// The open execution is cancelled and the new one follows it.
    CancelRunning,
    /// They run side by side.
    Allow,
}

/// What happens to an attempt whose worker is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Delivery {
    /// It is made again at once, under a higher fencing token.
    #[default]
    AtLeastOnce,
    /// The execution ends as lost.
    AtMostOnce,
}
