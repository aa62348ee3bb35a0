//! Whether two nodes agree: the ends of their chains at the same place.
//!
//! A node shows the ends of some of its chains to the leader whenever it renews its worker's lease; the leader holds them
//! against its own event log. A node that differs can no longer be trusted and must stop: it, or the leader, applied
//! something else, and only a person can say which of the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use escapement_actors::machine::Machine;
use escapement_actors::projection::Projections;
use escapement_domain::identifier::TenantId;
use escapement_domain::record::Hash;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The end of one chain on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// Whose chain.
    pub(super) tenant: TenantId,
    /// The sequence of its last record.
    pub(super) sequence: u64,
    /// The hash of that record.
    pub(super) hash: Hash,
}

/// Shows the ends of this node's chains, and hears when one of them differs.
#[derive(Clone)]
pub(super) struct Witness {
    machine: Arc<Machine>,
    turn: Arc<AtomicUsize>,
    diverged: watch::Sender<Option<Evidence>>,
}

impl Witness {
    pub(super) fn new(machine: Arc<Machine>) -> Self {
        Self { machine, turn: Arc::default(), diverged: watch::Sender::new(None) }
    }

    /// The end of the cluster's own chain, and of one tenant's: each tenant has its turn.
    pub(super) fn evidence(&self) -> Vec<Evidence> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.machine.read(|replica| {
            let tenants = replica.tenants();
            let chosen = 1 + turn.checked_rem(tenants.len() - 1).unwrap_or(0);
            (0..)
                .zip(tenants)
                .filter(|(number, tenant)| (*number == 0 || *number == chosen) && tenant.head.sequence > 0)
                .map(|(number, tenant)| Evidence {
                    tenant: TenantId(u32::try_from(number).unwrap_or(u32::MAX)),
                    sequence: tenant.head.sequence,
                    hash: tenant.head.hash,
                })
                .collect()
        })
    }

    /// The leader says that a chain differs here.
    pub(super) fn contradict(&self, evidence: Evidence) {
        self.diverged.send_replace(Some(evidence));
    }

    /// Resolves with the reason when a chain differs here.
    pub(super) async fn diverged(&self) -> String {
        let mut told = self.diverged.subscribe();
        let found = told.wait_for(Option::is_some).await.map(|found| *found);
        match found {
            Ok(Some(Evidence { tenant, sequence, hash })) => format!(
                "record {sequence} of tenant {} is {hash} here and another one on the leader: this node diverged",
                tenant.0
            ),
            // The sender lives as long as this borrow.
            _ => std::future::pending().await,
        }
    }
}

/// Finds what contradicts this node's own event log. What is not in it yet, or no longer, contradicts nothing.
pub(super) fn contradiction(projections: &Projections, evidence: &[Evidence]) -> Option<Evidence> {
    evidence.iter().copied().find(|shown| match projections.record(shown.tenant, shown.sequence) {
        Ok(Some(record)) => record.hash != shown.hash,
        Ok(None) | Err(_) => false,
    })
}
