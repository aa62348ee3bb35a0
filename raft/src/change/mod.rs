//! Changes of who belongs to the group and who leads it.
//!
//! Invariants: what would lose the quorum is refused before it is proposed, with the reason; a node
//! number is never used for two disks, nor a disk for two numbers; a leader hands over before it is
//! removed. Any node takes a change and sends it on to the leader, which asks the application whether it loses anything by
//! it, and makes one after the other. Absent on purpose: changing two voters at once.

mod error;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::consensus::{Consensus, Metrics};
use crate::group::Inner;
use crate::member::{Address, Hello, Member, NodeId};
use crate::replicated::Replicated;
use crate::runtime;
use crate::transport::{Lane, Peer, TransportError};
use crate::wire::{self, Request, Response};

pub use error::ChangeError;

/// A change of the membership or of the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// Adds a node that receives the log and does not vote.
    AddLearner {
        /// Its number.
        node: NodeId,
        /// Where it is; it is asked for its disk.
        address: Address,
    },
    /// Lets a learner vote.
    Promote {
        /// Which.
        node: NodeId,
    },
    /// Removes a node for good.
    Remove {
        /// Which.
        node: NodeId,
    },
    /// Hands the leadership over.
    TransferLeadership {
        /// To whom; `None` picks the voter that is furthest.
        to: Option<NodeId>,
    },
}

const PAUSE: Duration = Duration::from_millis(50);
/// How long a condition may take to hold before a change is refused for it.
const SETTLE: Duration = Duration::from_secs(1);

impl Inner {
    /// Makes a change here or, when this node does not lead, at the leader.
    pub(crate) async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let deadline = runtime::now() + self.options.change_timeout;
        let mut at = self.local;
        // Whether an earlier attempt may have succeeded unseen.
        let mut repeated = false;
        loop {
            let result =
                if at == self.local { self.lead(&change).await } else { self.forward(at, &change).await };
            let error = match result {
                Ok(()) => return Ok(()),
                Err(ChangeError::UnknownNode { .. })
                    if repeated && matches!(change, Change::Remove { .. }) =>
                {
                    return Ok(());
                }
                Err(error) => error,
            };
            if runtime::now() >= deadline {
                return Err(error);
            }
            match error {
                ChangeError::NotLeader { leader: Some(leader) } if leader != at => at = leader,
                // Made twice, each of these is made once.
                ChangeError::Unknown { .. } if at != self.local => {
                    repeated = true;
                    at = self.local;
                    sleep(PAUSE).await;
                }
                ChangeError::NotLeader { .. } => {
                    at = self.local;
                    sleep(PAUSE).await;
                }
                error if error.passes() => sleep(PAUSE).await,
                error => return Err(error),
            }
        }
    }

    async fn forward(&self, to: NodeId, change: &Change) -> Result<(), ChangeError> {
        let unknown = |reason: String| ChangeError::Unknown { reason };
        let member = self.metrics().membership_config.get_node(&to).cloned();
        let member = member.ok_or(ChangeError::NotLeader { leader: None })?;
        let request =
            wire::encode(&Request::Change(change.clone())).map_err(|error| unknown(error.to_string()))?;
        let peer = Peer { node: to, member };
        let (group, waited) = (self.options.group, self.options.change_timeout);
        let answer = self.transport.call(&peer, Lane::Application, group, request, waited).await;
        match answer {
            Ok(answer) => match wire::decode::<Response>(&answer) {
                Ok(Response::Change(result)) => result,
                Ok(_) => Err(unknown("the leader answered another question".to_owned())),
                Err(error) => Err(unknown(error.to_string())),
            },
            Err(
                error @ (TransportError::Timeout { .. }
                | TransportError::Interrupted { .. }
                | TransportError::Unreachable { .. }),
            ) => Err(unknown(error.to_string())),
            Err(_) => Err(ChangeError::NotLeader { leader: None }),
        }
    }

    /// Makes a change as the leader.
    pub(crate) async fn lead(&self, change: &Change) -> Result<(), ChangeError> {
        if let Some(failure) = self.latch.get() {
            return Err(ChangeError::Stopped { reason: failure.to_string() });
        }
        let metrics = self.metrics();
        if !metrics.state.is_leader() {
            let leader = metrics.current_leader.filter(|leader| *leader != self.local);
            return Err(ChangeError::NotLeader { leader });
        }
        if let Change::TransferLeadership { to } = change {
            return self.transfer(*to).await;
        }
        // What was true of the members when a change was judged is true when it is proposed.
        let _one = self.changing.lock().await;
        if is_half_made(&self.metrics()) {
            self.propose(finishing()).await?;
        }
        match change {
            Change::AddLearner { node, address } => self.add_learner(*node, address).await,
            Change::Promote { node } => self.promote(*node).await,
            Change::Remove { node } => self.remove(*node).await,
            Change::TransferLeadership { .. } => Ok(()),
        }
    }

    async fn add_learner(&self, node: NodeId, address: &Address) -> Result<(), ChangeError> {
        let found = self.meet(node, address).await?;
        if found.node != node {
            return Err(ChangeError::WrongNode { node, address: address.peer.clone(), found: found.node });
        }
        let metrics = self.metrics();
        let mut disks = self.progress.disks();
        disks.extend(metrics.membership_config.nodes().map(|(id, member)| (*id, member.disk)));
        match disks.get(&node) {
            Some(disk) if *disk != found.disk => return Err(ChangeError::DiskLost { node }),
            Some(_) => {}
            None => {
                if let Some((holder, _)) = disks.iter().find(|(_, disk)| **disk == found.disk) {
                    return Err(ChangeError::DiskTaken { node, holder: *holder });
                }
                if found.pristine != Some(true) {
                    return Err(ChangeError::NotPristine { node });
                }
            }
        }
        if metrics.membership_config.get_node(&node).is_some() {
            return Ok(());
        }
        let member = address.with_disk(found.disk);
        self.propose(ChangeMembers::AddNodes([(node, member)].into())).await
    }

    /// Asks a node who it is. One that was started a moment ago is waited for.
    async fn meet(&self, node: NodeId, address: &Address) -> Result<Hello, ChangeError> {
        let deadline = runtime::now() + self.options.request_timeout;
        loop {
            let left = deadline.saturating_duration_since(runtime::now());
            let found = self.transport.hello(&address.peer, self.options.group, left).await;
            let error = match found {
                Ok(hello) if hello.pristine.is_some() => return Ok(hello),
                Ok(_) => ChangeError::Starting { node },
                Err(error) => {
                    let passes = matches!(
                        error,
                        TransportError::Timeout { .. }
                            | TransportError::Interrupted { .. }
                            | TransportError::Unreachable { .. }
                    );
                    let error = ChangeError::Unreachable { node, reason: error.to_string() };
                    if !passes {
                        return Err(error);
                    }
                    error
                }
            };
            if runtime::now() + PAUSE >= deadline {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    fn application(&self) -> Result<Arc<dyn Replicated>, ChangeError> {
        let ended = || ChangeError::Stopped { reason: "the state machine ended".to_owned() };
        self.replicated.upgrade().ok_or_else(ended)
    }

    async fn promote(&self, node: NodeId) -> Result<(), ChangeError> {
        let metrics = self.metrics();
        if voters(&metrics).contains(&node) {
            return Ok(());
        }
        if let Some(others) = others(&metrics, node) {
            let agreed = self.application()?.may_vote(node, &others).await;
            agreed.map_err(|reason| ChangeError::Withheld { reason })?;
        }
        self.settle(|metrics, reachable| {
            if metrics.membership_config.get_node(&node).is_none() {
                return Err(ChangeError::UnknownNode { node });
            }
            let (lag, allowed) = (lag(metrics, node), self.options.promote_lag);
            if lag > allowed {
                return Err(ChangeError::Lagging { node, lag, allowed });
            }
            let mut after = voters(metrics);
            check_quorum(reachable, &after)?;
            after.insert(node);
            check_quorum(reachable, &after)
        })
        .await?;
        self.propose(ChangeMembers::AddVoterIds([node].into())).await
    }

    async fn remove(&self, node: NodeId) -> Result<(), ChangeError> {
        let metrics = self.metrics();
        let Some(others) = others(&metrics, node) else {
            return Err(ChangeError::UnknownNode { node });
        };
        let before = voters(&metrics);
        if before.len() == 1 && before.contains(&node) {
            return Err(ChangeError::LastVoter { node });
        }
        let agreed = self.application()?.may_leave(node, &others).await;
        agreed.map_err(|reason| ChangeError::Withheld { reason })?;
        if !before.contains(&node) {
            return self.propose(ChangeMembers::RemoveNodes([node].into())).await;
        }
        self.settle(|metrics, reachable| {
            let mut after = voters(metrics);
            check_quorum(reachable, &after)?;
            after.remove(&node);
            check_quorum(reachable, &after)
        })
        .await?;
        if node == self.local {
            self.transfer(None).await?;
            // The removal itself is the new leader's to make.
            return Err(ChangeError::NotLeader { leader: self.metrics().current_leader });
        }
        self.propose(ChangeMembers::RemoveVoters([node].into())).await
    }

    async fn transfer(&self, to: Option<NodeId>) -> Result<(), ChangeError> {
        if to == Some(self.local) {
            return Ok(());
        }
        let target = self
            .settle(|metrics, reachable| {
                let voters = voters(metrics);
                match to {
                    Some(node) if metrics.membership_config.get_node(&node).is_none() => {
                        Err(ChangeError::UnknownNode { node })
                    }
                    Some(node) if !voters.contains(&node) => Err(ChangeError::NotVoter { node }),
                    Some(node) if !reachable.contains(&node) => Err(ChangeError::Unreachable {
                        node,
                        reason: "it does not answer heartbeats".to_owned(),
                    }),
                    Some(node) => Ok(node),
                    None => {
                        let others =
                            voters.into_iter().filter(|id| *id != self.local && reachable.contains(id));
                        others.min_by_key(|id| lag(metrics, *id)).ok_or(ChangeError::NoSuccessor)
                    }
                }
            })
            .await?;
        let stopped = |reason: String| ChangeError::Stopped { reason };
        self.raft.trigger().transfer_leader(target).await.map_err(|error| stopped(error.to_string()))?;
        let handed_over = async {
            let mut metrics = self.raft.metrics();
            loop {
                let now = metrics.borrow_watched().clone();
                if !now.state.is_leader() && now.current_leader.is_some_and(|leader| leader != self.local) {
                    return Ok(());
                }
                metrics.changed().await.map_err(|_| stopped("the core ended".to_owned()))?;
            }
        };
        match timeout(self.options.election_max * 2 + SETTLE, handed_over).await {
            Ok(result) => result,
            Err(_) => {
                Err(ChangeError::Unknown { reason: format!("node {target} did not take over in time") })
            }
        }
    }

    /// Commits a change of the membership.
    async fn propose(&self, members: ChangeMembers<NodeId, Member>) -> Result<(), ChangeError> {
        let proposed =
            timeout(self.options.change_timeout, self.raft.change_membership(members, false)).await;
        let Ok(written) = proposed else {
            return Err(ChangeError::Unknown { reason: "no majority answered in time".to_owned() });
        };
        match written {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(fatal)) => Err(ChangeError::Stopped { reason: fatal.to_string() }),
            Err(RaftError::APIError(error)) => Err(refusal(error)),
        }
    }

    /// Repeats a check while the leader hears from its peers anew: only who answers after the question counts as
    /// reachable, since one that died a moment ago has answered a moment before.
    async fn settle<T>(
        &self,
        check: impl Fn(&Metrics, &BTreeSet<NodeId>) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        let asked = runtime::now();
        let patience = SETTLE.max(self.options.heartbeat * HEARTBEATS_AWAITED);
        loop {
            let waited = runtime::now().saturating_duration_since(asked);
            let metrics = self.metrics();
            let result = check(&metrics, &self.answered_within(&metrics, waited));
            if result.is_ok() || waited >= patience {
                return result;
            }
            sleep(PAUSE).await;
        }
    }

    /// Whoever answered the leader within the last moments, itself included.
    fn answered_within(&self, metrics: &Metrics, moments: Duration) -> BTreeSet<NodeId> {
        let all = metrics.membership_config.nodes().map(|(id, _)| *id);
        let answered = all.filter(|id| silent(metrics, *id).is_some_and(|silent| silent <= moments));
        answered.chain([self.local]).collect()
    }
}

/// Heartbeats within which a node that is there has answered one.
const HEARTBEATS_AWAITED: u32 = 6;

fn check_quorum(reachable: &BTreeSet<NodeId>, voters: &BTreeSet<NodeId>) -> Result<(), ChangeError> {
    let reachable: BTreeSet<NodeId> = voters.intersection(reachable).copied().collect();
    let needed = voters.len() / 2 + 1;
    if reachable.len() >= needed {
        return Ok(());
    }
    Err(ChangeError::QuorumAtRisk { voters: voters.clone(), reachable, needed })
}

/// For how long a node has not answered the leader; `None` when it never did.
pub(crate) fn silent(metrics: &Metrics, node: NodeId) -> Option<Duration> {
    metrics.heartbeat.as_ref()?.get(&node)?.map(|at| at.elapsed())
}

/// The members without a node; none if it is not one of them.
fn others(metrics: &Metrics, node: NodeId) -> Option<BTreeSet<NodeId>> {
    metrics.membership_config.get_node(&node)?;
    let members = metrics.membership_config.nodes().map(|(id, _)| *id);
    Some(members.filter(|id| *id != node).collect())
}

pub(crate) fn voters(metrics: &Metrics) -> BTreeSet<NodeId> {
    metrics.membership_config.voter_ids().collect()
}

/// How many entries a node is behind, in the leader's eyes.
pub(crate) fn lag(metrics: &Metrics, node: NodeId) -> u64 {
    let last = metrics.last_log_index.map_or(0, |index| index + 1);
    if node == metrics.id {
        return 0;
    }
    let matched = metrics.replication.as_ref().and_then(|progress| progress.get(&node).copied().flatten());
    last.saturating_sub(matched.map_or(0, |id| id.index + 1))
}

fn refusal(error: ClientWriteError<Consensus>) -> ChangeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => ChangeError::NotLeader { leader: forward.leader_id },
        ClientWriteError::LogEntryDiscarded(_) => {
            ChangeError::Unknown { reason: "the leader changed meanwhile".to_owned() }
        }
        ClientWriteError::ChangeMembershipError(error) => match error {
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
                ChangeError::InProgress
            }
            ChangeMembershipError::LearnerNotFound(missing) => {
                ChangeError::UnknownNode { node: missing.node_id }
            }
            other => ChangeError::Unknown { reason: other.to_string() },
        },
        // Somebody else finished it, or changed something in between.
        ClientWriteError::PreconditionFailed(_) => ChangeError::InProgress,
    }
}

/// Whether the voters of before and of after a change must both agree to everything: between its two entries, or for
/// ever when its leader died there.
pub(crate) fn is_half_made(metrics: &Metrics) -> bool {
    metrics.membership_config.membership().get_joint_config().len() > 1
}

/// What makes the second half of a change, whatever it was (Raft dissertation, section 4.3).
pub(crate) fn finishing() -> ChangeMembers<NodeId, Member> {
    ChangeMembers::AddVoterIds(BTreeSet::new())
}
