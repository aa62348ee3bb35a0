//! Who holds the whole history of events, and that no change of the members takes it from the cluster.
//!
//! A node that was given a snapshot has the state at once and the events that led to it later: it fetches them from its
//! peers. Until it has them it is a replica of the state, and not of the history. So it gets no vote before, and the only
//! node that holds all of it stays until another one does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use escapement_actors::machine::Machine;
use escapement_actors::ports::Clock;
use escapement_actors::projection::Projections;
use escapement_domain::identifier::NodeId;
use escapement_raft::Transport;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::peer::{Question, Reply};
use crate::service::cluster::ClusterError;

/// How long a node may take to say what it holds.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a change waits for a node that is fetching.
const FETCHED_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait before a node is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// What a node holds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Whether it has everything that it knows to exist.
    pub(super) complete: bool,
    /// The log index up to which it has everything on its disk.
    synced: u64,
}

impl Held {
    /// What is held here; asks to have it on the disk up to a log index.
    pub(super) fn here(projections: &Projections, wanted: u64) -> Self {
        // Whoever waits asks again; this only makes it come sooner.
        drop(projections.synced(wanted));
        Self { complete: projections.complete(), synced: projections.on_disk() }
    }

    fn covers(self, index: u64) -> bool {
        self.complete && self.synced >= index
    }
}

/// What the members hold of the history, asked from one of them.
#[derive(Clone)]
pub(super) struct Custody {
    pub(super) node: NodeId,
    pub(super) machine: Arc<Machine>,
    pub(super) projections: Projections,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Custody {
    /// What a node holds; none if it does not say.
    pub(super) async fn held(&self, node: NodeId, wanted: u64) -> Option<Held> {
        if node == self.node {
            return Some(Held::here(&self.projections, wanted));
        }
        let question = Bytes::from(Question::History { wanted }.encode());
        match Reply::decode(&self.transport.request(node.0, question, PATIENCE).await.ok()?) {
            Ok(Reply::History(held)) => Some(held),
            _ => None,
        }
    }

    /// Waits until a node that is to vote holds everything that has happened by now.
    ///
    /// # Errors
    /// [`ClusterError::Refused`] when it is still fetching, [`ClusterError::Unreachable`] when it does not say.
    pub(super) async fn may_vote(&self, node: NodeId) -> Result<(), ClusterError> {
        let now = self.machine.applied();
        let look = || self.judge_voter(node, now).boxed();
        self.wait(look).await
    }

    async fn judge_voter(&self, node: NodeId, now: u64) -> Result<(), ClusterError> {
        match self.held(node, now).await {
            Some(held) if held.covers(now) => Ok(()),
            Some(_) => Err(ClusterError::Refused {
                reason: format!(
                    "node {node} is still fetching the history of events, and may vote when it has all of it: ask again \
                     when `escapement cluster status` does not warn of that any more"
                ),
            }),
            None => Err(ClusterError::Unreachable {
                reason: format!(
                    "node {node} does not say what it holds of the history of events: is it running, and of this version?"
                ),
            }),
        }
    }

    /// Waits until one of the others holds everything that a node holds which is to leave.
    ///
    /// # Errors
    /// [`ClusterError::Refused`] when it is the only one that has all of the history.
    pub(super) async fn may_leave(&self, node: NodeId, others: &[NodeId]) -> Result<(), ClusterError> {
        let now = self.machine.applied();
        let look = || self.judge_leaver(node, others, now).boxed();
        self.wait(look).await
    }

    async fn judge_leaver(&self, node: NodeId, others: &[NodeId], now: u64) -> Result<(), ClusterError> {
        let mut asked = FuturesUnordered::new();
        for other in others {
            asked.push(self.held(*other, now));
        }
        while let Some(held) = asked.next().await {
            if held.is_some_and(|held| held.covers(now)) {
                return Ok(());
            }
        }
        match self.held(node, now).await {
            Some(held) if held.complete => Err(ClusterError::Refused {
                reason: format!(
                    "node {node} is the only one that holds the whole history of events, and the others are still \
                     fetching it: ask again when `escapement cluster status` does not warn of that any more"
                ),
            }),
            // What is lost already is nothing to wait for.
            Some(_) | None => Ok(()),
        }
    }

    /// Looks again until all is well, for a while.
    async fn wait<'a>(
        &self,
        look: impl Fn() -> BoxFuture<'a, Result<(), ClusterError>> + Send,
    ) -> Result<(), ClusterError> {
        let until = self.clock.monotonic() + FETCHED_WITHIN;
        loop {
            let seen = look().await;
            if seen.is_ok() || self.clock.monotonic() >= until {
                return seen;
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use escapement_domain::timestamp::Timestamp;
    use escapement_raft::{GroupId, Local, Member, MemoryNetwork, PeerService};

    use super::*;
    use crate::store::MemoryStorage;

    /// A second later whenever it is read, so that nobody waits long.
    struct Hasty(AtomicU64);

    impl Clock for Hasty {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    /// A peer that says the same whatever it is asked.
    struct Peer(bool);

    impl PeerService for Peer {
        fn handle(&self, _from: u64, _request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
            let held = Held { complete: self.0, synced: 0 };
            Box::pin(async move { Ok(Bytes::from(Reply::History(held).encode())) })
        }
    }

    /// Runs a look from node 1, which holds nothing yet, at peers from 2 on: `true` holds everything, `false` is fetching,
    /// none is not there.
    fn look<T>(peers: &[Option<bool>], asked: impl AsyncFnOnce(&Custody) -> T) -> T {
        actix::System::new().block_on(async move {
            let (network, group) = (MemoryNetwork::new(), GroupId(0));
            let local = |node| Local { cluster: "test".into(), node, disk: u128::from(node) };
            let member = |node: u64| {
                let address = format!("node-{node}");
                (node, Member { api: address.clone(), peer: address, disk: u128::from(node) })
            };
            let members: BTreeMap<_, _> = (1..).take(peers.len() + 1).map(member).collect();
            let here = network.connect(local(1), "node-1");
            here.learn(group, &members);
            let mut listening = Vec::new();
            for (node, complete) in (2..).zip(peers) {
                let Some(complete) = complete else { continue };
                let (transport, service) =
                    (network.connect(local(node), format!("node-{node}")), Arc::new(Peer(*complete)));
                let weak: std::sync::Weak<dyn PeerService> =
                    Arc::downgrade(&(service.clone() as Arc<dyn PeerService>));
                transport.learn(group, &members);
                transport.register(weak);
                listening.push((transport, service));
            }
            let machine = Arc::<Machine>::default();
            let storage = Arc::new(MemoryStorage::default());
            let custody = Custody {
                node: NodeId(1),
                projections: Projections::start(machine.clone(), storage).expect("an empty storage"),
                machine,
                transport: Arc::new(here),
                clock: Arc::new(Hasty(AtomicU64::new(0))),
            };
            asked(&custody).await
        })
    }

    #[test]
    fn a_node_votes_when_it_has_all_of_the_history() {
        let vote = |peer| look(&[peer], async |custody| custody.may_vote(NodeId(2)).await);
        assert_eq!(vote(Some(true)), Ok(()));
        assert!(
            matches!(vote(Some(false)), Err(ClusterError::Refused { reason }) if reason.contains("still fetching"))
        );
        assert!(
            matches!(vote(None), Err(ClusterError::Unreachable { reason }) if reason.contains("does not say"))
        );
    }

    #[test]
    fn the_only_node_that_has_all_of_the_history_stays() {
        let leave = |peers: &[Option<bool>]| {
            look(peers, async |custody| custody.may_leave(NodeId(2), &[NodeId(3), NodeId(4)]).await)
        };
        let stays = leave(&[Some(true), Some(false), None]);
        assert!(
            matches!(stays, Err(ClusterError::Refused { reason }) if reason.contains("node 2 is the only one"))
        );
        // Another one has it, or there is nothing to keep.
        assert_eq!(leave(&[Some(true), None, Some(true)]), Ok(()));
        assert_eq!(leave(&[Some(false), Some(false), None]), Ok(()));
        assert_eq!(leave(&[None, Some(false), None]), Ok(()));
    }
}
