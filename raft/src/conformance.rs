//! openraft's own suite for storage, run on every store of this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::StorageError;
use openraft::storage::RaftLogStorage;
use openraft::testing::log::{StoreBuilder, Suite};

use crate::consensus::Consensus;
use crate::failure::Latch;
use crate::identity::Open;
use crate::log::LogStore;
use crate::machine::{Machine, Progress};
use crate::member::{Member, NodeId};
use crate::memory::{MemoryDisk, MemoryLog};
use crate::options::Options;
use crate::replicated::{ApplyError, CommittedEntry, Frozen, Replicated, RestoreError};
use crate::snapshot::{FileSnapshots, SnapshotStore};

/// An application without a state.
struct Nothing;

impl Replicated for Nothing {
    fn apply(&self, entry: &CommittedEntry<'_>) -> Result<Vec<Bytes>, ApplyError> {
        Ok(entry.commands.to_vec())
    }

    fn membership_changed(&self, _: u64, _: &BTreeMap<NodeId, Member>, _: &BTreeSet<NodeId>) {}

    fn ready(&self) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }

    fn freeze(&self) -> Box<dyn Frozen> {
        Box::new(Self)
    }

    fn restore(&self, snapshot: &mut dyn Read) -> Result<(), RestoreError> {
        let mut content = Vec::new();
        snapshot.read_to_end(&mut content)?;
        if content == b"nothing" { Ok(()) } else { Err(RestoreError::new("something")) }
    }

    fn derived_synced(&self, _: u64) -> BoxFuture<'static, std::io::Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }
}

impl Frozen for Nothing {
    fn write_to(&self, to: &mut dyn Write) -> std::io::Result<()> {
        to.write_all(b"nothing")
    }
}

fn machine(snapshots: Arc<dyn SnapshotStore>) -> Machine {
    Machine::new(Arc::new(Nothing), snapshots, Progress::new(), Latch::new(), Open::new(None))
}

struct Builder<L>(PhantomData<fn() -> L>);

impl StoreBuilder<Consensus, LogStore, Machine, tempfile::TempDir> for Builder<LogStore> {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<Consensus>> {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { log_file_bytes: 4_096, ..Options::new("suite") };
        let log =
            LogStore::open(&directory.path().join("log"), &options, Latch::new(), Open::new(None)).unwrap();
        let snapshots = FileSnapshots::open(directory.path().join("snapshots")).unwrap();
        Ok((directory, log, machine(Arc::new(snapshots))))
    }
}

impl StoreBuilder<Consensus, MemoryLog, Machine, ()> for Builder<MemoryLog> {
    async fn build(&self) -> Result<((), MemoryLog, Machine), StorageError<Consensus>> {
        let disk = MemoryDisk::new();
        Ok(((), disk.log(Latch::new()).unwrap(), machine(Arc::new(disk.snapshots.clone()))))
    }
}

async fn check<L, G>()
where
    L: RaftLogStorage<Consensus>,
    G: Send + Sync,
    Builder<L>: StoreBuilder<Consensus, L, Machine, G>,
{
    Suite::<Consensus, L, Machine, Builder<L>, G>::test_all(Builder(PhantomData)).await.unwrap();
}

#[tokio::test]
async fn the_log_on_disk_conforms() {
    check::<LogStore, _>().await;
}

#[tokio::test]
async fn the_log_in_memory_conforms() {
    check::<MemoryLog, _>().await;
}
