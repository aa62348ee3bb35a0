//! A disk in memory that forgets what was not synced, for tests and the simulation.
//!
//! Invariants are those of the log on disk: entries are readable at once, reported as written only
//! after the sync, which takes as long as it is told to; a vote is synced before it is answered; writes
//! become durable in their order, as checksummed bytes. [`MemoryDisk::crash`] throws away the rest, and
//! every handle from before it writes into nothing. Everything that goes wrong with a disk can be made
//! to: it tears what is on its way, flips bits, fails a sync, fills up, and stalls.

mod journal;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::consensus::{Consensus, Entry, LogId, Vote};
use crate::failure::{Failure, Latch};
use crate::limits::APPEND_BYTES_TARGET;
use crate::log::payload_bytes;
use crate::runtime;
use crate::snapshot::MemorySnapshots;
use journal::{Content, Write};

#[derive(Debug, Default)]
struct Disk {
    /// Bytes that survive a crash.
    durable: Vec<u8>,
    /// Bytes that were written and not synced yet.
    unsynced: Vec<u8>,
    /// Counts crashes: handles of an earlier life write into nothing.
    life: u64,
    sync: Duration,
    failing: bool,
    /// Whether a sync failed since the last crash.
    failed: bool,
    full: bool,
    #[cfg(feature = "planted")]
    planted: Option<DiskBug>,
}

/// A bug that a disk can be given.
#[cfg(feature = "planted")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskBug {
    /// Entries are reported as synced before they are.
    EarlyAcknowledgement,
    /// Votes are answered and never written.
    ForgottenVotes,
    /// A sync that failed is taken for one that did not.
    IgnoredSync,
}

/// A disk; clones are the same disk. It outlives the node that uses it.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    disk: Arc<Mutex<Disk>>,
    pub(crate) snapshots: MemorySnapshots,
}

impl MemoryDisk {
    /// An empty disk that syncs at once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a sync takes from now on.
    pub fn set_sync(&self, duration: Duration) {
        self.disk.lock().sync = duration;
    }

    /// Makes every sync of the log fail from now on, until the next crash.
    pub fn fail_syncs(&self) {
        self.disk.lock().failing = true;
    }

    /// Makes every sync of a snapshot fail from now on, until the next crash.
    pub fn fail_snapshot_syncs(&self) {
        self.snapshots.fail_syncs();
    }

    /// Lets syncs of snapshots succeed again, unless one has failed.
    pub fn mend_snapshot_syncs(&self) {
        self.snapshots.mend_syncs();
    }

    /// Whether a sync failed since the last crash.
    #[must_use]
    pub fn sync_failed(&self) -> bool {
        self.disk.lock().failed || self.snapshots.sync_failed()
    }

    /// Refuses every write while it is full.
    pub fn set_full(&self, full: bool) {
        self.disk.lock().full = full;
        self.snapshots.set_full(full);
    }

    /// Flips one bit of the log, or of the newest snapshot if the log has fewer bits. Says whether there was one.
    pub fn flip_bit(&self, bit: u64) -> bool {
        let mut disk = self.disk.lock();
        let bits = disk.durable.len() as u64 * 8;
        if bit < bits {
            disk.durable[(bit / 8) as usize] ^= 1 << (bit % 8);
            return true;
        }
        drop(disk);
        self.snapshots.flip_bit(bit - bits)
    }

    /// How many bits it holds.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.disk.lock().durable.len() as u64 * 8 + self.snapshots.bits()
    }

    /// How many bytes were written and not synced yet.
    #[must_use]
    pub fn unsynced_bytes(&self) -> usize {
        self.disk.lock().unsynced.len()
    }

    /// Loses what was not synced, but for its first `kept` bytes, which may end within a write. The node
    /// that used the disk must be gone or be dropped now.
    pub fn crash(&self, kept: usize) {
        self.snapshots.crash();
        let mut disk = self.disk.lock();
        disk.life += 1;
        (disk.failing, disk.failed) = (false, false);
        let mut unsynced = std::mem::take(&mut disk.unsynced);
        unsynced.truncate(kept);
        disk.durable.append(&mut unsynced);
    }

    /// Gives the disk a bug.
    #[cfg(feature = "planted")]
    pub fn plant(&self, bug: DiskBug) {
        self.disk.lock().planted = Some(bug);
    }

    /// Reads what is on the disk. A write that was torn is cut off, as it was never acknowledged.
    ///
    /// # Errors
    /// Damage, with its place.
    pub(crate) fn log(&self, latch: Latch) -> io::Result<MemoryLog> {
        let mut disk = self.disk.lock();
        let content = Content::read(&disk.durable)?;
        disk.durable = content.journal()?;
        let live = Arc::new(Mutex::new(content));
        let (queue, writes) = mpsc::unbounded_channel();
        runtime::spawn(sync(self.disk.clone(), disk.life, writes, latch.clone()));
        Ok(MemoryLog { disk: self.disk.clone(), life: disk.life, live, queue, latch })
    }
}

/// A write on its way to the disk.
struct Queued {
    bytes: usize,
    compacts: bool,
    done: Done,
}

enum Done {
    Nobody,
    Entries(IOFlushed<Consensus>),
    Vote(oneshot::Sender<io::Result<()>>),
}

/// Makes writes durable, everything that waits in one sync.
async fn sync(disk: Arc<Mutex<Disk>>, life: u64, mut writes: mpsc::UnboundedReceiver<Queued>, latch: Latch) {
    while let Some(first) = writes.recv().await {
        let mut batch = vec![first];
        while let Ok(next) = writes.try_recv() {
            batch.push(next);
        }
        let duration = disk.lock().sync;
        if !duration.is_zero() {
            tokio::time::sleep(duration).await;
        }
        let synced = {
            let mut disk = disk.lock();
            if disk.life != life {
                return;
            }
            let synced = disk.sync(&batch);
            #[cfg(feature = "planted")]
            let synced = if disk.planted == Some(DiskBug::IgnoredSync) { Ok(()) } else { synced };
            synced
        };
        if let Err(error) = synced {
            let failure = Failure::Log { reason: format!("a sync failed: {error}") };
            latch.fail(failure.clone());
            batch.into_iter().for_each(|queued| queued.done.answer(Err(failure.to_io())));
            return;
        }
        batch.into_iter().for_each(|queued| queued.done.answer(Ok(())));
    }
}

impl Disk {
    fn sync(&mut self, batch: &[Queued]) -> io::Result<()> {
        if self.failing {
            self.failed = true;
            return Err(io::Error::other("the disk reported an error"));
        }
        let bytes: usize = batch.iter().map(|queued| queued.bytes).sum();
        self.durable.extend(self.unsynced.drain(..bytes));
        // Damage is found when the log is opened, not while it is in use.
        if batch.iter().any(|queued| queued.compacts)
            && let Ok(content) = Content::read(&self.durable)
        {
            self.durable = content.journal()?;
        }
        Ok(())
    }
}

impl Done {
    fn answer(self, result: io::Result<()>) {
        match self {
            Self::Nobody => {}
            Self::Entries(flushed) => flushed.io_completed(result),
            // A vote whose caller is gone was never answered.
            Self::Vote(synced) => drop(synced.send(result)),
        }
    }
}

/// The log on a [`MemoryDisk`], as openraft uses it.
#[derive(Clone)]
pub(crate) struct MemoryLog {
    disk: Arc<Mutex<Disk>>,
    life: u64,
    live: Arc<Mutex<Content>>,
    queue: mpsc::UnboundedSender<Queued>,
    latch: Latch,
}

impl MemoryLog {
    fn write(&self, write: Write, done: Done) -> io::Result<()> {
        if let Some(failure) = self.latch.get() {
            return Err(failure.to_io());
        }
        let written = self.write_bytes(&write).inspect_err(|error| {
            self.latch.fail(Failure::Log { reason: format!("writing failed: {error}") });
        })?;
        let compacts = matches!(write, Write::PurgeThrough(_));
        self.live.lock().write(write);
        let queued = Queued { bytes: written, compacts, done: self.planted(done) };
        self.queue.send(queued).map_err(|_| io::Error::other("the disk is gone"))
    }

    fn write_bytes(&self, write: &Write) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::other("the disk is gone"));
        }
        if disk.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        #[cfg(feature = "planted")]
        if disk.planted == Some(DiskBug::ForgottenVotes) && matches!(write, Write::Vote(_)) {
            return Ok(0);
        }
        let before = disk.unsynced.len();
        journal::append(&mut disk.unsynced, write)?;
        Ok(disk.unsynced.len() - before)
    }

    #[cfg(not(feature = "planted"))]
    fn planted(&self, done: Done) -> Done {
        done
    }

    #[cfg(feature = "planted")]
    fn planted(&self, done: Done) -> Done {
        match done {
            Done::Entries(flushed) if self.disk.lock().planted == Some(DiskBug::EarlyAcknowledgement) => {
                flushed.io_completed(Ok(()));
                Done::Nobody
            }
            done => done,
        }
    }

    fn read(&self, range: impl RangeBounds<u64>, bytes: u64) -> Vec<Entry> {
        let (start, end) = (range.start_bound().cloned(), range.end_bound().cloned());
        let empty = match (start, end) {
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            _ => false,
        };
        if empty {
            return Vec::new();
        }
        let mut size = 0;
        let live = self.live.lock();
        let within = live.entries.range((start, end)).take_while(|(_, entry)| {
            let fits = size < bytes;
            size += payload_bytes(&entry.payload);
            fits
        });
        within.map(|(_, entry)| entry.clone()).collect()
    }
}

impl RaftLogReader<Consensus> for MemoryLog {
    async fn try_get_log_entries<B>(&mut self, range: B) -> io::Result<Vec<Entry>>
    where
        B: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.read(range, u64::MAX))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.live.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        Ok(self.read(start..end, APPEND_BYTES_TARGET))
    }
}

impl RaftLogStorage<Consensus> for MemoryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Consensus>> {
        let live = self.live.lock();
        Ok(LogState { last_purged_log_id: live.purged, last_log_id: live.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (synced, durable) = oneshot::channel();
        self.write(Write::Vote(*vote), Done::Vote(synced))?;
        durable.await.unwrap_or_else(|_| Err(io::Error::other("the disk is gone")))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(committed) => self.write(Write::Committed(committed), Done::Nobody),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let live = self.live.lock();
        Ok(live.committed.min(live.last()))
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Consensus>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.write(Write::Entries(entries.into_iter().collect()), Done::Entries(flushed))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.write(Write::TruncateFrom(last.map_or(0, |id| id.index + 1)), Done::Nobody)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.write(Write::PurgeThrough(upto), Done::Nobody)
    }
}
