//! The bytes of a snapshot: magic, version, head, content, length and checksum.
//!
//! ```text
//! "ESCSNAP" | version u8 | head length u32 LE | head (codec) | content … | content length u64 LE | crc32c u32 LE
//! ```
//!
//! The checksum covers every byte before it. Invariant: [`Reader::finish`] says whether all of it was
//! read and matches; content handed out before that is unchecked, and whoever keeps it must call it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::SnapshotError;
use crate::codec::{self, Record};
use crate::consensus::SnapshotMeta;
use crate::limits::FRAME_BYTES_MAX;
use crate::member::NodeId;

const MAGIC: &[u8; 7] = b"ESCSNAP";
const TAIL: usize = 12;
const BLOCK: usize = 256 * 1_024;

/// What a snapshot says before its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// How far it reaches, and the membership there.
    pub(crate) meta: SnapshotMeta,
    /// Every node that was ever a member, with its disk: an id is never used for another one.
    pub(crate) disks: BTreeMap<NodeId, u128>,
}

/// Writes a snapshot around its content.
pub(crate) struct Writer<'a> {
    to: &'a mut dyn Write,
    checksum: u32,
    content: u64,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(to: &'a mut dyn Write, head: &Head) -> io::Result<Self> {
        let mut writer = Self { to, checksum: 0, content: 0 };
        let head = codec::encode(Record::Snapshot, head)?;
        // The version stands ahead of everything else; the codec puts it ahead of the head.
        let (version, head) = head.split_at(1);
        let length = u32::try_from(head.len()).map_err(io::Error::other)?;
        for part in [MAGIC.as_slice(), version, &length.to_le_bytes(), head] {
            writer.put(part)?;
        }
        writer.content = 0;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.content += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        let content = self.content;
        self.put(&content.to_le_bytes())?;
        let checksum = self.checksum;
        self.to.write_all(&checksum.to_le_bytes())
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Reads a snapshot's head, then, as a [`Read`], its content.
pub(crate) struct Reader {
    name: String,
    from: Box<dyn Read + Send>,
    head: Head,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
    checksum: u32,
    content: u64,
}

impl Reader {
    /// Reads the head. The content is not checked yet.
    pub(crate) fn new(name: &str, mut from: Box<dyn Read + Send>) -> Result<Self, SnapshotError> {
        let mut front = [0; 12];
        read_exact(name, &mut from, &mut front)?;
        if !front.starts_with(MAGIC) {
            return Err(corrupt(name, "it does not begin like a snapshot"));
        }
        Record::Snapshot.check_version(front[7]).map_err(|error| corrupt(name, error))?;
        let length = u32::from_le_bytes([front[8], front[9], front[10], front[11]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(corrupt(name, "its head is too long"));
        }
        let mut bytes = vec![0; 1 + length];
        bytes[0] = front[7];
        read_exact(name, &mut from, &mut bytes[1..])?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&front), &bytes[1..]);
        let head = codec::decode(Record::Snapshot, &bytes).map_err(|error| corrupt(name, error))?;
        let name = name.to_owned();
        Ok(Self { name, from, head, buffer: Vec::new(), start: 0, ended: false, checksum, content: 0 })
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Fills the buffer until it holds more than the tail, or the end is reached.
    fn fill(&mut self) -> io::Result<()> {
        while !self.ended && self.buffer.len() - self.start <= TAIL {
            self.buffer.drain(..self.start);
            self.start = 0;
            let held = self.buffer.len();
            self.buffer.resize(held + BLOCK, 0);
            let read = self.from.read(&mut self.buffer[held..])?;
            self.buffer.truncate(held + read);
            self.ended = read == 0;
        }
        Ok(())
    }

    /// Reads what is left and compares the checksum.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`] when a byte of the snapshot is not what was written.
    pub(crate) fn finish(mut self) -> Result<(), SnapshotError> {
        let mut sink = [0; 8 * 1_024];
        while self.read(&mut sink)? > 0 {}
        let tail = &self.buffer[self.start..];
        let Ok(tail) = <&[u8; TAIL]>::try_from(tail) else {
            return Err(corrupt(&self.name, "it is cut short"));
        };
        let (length, checksum) = tail.split_at(8);
        if length != self.content.to_le_bytes() {
            return Err(corrupt(&self.name, "its length is not what was written"));
        }
        if checksum != crc32c::crc32c_append(self.checksum, length).to_le_bytes() {
            return Err(corrupt(&self.name, "its checksum does not match"));
        }
        Ok(())
    }
}

impl Read for Reader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let available = (self.buffer.len() - self.start).saturating_sub(TAIL);
        let count = available.min(to.len());
        let bytes = &self.buffer[self.start..self.start + count];
        to[..count].copy_from_slice(bytes);
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.start += count;
        self.content += count as u64;
        Ok(count)
    }
}

fn corrupt(name: &str, reason: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::Corrupt { name: name.to_owned(), reason: reason.to_string() }
}

fn read_exact(name: &str, from: &mut dyn Read, to: &mut [u8]) -> Result<(), SnapshotError> {
    from.read_exact(to).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => corrupt(name, "it is cut short"),
        _ => SnapshotError::Storage(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &Head::default()).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
        bytes
    }

    fn check(bytes: Vec<u8>) -> Result<Vec<u8>, SnapshotError> {
        let mut reader = Reader::new("s", Box::new(io::Cursor::new(bytes)))?;
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        reader.finish()?;
        Ok(content)
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 11, 12, 13, BLOCK - 1, BLOCK, 3 * BLOCK + 7] {
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            assert_eq!(check(written(&content)).unwrap(), content);
        }
    }

    #[test]
    fn every_damaged_byte_is_found() {
        let whole = written(b"some content of some length");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            assert!(matches!(check(bytes), Err(SnapshotError::Corrupt { .. })), "byte {at}");
        }
        for length in 0..whole.len() {
            assert!(check(whole[..length].to_vec()).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut bytes = written(b"x");
        bytes[7] = 9;
        let error = check(bytes).unwrap_err().to_string();
        assert_eq!(error, "snapshot s is corrupt: this node speaks snapshot version 1; the disk holds 9");
    }
}
