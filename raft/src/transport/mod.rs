//! How bytes get from one node to another.
//!
//! A [`Transport`] carries requests and answers and knows nothing of Raft. Four lanes to each peer do
//! not wait for each other: heartbeats and votes never queue behind a big append, and appends never
//! behind a snapshot. Invariants: on one lane to one peer, requests arrive in the order of the calls;
//! a peer of another cluster, or with another disk than the one known under its id, is refused; every
//! request names its group.
//!
//! A member is dialled at the address in the membership, a node that is not yet a member only by
//! [`Transport::hello`], at the address that an operator or a configuration file names. Absent on
//! purpose: retries, which are the caller's decision.

mod frame;
mod link;
mod memory;
mod server;
mod switchboard;

mod tcp;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::member::{GroupId, Hello, Member, NodeId};

pub use memory::{MemoryNetwork, MemoryTransport, Message, Passage, Weather};
pub use tcp::TcpTransport;

pub(crate) use switchboard::disk_lost;

/// Which connection a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Heartbeats, votes, pre-votes and transfers of leadership: small and urgent.
    Control,
    /// Entries.
    Append,
    /// Chunks of snapshots.
    Snapshot,
    /// Whatever the application asks of a peer, and reads and changes sent on to the leader.
    Application,
}

/// A peer as the caller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub node: NodeId,
    /// What the membership says of it.
    pub member: Member,
}

/// The node that a transport speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// The cluster's name.
    pub cluster: String,
    /// Its number.
    pub node: NodeId,
    /// The identity of its data directory.
    pub disk: u128,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// It never arrived. Retry later, or elsewhere.
    #[error("{to} is unreachable: {reason}")]
    Unreachable {
        /// Whom it was for.
        to: String,
        /// What is wrong.
        reason: String,
    },
    /// The connection broke before the answer came: it may have arrived. Retry only what may happen twice.
    #[error("the connection to {to} broke before it answered: {reason}")]
    Interrupted {
        /// Whom it was for.
        to: String,
        /// What is wrong.
        reason: String,
    },
    /// It may have arrived. Retry only what may happen twice.
    #[error("no answer from {to} within {} ms", waited.as_millis())]
    Timeout {
        /// Whom it was for.
        to: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The two nodes do not belong together, or speak different versions. Do not retry: someone must
    /// change something.
    #[error("{to} and this node do not belong together: {reason}")]
    Refused {
        /// Whom it was for.
        to: String,
        /// Which of the two is wrong, and how.
        reason: String,
    },
    /// It arrived and could not be answered.
    #[error("{to} could not answer: {reason}")]
    Remote {
        /// Whom it was for.
        to: String,
        /// What it said.
        reason: String,
    },
    /// Too many requests wait already. Back off.
    #[error("too many requests wait for {to}")]
    Busy {
        /// Whom it was for.
        to: String,
    },
    /// The request is larger than a frame. Do not retry.
    #[error("a request of {bytes} bytes is larger than the {limit} that are carried")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest.
        limit: usize,
    },
}

/// Answers the requests that Raft's other nodes send to one group.
pub trait GroupService: Send + Sync + 'static {
    /// Answers one request. Called in the order of arrival on each lane; what the future does at its
    /// first poll happens in that order too.
    fn handle(&self, from: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Whether this node holds neither a vote nor an entry; `None` when it cannot tell.
    fn pristine(&self) -> BoxFuture<'static, Option<bool>>;
}

/// Answers the requests that the application's other nodes send.
pub trait PeerService: Send + Sync + 'static {
    /// Answers one request. The error is shown to the caller.
    fn handle(&self, from: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// See the module.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request to a group. It is queued before this returns; the clock starts there.
    fn call(
        &self,
        to: &Peer,
        lane: Lane,
        group: GroupId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;

    /// Sends a request to the application on a member.
    fn request(
        &self,
        to: NodeId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;

    /// Asks whoever listens at an address who it is.
    fn hello(
        &self,
        address: &str,
        group: GroupId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Hello, TransportError>>;

    /// Has a group answer from now on.
    fn serve(&self, group: GroupId, service: Arc<dyn GroupService>);

    /// Has a group answer no longer.
    fn leave(&self, group: GroupId);

    /// Has the application answer from now on, for as long as somebody else holds it: the transport does not keep
    /// alive what holds the transport.
    fn register(&self, service: Weak<dyn PeerService>);

    /// Replaces what is known of a group's members: their addresses and disks.
    fn learn(&self, group: GroupId, members: &BTreeMap<NodeId, Member>);

    /// The node that this transport speaks for.
    fn local(&self) -> &Local;
}
