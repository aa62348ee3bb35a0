//! What is true of one execution that has not ended.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TaskId, TenantId};
use crate::task::rules::Rules;
use crate::task::sealed::Sealed;
use crate::timestamp::{Span, Timestamp};

/// How an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// It waits for a worker, or for its turn.
    Queued,
    /// An attempt is in the hands of a worker.
    Running,
    /// An attempt failed; the next one waits for its time.
    Retrying,
    /// It did what it was asked.
    Succeeded,
    /// Its last attempt failed.
    Failed,
    /// It was told to stop.
    Cancelled,
    /// Its last attempt took too long.
    TimedOut,
    /// Its worker was lost and it may not be made again.
    Lost,
    /// It was never started, for a reason.
    Skipped,
}

impl Status {
    /// Every status, open ones first.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
        Self::Lost,
        Self::Skipped,
    ];

    /// Whether nothing more happens to it.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Retrying)
    }

    /// Those of an execution that failed for good, without anybody having asked for its end.
    pub const FAILURES: [Self; 3] = [Self::Failed, Self::TimedOut, Self::Lost];

    /// Whether it is one of [`Status::FAILURES`].
    #[must_use]
    pub fn is_failure(self) -> bool {
        Self::FAILURES.contains(&self)
    }

    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
        }
    }
}

/// The key of exactly once: what made an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Occurrence {
    /// An instant of the task's schedule.
    Scheduled(Timestamp),
    /// A run by hand, by the command that asked for it.
    Manual(CommandId),
    /// An instant of the task's schedule that was moved by hand; the instant is the schedule's.
    Moved(Timestamp),
    /// An instant of the past, run again or for the first time.
    Backfill {
        /// The command that asked for it.
        backfill: CommandId,
        /// The instant.
        instant: Timestamp,
    },
    /// An event that the task listens to, by the command that published it.
    Event(CommandId),
    /// The ends of other tasks within the run of a chain.
    After {
        /// The run, by the execution that began it.
        run: ExecutionId,
        /// How often the run was taken up again by hand.
        round: u32,
    },
    /// The ends of tasks of several chains, of which each has its runs.
    Joined {
        /// The sequence, in the tenant's log, of the record of the last of those ends.
        end: u64,
    },
}

impl Occurrence {
    /// The run that an execution of this occurrence belongs to.
    #[must_use]
    pub fn run_of(self, execution: ExecutionId) -> ExecutionId {
        match self {
            Self::After { run, .. } => run,
            _ => execution,
        }
    }
}

/// One execution that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Its name, made from the task and the occurrence.
    pub id: ExecutionId,
    /// Its task.
    pub task: TaskId,
    /// The slot of its task.
    pub slot: u32,
    /// Whose it is.
    pub tenant: TenantId,
    /// The version of the definition that it runs.
    pub task_version: u32,
    /// What made it.
    pub occurrence: Occurrence,
    /// The instant it is for.
    pub scheduled_at: Timestamp,
    /// When it was queued.
    pub fired_at: Timestamp,
    /// When it began to wait for a worker, or for its turn, the last time.
    pub queued_at: Timestamp,
    /// The index of the log entry that queued it.
    pub log_index: u64,
    /// The request that it goes back to.
    pub correlation_id: Arc<str>,
    /// What decisions read of its definition.
    pub rules: Arc<Rules>,
    /// Its definition.
    pub definition: Sealed,
    /// From 0 to 9.
    pub priority: u8,
    /// Its place in the queue among those of its priority.
    pub turn: u64,
    /// Where it stands.
    pub stage: Stage,
    /// Attempts granted so far.
    pub attempts: u32,
    /// Attempts that are known to have failed.
    pub failures: u32,
    /// Whether it was told to stop while an attempt ran.
    pub cancelling: Option<CancelCause>,
    /// JSON text of a list: the items that failed last, for the next attempt.
    pub retry_items: Option<Sealed>,
    /// JSON text of the document of its cause, if that was brought along when it was made again by hand.
    pub cause: Option<Sealed>,
}

impl Execution {
    /// The run of a chain that it belongs to, by the execution that began it: itself, unless it follows others in theirs.
    #[must_use]
    pub fn run(&self) -> ExecutionId {
        self.occurrence.run_of(self.id)
    }

    /// How it stands, in the API's words.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.stage {
            Stage::Held | Stage::Queued => Status::Queued,
            Stage::Running(_) => Status::Running,
            Stage::Retrying { .. } => Status::Retrying,
        }
    }

    /// The attempt that is in the hands of a worker.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        match &self.stage {
            Stage::Running(grant) => Some(grant),
            Stage::Held | Stage::Queued | Stage::Retrying { .. } => None,
        }
    }
}

/// Where an open execution stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It waits for an earlier execution of its task to end.
    Held,
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Running(Grant),
    /// It waits for the time of its next attempt.
    Retrying {
        /// That time.
        until: Timestamp,
    },
}

/// One attempt in the hands of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose hands.
    pub holder: Holder,
    /// The fencing token: the sequence of the event that granted it.
    pub token: u64,
    /// When it was granted.
    pub since: Timestamp,
}

impl Grant {
    /// The worker, if it is one of a node of the cluster.
    #[must_use]
    pub fn of_node(&self) -> Option<(NodeId, Incarnation)> {
        match self.holder {
            Holder::Node { node, incarnation } => Some((node, incarnation)),
            Holder::Outside { .. } => None,
        }
    }
}

/// Who has an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    /// A node of the cluster, by one start of its dispatcher.
    Node {
        /// The node.
        node: NodeId,
        /// The start.
        incarnation: Incarnation,
    },
    /// A worker outside the cluster, which leased it from a queue.
    Outside {
        /// What the worker calls itself.
        worker: Arc<str>,
        /// How long its lease holds from each sign of life.
        lease: Span,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { node, .. } => write!(formatter, "node {node}"),
            Self::Outside { worker, .. } => write!(formatter, "worker {worker}"),
        }
    }
}

/// Why an execution was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelCause {
    /// Somebody asked for it.
    Requested,
    /// A newer occurrence takes its place.
    Superseded,
    /// Its task was deleted.
    TaskDeleted,
    /// The time was over that it may take in all; it then ends as timed out.
    OutOfTime,
}
