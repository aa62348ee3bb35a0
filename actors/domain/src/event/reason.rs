//! Why things happened: how attempts ended, why occurrences were not run, why executions wait again.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::execution::failure::FailureClass;
use crate::execution::state::Status;
use crate::execution::usage::Usage;
use crate::identifier::{ExecutionId, TaskId};
use crate::task::sealed::Sealed;
use crate::timestamp::Timestamp;

/// How an attempt ended, as the worker that made it saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnded {
    /// Its fencing token.
    pub token: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What sort of failure it was, if it failed.
    pub failure: Option<FailureClass>,
    /// A sentence why it failed.
    pub error: Option<Arc<str>>,
    /// JSON text of a list: the items that failed.
    pub failed_items: Option<Sealed>,
    /// What it used, if its worker could tell.
    pub usage: Option<Usage>,
}

/// Why an occurrence was not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipReason {
    /// An earlier execution of the task is open.
    Overlap,
    /// An earlier execution is open and another one waits already.
    OverlapQueueFull,
    /// The task has as many open executions as it may have.
    TooManyOpen,
    /// A calendar of the task forbids it.
    Forbidden {
        /// The calendar.
        calendar: Arc<str>,
    },
    /// Somebody skipped it by hand.
    ByHand,
    /// Its time passed while nobody could fire it, and the misfire policy does not run it.
    Missed,
    /// Its task is paused.
    Paused,
    /// Its task has run as often as it may.
    Exhausted,
    /// It was to run after a success, and the task did not end so.
    Unsuccessful {
        /// The task that was waited for.
        task: TaskId,
        /// How it ended.
        status: Status,
    },
    /// It was to run after a failure, and all that it waited for ended without one.
    NoneFailed,
}

impl SkipReason {
    /// The name that the API uses.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::OverlapQueueFull => "overlap_queue_full",
            Self::TooManyOpen => "too_many_open",
            Self::Forbidden { .. } => "calendar",
            Self::ByHand => "by_hand",
            Self::Missed => "missed",
            Self::Paused => "paused",
            Self::Exhausted => "max_runs",
            Self::Unsuccessful { .. } | Self::NoneFailed => "condition",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub fn explanation(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Forbidden { calendar } => {
                return format!("the calendar `{calendar}` does not allow it").into();
            }
            Self::Unsuccessful { task, status } => {
                return format!("its condition cannot be met: {task} ended as {}", status.name()).into();
            }
            Self::NoneFailed => "its condition cannot be met: nothing that it waited for failed",
            Self::Paused => "the task was paused",
            Self::Exhausted => "the task had run as often as it may (max_runs)",
            Self::ByHand => "it was skipped by hand",
            Self::Missed => "its time passed while nobody could fire it (misfire policy)",
            Self::Overlap => "an earlier execution of the task had not ended (overlap: skip)",
            Self::OverlapQueueFull => {
                "an earlier execution had not ended and another one waited already (overlap: queue_one)"
            }
            Self::TooManyOpen => "the task had as many open executions as it may have",
        })
    }
}

/// Why a failed execution is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GiveUpCause {
    /// As many attempts have failed as its definition allows.
    AttemptsUsedUp,
    /// Its definition does not retry failures of this class.
    NotRetried,
    /// The time was over that it may take in all.
    ExecutionTimeout,
    /// The time was over that it may wait for a worker.
    QueueTimeout,
    /// It may be made at most once, and nobody knows what its last attempt did.
    OutcomeUnknown,
}

impl GiveUpCause {
    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AttemptsUsedUp => "attempts_used_up",
            Self::NotRetried => "not_retried",
            Self::ExecutionTimeout => "execution_timeout",
            Self::QueueTimeout => "queue_timeout",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::AttemptsUsedUp => "as many attempts failed as the task allows (retry.max_attempts)",
            Self::NotRetried => "the task does not retry failures of this class (retry.retry_on)",
            Self::ExecutionTimeout => "it was not done within the time that it may take (execution_timeout)",
            Self::QueueTimeout => "no worker took it within the time that it may wait (queue_timeout)",
            Self::OutcomeUnknown => {
                "nobody knows what the attempt did, and it may be made at most once (delivery: at_most_once)"
            }
        }
    }
}

/// Why a task fires no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PauseCause {
    /// Somebody asked for it.
    Requested,
    /// As many of its executions in a row failed for good as its definition bears.
    Failures {
        /// How many.
        count: u32,
    },
}

impl PauseCause {
    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Failures { .. } => "failures",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub fn explanation(self) -> Cow<'static, str> {
        match self {
            Self::Requested => "somebody paused it".into(),
            Self::Failures { count } => {
                format!("its last {count} executions all failed for good (pause_after_failures)").into()
            }
        }
    }
}

/// Why an execution no longer waits for an earlier one of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseCause {
    /// That one ended.
    Ended {
        /// The earlier one.
        earlier: ExecutionId,
    },
    /// Its task was changed, and its executions may overlap from now on.
    OverlapAllowed,
}

/// Why an execution waits for a worker again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequeueCause {
    /// The time of its next attempt has come.
    RetryDue,
    /// Its worker was lost.
    WorkerLost {
        /// The fencing token of the lost attempt.
        token: u64,
    },
    /// Its worker stopped and gave it back.
    HandedBack {
        /// The fencing token of the attempt.
        token: u64,
    },
    /// The lease of the worker outside that had it ran out.
    LeaseExpired {
        /// The fencing token of the attempt.
        token: u64,
    },
    /// Its worker stopped before it had begun it.
    NotStarted {
        /// The fencing token of the attempt.
        token: u64,
    },
}
