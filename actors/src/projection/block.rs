//! A block of the event log: consecutive records of one tenant, packed into one value.
//!
//! A version byte, the hash of the record before the first, then for each record the length and bytes of its header, the
//! length and bytes of its body, and its hash. Each record's own hash is kept so that the first one that was changed can
//! be named. A block on the wire between two nodes is the same bytes.

use escapement_domain::codec::{self, CodecError};
use escapement_domain::event::Event;
use escapement_domain::identifier::TenantId;
use escapement_domain::limits::EVENT_BYTES_MAX;
use escapement_domain::record::{Hash, Record, RecordHeader, link};

use super::failure::{Fault, FaultKind};

/// A block takes no further record that would make it longer than this; a longer record has a block to itself.
pub const BLOCK_BYTES_MAX: usize = 64 * 1024;

const VERSION: u8 = 1;
const HASH_BYTES: usize = 32;
/// Bytes of a header, which holds names of people and requests; generous, since only what is fetched can exceed it.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Returns a block without records, to follow the record with this hash.
pub(super) fn begin(previous: Hash) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + HASH_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(&previous.0);
    bytes
}

/// Returns a record as it lies in a block.
pub(super) fn frame(record: &Record) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    codec::encode_into(&record.header, &mut bytes);
    let header_bytes = bytes.len() - 4;
    bytes[..4].copy_from_slice(&length(header_bytes));
    bytes.extend_from_slice(&length(record.body.len()));
    bytes.extend_from_slice(&record.body);
    bytes.extend_from_slice(&record.hash.0);
    bytes
}

fn length(bytes: usize) -> [u8; 4] {
    // Nothing that is packed comes near 4 GiB: bodies are bounded by the size of a command.
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// A record in a block, unopened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    header: &'a [u8],
    body: &'a [u8],
    pub(super) hash: Hash,
}

/// The records of a block, one after the other; `None` in place of one that is cut off, and then no more.
#[derive(Clone, Debug)]
pub(super) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    fn cut(&mut self) -> Option<Frame<'a>> {
        let header = self.take_counted()?;
        let body = self.take_counted()?;
        let (hash, rest) = self.rest.split_first_chunk::<HASH_BYTES>()?;
        self.rest = rest;
        Some(Frame { header, body, hash: Hash(*hash) })
    }

    fn take_counted(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        self.rest = rest;
        Some(bytes)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Option<Frame<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = self.cut();
        if frame.is_none() {
            self.rest = &[];
        }
        Some(frame)
    }
}

/// Opens a block: the hash of the record before its first, and its records.
///
/// # Errors
/// What is wrong with its beginning, in words.
pub(super) fn open(bytes: &[u8]) -> Result<(Hash, Frames<'_>), String> {
    let Some((version, rest)) = bytes.split_first() else { return Err("the block is empty".into()) };
    if *version != VERSION {
        return Err(format!("the block has format version {version}; this program reads version {VERSION}"));
    }
    let Some((previous, rest)) = rest.split_first_chunk::<HASH_BYTES>() else {
        return Err("the block is cut off within its beginning".into());
    };
    Ok((Hash(*previous), Frames { rest }))
}

/// The sequence that the first record of a block claims.
pub(super) fn first_sequence(bytes: &[u8]) -> Option<u64> {
    let (_, mut frames) = open(bytes).ok()?;
    Some(header_of(&frames.next()??).ok()?.sequence)
}

fn header_of(frame: &Frame<'_>) -> Result<RecordHeader, CodecError> {
    codec::decode_body::<_, HEADER_BYTES_MAX>("record header", frame.header)
}

/// Reads the records of a block in order and holds each against its place: tenant, sequence, hash.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    tenant: TenantId,
    expected: u64,
    previous: Hash,
    frames: Frames<'a>,
}

impl<'a> Walk<'a> {
    /// Begins at the block's first record, which is to have the sequence `first`.
    ///
    /// # Errors
    /// [`Fault`] when the beginning of the block cannot be read.
    pub(super) fn new(tenant: TenantId, first: u64, bytes: &'a [u8]) -> Result<Self, Fault> {
        let (previous, frames) =
            open(bytes).map_err(|detail| Fault::new(tenant, first, FaultKind::Unreadable(detail)))?;
        Ok(Self { tenant, expected: first, previous, frames })
    }

    /// The hash of the record before the next one.
    pub(super) fn previous(&self) -> Hash {
        self.previous
    }

    /// The sequence that comes next.
    pub(super) fn position(&self) -> u64 {
        self.expected
    }

    /// Passes over records before `sequence` without opening them: their hashes are taken as they are.
    ///
    /// # Errors
    /// [`Fault`] when a record is cut off.
    pub(super) fn skip_to(&mut self, sequence: u64) -> Result<(), Fault> {
        while self.expected < sequence {
            match self.frames.next() {
                Some(Some(frame)) => {
                    self.previous = frame.hash;
                    self.expected += 1;
                }
                Some(None) => return Err(self.cut_off()),
                None => break,
            }
        }
        Ok(())
    }

    /// The sequence after the last record, and that record's hash, passing over all that is left.
    ///
    /// # Errors
    /// [`Fault`] when a record is cut off.
    pub(super) fn end(mut self) -> Result<(u64, Hash), Fault> {
        self.skip_to(u64::MAX)?;
        Ok((self.expected, self.previous))
    }

    fn cut_off(&self) -> Fault {
        self.fault(FaultKind::Unreadable("the record is cut off".into()))
    }

    fn fault(&self, kind: FaultKind) -> Fault {
        Fault::new(self.tenant, self.expected, kind)
    }

    fn read(&self, frame: &Frame<'_>) -> Result<Record, Fault> {
        let unreadable = |error: CodecError| self.fault(FaultKind::Unreadable(error.to_string()));
        // A header that was changed may no longer decode; to whoever asks it was changed all the same.
        let header = header_of(frame).map_err(unreadable)?;
        if header.sequence != self.expected {
            return Err(self.fault(FaultKind::OutOfOrder { found: header.sequence }));
        }
        if header.tenant != self.tenant {
            return Err(self.fault(FaultKind::Foreign { found: header.tenant }));
        }
        if link(&header, frame.body, self.previous) != frame.hash {
            return Err(self.fault(FaultKind::Changed));
        }
        let event: Event = codec::decode::<_, EVENT_BYTES_MAX>("event", frame.body).map_err(unreadable)?;
        Ok(Record { header, event, body: frame.body.into(), previous_hash: self.previous, hash: frame.hash })
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Record, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = match self.frames.next()? {
            Some(frame) => self.read(&frame),
            None => Err(self.cut_off()),
        };
        match &read {
            Ok(record) => {
                self.previous = record.hash;
                self.expected += 1;
            }
            Err(_) => self.frames = Frames { rest: &[] },
        }
        Some(read)
    }
}
