//! Who holds the whole history of events, and that no change of the members takes it from the cluster.
//!
//! A node that was given a snapshot has the state at once and the events that led to it later: it fetches them from its
//! peers. Until it has them it is a replica of the state, and not of the history. So it gets no vote before, and a node
//! that holds what no other does stays until another one has it. The leader judges, before it proposes the change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::machine::Machine;
use escapement_actors::ports::Clock;
use escapement_actors::projection::Projections;
use escapement_domain::identifier::NodeId;
use escapement_raft::Transport;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::peer::{Question, Reply};

/// How long a node may take to say what it holds.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a change waits for a node that is fetching, or does not answer.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait before the nodes are asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// What a node holds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Whether it has everything that it knows to exist.
    pub(super) complete: bool,
    /// The log index up to which it has everything on its disk.
    synced: u64,
    /// How many records it has, of all tenants, up to the first one of each that it lacks.
    records: u64,
}

impl Held {
    /// What is held here; asks to have it on the disk up to a log index.
    pub(super) fn here(projections: &Projections, wanted: u64) -> Self {
        // Whoever waits asks again; this only makes it come sooner.
        drop(projections.synced(wanted.min(projections.folded())));
        Self {
            complete: projections.complete(),
            synced: projections.on_disk(),
            records: projections.log().heads().into_values().map(|head| head.sequence).sum(),
        }
    }

    fn covers(self, index: u64) -> bool {
        self.complete && self.synced >= index
    }
}

/// Why a change of the members cannot be made now.
enum Obstacle {
    /// As long as this is so.
    Lasting(String),
    /// This node does not answer; when it has not for a while, it counts as lost.
    Silence(u64),
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
    /// What a node holds; none if it does not say in time.
    pub(super) async fn held(&self, node: NodeId, wanted: u64, patience: Duration) -> Option<Held> {
        if node == self.node {
            return Some(Held::here(&self.projections, wanted));
        }
        match (Question::History { wanted }).ask(&*self.transport, node, patience).await {
            Some(Reply::History(held)) => Some(held),
            _ => None,
        }
    }

    /// Waits until a node that is to vote holds everything that has happened by now.
    ///
    /// # Errors
    /// Why it may not vote yet.
    pub(super) async fn may_vote(self, node: u64, others: BTreeSet<u64>) -> Result<(), String> {
        let now = self.machine.applied();
        self.settle(|| self.judge_voter(node, &others, now).boxed()).await
    }

    async fn judge_voter(&self, node: u64, others: &BTreeSet<u64>, now: u64) -> Result<(), Obstacle> {
        let Some(held) = self.held(NodeId(node), now, PATIENCE).await else {
            return Err(Obstacle::Lasting(format!(
                "node {node} does not say what it holds of the history of events: is it running, and of this version?"
            )));
        };
        if held.covers(now) {
            return Ok(());
        }
        let of_others = self.held_by(others, now).await;
        if !held.complete && of_others.iter().all(|held| held.is_some_and(|held| !held.complete)) {
            tracing::warn!(
                node,
                "it gets a vote without all of the history of events, which no member has any more"
            );
            return Ok(());
        }
        Err(Obstacle::Lasting(format!(
            "node {node} does not hold the whole history of events yet, and may vote when it does: it fetches the rest \
             from the others, ask again in a while"
        )))
    }

    /// Waits until another one holds what a node holds that is to leave.
    ///
    /// # Errors
    /// Why it must stay.
    pub(super) async fn may_leave(self, node: u64, others: BTreeSet<u64>) -> Result<(), String> {
        let now = self.machine.applied();
        self.settle(|| self.judge_leaver(node, &others, now).boxed()).await
    }

    async fn judge_leaver(&self, node: u64, others: &BTreeSet<u64>, now: u64) -> Result<(), Obstacle> {
        let staying: Vec<Held> = self.held_by(others, now).await.into_iter().flatten().collect();
        if staying.iter().any(|held| held.covers(now)) {
            return Ok(());
        }
        let Some(leaving) = self.held(NodeId(node), now, PATIENCE).await else {
            return Err(Obstacle::Silence(node));
        };
        if !leaving.complete && staying.iter().any(|held| held.records >= leaving.records) {
            return Ok(());
        }
        Err(Obstacle::Lasting(format!(
            "node {node} holds more of the history of events than any other that answers, and those who lack it fetch it from \
             there: ask again when `escapement cluster status` warns of nobody else"
        )))
    }

    /// What some nodes hold, asked at the same time.
    async fn held_by(&self, nodes: &BTreeSet<u64>, now: u64) -> Vec<Option<Held>> {
        let mut asked = Vec::with_capacity(nodes.len());
        for node in nodes {
            asked.push(self.held(NodeId(*node), now, PATIENCE));
        }
        join_all(asked).await
    }

    /// Looks again until nothing is in the way, for a while.
    async fn settle<'a>(
        &self,
        look: impl Fn() -> BoxFuture<'a, Result<(), Obstacle>> + Send,
    ) -> Result<(), String> {
        let until = self.clock.monotonic() + SETTLED_WITHIN;
        loop {
            let Err(obstacle) = look().await else { return Ok(()) };
            if self.clock.monotonic() < until {
                sleep(PAUSE).await;
                continue;
            }
            return match obstacle {
                Obstacle::Lasting(reason) => Err(reason),
                Obstacle::Silence(node) => {
                    tracing::warn!(
                        node,
                        "it leaves without having said what it holds of the history of events"
                    );
                    Ok(())
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
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
    #[derive(Clone, Copy)]
    struct Peer {
        complete: bool,
        records: u64,
    }

    const WHOLE: Option<Peer> = Some(Peer { complete: true, records: 9 });
    const FETCHING: Option<Peer> = Some(Peer { complete: false, records: 2 });
    const MOST: Option<Peer> = Some(Peer { complete: false, records: 7 });

    impl PeerService for Peer {
        fn handle(&self, _from: u64, _request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
            let held = Held { complete: self.complete, synced: 0, records: self.records };
            Box::pin(async move { Ok(Bytes::from(Reply::History(held).encode())) })
        }
    }

    /// Runs a look from node 1 at its peers, from 2 on; none is not there.
    fn look<T>(peers: &[Option<Peer>], asked: impl AsyncFnOnce(Custody) -> T) -> T {
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
            for (node, peer) in (2..).zip(peers) {
                let Some(peer) = peer else { continue };
                let (transport, service) =
                    (network.connect(local(node), format!("node-{node}")), Arc::new(*peer));
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
            asked(custody).await
        })
    }

    #[test]
    fn a_node_votes_when_it_has_all_of_the_history() {
        let vote = |peers: &[Option<Peer>]| {
            look(peers, async |custody| custody.may_vote(2, BTreeSet::from([3, 4])).await)
        };
        assert_eq!(vote(&[WHOLE, None, FETCHING]), Ok(()));
        for others in [[WHOLE, FETCHING], [None, MOST]] {
            let refused = vote(&[FETCHING, others[0], others[1]]).expect_err("somebody may have the rest");
            assert!(refused.contains("node 2 does not hold the whole history"), "{refused}");
        }
        assert_eq!(vote(&[FETCHING, FETCHING, MOST]), Ok(()), "nobody has the rest");
        let refused = vote(&[None, WHOLE, WHOLE]).expect_err("nobody knows");
        assert!(refused.contains("does not say what it holds"), "{refused}");
    }

    #[test]
    fn a_node_that_has_more_of_the_history_than_the_others_stays() {
        let leave = |peers: &[Option<Peer>]| {
            look(peers, async |custody| custody.may_leave(2, BTreeSet::from([3, 4])).await)
        };
        for leaving in [WHOLE, MOST] {
            let refused = leave(&[leaving, FETCHING, None]).expect_err("the rest would be gone");
            assert!(refused.contains("node 2 holds more of the history"), "{refused}");
        }
        // Another one has it, or there is nothing to keep.
        assert_eq!(leave(&[WHOLE, None, WHOLE]), Ok(()));
        assert_eq!(leave(&[FETCHING, MOST, None]), Ok(()));
        assert_eq!(leave(&[None, FETCHING, None]), Ok(()), "it does not answer for long");
    }
}
