//! The application as openraft sees it: applies entries, takes and installs snapshots.
//!
//! Invariants: entries are applied once each, in order, between two restarts; every command gets its
//! answer or the node stops; a snapshot is published only after everything derived from the entries
//! it covers is on disk. Every node that was ever a member is remembered with its disk, here and in
//! every snapshot. Absent on purpose: what a command means.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder, Snapshot};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::consensus::{
    Answers, Consensus, Entry, LeaderId, LogId, Membership, Payload, SnapshotMeta, StoredMembership,
};
use crate::failure::{Failure, Latch};
use crate::identity::Open;
use crate::log::payload_bytes;
use crate::member::{Member, NodeId};
use crate::replicated::{CommittedEntry, Frozen, Replicated};
use crate::runtime;
use crate::snapshot::{Content, Handle, Head, Reader, SnapshotError, SnapshotStore, Stored, Writer};

/// What the rest of the group may know of the machine's progress.
pub(crate) struct Progress {
    applied: watch::Sender<u64>,
    unsaved_bytes: AtomicU64,
    disks: Mutex<BTreeMap<NodeId, u128>>,
}

impl Progress {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            applied: watch::channel(0).0,
            unsaved_bytes: AtomicU64::new(0),
            disks: Mutex::new(BTreeMap::new()),
        })
    }

    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Bytes of commands applied since the last snapshot began.
    pub(crate) fn unsaved_bytes(&self) -> u64 {
        self.unsaved_bytes.load(Ordering::Relaxed)
    }

    /// The disk of every node that was ever a member.
    pub(crate) fn disks(&self) -> BTreeMap<NodeId, u128> {
        self.disks.lock().clone()
    }
}

/// See the module.
pub(crate) struct Machine {
    replicated: Arc<dyn Replicated>,
    snapshots: Arc<dyn SnapshotStore>,
    progress: Arc<Progress>,
    latch: Latch,
    applied: Option<LogId>,
    membership: StoredMembership,
    _open: Open,
}

impl Machine {
    pub(crate) fn new(
        replicated: Arc<dyn Replicated>,
        snapshots: Arc<dyn SnapshotStore>,
        progress: Arc<Progress>,
        latch: Latch,
        open: Open,
    ) -> Self {
        let membership = StoredMembership::default();
        Self { replicated, snapshots, progress, latch, applied: None, membership, _open: open }
    }

    async fn apply_entry(&mut self, entry: &Entry) -> io::Result<Answers> {
        let LogId { leader_id: LeaderId { term, .. }, index } = entry.log_id;
        match &entry.payload {
            Payload::Blank => Ok(Answers::default()),
            Payload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                self.tell_membership(index, membership);
                Ok(Answers::default())
            }
            Payload::Normal(commands) => {
                self.replicated.ready().await;
                let entry = CommittedEntry { index, term, commands: &commands.0 };
                let word = PanicWord { latch: &self.latch, index };
                let answers = self.replicated.apply(&entry);
                drop(word);
                let answers = answers.map_err(|error| self.stop(error.to_string()))?;
                if answers.len() == commands.0.len() {
                    return Ok(Answers(answers));
                }
                let (given, asked) = (answers.len(), commands.0.len());
                Err(self.stop(format!("it gave {given} answers to the {asked} commands of entry {index}")))
            }
        }
    }

    fn tell_membership(&self, index: u64, membership: &Membership) {
        let members: BTreeMap<NodeId, Member> =
            membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        self.progress.disks.lock().extend(members.iter().map(|(id, member)| (*id, member.disk)));
        self.replicated.membership_changed(index, &members, &voters);
    }

    fn stop(&self, reason: String) -> io::Error {
        let failure = Failure::Application { reason };
        self.latch.fail(failure.clone());
        failure.to_io()
    }

    fn applied_through(&mut self, log_id: Option<LogId>) {
        self.applied = log_id;
        self.progress.applied.send_replace(log_id.map_or(0, |id| id.index));
    }
}

/// Puts a panic of the application into words before it unwinds into openraft, which has none.
struct PanicWord<'a> {
    latch: &'a Latch,
    index: u64,
}

impl Drop for PanicWord<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = format!("it panicked while applying entry {}", self.index);
            self.latch.fail(Failure::Application { reason });
        }
    }
}

impl RaftStateMachine<Consensus> for Machine {
    type SnapshotData = Handle;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Consensus>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let answers = self.apply_entry(&entry).await?;
            self.progress.unsaved_bytes.fetch_add(payload_bytes(&entry.payload), Ordering::Relaxed);
            self.applied_through(Some(entry.log_id));
            if let Some(responder) = responder {
                responder.send(answers);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.progress.unsaved_bytes.store(0, Ordering::Relaxed);
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Builder {
            head: Head { meta, disks: self.progress.disks() },
            frozen: Mutex::new(Some(self.replicated.freeze())),
            replicated: self.replicated.clone(),
            snapshots: self.snapshots.clone(),
            latch: self.latch.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Handle) -> io::Result<()> {
        let work = Installation {
            replicated: self.replicated.clone(),
            snapshots: self.snapshots.clone(),
            name: name(meta.last_log_id),
            content: snapshot.content().clone(),
        };
        let installed = runtime::blocking(move || Ok(work.run())).await?;
        let head = installed.map_err(|error| self.install_failed(error))?;
        *self.progress.disks.lock() = head.disks;
        self.membership = head.meta.last_membership;
        let index = head.meta.last_log_id.map_or(0, |id| id.index);
        let membership = self.membership.membership().clone();
        self.tell_membership(index, &membership);
        self.progress.unsaved_bytes.store(0, Ordering::Relaxed);
        self.applied_through(head.meta.last_log_id);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<Snapshot<LeaderId, NodeId, Member, Handle>>> {
        let snapshots = self.snapshots.clone();
        let read = runtime::blocking(move || {
            let Some(stored) = snapshots.latest()? else { return Ok(Ok(None)) };
            let reader = Reader::new(&stored.name, snapshots.open(&stored)?);
            Ok(reader.map(|reader| Some((reader.head().meta.clone(), Handle::published(snapshots, stored)))))
        });
        let found = read.await.map_err(SnapshotError::Storage).and_then(|found| found);
        match found {
            Ok(found) => Ok(found.map(|(meta, snapshot)| Snapshot { meta, snapshot })),
            Err(error) => Err(snapshot_failed(&self.latch, error)),
        }
    }
}

impl Machine {
    fn install_failed(&self, error: InstallError) -> io::Error {
        match error {
            InstallError::Snapshot(error) => snapshot_failed(&self.latch, error),
            InstallError::Application(reason) => self.stop(reason),
        }
    }
}

/// Remembers that a snapshot could not be made or kept, or is damaged.
pub(crate) fn snapshot_failed(latch: &Latch, error: SnapshotError) -> io::Error {
    let reason = match &error {
        SnapshotError::Storage(error) => error.to_string(),
        SnapshotError::Corrupt { .. } => error.to_string(),
    };
    latch.fail(Failure::Snapshot { reason });
    error.into_io()
}

/// A snapshot's name: fixed widths, so that names sort by age.
pub(crate) fn name(last: Option<LogId>) -> String {
    match last {
        None => "-".to_owned(),
        Some(LogId { leader_id: LeaderId { term, node_id }, index }) => {
            format!("{index:020}-{term:020}-{node_id:020}")
        }
    }
}

enum InstallError {
    Snapshot(SnapshotError),
    Application(String),
}

impl<E: Into<SnapshotError>> From<E> for InstallError {
    fn from(error: E) -> Self {
        Self::Snapshot(error.into())
    }
}

/// The blocking half of installing a snapshot.
struct Installation {
    replicated: Arc<dyn Replicated>,
    snapshots: Arc<dyn SnapshotStore>,
    name: String,
    content: Content,
}

impl Installation {
    fn run(self) -> Result<Head, InstallError> {
        match &self.content {
            Content::Published { store, stored } => {
                if !Arc::ptr_eq(store, &self.snapshots) {
                    self.copy(store, stored)?;
                }
                self.restore(store.open(stored)?)
            }
            Content::Received(cell) => {
                let Some(unpublished) = cell.lock().take() else {
                    return Err(io::Error::other("a received snapshot was installed twice").into());
                };
                let head = self.restore(unpublished.open()?)?;
                unpublished.publish(&self.name)?;
                Ok(head)
            }
        }
    }

    /// A snapshot that lies in another node's store, which only happens within one process.
    fn copy(&self, store: &Arc<dyn SnapshotStore>, stored: &Stored) -> Result<(), InstallError> {
        let mut draft = self.snapshots.create()?;
        io::copy(&mut store.open(stored)?, &mut draft)?;
        draft.sync()?.publish(&self.name)?;
        Ok(())
    }

    fn restore(&self, from: Box<dyn io::Read + Send>) -> Result<Head, InstallError> {
        let mut reader = Reader::new(&self.name, from)?;
        let head = reader.head().clone();
        let restored = self.replicated.restore(&mut reader);
        // A damaged file is named as such, whatever the application made of it.
        reader.finish()?;
        restored.map_err(|error| InstallError::Application(format!("{error} ({})", self.name)))?;
        Ok(head)
    }
}

/// Writes one snapshot beside the running machine.
pub(crate) struct Builder {
    head: Head,
    frozen: Mutex<Option<Box<dyn Frozen>>>,
    replicated: Arc<dyn Replicated>,
    snapshots: Arc<dyn SnapshotStore>,
    latch: Latch,
}

impl RaftSnapshotBuilder<Consensus> for Builder {
    type SnapshotData = Handle;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<LeaderId, NodeId, Member, Handle>> {
        let Some(frozen) = self.frozen.get_mut().take() else {
            return Err(io::Error::other("a snapshot is built once"));
        };
        let (snapshots, head) = (self.snapshots.clone(), self.head.clone());
        let written = runtime::blocking(move || {
            let mut draft = snapshots.create()?;
            let mut writer = Writer::new(&mut draft, &head)?;
            frozen.write_to(&mut writer)?;
            writer.finish()?;
            draft.sync()
        });
        let failed = |error: io::Error| snapshot_failed(&self.latch, error.into());
        let unpublished = written.await.map_err(failed)?;
        let index = self.head.meta.last_log_id.map_or(0, |id| id.index);
        self.replicated.derived_synced(index).await.map_err(|error| {
            let failure =
                Failure::Application { reason: format!("syncing what derives from entry {index}: {error}") };
            self.latch.fail(failure.clone());
            failure.to_io()
        })?;
        let name = name(self.head.meta.last_log_id);
        let stored = runtime::blocking(move || unpublished.publish(&name)).await.map_err(failed)?;
        let snapshot = Handle::published(self.snapshots.clone(), stored);
        Ok(Snapshot { meta: self.head.meta.clone(), snapshot })
    }
}
