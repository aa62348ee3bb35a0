//! What an application must be to be replicated.
//!
//! The application shares itself with its readers by `Arc`, so every method takes `&self`. This
//! crate calls `apply`, `membership_changed`, `freeze` and `restore` from one task at a time and in
//! log order; it never calls two of them at once. Absent on purpose: reading, which is between the
//! application and its readers (see [`Group::read_barrier`](crate::Group::read_barrier)).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::member::{Member, NodeId};

/// One committed entry, as every node sees it.
#[derive(Debug, Clone, Copy)]
pub struct CommittedEntry<'a> {
    /// Its index in the log: unique, growing, with gaps where Raft wrote entries of its own.
    pub index: u64,
    /// The term of the leader that wrote it.
    pub term: u64,
    /// The commands, in the order in which they were proposed; never empty.
    pub commands: &'a [Bytes],
}

/// A state machine that is the same function of the log on every node.
pub trait Replicated: Send + Sync + 'static {
    /// Applies one entry and returns one answer a command, in order.
    ///
    /// Must be deterministic: what a command is refused for is an answer. It runs again for entries
    /// that were applied before the last restart. Another number of answers than commands, or a
    /// panic, stops the node.
    ///
    /// # Errors
    /// [`ApplyError`] stops the node: only for an entry that other nodes may understand, such as one of a
    /// newer program. A node that went on without it would no longer be their equal.
    fn apply(&self, entry: &CommittedEntry<'_>) -> Result<Vec<Bytes>, ApplyError>;

    /// Says who belongs to the group as of `index`. Voters are members; the others are learners.
    fn membership_changed(&self, index: u64, members: &BTreeMap<NodeId, Member>, voters: &BTreeSet<NodeId>);

    /// Resolves when the application can take another entry; awaited before each `apply`.
    fn ready(&self) -> BoxFuture<'static, ()>;

    /// Takes a consistent copy of the state. Must be cheap: no entry is applied meanwhile.
    fn freeze(&self) -> Box<dyn Frozen>;

    /// Replaces the whole state by what a [`Frozen`] wrote, perhaps on another node.
    ///
    /// # Errors
    /// [`RestoreError`] stops the node: half a state must not be served.
    fn restore(&self, snapshot: &mut dyn Read) -> Result<(), RestoreError>;

    /// Resolves when everything derived from the entries up to `index` is on disk.
    ///
    /// A snapshot is published only then, and entries are purged only behind a published snapshot:
    /// this is what keeps the purge from overtaking the event log.
    ///
    /// # Errors
    /// A failed write stops the node.
    fn derived_synced(&self, index: u64) -> BoxFuture<'static, io::Result<()>>;

    /// Resolves when a learner holds whatever else voters hold for each other beside the state. Asked of the leader, before
    /// it is given a vote; `others` are the members without it.
    ///
    /// # Errors
    /// Why it may not vote, for whoever asked for that.
    fn may_vote(&self, node: NodeId, others: &BTreeSet<NodeId>) -> BoxFuture<'static, Result<(), String>> {
        let _ = (node, others);
        Box::pin(std::future::ready(Ok(())))
    }

    /// Resolves when nothing is lost with a member. Asked of the leader, before it is removed; `others` are those who stay.
    ///
    /// # Errors
    /// Why it must stay, for whoever asked for its removal.
    fn may_leave(&self, node: NodeId, others: &BTreeSet<NodeId>) -> BoxFuture<'static, Result<(), String>> {
        let _ = (node, others);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A copy of the state at one index, written out beside the running application.
pub trait Frozen: Send + 'static {
    /// Writes the copy.
    ///
    /// # Errors
    /// What the writer answers.
    fn write_to(&self, to: &mut dyn Write) -> io::Result<()>;
}

/// Why an entry could not be applied here.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ApplyError {
    reason: String,
}

impl ApplyError {
    /// An error with its reason in words.
    #[must_use]
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// Why a snapshot could not become the state.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot cannot be restored: {reason}")]
pub struct RestoreError {
    reason: String,
}

impl RestoreError {
    /// An error with its reason in words.
    #[must_use]
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        Self::new(error)
    }
}
