//! The replicated state as the log drives it.
//!
//! Beside the state itself this is where the two logs meet: a snapshot is published, and the Raft log purged behind it,
//! only when the event log and the read models have everything up to it on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use bytes::Bytes;
use escapement_domain::replica::snapshot::Snapshot;
use escapement_raft::{ApplyError, CommittedEntry, Frozen, Member, NodeId, Replicated, RestoreError};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::custody::Custody;

/// The state machine of a node, whose state and read models its custody knows.
pub(super) struct StateMachine(pub(super) Custody);

impl Replicated for StateMachine {
    fn apply(&self, entry: &CommittedEntry<'_>) -> Result<Vec<Bytes>, ApplyError> {
        self.0.machine.apply(entry.index, entry.commands).map_err(ApplyError::new)
    }

    fn membership_changed(&self, index: u64, _: &BTreeMap<NodeId, Member>, _: &BTreeSet<NodeId>) {
        self.0.machine.advance(index);
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        self.0.projections.ready()
    }

    fn freeze(&self) -> Box<dyn Frozen> {
        let (index, snapshot) = self.0.machine.freeze();
        Box::new(FrozenState { index, snapshot })
    }

    fn restore(&self, snapshot: &mut dyn Read) -> Result<(), RestoreError> {
        let mut index = [0_u8; 8];
        snapshot.read_exact(&mut index)?;
        self.0.machine.restore(u64::from_be_bytes(index), snapshot).map_err(RestoreError::new)
    }

    fn derived_synced(&self, index: u64) -> BoxFuture<'static, io::Result<()>> {
        // Entries of Raft's own lead to no records: nothing is derived beyond what was applied.
        self.0.projections.synced(index.min(self.0.machine.applied()))
    }

    fn may_vote(&self, node: NodeId, others: &BTreeSet<NodeId>) -> BoxFuture<'static, Result<(), String>> {
        self.0.clone().may_vote(node, others.clone()).boxed()
    }

    fn may_leave(&self, node: NodeId, others: &BTreeSet<NodeId>) -> BoxFuture<'static, Result<(), String>> {
        self.0.clone().may_leave(node, others.clone()).boxed()
    }
}

/// The state at one index.
struct FrozenState {
    index: u64,
    snapshot: Snapshot,
}

impl Frozen for FrozenState {
    fn write_to(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&self.index.to_be_bytes())?;
        self.snapshot.write_to(to)
    }
}
