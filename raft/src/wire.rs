//! What two nodes of a group say to each other.
//!
//! Variants are only ever appended. Absent on purpose: how a message travels (`transport`) and what
//! is done about it (`inbound`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::change::{Change, ChangeError};
use crate::codec::{self, CodecError, Record};
use crate::consensus::{
    AppendRequest, AppendResponse, SnapshotResponse, TransferRequest, TransferResponse, Vote, VoteRequest,
    VoteResponse,
};
use crate::member::NodeId;

/// A request to a group on another node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendRequest),
    Vote(VoteRequest),
    PreVote(VoteRequest),
    Transfer(TransferRequest),
    /// Begins a snapshot of so many bytes; an unfinished one of the same sender is forgotten.
    SnapshotBegin {
        transfer: u64,
        bytes: u64,
    },
    SnapshotChunk {
        transfer: u64,
        offset: u64,
        bytes: Bytes,
    },
    /// Every chunk was sent: check it and install it.
    SnapshotInstall {
        transfer: u64,
        vote: Vote,
    },
    /// Asks the leader for an index that covers everything committed before the question.
    ReadIndex,
    /// Asks the leader to change the membership or to hand over.
    Change(Change),
}

/// The answer to a [`Request`], of the same kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Response {
    Append(AppendResponse),
    Vote(VoteResponse),
    Transfer(TransferResponse),
    SnapshotReceived,
    SnapshotInstalled(SnapshotResponse),
    ReadIndex(Result<u64, NotLeading>),
    Change(Result<(), ChangeError>),
}

/// The node that was asked as the leader is not, or cannot prove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotLeading {
    pub(crate) leader: Option<NodeId>,
}

pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Bytes, CodecError> {
    codec::encode(Record::Frame, message).map(Bytes::from)
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    codec::decode(Record::Frame, bytes)
}
