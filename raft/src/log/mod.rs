//! The Raft log and vote on disk: openraft's storage on the `raft-log` crate.
//!
//! Invariants: votes and entries pass through one writer in order; an entry is readable when
//! `append` returns and is reported as written only after the sync that covers it; a vote is synced
//! before `save_vote` returns; a failed write or sync is reported once and nothing is written
//! after it. `save_committed` is not synced by itself: it lies behind the entries that it names and
//! reaches the disk with whatever is synced next.
//!
//! Memory: entries of the file being written stay in memory, so [`Options::log_file_bytes`] plus
//! [`Options::log_cache_bytes`] bound the cache. Absent on purpose: the state machine and
//! snapshots.

mod record;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::RwLock;
use raft_log::api::raft_log_writer::RaftLogWriter;
use tokio::sync::oneshot;

use crate::consensus::{self, Consensus, Entry};
use crate::failure::{Failure, Latch};
use crate::identity::Open;
use crate::limits::{APPEND_BYTES_TARGET, READ_ENTRIES_MAX};
use crate::options::Options;
use record::{LogId, Payload, Records, Vote};

pub(crate) use record::payload_bytes;

/// Who hears that a write is on disk.
pub(crate) enum Completion {
    /// openraft, for entries.
    Entries { flushed: IOFlushed<Consensus>, latch: Latch },
    /// The caller that waits, for a vote.
    Vote { synced: oneshot::Sender<io::Result<()>>, latch: Latch },
    /// Nobody, for a purge; only its failure matters.
    Purge { latch: Latch },
}

impl raft_log::Callback for Completion {
    fn send(self, result: io::Result<()>) {
        let latch = match &self {
            Self::Entries { latch, .. } | Self::Vote { latch, .. } | Self::Purge { latch } => latch,
        };
        if let Err(error) = &result {
            latch.fail(Failure::Log { reason: format!("a sync failed: {error}") });
        }
        match self {
            Self::Entries { flushed, .. } => flushed.io_completed(result),
            // A vote whose caller is gone was never answered.
            Self::Vote { synced, .. } => drop(synced.send(result)),
            Self::Purge { .. } => {}
        }
    }
}

/// A handle of the log; openraft holds one writer and any number of readers.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<RwLock<raft_log::RaftLog<Records>>>,
    latch: Latch,
    _open: Open,
}

impl LogStore {
    /// Opens or creates the log in a directory.
    ///
    /// A record that was half written when the process died was never acknowledged and is cut off; a
    /// damaged one is an error that names it.
    pub(crate) fn open(directory: &Path, options: &Options, latch: Latch, open: Open) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let Some(path) = directory.to_str() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the log's path is not UTF-8"));
        };
        let mut config = raft_log::Config::new(path);
        config.log_cache_capacity = Some(options.log_cache_bytes);
        config.wal.read_buffer_size = Some(1 << 20);
        config.wal.chunk_max_size = Some(options.log_file_bytes);
        config.wal.truncate_incomplete_record = Some(true);
        config.wal.flush_batch_wait = Some(Duration::ZERO);
        config.wal.flush_queue_max_bytes = Some(256 << 20);
        let log = raft_log::RaftLog::open(Arc::new(config))?;
        Ok(Self { log: Arc::new(RwLock::new(log)), latch, _open: open })
    }

    /// Runs a write; its failure stops the node.
    fn write<T>(
        &self,
        what: &str,
        work: impl FnOnce(&mut raft_log::RaftLog<Records>) -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(failure) = self.latch.get() {
            return Err(failure.to_io());
        }
        work(&mut self.log.write()).inspect_err(|error| {
            self.latch.fail(Failure::Log { reason: format!("{what} failed: {error}") });
        })
    }

    /// Reads `[start, end)`, stopping after `bytes` once it has one entry.
    fn read(&self, start: u64, end: u64, bytes: u64) -> io::Result<Vec<Entry>> {
        let log = self.log.read();
        let mut entries = Vec::new();
        let mut size = 0;
        for item in log.read(start, end) {
            let (LogId(log_id), payload) = item.inspect_err(|error| {
                self.latch.fail(Failure::Log { reason: format!("reading failed: {error}") });
            })?;
            size += payload.bytes();
            entries.push(Entry { log_id, payload: payload.0 });
            if size >= bytes {
                break;
            }
        }
        Ok(entries)
    }
}

impl LogStore {
    /// What is read to be applied must be there, up to the end of the log: an entry that is skipped
    /// would never be missed.
    fn check_gapless(&self, start: u64, end: u64, entries: &[Entry]) -> io::Result<()> {
        let indexes = entries.iter().map(|entry| entry.log_id.index);
        let gapless = indexes.eq(start..start + entries.len() as u64);
        let after_last = self.log.read().log_state().last().map_or(0, |last| last.0.index + 1);
        if gapless && (!entries.is_empty() || start >= end.min(after_last)) {
            return Ok(());
        }
        let failure = Failure::Log { reason: format!("entries are missing from {start} on") };
        self.latch.fail(failure.clone());
        Err(failure.to_io())
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&index) => index,
        Bound::Excluded(&index) => index + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => index + 1,
        Bound::Excluded(&index) => index,
        Bound::Unbounded => u64::MAX,
    };
    (start, end.max(start))
}

impl RaftLogReader<Consensus> for LogStore {
    async fn try_get_log_entries<B>(&mut self, range: B) -> io::Result<Vec<Entry>>
    where
        B: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        self.read(start, end, u64::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<consensus::Vote>> {
        Ok(self.log.read().log_state().vote().map(|vote| vote.0))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, APPEND_BYTES_TARGET)
    }

    async fn entries_stream<B>(&mut self, range: B) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        B: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let store = self.clone();
        let pieces = futures::stream::try_unfold(start, move |next| {
            let store = store.clone();
            async move {
                let until = end.min(next.saturating_add(READ_ENTRIES_MAX));
                let entries = store.read(next, until, u64::MAX)?;
                store.check_gapless(next, end, &entries)?;
                let after = next + entries.len() as u64;
                let entries = futures::stream::iter(entries.into_iter().map(Ok));
                Ok::<_, io::Error>((after > next).then_some((entries, after)))
            }
        });
        Box::pin(futures::TryStreamExt::try_flatten(pieces))
    }
}

impl RaftLogStorage<Consensus> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Consensus>> {
        let log = self.log.read();
        let state = log.log_state();
        Ok(LogState {
            last_purged_log_id: state.purged().map(|id| id.0),
            last_log_id: state.last().map(|id| id.0),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &consensus::Vote) -> io::Result<()> {
        let (synced, on_disk) = oneshot::channel();
        let completion = Completion::Vote { synced, latch: self.latch.clone() };
        self.write("saving a vote", |log| {
            log.save_vote(Vote(*vote))?;
            log.flush(true, Some(completion))
        })?;
        match on_disk.await {
            Ok(result) => result,
            Err(_) => {
                let failure =
                    Failure::Log { reason: "the log's writer ended before a vote was synced".to_owned() };
                self.latch.fail(failure.clone());
                Err(failure.to_io())
            }
        }
    }

    async fn save_committed(&mut self, committed: Option<consensus::LogId>) -> io::Result<()> {
        let Some(committed) = committed.map(LogId) else { return Ok(()) };
        self.write("saving the committed index", |log| {
            let state = log.log_state();
            // Behind what is known, or named by a snapshot ahead of the log: of no use after a restart.
            if Some(&committed) > state.committed() && Some(&committed) <= state.last() {
                log.commit(committed)?;
            }
            Ok(())
        })
    }

    async fn read_committed(&mut self) -> io::Result<Option<consensus::LogId>> {
        Ok(self.log.read().log_state().committed().map(|id| id.0))
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Consensus>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let completion = Completion::Entries { flushed, latch: self.latch.clone() };
        self.write("appending", |log| {
            log.append(entries.into_iter().map(|entry| (LogId(entry.log_id), Payload(entry.payload))))?;
            log.flush(true, Some(completion))
        })
    }

    async fn truncate_after(&mut self, last: Option<consensus::LogId>) -> io::Result<()> {
        let index = last.map_or(0, |id| id.index + 1);
        self.write("truncating", |log| {
            // Nothing lies behind the end of the log.
            let beyond = log.log_state().last().is_none_or(|last| last.0.index < index);
            if beyond { Ok(()) } else { log.truncate(index).map(drop) }
        })
    }

    async fn purge(&mut self, upto: consensus::LogId) -> io::Result<()> {
        let completion = Completion::Purge { latch: self.latch.clone() };
        self.write("purging", |log| {
            log.purge(LogId(upto))?;
            log.flush(true, Some(completion))
        })
    }
}
