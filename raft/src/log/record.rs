//! How the Raft log's entries and votes lie on disk.
//!
//! raft-log frames and checksums each record; this file says what is in one. An entry's payload is
//! its length and the codec's bytes, version first. Absent on purpose: when anything is written.

use std::io::{self, Read, Write};

use raft_log::codeq::{Decode, Encode};

use super::Completion;
use crate::codec::{self, Record};
use crate::consensus::{self, LeaderId};
use crate::limits::FRAME_BYTES_MAX;

/// What raft-log must know of our types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Records;

impl raft_log::Types for Records {
    type LogId = LogId;
    type LogPayload = Payload;
    type Vote = Vote;
    type Callback = Completion;
    type UserData = String;

    fn log_index(log_id: &Self::LogId) -> u64 {
        log_id.0.index
    }

    fn payload_size(payload: &Self::LogPayload) -> u64 {
        payload.bytes()
    }
}

/// A log id; ordered by term, then node, then index, as openraft orders it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogId(pub(crate) consensus::LogId);

/// A vote; a committed one is later than the same vote uncommitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) struct Vote(pub(crate) consensus::Vote);

/// An entry without its id.
#[derive(Debug, Clone)]
pub(crate) struct Payload(pub(crate) consensus::Payload);

impl Payload {
    /// Its size in memory and, nearly, on disk.
    pub(crate) fn bytes(&self) -> u64 {
        payload_bytes(&self.0)
    }
}

pub(crate) fn payload_bytes(payload: &consensus::Payload) -> u64 {
    const OVERHEAD: usize = 64;
    let bytes = match payload {
        consensus::Payload::Blank => OVERHEAD,
        consensus::Payload::Normal(commands) => OVERHEAD + commands.bytes(),
        consensus::Payload::Membership(membership) => OVERHEAD + 128 * membership.nodes().count(),
    };
    bytes as u64
}

impl Encode for LogId {
    fn encode<W: Write>(&self, mut to: W) -> io::Result<usize> {
        let LeaderId { term, node_id } = self.0.leader_id;
        Ok(term.encode(&mut to)? + node_id.encode(&mut to)? + self.0.index.encode(&mut to)?)
    }
}

impl Decode for LogId {
    fn decode<R: Read>(mut from: R) -> io::Result<Self> {
        let leader_id = LeaderId { term: u64::decode(&mut from)?, node_id: u64::decode(&mut from)? };
        Ok(Self(consensus::LogId { leader_id, index: u64::decode(&mut from)? }))
    }
}

impl Encode for Vote {
    fn encode<W: Write>(&self, mut to: W) -> io::Result<usize> {
        let LeaderId { term, node_id } = self.0.leader_id;
        Ok(term.encode(&mut to)? + node_id.encode(&mut to)? + self.0.committed.encode(&mut to)?)
    }
}

impl Decode for Vote {
    fn decode<R: Read>(mut from: R) -> io::Result<Self> {
        let leader_id = LeaderId { term: u64::decode(&mut from)?, node_id: u64::decode(&mut from)? };
        Ok(Self(consensus::Vote { leader_id, committed: bool::decode(&mut from)? }))
    }
}

impl Encode for Payload {
    fn encode<W: Write>(&self, mut to: W) -> io::Result<usize> {
        let bytes = codec::encode(Record::Entry, &self.0)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        to.write_all(&length.to_be_bytes())?;
        to.write_all(&bytes)?;
        Ok(4 + bytes.len())
    }
}

impl Decode for Payload {
    fn decode<R: Read>(mut from: R) -> io::Result<Self> {
        let length = u32::decode(&mut from)? as usize;
        if length > FRAME_BYTES_MAX {
            let reason = format!("a log entry of {length} bytes; at most {FRAME_BYTES_MAX} are written");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        Ok(Self(codec::decode(Record::Entry, &bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::consensus::Commands;

    fn check<T: Encode + Decode + std::fmt::Debug>(value: &T) {
        let mut bytes = Vec::new();
        let written = value.encode(&mut bytes).unwrap();
        assert_eq!(written, bytes.len());
        let read = T::decode(&bytes[..]).unwrap();
        assert_eq!(format!("{read:?}"), format!("{value:?}"));
    }

    #[test]
    fn what_is_written_is_read() {
        let leader_id = LeaderId { term: 3, node_id: 2 };
        check(&LogId(consensus::LogId { leader_id, index: 9 }));
        check(&Vote(consensus::Vote { leader_id, committed: true }));
        check(&Payload(consensus::Payload::Blank));
        check(&Payload(consensus::Payload::Normal(Commands(vec![Bytes::from_static(b"x"), Bytes::new()]))));
    }

    #[test]
    fn an_entry_of_another_version_is_refused_by_name() {
        let mut bytes = Vec::new();
        Payload(consensus::Payload::Blank).encode(&mut bytes).unwrap();
        bytes[4] = 9;
        let error = Payload::decode(&bytes[..]).unwrap_err();
        assert_eq!(error.to_string(), "this node speaks log entry version 1; the disk holds 9");
    }
}
