//! What the checker reads: the records of the log, and what a witness outside the cluster saw.

use std::fmt;

use escapement_domain::answer::Answer;
use escapement_domain::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TaskId};
use escapement_domain::record::Record;
use escapement_domain::replica::Replica;
use escapement_domain::task::definition::Definition;
use escapement_domain::timestamp::Timestamp;

use crate::profile::Settings;

/// One thing that must not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The invariant that does not hold.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.invariant, self.detail)
    }
}

/// What a client wants.
#[derive(Clone, Debug)]
pub enum Wish {
    /// New tasks.
    Create(Vec<Definition>),
    /// Another definition.
    Update(TaskId, Box<Definition>),
    /// No fires.
    Pause(TaskId),
    /// Fires again.
    Resume(TaskId),
    /// Gone.
    Delete(TaskId),
    /// A run now.
    Run(TaskId),
    /// An execution is to stop.
    Cancel(ExecutionId),
    /// One part of a bulk.
    Stage(CommandId, u32, Vec<Definition>),
    /// The end of a bulk.
    Commit(CommandId, u32),
}

/// What a client knows of its operation.
#[derive(Clone, Debug)]
pub enum Knowledge {
    /// It waits.
    Pending,
    /// It was answered.
    Answered(Box<Answer>),
    /// It gave up: carried out or not.
    Unknown,
}

/// One operation of one client, as the client saw it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its place, which is also its correlation id.
    pub number: usize,
    /// Who issued it; the operator if nobody.
    pub client: Option<usize>,
    /// The id of its command.
    pub command: CommandId,
    /// The tenant.
    pub tenant: &'static str,
    /// What was wanted.
    pub wish: Wish,
    /// The client's own key for it.
    pub key: Option<u64>,
    /// When it was issued, by the client's clock.
    pub issued_at: Timestamp,
    /// When it was issued, in ms of the world.
    pub issued: u64,
    /// When it was sent last.
    pub sent: u64,
    /// What came of it.
    pub knowledge: Knowledge,
    /// When its answer came.
    pub answered: u64,
}

/// How an attempt ended, as the witness saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It runs.
    Not,
    /// It did what it was asked.
    Succeeded,
    /// It failed or took too long.
    Failed,
    /// It stopped because it was told to.
    Stopped,
    /// It was killed because its lease ended.
    Killed,
    /// Its node or process died.
    Died,
}

/// One attempt, as the witness saw it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Of which task.
    pub task: TaskId,
    /// Of which execution.
    pub execution: ExecutionId,
    /// For which instant.
    pub scheduled_at: Timestamp,
    /// Under which token.
    pub token: u64,
    /// On which node.
    pub node: NodeId,
    /// By which start of it.
    pub incarnation: Incarnation,
    /// When it began, in ms of the world.
    pub started: u64,
    /// When it ended, in ms of the world.
    pub ended: u64,
    /// Until when its worker held a lease, in ms of the world.
    pub leased: u64,
    /// How it ended.
    pub how: Ended,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Nodes that crashed.
    pub crashes: u64,
    /// Nodes that froze.
    pub freezes: u64,
    /// Nodes that were cut off.
    pub cuts: u64,
    /// Clocks that jumped.
    pub jumps: u64,
    /// Drains of workers.
    pub drains: u64,
    /// Elections.
    pub elections: u64,
    /// Leaders that stepped down for their clock.
    pub wild_leaders: u64,
    /// Commands committed under a term that was over when they were proposed or committed.
    pub stale: u64,
    /// Commands committed a second time.
    pub duplicates: u64,
    /// Commands dropped.
    pub dropped: u64,
    /// Messages lost.
    pub lost: u64,
    /// Restores from a snapshot.
    pub restores: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Ends of the world in ms.
    pub world_ms: u64,
}

/// Everything that the checker reads.
#[derive(Debug)]
pub struct Evidence {
    /// How rough it was.
    pub settings: Settings,
    /// The instant of the world's zero.
    pub epoch: i64,
    /// When healing began, in ms of the world.
    pub healed: u64,
    /// When the tasks began to be paused, in ms of the world.
    pub quiesced: u64,
    /// The records, in order.
    pub records: Vec<Record>,
    /// When each entry was committed, in ms of the world; the entry of index 1 first.
    pub committed: Vec<u64>,
    /// The state at the end.
    pub last: Replica,
    /// The clients' operations.
    pub operations: Vec<Operation>,
    /// Attempts.
    pub attempts: Vec<Attempt>,
    /// Spans of the world in which something was broken, in order.
    pub disturbances: Vec<(u64, u64)>,
    /// What was seen while it ran.
    pub seen: Vec<Violation>,
    /// How often what happened.
    pub counts: Counts,
}

impl Evidence {
    /// When the entry of a record was committed, in ms of the world.
    #[must_use]
    pub fn committed_at(&self, record: &Record) -> u64 {
        let place = usize::try_from(record.header.log_index).unwrap_or(0).saturating_sub(1);
        self.committed.get(place).copied().unwrap_or(0)
    }

    /// An instant in ms of the world; negative before its beginning.
    #[must_use]
    pub fn world_time(&self, instant: Timestamp) -> i64 {
        instant.0 - self.epoch
    }

    /// Whether something was broken at any time of a span of the world.
    #[must_use]
    pub fn disturbed(&self, from: i64, to: i64) -> bool {
        self.disturbances.iter().any(|(start, end)| start.cast_signed() <= to && from <= end.cast_signed())
    }
}
