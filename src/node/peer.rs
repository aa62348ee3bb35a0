//! What nodes ask of each other beside Raft: the leader's desk, event blocks, captured output, versions.
//!
//! Encoded with the domain's codec, a version byte ahead; variants are only ever appended.

use std::time::Duration;

use bytes::Bytes;
use escapement_actors::intent::{Heard, Heartbeat, Renewal, Renewed, Submission, SubmitError};
use escapement_actors::projection::OutputCursor;
use escapement_domain::answer::Answer;
use escapement_domain::codec::{self, CodecError};
use escapement_domain::command::Report;
use escapement_domain::identifier::{ExecutionId, NodeId, TenantId};
use escapement_domain::timestamp::Timestamp;
use escapement_raft::Transport;
use serde::{Deserialize, Serialize};

use super::custody::Held;
use super::evidence::Evidence;
use super::membership::Told;
use crate::executor::{Hearing, LeaseToken, Said};

/// Bytes of one question or answer.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// To the leader: a client's request.
    Submit(Box<Submission>),
    /// To the leader: attempts ended.
    Report(Report),
    /// To the leader: a worker lives, and the ends of its node's chains.
    Renew(Renewal, Vec<Evidence>),
    /// To anyone: blocks of a tenant's event log after a sequence.
    Blocks { tenant: TenantId, after: u64 },
    /// To the node that made an attempt: what it wrote.
    Output { execution: ExecutionId, attempt: u32, after: Option<OutputCursor>, limit: u32 },
    /// To the leader: how everybody stands.
    Status,
    /// To a voter: what its wall clock shows.
    Clock,
    /// To anyone: the version of its zone data.
    ZoneData,
    /// To the leader: a worker outside the cluster lives.
    Heartbeat(Heartbeat),
    /// To the node that waits for an attempt: what its target says.
    Callback { execution: ExecutionId, token: LeaseToken, said: Said },
    /// To a member: what it holds of the history; it is to have it on its disk up to a log index.
    History { wanted: u64 },
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// To a request or a report.
    Answer(Result<Answer, SubmitError>),
    /// To a renewal.
    Renewed(Result<Renewed, SubmitError>),
    /// To a renewal: the chains differ.
    Diverged(Evidence),
    /// Encoded blocks; empty when there is nothing after the sequence, an error when they cannot be read here.
    Blocks(Result<Vec<Vec<u8>>, String>),
    /// An encoded page of output.
    Output(Result<Vec<u8>, String>),
    /// How everybody stands.
    Status(Told),
    /// What the wall clock shows.
    Clock(Timestamp),
    /// The version of the zone data.
    ZoneData(String),
    /// To a sign of life.
    Heard(Result<Heard, SubmitError>),
    /// To what a target says: what became of it, and the index that the node had applied.
    Callback(Hearing, u64),
    /// What is held of the history.
    History(Held),
}

impl Question {
    pub(super) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, BYTES_MAX>("question of a peer", bytes)
    }

    /// Asks a node; none if it does not answer in time, or not as this version does.
    pub(super) async fn ask(
        &self,
        transport: &dyn Transport,
        node: NodeId,
        patience: Duration,
    ) -> Option<Reply> {
        let reply = transport.request(node.0, Bytes::from(self.encode()), patience).await;
        Reply::decode(&reply.ok()?).ok()
    }
}

impl Reply {
    pub(super) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, BYTES_MAX>("answer of a peer", bytes)
    }
}
