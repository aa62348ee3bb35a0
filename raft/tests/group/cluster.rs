//! Nodes on loopback, started, stopped and started again on their directories.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use escapement_raft::{
    Address, Committed, DataDirectory, Formation, Group, NodeId, Options, ProposeError, TcpTransport, form,
};
use tempfile::TempDir;

use crate::ledger::Ledger;

pub(crate) const CLUSTER: &str = "test";

/// Options for a machine that is shared and slow.
pub(crate) fn options() -> Options {
    Options {
        heartbeat: Duration::from_millis(60),
        election_min: Duration::from_millis(400),
        election_max: Duration::from_millis(800),
        probe: Duration::from_millis(50),
        change_timeout: Duration::from_secs(20),
        propose_timeout: Duration::from_secs(10),
        ..Options::new(CLUSTER)
    }
}

/// Waits for a condition; panics with its name when it does not come to hold.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_async(what, || std::future::ready(holds())).await;
}

/// Waits for a condition that has to be asked for.
pub(crate) async fn eventually_async<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waits = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waits).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// One node; its directory outlives it.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: Address,
    pub(crate) group: Group,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) transport: Arc<TcpTransport>,
    pub(crate) path: PathBuf,
}

impl Node {
    /// Starts a node on a directory, without forming anything.
    pub(crate) async fn start(id: NodeId, path: PathBuf, listen: &str, options: Options) -> Self {
        let directory = DataDirectory::open(&path, CLUSTER, id).unwrap();
        let transport = TcpTransport::listen(directory.local(), listen).await.unwrap();
        let transport = Arc::new(transport);
        let peer = transport.address().to_string();
        let ledger = Ledger::new();
        let group = Group::start(options, directory, ledger.clone(), transport.clone()).await.unwrap();
        Self { id, address: Address { api: format!("api-{id}"), peer }, group, ledger, transport, path }
    }

    pub(crate) async fn stop(self) -> (NodeId, PathBuf, String) {
        self.transport.shutdown();
        self.group.shutdown().await;
        (self.id, self.path, self.address.peer)
    }

    pub(crate) fn leads(&self) -> bool {
        self.group.leadership().borrow().leading
    }
}

/// Nodes that formed a cluster.
pub(crate) struct Cluster {
    directory: TempDir,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    stopped: BTreeMap<NodeId, (PathBuf, String)>,
    pub(crate) options: Options,
}

impl Cluster {
    pub(crate) async fn form(size: u64, options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Self { directory, nodes: BTreeMap::new(), stopped: BTreeMap::new(), options };
        for id in 1..=size {
            cluster.start_apart(id).await;
        }
        let addresses = cluster.nodes.iter().map(|(id, node)| (*id, node.address.clone())).collect();
        let formation = Formation::Together(addresses);
        let all = cluster.nodes.values().map(|node| form(&node.group, &*node.transport, &formation));
        futures::future::try_join_all(all).await.unwrap();
        cluster.leader().await;
        cluster
    }

    /// Starts a node that belongs to nothing yet.
    pub(crate) async fn start_apart(&mut self, id: NodeId) -> &Node {
        let path = self.directory.path().join(id.to_string());
        let node = Node::start(id, path, "127.0.0.1:0", self.options.clone()).await;
        self.nodes.entry(id).or_insert(node)
    }

    pub(crate) async fn stop(&mut self, id: NodeId) {
        let (id, path, listen) = self.nodes.remove(&id).unwrap().stop().await;
        self.stopped.insert(id, (path, listen));
    }

    /// Where a stopped node listened.
    pub(crate) fn listened(&self, id: NodeId) -> String {
        self.stopped[&id].1.clone()
    }

    pub(crate) fn path(&self, id: NodeId) -> PathBuf {
        self.directory.path().join(id.to_string())
    }

    pub(crate) async fn restart(&mut self, id: NodeId) -> &Node {
        let (path, listen) = self.stopped.remove(&id).unwrap();
        let node = Node::start(id, path, &listen, self.options.clone()).await;
        self.nodes.entry(id).or_insert(node)
    }

    /// The node that leads, in its own eyes and with a majority's proof.
    pub(crate) async fn leader(&self) -> &Node {
        let found = std::cell::Cell::new(0);
        let proven = || async {
            for node in self.nodes.values().filter(|node| node.leads()) {
                if node.group.read_barrier().await.is_ok() && node.leads() {
                    found.set(node.id);
                    return true;
                }
            }
            false
        };
        eventually_async("a leader with a proof", proven).await;
        &self.nodes[&found.get()]
    }

    pub(crate) async fn propose(&self, command: &str) -> Committed {
        loop {
            let leader = self.leader().await;
            match leader.group.propose(Bytes::from(command.to_owned())).await {
                Ok(committed) => return committed,
                Err(ProposeError::NotLeader { .. }) => {}
                Err(error) => panic!("{command}: {error}"),
            }
        }
    }

    /// Waits until every running node holds every command, in one order.
    pub(crate) async fn agree(&self, commands: usize) {
        eventually("all nodes hold everything", || {
            self.nodes.values().all(|node| node.ledger.len() >= commands)
        })
        .await;
        let mut all = self.nodes.values().map(|node| node.ledger.commands());
        let first = all.next().unwrap();
        assert!(all.all(|commands| commands == first), "the nodes differ");
    }

    pub(crate) async fn stop_all(mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.stop(id).await;
        }
    }
}
