//! What attempts of this node wrote: captured, bounded, written in batches, read by execution.
//!
//! What arrived since the last flush is packed into one value for each attempt. It is read from memory until it is written.
//! Absent on purpose: the replicated state. Output stays on the node that made the attempt, and a crash loses what was not
//! flushed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use escapement_domain::codec;
use escapement_domain::identifier::ExecutionId;
use escapement_domain::timestamp::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::keys;
use crate::ports::{OutputChunk, OutputSink, OutputStore, OutputStream, Storage, Tree, Write};

/// Bytes of text that are kept of one attempt.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of text that the scheduler itself may add to it.
const SYSTEM_BYTES_MAX: usize = 64 * 1024;
/// Bytes that a line costs besides its text.
const LINE_OVERHEAD_BYTES: usize = 16;
/// Bytes of text that wait for a flush over all attempts; what is beyond is cut.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of text that make a flush begin early.
const FLUSH_BYTES: usize = 1024 * 1024;
/// Bytes of one stored pack: the text of one attempt, and what frames it.
const PACK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The last line of what was cut.
const CUT: &str = "output beyond 1 MiB was cut off";
/// The last line of what was cut because too much waited to be written.
const OVERRUN: &str = "output was cut off: the node could not write it as fast as it came";

/// One line, or piece, of what an attempt wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLine {
    /// Which attempt.
    pub attempt: u32,
    /// When it was read.
    pub at: Timestamp,
    /// Where it was written: `stdout`, `stderr` or `system`.
    pub stream: LineStream,
    /// The text.
    pub text: String,
}

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What the scheduler itself says.
    System,
}

impl LineStream {
    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}

impl From<OutputStream> for LineStream {
    fn from(stream: OutputStream) -> Self {
        match stream {
            OutputStream::Stdout => Self::Stdout,
            OutputStream::Stderr => Self::Stderr,
            OutputStream::System => Self::System,
        }
    }
}

/// Where a page of output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutputCursor {
    /// The attempt of the last line.
    pub attempt: u32,
    /// Its pack.
    pub pack: u32,
    /// Its place in the pack.
    pub line: u32,
}

/// Some of what an execution wrote, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPage {
    /// The lines.
    pub lines: Vec<OutputLine>,
    /// The place of each line.
    pub places: Vec<OutputCursor>,
    /// Where the next page begins; none when there is no more for now.
    pub next: Option<OutputCursor>,
}

impl OutputPage {
    /// The page as bytes, for a node that asks for it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`OutputPage::encode`] wrote.
    ///
    /// # Errors
    /// [`codec::CodecError`] when it is not that.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::CodecError> {
        codec::decode::<_, PACK_BYTES_MAX>("page of output", bytes)
    }
}

type PackKey = (ExecutionId, u32, u32);
type Pack = Vec<OutputLine>;

/// The output of this node's attempts.
pub struct CapturedOutput {
    storage: Arc<dyn Storage>,
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Those who follow what an execution writes.
    followers: Mutex<BTreeMap<ExecutionId, watch::Sender<()>>>,
}

#[derive(Default)]
struct Waiting {
    packs: BTreeMap<PackKey, Arc<Pack>>,
    /// Packs that are being written.
    writing: BTreeMap<PackKey, Arc<Pack>>,
    bytes: usize,
}

impl fmt::Debug for CapturedOutput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CapturedOutput").field("waiting_bytes", &self.waiting.lock().bytes).finish()
    }
}

impl CapturedOutput {
    /// Keeps output in this storage.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Arc<Self> {
        let (waiting, followers) = Default::default();
        Arc::new(Self { storage, waiting, wake: Notify::new(), followers })
    }

    /// Reads what an execution wrote on this node, of one attempt or of all, after a cursor.
    ///
    /// # Errors
    /// Those of the storage; an unreadable pack is one of them.
    pub fn read(
        &self,
        execution: ExecutionId,
        attempt: Option<u32>,
        after: Option<OutputCursor>,
        limit: usize,
    ) -> io::Result<OutputPage> {
        let (low, high) = attempt.map_or((0, u32::MAX), |attempt| (attempt, attempt));
        let begin = after.map_or((low, 0), |after| (after.attempt, after.pack).max((low, 0)));
        let mut page = OutputPage::default();
        let mut place = (execution, begin.0, begin.1);
        while let Some((key, pack)) = self.pack_from(place, high)? {
            for (line, text) in (0..).zip(pack.iter()) {
                let cursor = OutputCursor { attempt: key.1, pack: key.2, line };
                if after.is_some_and(|after| cursor <= after) {
                    continue;
                }
                if page.lines.len() >= limit {
                    return Ok(page);
                }
                page.lines.push(text.clone());
                page.places.push(cursor);
                page.next = Some(cursor);
            }
            place = (key.0, key.1, key.2.saturating_add(1));
        }
        page.next = None;
        Ok(page)
    }

    /// The first pack at or after a place.
    fn pack_from(&self, place: PackKey, last_attempt: u32) -> io::Result<Option<(PackKey, Arc<Pack>)>> {
        let end = (place.0, last_attempt, u32::MAX);
        if place > end {
            return Ok(None);
        }
        let in_memory = {
            let waiting = self.waiting.lock();
            let first = |packs: &BTreeMap<PackKey, Arc<Pack>>| {
                packs.range(place..=end).next().map(|(key, pack)| (*key, pack.clone()))
            };
            [first(&waiting.writing), first(&waiting.packs)].into_iter().flatten().min_by_key(|(key, _)| *key)
        };
        let (from, mut to) = (pack_key(place), pack_key(end));
        to.push(0);
        let stored = self.storage.scan(Tree::Output, &from, &to, 1, false)?;
        let stored = stored.into_iter().next().map(|(key, bytes)| read_pack(&key, &bytes)).transpose()?;
        Ok(match (in_memory, stored) {
            (Some(memory), Some(stored)) if stored.0 < memory.0 => Some(stored),
            (Some(memory), _) => Some(memory),
            (None, stored) => stored,
        })
    }

    /// Tells whenever an execution has written more on this node. Subscribe, then read.
    pub fn follow(&self, execution: ExecutionId) -> watch::Receiver<()> {
        let mut followers = self.followers.lock();
        // Who went away is forgotten when somebody comes.
        followers.retain(|_, told| told.receiver_count() > 0);
        followers.entry(execution).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Resolves when enough waits for a flush to begin early.
    pub(super) async fn pressed(&self) {
        self.wake.notified().await;
    }

    /// Takes what waits, to be written. Call [`CapturedOutput::flushed`] when it was.
    pub(super) fn flush_into(&self, batch: &mut Vec<Write>) {
        let mut waiting = self.waiting.lock();
        let packs = std::mem::take(&mut waiting.packs);
        batch.extend(packs.iter().map(|(key, pack)| Write {
            tree: Tree::Output,
            key: pack_key(*key),
            value: Some(codec::encode(&**pack)),
        }));
        waiting.writing = packs;
        waiting.bytes = 0;
    }

    /// Forgets what was written.
    pub(super) fn flushed(&self) {
        self.waiting.lock().writing.clear();
    }

    /// Puts a line into the open pack of its attempt, or a new one if a flush took that; `false` when too much waits.
    fn take(
        &self,
        execution: ExecutionId,
        open: &mut Option<u32>,
        line: OutputLine,
        even_if_full: bool,
    ) -> bool {
        let mut waiting = self.waiting.lock();
        let bytes = line.text.len();
        if waiting.bytes + bytes > WAITING_BYTES_MAX && !even_if_full {
            return false;
        }
        let key = |pack| (execution, line.attempt, pack);
        let pack = match *open {
            Some(pack) if waiting.packs.contains_key(&key(pack)) => pack,
            Some(pack) => pack.saturating_add(1),
            None => 0,
        };
        *open = Some(pack);
        waiting.bytes += bytes;
        Arc::make_mut(waiting.packs.entry(key(pack)).or_default()).push(line);
        if waiting.bytes >= FLUSH_BYTES {
            self.wake.notify_one();
        }
        drop(waiting);
        if let Some(told) = self.followers.lock().get(&execution) {
            told.send_replace(());
        }
        true
    }

    /// Removes output of executions for instants before `cutoff`, at most `limit` packs, unless it was written after it.
    /// Returns how many packs were removed.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn prune(&self, cutoff: Timestamp, limit: usize) -> io::Result<usize> {
        let to = super::listing::first_at(cutoff).0.to_be_bytes();
        let (mut from, mut removed) = (Vec::new(), 0);
        while removed < limit {
            let packs = self.storage.scan(Tree::Output, &from, &to, limit, false)?;
            let Some((last, _)) = packs.last() else { break };
            from.clone_from(last);
            from.push(0);
            let mut batch = Vec::new();
            for (key, bytes) in packs {
                let (_, pack) = read_pack(&key, &bytes)?;
                if pack.last().is_none_or(|line| line.at < cutoff) {
                    batch.push(Write { tree: Tree::Output, key, value: None });
                }
            }
            removed += batch.len();
            self.storage.write(batch)?;
        }
        Ok(removed)
    }
}

/// A handle of the output that opens sinks.
#[derive(Clone, Debug)]
pub struct OutputCapture(pub Arc<CapturedOutput>);

impl OutputStore for OutputCapture {
    fn sink(&self, _tenant: &str, execution: ExecutionId, attempt: u32) -> Arc<dyn OutputSink> {
        Arc::new(Sink { output: self.0.clone(), execution, attempt, state: Mutex::default() })
    }
}

struct Sink {
    output: Arc<CapturedOutput>,
    execution: ExecutionId,
    attempt: u32,
    state: Mutex<SinkState>,
}

#[derive(Default)]
struct SinkState {
    open_pack: Option<u32>,
    bytes: usize,
    cut: bool,
}

impl Sink {
    fn line(&self, at: Timestamp, stream: LineStream, text: String) -> OutputLine {
        OutputLine { attempt: self.attempt, at, stream, text }
    }
}

impl OutputSink for Sink {
    fn write(&self, chunk: OutputChunk) {
        let mut state = self.state.lock();
        let stream = LineStream::from(chunk.stream);
        // The little that the scheduler itself says comes through behind a cut: how the attempt ended is part of it.
        let bound = match stream {
            LineStream::System => OUTPUT_BYTES_MAX + SYSTEM_BYTES_MAX,
            LineStream::Stdout | LineStream::Stderr if state.cut => return,
            LineStream::Stdout | LineStream::Stderr => OUTPUT_BYTES_MAX,
        };
        let room = bound.saturating_sub(state.bytes);
        let mut text = chunk.text;
        let fits = text.len() <= room;
        if !fits {
            let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
        }
        // Counted as more than its text, so that empty lines are bounded too.
        state.bytes += text.len() + LINE_OVERHEAD_BYTES;
        let line = self.line(chunk.at, stream, text);
        let taken = self.output.take(self.execution, &mut state.open_pack, line, false);
        if (!fits || !taken) && !state.cut {
            state.cut = true;
            let line = self.line(chunk.at, LineStream::System, if fits { OVERRUN } else { CUT }.into());
            self.output.take(self.execution, &mut state.open_pack, line, true);
        }
    }
}

fn pack_key((execution, attempt, pack): PackKey) -> Vec<u8> {
    let mut key = keys::with_execution(Vec::with_capacity(25), execution);
    key.extend_from_slice(&attempt.to_be_bytes());
    key.extend_from_slice(&pack.to_be_bytes());
    key
}

fn read_pack(key: &[u8], bytes: &[u8]) -> io::Result<(PackKey, Arc<Pack>)> {
    let invalid = |detail: String| io::Error::new(io::ErrorKind::InvalidData, detail);
    let place = key.split_first_chunk::<16>().and_then(|(execution, rest)| {
        let (attempt, pack) = rest.split_first_chunk::<4>()?;
        let pack = u32::from_be_bytes(pack.try_into().ok()?);
        Some((ExecutionId(u128::from_be_bytes(*execution)), u32::from_be_bytes(*attempt), pack))
    });
    let place = place.ok_or_else(|| invalid(format!("a key of output with {} bytes", key.len())))?;
    let pack = codec::decode::<Pack, PACK_BYTES_MAX>("captured output", bytes);
    Ok((place, Arc::new(pack.map_err(|error| invalid(error.to_string()))?)))
}
