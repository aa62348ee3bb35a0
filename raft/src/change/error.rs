//! Why a change of the membership or of the leader was not made, and what to do next.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::member::NodeId;
use crate::transport::disk_lost;

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ChangeError {
    /// Nothing changed: there is no leader to make the change. Try again after an election.
    #[error("there is no leader that could make the change (leader: {leader:?})")]
    NotLeader {
        /// Who leads, as far as the node that was asked knows.
        leader: Option<NodeId>,
    },
    /// There is no such member.
    #[error("node {node} is not a member")]
    UnknownNode {
        /// Which.
        node: NodeId,
    },
    /// The number was used with another disk, whose votes and entries may be lost with it.
    #[error("{}", disk_lost(*node))]
    DiskLost {
        /// Which.
        node: NodeId,
    },
    /// The disk is a member's already, under another number.
    #[error("the disk of node {node} is known as node {holder}")]
    DiskTaken {
        /// Which.
        node: NodeId,
        /// Under which number it is known.
        holder: NodeId,
    },
    /// A node that this group does not know holds a vote or entries of its own.
    #[error("node {node} holds state of its own; start it with an empty data directory")]
    NotPristine {
        /// Which.
        node: NodeId,
    },
    /// The node listens and cannot say yet what it holds. Try again.
    #[error("node {node} is still starting")]
    Starting {
        /// Which.
        node: NodeId,
    },
    /// At the address lives another node.
    #[error("at {address} lives node {found}, not node {node}")]
    WrongNode {
        /// Which was meant.
        node: NodeId,
        /// Where it was looked for.
        address: String,
        /// Which was found.
        found: NodeId,
    },
    /// The node cannot be asked, or refuses to be.
    #[error("node {node} cannot be reached: {reason}")]
    Unreachable {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// After the change, or during it, no majority of the voters would be there.
    #[error(
        "the quorum would be lost: of the voters {voters:?} only {reachable:?} can be reached, {needed} are needed"
    )]
    QuorumAtRisk {
        /// The voters that would have to agree.
        voters: BTreeSet<NodeId>,
        /// Those among them that answer.
        reachable: BTreeSet<NodeId>,
        /// How many are needed.
        needed: usize,
    },
    /// Without it nobody would be left.
    #[error("node {node} is the last voter")]
    LastVoter {
        /// Which.
        node: NodeId,
    },
    /// Promoted now, it would hold up every commit. Wait until it has caught up.
    #[error("node {node} lags {lag} entries behind; at most {allowed} are allowed")]
    Lagging {
        /// Which.
        node: NodeId,
        /// How far.
        lag: u64,
        /// How far it may.
        allowed: u64,
    },
    /// Only a voter can lead.
    #[error("node {node} does not vote")]
    NotVoter {
        /// Which.
        node: NodeId,
    },
    /// There is nobody who could take over.
    #[error("there is no other voter that could lead")]
    NoSuccessor,
    /// The change before this one is not finished. Try again.
    #[error("another change is in progress")]
    InProgress,
    /// The change may have been made or may yet be: look at the status, then ask again.
    #[error("the change has no outcome yet: {reason}")]
    Unknown {
        /// What went wrong.
        reason: String,
    },
    /// The node that was asked is stopping or must stop. Ask another one.
    #[error("this node is stopping: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// The application would lose something by it.
    #[error("{reason}")]
    Withheld {
        /// What, and what to do first.
        reason: String,
    },
}

impl ChangeError {
    /// Whether the same change may succeed in a moment.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::NotLeader { leader: None } | Self::InProgress)
    }
}
