//! The Raft group behind [`Cluster`].

use escapement_domain::identifier::NodeId;
use escapement_domain::schedule::zone_data_version;
use escapement_raft::{Address, ChangeError, Group, Role};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::cluster::{Cluster, ClusterError, ClusterStatus, NodeStatus};

impl Cluster for Group {
    fn status(&self) -> BoxFuture<'static, ClusterStatus> {
        let status = Group::status(self);
        let nodes = status.members.iter().map(|(id, member)| {
            let here = *id == status.node;
            let role = match (here, status.leader == Some(*id), member.voter) {
                (_, true, _) => Role::Leader,
                (true, ..) => status.role,
                (_, _, true) => Role::Follower,
                (_, _, false) => Role::Learner,
            };
            NodeStatus {
                id: NodeId(*id),
                role: role.name(),
                voter: member.voter,
                api: member.member.api.clone(),
                peer: member.member.peer.clone(),
                applied: if here { Some(status.applied) } else { member.matched },
                lag: member.lag,
                zone_data: here.then(|| zone_data_version().to_owned()),
                clock_offset_ms: None,
                history_complete: None,
            }
        });
        let status = ClusterStatus {
            leader: status.leader.map(NodeId),
            term: status.term,
            nodes: nodes.collect(),
            ..ClusterStatus::default()
        };
        async move { status }.boxed()
    }

    fn add_node(
        &self,
        node: NodeId,
        api: String,
        peer: String,
    ) -> BoxFuture<'static, Result<(), ClusterError>> {
        let group = self.clone();
        async move { group.add_learner(node.0, Address { api, peer }).await.map_err(refused) }.boxed()
    }

    fn promote(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        let group = self.clone();
        async move { group.promote(node.0).await.map_err(refused) }.boxed()
    }

    fn remove_node(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        let group = self.clone();
        async move { group.remove_node(node.0).await.map_err(refused) }.boxed()
    }

    fn transfer_leadership(&self, to: Option<NodeId>) -> BoxFuture<'static, Result<(), ClusterError>> {
        let group = self.clone();
        async move { group.transfer_leadership(to.map(|node| node.0)).await.map_err(refused) }.boxed()
    }
}

fn refused(error: ChangeError) -> ClusterError {
    match error {
        ChangeError::NotLeader { .. } => ClusterError::NoLeader,
        ChangeError::UnknownNode { node } => ClusterError::UnknownNode(NodeId(node)),
        ChangeError::Unreachable { .. } | ChangeError::Starting { .. } => {
            ClusterError::Unreachable { reason: error.to_string() }
        }
        ChangeError::InProgress => ClusterError::InProgress,
        ChangeError::Unknown { reason } => {
            tracing::warn!(reason, "a change of the membership has no outcome");
            ClusterError::Unknown
        }
        ChangeError::Stopped { reason } => {
            tracing::warn!(reason, "a change of the membership came to a node that is stopping");
            ClusterError::Stopped
        }
        ChangeError::DiskLost { .. }
        | ChangeError::DiskTaken { .. }
        | ChangeError::NotPristine { .. }
        | ChangeError::WrongNode { .. }
        | ChangeError::QuorumAtRisk { .. }
        | ChangeError::LastVoter { .. }
        | ChangeError::Lagging { .. }
        | ChangeError::Withheld { .. }
        | ChangeError::NotVoter { .. }
        | ChangeError::NoSuccessor => ClusterError::Refused { reason: error.to_string() },
    }
}
