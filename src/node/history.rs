//! The event logs of the peers, from which records are fetched that this node never saw.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use escapement_actors::ports::History;
use escapement_domain::identifier::{NodeId, TenantId};
use escapement_raft::{Group, Transport};
use futures::future::BoxFuture;

use super::peer::{Question, Reply};

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks one member after the other.
pub(super) struct PeerHistory {
    node: NodeId,
    group: Group,
    transport: Arc<dyn Transport>,
    turn: AtomicUsize,
}

impl PeerHistory {
    pub(super) fn new(node: NodeId, group: Group, transport: Arc<dyn Transport>) -> Self {
        Self { node, group, transport, turn: AtomicUsize::new(0) }
    }

    /// The member whose turn it is; whoever had nothing, or did not answer, is passed over at the next call.
    fn next_peer(&self) -> io::Result<u64> {
        let mut peers = self.group.status().members;
        peers.remove(&self.node.0);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let turn = turn.checked_rem(peers.len());
        turn.and_then(|turn| peers.keys().nth(turn).copied())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no other member is known yet"))
    }
}

impl History for PeerHistory {
    fn fetch(&self, tenant: TenantId, after: u64) -> BoxFuture<'static, io::Result<Vec<Bytes>>> {
        let question = Bytes::from(Question::Blocks { tenant, after }.encode());
        let asked = self.next_peer().map(|peer| self.transport.request(peer, question, PATIENCE));
        Box::pin(async move {
            let reply = asked?.await.map_err(io::Error::other)?;
            match Reply::decode(&reply).map_err(io::Error::other)? {
                Reply::Blocks(Ok(blocks)) => Ok(blocks.into_iter().map(Bytes::from).collect()),
                Reply::Blocks(Err(detail)) => Err(io::Error::other(detail)),
                _ => Err(io::Error::other("the peer answered something else")),
            }
        })
    }
}
