//! Three nodes in memory: a network that can be cut and disks that can crash.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use escapement_raft::{
    Address, Formation, Group, Local, MemoryDisk, MemoryNetwork, Options, Transport, form,
};

use crate::cluster::options;
use crate::ledger::Ledger;

/// See the module.
pub(crate) struct InMemory {
    pub(crate) network: MemoryNetwork,
    pub(crate) disks: Vec<MemoryDisk>,
    pub(crate) nodes: Vec<(Group, Arc<Ledger>)>,
    options: Options,
}

impl InMemory {
    pub(crate) async fn start(&self, id: u64) -> (Group, Arc<Ledger>, Arc<dyn Transport>) {
        let local = Local { cluster: self.options.cluster.clone(), node: id, disk: id.into() };
        let transport: Arc<dyn Transport> = Arc::new(self.network.connect(local, format!("node-{id}")));
        let (disk, ledger) = (&self.disks[id as usize - 1], Ledger::new());
        let group = Group::start(self.options.clone(), disk.clone(), ledger.clone(), transport.clone())
            .await
            .unwrap();
        (group, ledger, transport)
    }

    pub(crate) fn add_disk(&mut self) {
        self.disks.push(MemoryDisk::new());
    }

    pub(crate) async fn form() -> Self {
        Self::form_on(MemoryNetwork::new()).await
    }

    pub(crate) async fn form_on(network: MemoryNetwork) -> Self {
        Self::form_with(network, options()).await
    }

    pub(crate) async fn form_with(network: MemoryNetwork, options: Options) -> Self {
        let disks = (0..3).map(|_| MemoryDisk::new()).collect();
        let mut cluster = Self { network, disks, nodes: Vec::new(), options };
        let mut transports = Vec::new();
        for id in 1..=3 {
            let (group, ledger, transport) = cluster.start(id).await;
            cluster.nodes.push((group, ledger));
            transports.push(transport);
        }
        let address = |id| (id, Address { api: format!("api-{id}"), peer: format!("node-{id}") });
        let formation = Formation::Together((1..=3).map(address).collect());
        for ((group, _), transport) in cluster.nodes.iter().zip(&transports) {
            form(group, &**transport, &formation).await.unwrap();
        }
        cluster
    }

    pub(crate) fn leader(&self, among: &[usize]) -> Option<usize> {
        among.iter().copied().find(|at| self.nodes[*at].0.leadership().borrow().leading)
    }

    pub(crate) async fn propose(&self, among: &[usize], command: &str) {
        for _ in 0..2_000 {
            if let Some(at) = self.leader(among)
                && self.nodes[at].0.propose(Bytes::from(command.to_owned())).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never proposed: {command}");
    }
}
