//! Who is who: a node's number, the group it replicates, and what the others know of it.
//!
//! Invariant: a node is its disk. The same number with another disk is another node and is
//! refused wherever the two meet. Absent on purpose: who votes, which is the log's business.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a node, never used again for another disk.
pub type NodeId = u64;

/// The number of a Raft group. Every request names it, so that one process can later hold many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct GroupId(pub u64);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}", self.0)
    }
}

/// What every node knows of a member; it is part of the replicated membership.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// Where its HTTP API listens.
    pub api: String,
    /// Where it listens for its peers.
    pub peer: String,
    /// The identity of its data directory.
    pub disk: u128,
}

/// Where a node is reached, before its disk is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Where its HTTP API listens.
    pub api: String,
    /// Where it listens for its peers.
    pub peer: String,
}

impl Address {
    /// The member that lives at this address with the given disk.
    #[must_use]
    pub fn with_disk(&self, disk: u128) -> Member {
        Member { api: self.api.clone(), peer: self.peer.clone(), disk }
    }
}

/// What a node says of itself when asked, even before it belongs to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster it is configured for.
    pub cluster: String,
    /// Its number.
    pub node: NodeId,
    /// The identity of its data directory.
    pub disk: u128,
    /// Whether it holds neither a vote nor an entry; `None` while it is still starting.
    pub pristine: Option<bool>,
}
