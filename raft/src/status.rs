//! What a node can say of its group.
//!
//! Absent on purpose: promises. A status is a picture of a moment; only an answer to a proposal or a
//! read barrier proves anything.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::ServerState;

use crate::change::{lag, silent, voters};
use crate::consensus::Metrics;
use crate::member::{Member, NodeId};

/// What a node is doing in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives the log and does not vote, or is not a member.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Has stopped.
    Stopped,
}

impl Role {
    /// The role in one lower-case word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        }
    }
}

/// Who leads, as far as a node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The leader. Two nodes can differ for a while.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// Whether this node leads. A read barrier proves it.
    pub leading: bool,
}

/// One member in the eyes of the node that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Where it is.
    pub member: Member,
    /// Whether it votes.
    pub voter: bool,
    /// The last entry that it is known to hold; only the leader knows.
    pub matched: Option<u64>,
    /// How many entries it is behind; only the leader knows.
    pub lag: Option<u64>,
    /// For how long it has not answered a heartbeat; only the leader knows.
    pub silent: Option<Duration>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The node that was asked.
    pub node: NodeId,
    /// What it is doing.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The last entry it applied.
    pub applied: u64,
    /// The last entry of its log.
    pub last: Option<u64>,
    /// The last entry it knows to be committed.
    pub committed: Option<u64>,
    /// The last entry that its current snapshot covers.
    pub snapshot: Option<u64>,
    /// The last entry that is gone from its log.
    pub purged: Option<u64>,
    /// Everyone who belongs to the group, learners included.
    pub members: BTreeMap<NodeId, MemberStatus>,
    /// Whether a change of the membership is not finished.
    pub changing: bool,
}

pub(crate) fn leadership(
    metrics: &openraft::metrics::RaftServerMetrics<crate::consensus::Consensus>,
) -> Leadership {
    let leading = metrics.state.is_leader() && metrics.current_leader == Some(metrics.id);
    Leadership { leader: metrics.current_leader, term: metrics.vote.leader_id.term, leading }
}

pub(crate) fn status(metrics: &Metrics, applied: u64) -> Status {
    let leading = metrics.state.is_leader();
    let voters = voters(metrics);
    let member = |(id, member): (&NodeId, &Member)| {
        let matched = metrics.replication.as_ref().and_then(|progress| progress.get(id).copied().flatten());
        let matched = if *id == metrics.id { metrics.last_log_index } else { matched.map(|id| id.index) };
        let status = MemberStatus {
            member: member.clone(),
            voter: voters.contains(id),
            matched: matched.filter(|_| leading),
            lag: leading.then(|| lag(metrics, *id)),
            silent: silent(metrics, *id).filter(|_| leading),
        };
        (*id, status)
    };
    Status {
        node: metrics.id,
        role: match metrics.state {
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        },
        term: metrics.current_term,
        leader: metrics.current_leader,
        applied,
        last: metrics.last_log_index,
        committed: metrics.local_committed.map(|id| id.index),
        snapshot: metrics.snapshot.map(|id| id.index),
        purged: metrics.purged.map(|id| id.index),
        members: metrics.membership_config.nodes().map(member).collect(),
        changing: metrics.membership_config.get_joint_config().len() > 1
            || metrics.membership_config.log_id() != metrics.committed_membership_config.log_id(),
    }
}
