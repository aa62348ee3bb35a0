//! What the checker reads: the records of the log, and what clients and a witness outside the cluster saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use escapement::service::TaskState;
use escapement_domain::command::Change;
use escapement_domain::identifier::{CommandId, ExecutionId, NodeId, TaskId};
use escapement_domain::record::{Hash, Record};
use escapement_domain::replica::Replica;
use escapement_domain::replica::placement::Gate;
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::task::definition::Definition;
use escapement_domain::timestamp::Timestamp;

use crate::profile::Settings;

/// Records of a task that a client reads at once.
pub const EVENTS_READ: usize = 50;

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
    /// New tasks, each for itself.
    Create(Vec<Definition>),
    /// New tasks, all or none.
    CreateAll(Vec<Definition>),
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
    /// An ended execution gets another attempt.
    Retry(ExecutionId),
    /// Nothing more of a run of a chain.
    CancelRun(ExecutionId),
    /// A run of a chain from where it failed.
    RetryRun(ExecutionId),
    /// A coming occurrence is skipped or moved.
    ChangeOccurrence(TaskId, Timestamp, Change),
    /// What should have run in a range of the past runs again, so many at once.
    Backfill(TaskId, (Timestamp, Timestamp), u32),
    /// The tenant's calendar is this one from now on.
    PutCalendar(Box<Calendar>),
    /// What holds up work is another.
    Hold(Hold),
    /// What happened outside, with this on its side.
    Publish(u64),
    /// How a task stands.
    Read(TaskId),
    /// What happened to a task.
    ReadEvents(TaskId),
}

/// What somebody does by hand to what holds up work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A pool or a limit has this capacity from now on.
    PutGate(Gate, u32),
    /// There is no such limit any more.
    DeleteLimit(Gate),
    /// An execution that waits gets another priority.
    Prioritise(ExecutionId, u8),
    /// Nothing more of the tenant's queue is granted, or something is again.
    PauseQueue(bool),
    /// The breaker of a target is open until somebody closes it, or closed.
    SetBreaker(Arc<str>, bool),
}

impl Wish {
    /// Whether it changes anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Read(_) | Self::ReadEvents(_))
    }

    /// How many entries of the log may carry it out; none says how many for a bulk in parts.
    #[must_use]
    pub fn entries(&self) -> Option<usize> {
        (!matches!(self, Self::CreateAll(_))).then_some(1)
    }
}

/// A task as a client was told that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub task: TaskId,
    /// Its version.
    pub version: u32,
    /// Whether it fires.
    pub state: TaskState,
}

/// What a client was told that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// These tasks were created.
    Tasks(Vec<TaskId>),
    /// A task stands so.
    Task(Seen),
    /// There is no such task.
    Absent,
    /// An execution was made, or changed.
    Execution(ExecutionId),
    /// An event is in the log.
    Published(CommandId),
    /// These records, by their place in the tenant's chain, with their hashes, are the first of a task's.
    Events(Vec<(u64, Hash)>),
    /// It is gone.
    Gone,
    /// It is as was wanted.
    Changed,
}

/// What a client was told that there is none of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A task.
    Task,
    /// An execution.
    Execution,
    /// A calendar.
    Calendar,
}

/// What a client knows of its operation.
#[derive(Clone, Debug)]
pub enum Knowledge {
    /// It waits.
    Pending,
    /// It was carried out.
    Done(Done),
    /// It was not carried out, and will not be.
    Refused(String),
    /// Something that it needs is not there; it may have been carried out before that was looked at.
    Missing(Missing),
    /// It gave up, or was told that nobody knows: carried out or not.
    Unknown,
}

/// One operation of one client, as the client saw it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its place, which is also its correlation id.
    pub number: usize,
    /// The tenant.
    pub tenant: &'static str,
    /// What was wanted.
    pub wish: Wish,
    /// The client's own key for it.
    pub key: Option<u64>,
    /// When it was issued, in ms of the world.
    pub issued: u64,
    /// What came of it.
    pub knowledge: Knowledge,
    /// When that was known, in ms of the world.
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
    /// Its node killed it: its lease ended, or it was taken away.
    Killed,
    /// Its node died.
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
    /// Which attempt of the execution, counted from 1.
    pub number: u32,
    /// Under which token.
    pub token: u64,
    /// On which node.
    pub node: NodeId,
    /// When it began, in ms of the world.
    pub started: u64,
    /// When it ended, in ms of the world.
    pub ended: u64,
    /// How it ended.
    pub how: Ended,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Nodes that crashed.
    pub crashes: u64,
    /// Writes that were torn by a crash.
    pub torn: u64,
    /// Nodes that stood still for longer than an election takes to begin.
    pub freezes: u64,
    /// Nodes that stood still for less.
    pub short_freezes: u64,
    /// Cuts of links in one direction only.
    pub cuts_one_way: u64,
    /// Cuts of links in both directions.
    pub cuts_both_ways: u64,
    /// Spells of a bad network.
    pub storms: u64,
    /// Messages lost.
    pub lost: u64,
    /// Messages that came later than any does in good weather.
    pub late: u64,
    /// Messages that came before one that was sent earlier.
    pub overtaking: u64,
    /// Requests that came twice.
    pub repeated: u64,
    /// Clocks that jumped.
    pub jumps: u64,
    /// Disks that stalled.
    pub stalls: u64,
    /// Disks that failed a sync of which a node was told.
    pub failed_syncs: u64,
    /// Disks that were full.
    pub full: u64,
    /// Bits that were flipped.
    pub flips: u64,
    /// Disks that were lost.
    pub lost_disks: u64,
    /// Nodes that stopped in good order.
    pub stops: u64,
    /// Nodes that stopped by themselves and said why.
    pub failures: u64,
    /// Members added.
    pub added: u64,
    /// Members removed.
    pub removed: u64,
    /// Times that the power of all nodes failed at once.
    pub outages: u64,
    /// Times that a leadership began.
    pub elections: u64,
    /// Times that it went from one node to another.
    pub changes: u64,
    /// Snapshots installed from another node.
    pub restores: u64,
    /// Entries of the log with records.
    pub entries: u64,
    /// Lies of workers that were answered.
    pub lies: u64,
    /// The length of the world in ms.
    pub world_ms: u64,
}

/// Everything that the checker reads.
#[derive(Clone, Debug)]
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
    /// When each entry with records was first seen to be applied anywhere, in ms of the world.
    pub committed: BTreeMap<u64, u64>,
    /// The state of a node at the end.
    pub last: Replica,
    /// The clients' operations.
    pub operations: Vec<Operation>,
    /// Attempts.
    pub attempts: Vec<Attempt>,
    /// Spans of the world in which something was broken, in order.
    pub disturbances: Vec<(u64, u64)>,
    /// Spans of the world in which no majority of the members was well and connected, or soon after, in order.
    pub without_quorum: Vec<(u64, u64)>,
    /// Spans in which a node did not run though it lived.
    pub frozen: Vec<(NodeId, u64, u64)>,
    /// What was seen while it ran.
    pub seen: Vec<Violation>,
    /// How often what happened.
    pub counts: Counts,
}

impl Evidence {
    /// When the entry of a record was committed, in ms of the world.
    #[must_use]
    pub fn committed_at(&self, record: &Record) -> u64 {
        self.committed.get(&record.header.log_index).copied().unwrap_or(0)
    }

    /// An instant in ms of the world; negative before its beginning.
    #[must_use]
    pub fn world_time(&self, instant: Timestamp) -> i64 {
        instant.0 - self.epoch
    }

    /// Whether something was broken at any time of a span of the world.
    #[must_use]
    pub fn disturbed(&self, from: i64, to: i64) -> bool {
        touches(&self.disturbances, from, to)
    }

    /// Whether a majority of the members was well and connected throughout a span of the world.
    #[must_use]
    pub fn had_quorum(&self, from: i64, to: i64) -> bool {
        !touches(&self.without_quorum, from, to)
    }
}

fn touches(spans: &[(u64, u64)], from: i64, to: i64) -> bool {
    spans.iter().any(|(start, end)| start.cast_signed() <= to && from <= end.cast_signed())
}
