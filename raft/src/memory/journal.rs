//! How a disk in memory holds a log: writes in their order, each framed and checksummed.
//!
//! Invariants: a record that was cut short at the end was never acknowledged and is left out; any other damage is an
//! error that says where it lies, so that a flipped bit is never taken for a torn write. A frame is its length, a
//! checksum of the length, a checksum of the contents, and the contents.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Record};
use crate::consensus::{Entry, LogId, Vote};

const HEADER_BYTES: usize = 12;

/// What a log holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) vote: Option<Vote>,
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
}

/// One change of a log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Write {
    Vote(Vote),
    Committed(LogId),
    Entries(Vec<Entry>),
    TruncateFrom(u64),
    PurgeThrough(LogId),
}

impl Content {
    pub(super) fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.log_id).or(self.purged)
    }

    pub(super) fn write(&mut self, write: Write) {
        match write {
            Write::Vote(vote) => self.vote = Some(vote),
            Write::Committed(committed) => self.committed = Some(committed),
            Write::Entries(entries) => {
                self.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
            }
            Write::TruncateFrom(index) => drop(self.entries.split_off(&index)),
            Write::PurgeThrough(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = self.purged.max(Some(upto));
            }
        }
    }

    /// Reads what a journal says.
    ///
    /// # Errors
    /// Damage, with its place.
    pub(super) fn read(journal: &[u8]) -> io::Result<Self> {
        let mut content = Self::default();
        let mut rest = journal;
        while let Some((header, behind)) = rest.split_at_checked(HEADER_BYTES) {
            let at = journal.len() - rest.len();
            let field = |from: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[from + byte]));
            if crc32c::crc32c(&header[..4]) != field(4) {
                return Err(damaged(at, "its length does not match its checksum"));
            }
            let Some((bytes, next)) = behind.split_at_checked(field(0) as usize) else { break };
            if crc32c::crc32c(bytes) != field(8) {
                return Err(damaged(at, "its contents do not match their checksum"));
            }
            content.write(codec::decode(Record::Journal, bytes)?);
            rest = next;
        }
        Ok(content)
    }

    /// The shortest journal that says the same.
    ///
    /// # Errors
    /// The codec's.
    pub(super) fn journal(&self) -> io::Result<Vec<u8>> {
        let entries = (!self.entries.is_empty()).then(|| self.entries.values().cloned().collect());
        let writes = [
            self.vote.map(Write::Vote),
            self.purged.map(Write::PurgeThrough),
            entries.map(Write::Entries),
            self.committed.map(Write::Committed),
        ];
        let mut journal = Vec::new();
        writes.iter().flatten().try_for_each(|write| append(&mut journal, write))?;
        Ok(journal)
    }
}

/// Appends a write to a journal.
///
/// # Errors
/// The codec's.
pub(super) fn append(journal: &mut Vec<u8>, write: &Write) -> io::Result<()> {
    let bytes = codec::encode(Record::Journal, write)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes();
    journal.extend_from_slice(&length);
    journal.extend_from_slice(&crc32c::crc32c(&length).to_le_bytes());
    journal.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    journal.extend_from_slice(&bytes);
    Ok(())
}

fn damaged(at: usize, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the record at byte {at} is damaged: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{LeaderId, Payload};

    fn journal() -> Vec<u8> {
        let leader_id = LeaderId { term: 3, node_id: 2 };
        let entry = |index| Entry { log_id: LogId { leader_id, index }, payload: Payload::Blank };
        let mut journal = Vec::new();
        for write in [
            Write::Vote(Vote { leader_id, committed: true }),
            Write::Entries(vec![entry(1), entry(2)]),
            Write::TruncateFrom(2),
            Write::Entries(vec![entry(2), entry(3)]),
        ] {
            append(&mut journal, &write).unwrap();
        }
        journal
    }

    #[test]
    fn what_was_written_is_read_and_a_compacted_journal_says_the_same() {
        let content = Content::read(&journal()).unwrap();
        assert_eq!(content.entries.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
        let again = Content::read(&content.journal().unwrap()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{content:?}"));
    }

    #[test]
    fn a_torn_write_is_left_out_and_every_flipped_bit_is_found() {
        let whole = journal();
        for kept in 0..whole.len() {
            assert!(Content::read(&whole[..kept]).is_ok(), "torn at {kept}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = Content::read(&flipped).unwrap_err();
            assert!(error.to_string().contains("is damaged"), "bit {bit}: {error}");
        }
    }
}
