//! The group of nodes as its leader sees it, asked from any node.
//!
//! Only the leader knows how far everybody is. A node that does not lead asks it, and shows what it knows by itself when
//! nobody answers. Each node alone knows the version of its zone data, its clock and what it holds of the history: it is
//! asked.

use std::time::Duration;

use escapement_actors::ports::Clock;
use escapement_domain::identifier::NodeId;
use escapement_domain::schedule::zone_data_version;
use escapement_raft::{Group, Transport};
use futures::future::{BoxFuture, join_all, join3};
use serde::{Deserialize, Serialize};

use super::custody::Custody;
use super::peer::{Question, Reply};
use crate::service::Cluster;
use crate::service::cluster::{ClusterError, ClusterStatus, NodeStatus};

/// How long the leader may take to say how everybody stands.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a node may take to say of which version its zone data are: without it the status is worth telling all the same.
const VERSION_PATIENCE: Duration = Duration::from_millis(100);
/// The roles that there are; one that a peer of another version names is shown as the last.
const ROLES: [&str; 6] = ["leader", "follower", "learner", "candidate", "stopped", "unknown"];

/// The group as one node sees it, on its way to another.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    leader: Option<NodeId>,
    term: u64,
    nodes: Vec<ToldNode>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ToldNode {
    id: NodeId,
    role: String,
    voter: bool,
    api: String,
    peer: String,
    applied: Option<u64>,
    lag: Option<u64>,
}

impl From<ClusterStatus> for Told {
    fn from(status: ClusterStatus) -> Self {
        let tell = |node: NodeStatus| ToldNode {
            id: node.id,
            role: node.role.to_owned(),
            voter: node.voter,
            api: node.api,
            peer: node.peer,
            applied: node.applied,
            lag: node.lag,
        };
        Self { leader: status.leader, term: status.term, nodes: status.nodes.into_iter().map(tell).collect() }
    }
}

impl From<Told> for ClusterStatus {
    fn from(told: Told) -> Self {
        let hear = |node: ToldNode| NodeStatus {
            id: node.id,
            role: ROLES.into_iter().find(|role| *role == node.role).unwrap_or("unknown"),
            voter: node.voter,
            api: node.api,
            peer: node.peer,
            applied: node.applied,
            lag: node.lag,
            // Whoever tells the status asks each node itself.
            zone_data: None,
            clock_offset_ms: None,
            history_complete: None,
        };
        let nodes = told.nodes.into_iter().map(hear).collect();
        Self { leader: told.leader, term: told.term, nodes, ..Self::default() }
    }
}

/// The group, asked from any node.
pub(super) struct NodeCluster {
    pub(super) group: Group,
    pub(super) custody: Custody,
}

/// The group as its leader sees it; as it is seen here, if the leader does not say.
async fn as_the_leader_tells(
    transport: &dyn Transport,
    leader: NodeId,
    here: ClusterStatus,
) -> ClusterStatus {
    match Question::Status.ask(transport, leader, PATIENCE).await {
        Some(Reply::Status(told)) if told.term >= here.term => told.into(),
        _ => here,
    }
}

/// The version of a node's zone data; none if it does not say, as one of an older version does not.
pub(super) async fn zone_data(transport: &dyn Transport, here: NodeId, node: NodeId) -> Option<String> {
    if node == here {
        return Some(zone_data_version().to_owned());
    }
    match Question::ZoneData.ask(transport, node, VERSION_PATIENCE).await {
        Some(Reply::ZoneData(version)) => Some(version),
        _ => None,
    }
}

/// How far a node's wall clock is ahead of this one's, in ms; none if it does not say in time.
async fn clock_ahead(
    transport: &dyn Transport,
    clock: &dyn Clock,
    here: NodeId,
    node: NodeId,
) -> Option<i64> {
    if node == here {
        return Some(0);
    }
    let asked = clock.monotonic();
    let Some(Reply::Clock(shown)) = Question::Clock.ask(transport, node, VERSION_PATIENCE).await else {
        return None;
    };
    let took = clock.monotonic().saturating_sub(asked);
    let half = i64::try_from(took.as_millis() / 2).unwrap_or(i64::MAX);
    Some(shown.0.saturating_add(half).saturating_sub(clock.now().0))
}

/// The middle one, or what lies between the two in the middle; 0 of none.
fn median(numbers: impl Iterator<Item = i64>) -> i64 {
    let mut numbers: Vec<i64> = numbers.collect();
    numbers.sort_unstable();
    let upper = numbers.get(numbers.len() / 2).copied().unwrap_or(0);
    let lower = numbers.get(numbers.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    lower + (upper - lower) / 2
}

impl Cluster for NodeCluster {
    fn status(&self) -> BoxFuture<'static, ClusterStatus> {
        let (group, custody) = (self.group.clone(), self.custody.clone());
        Box::pin(async move {
            let Custody { node, transport, clock, .. } = &custody;
            let node = *node;
            let here = Cluster::status(&group).await;
            let mut status = match here.leader.filter(|leader| *leader != node) {
                Some(leader) => as_the_leader_tells(&**transport, leader, here).await,
                None => here,
            };
            let asked = status.nodes.iter().map(|other| {
                let zone_data = zone_data(&**transport, node, other.id);
                let ahead = clock_ahead(&**transport, &**clock, node, other.id);
                join3(zone_data, ahead, custody.held(other.id, 0, VERSION_PATIENCE))
            });
            let told = join_all(asked).await;
            let middle = median(told.iter().filter_map(|(_, ahead, _)| *ahead));
            for (other, (zone_data, ahead, held)) in status.nodes.iter_mut().zip(told) {
                other.zone_data = zone_data;
                other.clock_offset_ms = ahead.map(|ahead| ahead.saturating_sub(middle));
                other.history_complete = held.map(|held| held.complete);
            }
            status
        })
    }

    fn add_node(
        &self,
        node: NodeId,
        api: String,
        peer: String,
    ) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.group.add_node(node, api, peer)
    }

    fn promote(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        Cluster::promote(&self.group, node)
    }

    fn remove_node(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        Cluster::remove_node(&self.group, node)
    }

    fn transfer_leadership(&self, to: Option<NodeId>) -> BoxFuture<'static, Result<(), ClusterError>> {
        Cluster::transfer_leadership(&self.group, to)
    }
}
