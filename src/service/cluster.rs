//! The group of nodes: who belongs to it, who leads, and changes of both.

use std::collections::BTreeMap;
use std::time::Duration;

use escapement_actors::intent::Intent;
use escapement_actors::worker::clocks::TOLERANCE_MS;
use escapement_domain::identifier::NodeId;
use futures::future::BoxFuture;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::workers::NodeWork;
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
    /// What they do as workers, by this node's state.
    pub work: BTreeMap<NodeId, NodeWork>,
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
    /// The version of its zone data; none if it did not say.
    pub zone_data: Option<String>,
    /// How far its wall clock is ahead of the median of the members', in ms; none if it did not say.
    pub clock_offset_ms: Option<i64>,
    /// Whether it holds the whole history of events, and not the state alone; none if it did not say.
    pub history_complete: Option<bool>,
}

impl ClusterStatus {
    /// The version of the zone data by which instants are planned now: the leader's, or that of a node which said it.
    #[must_use]
    pub fn zone_data(&self) -> Option<&str> {
        let leader = self.nodes.iter().find(|node| Some(node.id) == self.leader);
        leader.into_iter().chain(&self.nodes).find_map(|node| node.zone_data.as_deref())
    }

    /// What whoever runs the cluster should see to, in sentences.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.clock_warnings();
        warnings.extend(self.zone_data_warning());
        warnings.extend(self.drain_warnings());
        warnings.extend(self.history_warnings());
        warnings
    }

    fn drain_warnings(&self) -> impl Iterator<Item = String> {
        let drained =
            self.nodes.iter().filter(|node| self.work.get(&node.id).is_some_and(|work| work.drained));
        drained.map(|node| {
            let id = node.id;
            format!("node {id} is drained: nothing new starts there until `escapement cluster undrain {id}`")
        })
    }

    fn history_warnings(&self) -> impl Iterator<Item = String> {
        let without = self.nodes.iter().filter(|node| node.history_complete == Some(false));
        without.map(|node| {
            let id = node.id;
            format!("node {id} does not hold the whole history of events yet: take no other node away until it does")
        })
    }

    fn clock_warnings(&self) -> Vec<String> {
        let is_off = |offset: &i64| offset.abs() > TOLERANCE_MS;
        let off = self.nodes.iter().filter_map(|node| Some((node.id, node.clock_offset_ms.filter(is_off)?)));
        off.map(|(node, offset)| {
            let side = if offset > 0 { "ahead of" } else { "behind" };
            format!(
                "the clock of node {node} is {:.1} s {side} the others': it leads nothing while another node can; mend \
                 its time service",
                Duration::from_millis(offset.unsigned_abs()).as_secs_f32()
            )
        })
        .collect()
    }

    fn zone_data_warning(&self) -> Option<String> {
        let mut versions = BTreeMap::<&str, Vec<String>>::new();
        for node in &self.nodes {
            if let Some(version) = node.zone_data.as_deref() {
                versions.entry(version).or_default().push(node.id.to_string());
            }
        }
        if versions.len() < 2 {
            return None;
        }
        let each: Vec<String> = versions
            .iter()
            .map(|(version, nodes)| format!("{version} on node {}", nodes.join(", ")))
            .collect();
        Some(format!(
            "the nodes' zone data differ: {}; the state stays the same on all, since the leader plans, but which instants it \
             plans changes with the leader: run the same version everywhere",
            each.join("; ")
        ))
    }
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
        Ok(self.group_status().await)
    }

    async fn group_status(&self) -> ClusterStatus {
        ClusterStatus { work: self.node_work(), ..self.parts.cluster.status().await }
    }

    /// Lets a node take nothing new, or something again. What it has it finishes, and where it leads it goes on leading.
    ///
    /// # Errors
    /// [`ServiceError`]; [`ClusterError::UnknownNode`] if it is no member.
    pub async fn drain_node(
        &self,
        caller: &Caller,
        node: NodeId,
        drained: bool,
    ) -> Result<ClusterStatus, ServiceError> {
        caller.may(Permission::ManageCluster)?;
        if !self.parts.cluster.status().await.nodes.iter().any(|member| member.id == node) {
            return Err(ClusterError::UnknownNode(node).into());
        }
        tracing::info!(%node, drained, by = caller.principal.subject, "a node is being drained, or is no more");
        self.carry_out(caller, Intent::DrainNode { node, drained }).await?;
        Ok(self.group_status().await)
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
        Ok(self.group_status().await)
    }

    /// Lets a node vote.
    ///
    /// # Errors
    /// [`ServiceError::Denied`] or [`ServiceError::Cluster`].
    pub async fn promote_node(&self, caller: &Caller, node: NodeId) -> Result<ClusterStatus, ServiceError> {
        caller.may(Permission::ManageCluster)?;
        tracing::info!(%node, by = caller.principal.subject, "a node is being promoted");
        self.parts.cluster.promote(node).await?;
        Ok(self.group_status().await)
    }

    /// Where the members' APIs listen, the leader's first; this node's own is among them.
    pub async fn apis(&self) -> Vec<String> {
        let ClusterStatus { leader, mut nodes, .. } = self.parts.cluster.status().await;
        nodes.sort_by_key(|node| (Some(node.id) != leader, node.id));
        nodes.into_iter().map(|node| node.api).collect()
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
        Ok(self.group_status().await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes from 1 on with these versions; node 2 leads.
    fn status(versions: &[Option<&str>]) -> ClusterStatus {
        let node = |(id, version): (u64, &Option<&str>)| NodeStatus {
            id: NodeId(id),
            role: "follower",
            voter: true,
            api: String::new(),
            peer: String::new(),
            applied: None,
            lag: None,
            zone_data: version.map(str::to_owned),
            clock_offset_ms: None,
            history_complete: None,
        };
        let nodes = (1..).zip(versions).map(node).collect();
        ClusterStatus { leader: Some(NodeId(2)), term: 1, nodes, ..ClusterStatus::default() }
    }

    #[test]
    fn a_node_that_somebody_drained_is_a_warning() {
        let mut status = status(&[None, None]);
        let drained = NodeWork { drained: true, ..NodeWork::default() };
        status.work = BTreeMap::from([(NodeId(1), NodeWork::default()), (NodeId(2), drained)]);
        let warnings = status.warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("node 2 is drained"), "{warnings:?}");
    }

    #[test]
    fn a_node_without_the_whole_history_is_a_warning() {
        let mut status = status(&[None, None, None]);
        (status.nodes[0].history_complete, status.nodes[1].history_complete) = (Some(false), Some(true));
        let warnings = status.warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("node 1 does not hold the whole history"), "{warnings:?}");
    }

    #[test]
    fn the_leaders_zone_data_are_the_clusters() {
        assert_eq!(status(&[Some("2025b"), Some("2026f")]).zone_data(), Some("2026f"));
        assert_eq!(status(&[Some("2025b"), None]).zone_data(), Some("2025b"));
        assert_eq!(status(&[None, None]).zone_data(), None);
    }

    #[test]
    fn a_clock_that_is_off_is_a_warning() {
        let mut status = status(&[None, None, None]);
        for (node, offset) in status.nodes.iter_mut().zip([0, 1_000, -3_600_000]) {
            node.clock_offset_ms = Some(offset);
        }
        let warnings = status.warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("node 3 is 3600.0 s behind the others'"), "{warnings:?}");
    }

    #[test]
    fn zone_data_that_differ_are_a_warning() {
        let warnings = status(&[Some("2026f"), Some("2025b"), Some("2026f"), None]).warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("2025b on node 2; 2026f on node 1, 3"), "{warnings:?}");
        assert!(status(&[Some("2025b"), None, Some("2025b")]).warnings().is_empty());
    }
}
