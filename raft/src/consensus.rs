//! openraft's types as this crate uses them, and the configuration that its safety hangs on.
//!
//! Invariants: a leader that restarts never resumes its old term (`enable_leader_restore` is off,
//! which [`configuration`] asserts); pre-vote is on. Both were found the hard way: with openraft's
//! own defaults the logs of two nodes can silently diverge. A leader that no majority answers pauses its
//! heartbeats by turns, so that one which is heard and hears nobody is replaced. Absent on purpose: any
//! other setting that an operator cannot change through [`Options`].

use std::fmt;

use bytes::Bytes;
use openraft::SnapshotPolicy;
use serde::{Deserialize, Serialize};

use crate::member::{Member, NodeId};
use crate::options::{Options, OptionsError};
use crate::runtime::Runtime;

/// The commands of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commands(pub(crate) Vec<Bytes>);

impl Commands {
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands of {} bytes", self.0.len(), self.bytes())
    }
}

/// The answers to one entry's commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answers(pub(crate) Vec<Bytes>);

/// The marker that names all of these to openraft.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Consensus;

impl openraft::RaftTypeConfig for Consensus {
    type D = Commands;
    type R = Answers;
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, NodeId>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::AnyError;
}

pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, NodeId>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Commands, NodeId, Member>;
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<NodeId, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, NodeId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, NodeId, Member>;
pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<Consensus>;
pub(crate) type AppendResponse = openraft::raft::AppendEntriesResponse<Consensus>;
pub(crate) type VoteRequest = openraft::raft::VoteRequest<Consensus>;
pub(crate) type VoteResponse = openraft::raft::VoteResponse<Consensus>;
pub(crate) type TransferRequest = openraft::raft::TransferLeaderRequest<Consensus>;
pub(crate) type TransferResponse = openraft::raft::TransferLeaderResponse<Consensus>;
pub(crate) type SnapshotResponse = openraft::raft::SnapshotResponse<Consensus>;
pub(crate) type RpcError = openraft::errors::RPCError<Consensus>;
pub(crate) type Metrics = openraft::RaftMetrics<Consensus>;

/// openraft's configuration for these options.
///
/// # Errors
/// [`OptionsError`] for whatever openraft refuses.
pub(crate) fn configuration(options: &Options) -> Result<openraft::Config, OptionsError> {
    let milliseconds =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = openraft::Config {
        cluster_name: options.cluster.clone(),
        heartbeat_interval: milliseconds(options.heartbeat),
        election_timeout_min: milliseconds(options.election_min),
        election_timeout_max: milliseconds(options.election_max),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        max_in_snapshot_log_to_keep: options.log_entries_kept,
        replication_lag_threshold: options.snapshot_entries.saturating_add(options.log_entries_kept),
        purge_batch_size: 1,
        max_payload_entries: 1_024,
        enable_pre_vote: Some(true),
        // The least that openraft takes: a lease that runs out, and an election.
        quorum_loss_probe_interval: Some(2 * milliseconds(options.election_max)),
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        backoff: "20ms 40ms ...500ms".to_owned(),
        ..openraft::Config::default()
    };
    #[cfg(feature = "planted")]
    if options.leader_restore {
        let config = openraft::Config { enable_leader_restore: Some(true), ..config };
        return config.validate().map_err(|error| OptionsError::Refused { reason: error.to_string() });
    }
    let config = config.validate().map_err(|error| OptionsError::Refused { reason: error.to_string() })?;
    assert_eq!(config.enable_leader_restore, Some(false), "a restarted leader would write a term twice");
    assert_eq!(config.enable_pre_vote, Some(true), "a returning node would depose a healthy leader");
    Ok(config)
}
