//! How the nodes of one configuration become a cluster.
//!
//! Invariant: a cluster is formed only when *every* node of the configuration answers that it is
//! pristine, and only by the one with the lowest number. A node that lost its disk therefore never
//! helps to form a second cluster beside the first. A node that holds state just starts. Absent on
//! purpose: adding nodes to a cluster that exists, which is an operator's command.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use crate::group::{Group, InitializeError};
use crate::member::{Address, Member, NodeId};
use crate::transport::{Transport, TransportError};

/// How a node comes to belong to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formation {
    /// With the other nodes of its configuration, itself included.
    Together(BTreeMap<NodeId, Address>),
    /// By being added to a cluster that exists.
    Join,
}

/// Why a node will not come to belong to a cluster by waiting.
#[derive(Debug, thiserror::Error)]
pub enum FormationError {
    /// The configuration does not list this node.
    #[error("the configuration does not list node {node}")]
    NotListed {
        /// This node.
        node: NodeId,
    },
    /// A peer refuses this node, or is not who the configuration says. Change the configuration or,
    /// after a lost disk, the node's number.
    #[error("node {node} at {address}: {reason}")]
    Refused {
        /// Which peer.
        node: NodeId,
        /// Where.
        address: String,
        /// What it said.
        reason: String,
    },
    /// The first entry could not be written.
    #[error(transparent)]
    Initialize(#[from] InitializeError),
}

const PAUSE: Duration = Duration::from_millis(50);
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until this node belongs to a cluster, and forms it if that is this node's part.
///
/// # Errors
/// [`FormationError`] when waiting cannot help.
pub async fn form(
    group: &Group,
    transport: &dyn Transport,
    formation: &Formation,
) -> Result<(), FormationError> {
    let local = transport.local().clone();
    if let Formation::Together(nodes) = formation
        && !nodes.contains_key(&local.node)
    {
        return Err(FormationError::NotListed { node: local.node });
    }
    let mut told = String::new();
    loop {
        if !group.pristine().await {
            return Ok(());
        }
        if let Formation::Together(nodes) = formation {
            let waits_for = match ask_everyone(group, transport, nodes).await? {
                Answers::AllPristine(members) if nodes.keys().next() == Some(&local.node) => {
                    match group.initialize(members).await {
                        // Somebody was faster, which only this node's own log can be.
                        Ok(()) | Err(InitializeError::NotPristine) => return Ok(()),
                        Err(error) => return Err(error.into()),
                    }
                }
                Answers::AllPristine(_) => "the node with the lowest number to form the cluster".to_owned(),
                Answers::Waiting(reason) => reason,
            };
            if waits_for != told {
                tracing::info!(%waits_for, "the cluster is not formed yet");
                told = waits_for;
            }
        }
        sleep(PAUSE).await;
    }
}

enum Answers {
    AllPristine(BTreeMap<NodeId, Member>),
    Waiting(String),
}

async fn ask_everyone(
    group: &Group,
    transport: &dyn Transport,
    nodes: &BTreeMap<NodeId, Address>,
) -> Result<Answers, FormationError> {
    let local = transport.local();
    let others = nodes.iter().filter(|(id, _)| **id != local.node);
    let asked = others.map(|(id, address)| async move {
        (*id, address, transport.hello(&address.peer, group.id(), HELLO_TIMEOUT).await)
    });
    let mut members = BTreeMap::new();
    members.extend(nodes.get(&local.node).map(|address| (local.node, address.with_disk(local.disk))));
    let mut waiting = None;
    for (node, address, answer) in futures::future::join_all(asked).await {
        let refused =
            |reason: String| FormationError::Refused { node, address: address.peer.clone(), reason };
        match answer {
            Ok(hello) if hello.cluster != local.cluster => {
                return Err(refused(format!("it belongs to cluster {:?}", hello.cluster)));
            }
            Ok(hello) if hello.node != node => {
                return Err(refused(format!("there lives node {}", hello.node)));
            }
            Ok(hello) if hello.disk == local.disk => {
                return Err(refused("it has this node's disk".to_owned()));
            }
            Ok(hello) if hello.pristine == Some(true) => {
                members.insert(node, address.with_disk(hello.disk));
            }
            Ok(hello) if hello.pristine.is_none() => waiting = Some(format!("node {node} to start")),
            Ok(_) => waiting = Some(format!("node {node}, which has state, to reach this node")),
            Err(TransportError::Refused { reason, .. }) => return Err(refused(reason)),
            Err(_) => waiting = Some(format!("node {node} at {} to answer", address.peer)),
        }
    }
    Ok(waiting.map_or(Answers::AllPristine(members), Answers::Waiting))
}
