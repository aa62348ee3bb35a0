//! What can be wrong with what is stored, and what stops a node.

use std::io;

use escapement_domain::identifier::TenantId;
use escapement_domain::record::Hash;

/// The first place at which a chain of records is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {sequence} of tenant {}: {kind}", tenant.0)]
pub struct Fault {
    /// Whose chain.
    pub tenant: TenantId,
    /// Which record.
    pub sequence: u64,
    /// What is wrong with it.
    pub kind: FaultKind,
}

impl Fault {
    /// Names a fault.
    #[must_use]
    pub fn new(tenant: TenantId, sequence: u64, kind: FaultKind) -> Self {
        Self { tenant, sequence, kind }
    }
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// Its header or body is not what was hashed.
    #[error("it was changed: its hash does not fit what it says")]
    Changed,
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// Another record is in its place.
    #[error("record {found} is in its place")]
    OutOfOrder {
        /// The sequence of that record.
        found: u64,
    },
    /// The record before it is not the one that it was chained to.
    #[error("it does not follow from the record before it")]
    Unchained,
    /// A record of another tenant is in its place.
    #[error("a record of tenant {} is in its place", found.0)]
    Foreign {
        /// That tenant.
        found: TenantId,
    },
    /// Its bytes cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The chain is sound, but another one than the replicated state says.
    #[error("its hash is {found}, but the replicated state has {expected}")]
    OtherHistory {
        /// The hash in the state.
        expected: Hash,
        /// The hash in the log.
        found: Hash,
    },
    /// A place in a task's stream does not lead where it should.
    #[error("it is not at position {position} of the task's stream")]
    Unthreaded {
        /// The position.
        position: u64,
    },
}

/// Why the projections of a node cannot go on. The node must stop: it can no longer trust its disk or itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The storage failed.
    #[error("the storage of the read models failed: {0}")]
    Storage(#[from] io::Error),
    /// What was stored is not what it was.
    #[error("the event log is damaged: {0}")]
    Damaged(#[from] Fault),
    /// The records that this node makes now differ from those that it, or the cluster, made before.
    #[error("record {sequence} of tenant {} differs: stored {stored}, made now {made}", tenant.0)]
    Diverged {
        /// Whose chain.
        tenant: TenantId,
        /// Which record.
        sequence: u64,
        /// The hash that was stored before.
        stored: Hash,
        /// The hash that was made now.
        made: Hash,
    },
    /// A row of a read model cannot be read.
    #[error("a row of {tree} cannot be read: {detail}")]
    Row {
        /// The tree's name.
        tree: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The projections were dropped while somebody still waited for them.
    #[error("the projections stopped")]
    Stopped,
}

impl Failure {
    /// The same in the words of an I/O error, for those that know no other.
    #[must_use]
    pub fn to_io(&self) -> io::Error {
        let kind = match self {
            Self::Storage(error) => error.kind(),
            Self::Damaged(_) | Self::Row { .. } | Self::Diverged { .. } => io::ErrorKind::InvalidData,
            Self::Stopped => io::ErrorKind::Other,
        };
        io::Error::new(kind, self.to_string())
    }
}

/// Why fetched records were not taken. Another peer may have better ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchFault {
    /// The records are not sound.
    #[error("the fetched records are not sound: {0}")]
    Unsound(#[from] Fault),
    /// They do not follow the end of the chain here.
    #[error("the fetched records of tenant {} begin with {found}, but {expected} comes next here", tenant.0)]
    Elsewhere {
        /// Whose chain.
        tenant: TenantId,
        /// The sequence that comes next here.
        expected: u64,
        /// The sequence that they begin with.
        found: u64,
    },
    /// The bytes are no block.
    #[error("the fetched bytes are no block of records")]
    NoBlock,
}
