//! The group of nodes: who belongs to it, who leads, and changes of both.

use escapement_domain::identifier::NodeId;
use futures::future::BoxFuture;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use crate::security::Permission;

/// The group of nodes as this one sees it, and the way to change it.
pub trait Cluster: Send + Sync + 'static {
    /// Who belongs to the group. Asks the leader where this node cannot know, and answers without it all the same.
    fn status(&self) -> BoxFuture<'static, ClusterStatus>;
    /// Adds a node that receives the log and does not vote yet. Adding the same node again changes nothing.
    fn add_node(
        &self,
        node: NodeId,
        api: String,
        peer: String,
    ) -> BoxFuture<'static, Result<(), ClusterError>>;
    /// Lets a node vote.
    fn promote(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>>;
    /// Removes a node for good.
    fn remove_node(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>>;
    /// Hands the leadership over; to the voter that is furthest, unless one is named.
    fn transfer_leadership(&self, to: Option<NodeId>) -> BoxFuture<'static, Result<(), ClusterError>>;
}

/// The group of nodes at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClusterStatus {
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// The members, by number.
    pub nodes: Vec<NodeStatus>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its number.
    pub id: NodeId,
    /// What it does: `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub role: &'static str,
    /// Whether it votes.
    pub voter: bool,
    /// Where its HTTP API listens.
    pub api: String,
    /// Where it listens for its peers.
    pub peer: String,
    /// The last entry that it is known to hold; only the leader, or the node itself, knows.
    pub applied: Option<u64>,
    /// How many entries it is behind; only the leader knows.
    pub lag: Option<u64>,
}

/// Why a change of the group was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Not made: there is no leader. Retry.
    #[error("there is no leader that could make the change")]
    NoLeader,
    /// There is no such member.
    #[error("node {0} is not a member")]
    UnknownNode(NodeId),
    /// Not made, and it must not be: the reason says what to do first.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Not made: the node does not answer.
    #[error("{reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The change before this one is not finished. Retry.
    #[error("another change is in progress")]
    InProgress,
    /// May have been made. Look at the status, then ask again.
    #[error("the change has no outcome yet; look at the status, then ask again")]
    Unknown,
    /// This node is stopping. Ask another one.
    #[error("this node is stopping")]
    Stopped,
}

impl Service {
    /// The group of nodes, for everyone of a tenant.
    ///
    /// # Errors
    /// [`ServiceError::Denied`].
    pub async fn cluster_status(&self, caller: &Caller) -> Result<ClusterStatus, ServiceError> {
        caller.may(Permission::Read).or_else(|_| caller.may(Permission::ManageCluster))?;
        Ok(self.parts.cluster.status().await)
    }

    /// Adds a node that does not vote yet.
    ///
    /// # Errors
    /// [`ServiceError::Denied`] or [`ServiceError::Cluster`].
    pub async fn add_node(
        &self,
        caller: &Caller,
        node: NodeId,
        api: String,
        peer: String,
    ) -> Result<ClusterStatus, ServiceError> {
        caller.may(Permission::ManageCluster)?;
        tracing::info!(%node, %api, %peer, by = caller.principal.subject, "a node is being added");
        self.parts.cluster.add_node(node, api, peer).await?;
        Ok(self.parts.cluster.status().await)
    }

    /// Lets a node vote.
    ///
    /// # Errors
    /// [`ServiceError::Denied`] or [`ServiceError::Cluster`].
    pub async fn promote_node(&self, caller: &Caller, node: NodeId) -> Result<ClusterStatus, ServiceError> {
        caller.may(Permission::ManageCluster)?;
        tracing::info!(%node, by = caller.principal.subject, "a node is being promoted");
        self.parts.cluster.promote(node).await?;
        Ok(self.parts.cluster.status().await)
    }

    /// Removes a node for good.
    ///
    /// # Errors
    /// [`ServiceError::Denied`] or [`ServiceError::Cluster`].
    pub async fn remove_node(&self, caller: &Caller, node: NodeId) -> Result<(), ServiceError> {
        caller.may(Permission::ManageCluster)?;
        tracing::info!(%node, by = caller.principal.subject, "a node is being removed");
        Ok(self.parts.cluster.remove_node(node).await?)
    }

    /// Hands the leadership over.
    ///
    /// # Errors
    /// [`ServiceError::Denied`] or [`ServiceError::Cluster`].
    pub async fn transfer_leadership(
        &self,
        caller: &Caller,
        to: Option<NodeId>,
    ) -> Result<ClusterStatus, ServiceError> {
        caller.may(Permission::ManageCluster)?;
        tracing::info!(?to, by = caller.principal.subject, "the leadership is being handed over");
        self.parts.cluster.transfer_leadership(to).await?;
        Ok(self.parts.cluster.status().await)
    }
}
