//! A disk in memory that forgets what was not synced, for tests and the simulation.
//!
//! Invariants are those of the log on disk: entries are readable at once, reported as written only
//! after the sync, which takes as long as it is told to; a vote is synced before it is answered; writes
//! become durable in their order. [`MemoryDisk::crash`] throws away the rest, and every handle from
//! before it writes into nothing. [`MemoryDisk::fail_syncs`] makes the next sync fail, for good.

use std::collections::BTreeMap;
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

/// What a log holds.
#[derive(Debug, Clone, Default)]
struct Content {
    vote: Option<Vote>,
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    committed: Option<LogId>,
}

impl Content {
    fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.log_id).or(self.purged)
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Vote(vote) => self.vote = Some(*vote),
            Write::Committed(committed) => self.committed = Some(*committed),
            Write::Entries(entries) => {
                self.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
            }
            Write::TruncateFrom(index) => drop(self.entries.split_off(index)),
            Write::PurgeThrough(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = self.purged.max(Some(*upto));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Write {
    Vote(Vote),
    Committed(LogId),
    Entries(Vec<Entry>),
    TruncateFrom(u64),
    PurgeThrough(LogId),
}

#[derive(Debug, Default)]
struct Disk {
    durable: Content,
    /// Counts crashes: handles of an earlier life write into nothing.
    life: u64,
    sync: Duration,
    failing: bool,
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

    /// Makes every sync fail from now on, until the next crash.
    pub fn fail_syncs(&self) {
        self.disk.lock().failing = true;
    }

    /// Loses whatever was not synced. The node that used the disk must be gone or be dropped now.
    pub fn crash(&self) {
        let mut disk = self.disk.lock();
        disk.life += 1;
        disk.failing = false;
    }

    pub(crate) fn log(&self, latch: Latch) -> MemoryLog {
        let (live, life) = {
            let disk = self.disk.lock();
            (Arc::new(Mutex::new(disk.durable.clone())), disk.life)
        };
        let (queue, writes) = mpsc::unbounded_channel();
        runtime::spawn(sync(self.disk.clone(), life, writes, latch.clone()));
        MemoryLog { live, queue, latch }
    }
}

/// A write on its way to the disk.
struct Queued {
    write: Write,
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
        {
            let mut disk = disk.lock();
            if disk.life != life {
                return;
            }
            if disk.failing {
                let failure = Failure::Log { reason: "a sync failed".to_owned() };
                latch.fail(failure.clone());
                drop(disk);
                batch.into_iter().for_each(|queued| queued.done.answer(Err(failure.to_io())));
                return;
            }
            batch.iter().for_each(|queued| disk.durable.write(&queued.write));
        }
        batch.into_iter().for_each(|queued| queued.done.answer(Ok(())));
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
    live: Arc<Mutex<Content>>,
    queue: mpsc::UnboundedSender<Queued>,
    latch: Latch,
}

impl MemoryLog {
    fn write(&self, write: Write, done: Done) -> io::Result<()> {
        if let Some(failure) = self.latch.get() {
            return Err(failure.to_io());
        }
        self.live.lock().write(&write);
        self.queue.send(Queued { write, done }).map_err(|_| io::Error::other("the disk is gone"))
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
