//! The group of nodes as its leader sees it, asked from any node.
//!
//! Only the leader knows how far everybody is. A node that does not lead asks it, and shows what it knows by itself when
//! nobody answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use escapement_domain::identifier::NodeId;
use escapement_raft::{Group, Transport};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::peer::{Question, Reply};
use crate::service::Cluster;
use crate::service::cluster::{ClusterError, ClusterStatus, NodeStatus};

/// How long the leader may take to say how everybody stands.
const PATIENCE: Duration = Duration::from_millis(500);
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
        };
        Self { leader: told.leader, term: told.term, nodes: told.nodes.into_iter().map(hear).collect() }
    }
}

/// The group, asked from any node.
pub(super) struct NodeCluster {
    node: NodeId,
    group: Group,
    transport: Arc<dyn Transport>,
}

impl NodeCluster {
    pub(super) fn new(node: NodeId, group: Group, transport: Arc<dyn Transport>) -> Self {
        Self { node, group, transport }
    }
}

impl Cluster for NodeCluster {
    fn status(&self) -> BoxFuture<'static, ClusterStatus> {
        let (node, group, transport) = (self.node, self.group.clone(), self.transport.clone());
        Box::pin(async move {
            let here = Cluster::status(&group).await;
            let Some(leader) = here.leader.filter(|leader| *leader != node) else { return here };
            let question = Bytes::from(Question::Status.encode());
            let reply = transport.request(leader.0, question, PATIENCE).await;
            match reply.ok().and_then(|bytes| Reply::decode(&bytes).ok()) {
                Some(Reply::Status(told)) if told.term >= here.term => told.into(),
                _ => here,
            }
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
