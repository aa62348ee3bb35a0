//! The group of nodes.

use serde::Serialize;
use utoipa::ToSchema;

use crate::service::cluster::{ClusterStatus, NodeStatus};
use crate::service::{NodeWork, WorkerState};

/// The group of nodes.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Cluster {
    /// The node that leads, if it is known.
    #[schema(required = true)]
    leader: Option<u64>,
    /// The term.
    term: u64,
    /// The members.
    nodes: Vec<Node>,
    /// The program's version.
    version: &'static str,
    /// The version of the IANA zone data by which instants are planned: the leader's; null if nobody said.
    #[schema(required = true, example = "2025b")]
    zone_data: Option<String>,
    /// What should be seen to, in sentences, such as zone data that differ.
    warnings: Vec<String>,
}

/// One member.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Node {
    /// Its number.
    id: u64,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    role: &'static str,
    /// Whether it votes.
    voter: bool,
    /// Where its HTTP API listens.
    api: String,
    /// Where it listens for its peers.
    peer: String,
    /// The last entry of the log that it is known to have; null if nobody here knows.
    #[schema(required = true)]
    applied: Option<u64>,
    /// How many entries it is behind; null if nobody here knows.
    #[schema(required = true)]
    lag: Option<u64>,
    /// The version of its IANA zone data; null if it did not say.
    #[schema(required = true, example = "2025b")]
    zone_data: Option<String>,
    /// How far its wall clock is ahead of the median of the members', in milliseconds; null if it did not say.
    #[schema(required = true)]
    clock_offset_ms: Option<i64>,
    /// Whether it holds the whole history of events, and not the state alone; null if it did not say.
    #[schema(required = true)]
    history_complete: Option<bool>,
    /// Whether it takes work: `ready`, `draining` (it finishes what it has and takes nothing new), `lost`; null if it is not
    /// there as a worker.
    #[schema(required = true, example = "ready")]
    work: Option<&'static str>,
    /// Attempts that it has, of all tenants.
    running: usize,
    /// Whether somebody drained it, which holds until somebody undrains it, over its restarts too.
    drained: bool,
}

/// A node to add.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) struct NewNode {
    /// Its number, never used before.
    id: u64,
    /// Where its HTTP API listens.
    #[schema(example = "127.0.0.1:7073")]
    api: String,
    /// Where it listens for its peers.
    #[schema(example = "127.0.0.1:7173")]
    peer: String,
}

/// Who is to lead.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) struct Successor {
    /// The node; the voter that is furthest if it is left out.
    #[serde(default)]
    to: Option<u64>,
}

impl From<ClusterStatus> for Cluster {
    fn from(status: ClusterStatus) -> Self {
        let (zone_data, warnings) = (status.zone_data().map(str::to_owned), status.warnings());
        let work = status.work;
        let node = |node: NodeStatus| Node::of(work.get(&node.id).copied().unwrap_or_default(), node);
        Self {
            zone_data,
            warnings,
            leader: status.leader.map(|node| node.0),
            term: status.term,
            nodes: status.nodes.into_iter().map(node).collect(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

impl Node {
    fn of(work: NodeWork, node: NodeStatus) -> Self {
        Self {
            id: node.id.0,
            role: node.role,
            voter: node.voter,
            api: node.api,
            peer: node.peer,
            applied: node.applied,
            lag: node.lag,
            zone_data: node.zone_data,
            clock_offset_ms: node.clock_offset_ms,
            history_complete: node.history_complete,
            work: work.state.map(WorkerState::name),
            running: work.running,
            drained: work.drained,
        }
    }
}
