//! An event in its place: numbered without gaps within its tenant, and chained by hash to the one before it.
//!
//! The hash covers a digest of the body, not the body, so that a body can be deleted by law and the chain still holds.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::codec::{self, CodecError};
use crate::event::Event;
use crate::identifier::{CommandId, TenantId};
use crate::limits::EVENT_BYTES_MAX;
use crate::timestamp::Timestamp;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Digests bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for Hash {
    type Err = ();

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(());
        }
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Where a tenant's chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChainHead {
    /// The sequence of the last record; 0 before the first.
    pub sequence: u64,
    /// Its hash; zeros before the first.
    pub hash: Hash,
}

/// Everything about a record but its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordHeader {
    /// Whose chain it is in.
    pub tenant: TenantId,
    /// Its place in the chain, from 1.
    pub sequence: u64,
    /// The index of the log entry that led to it.
    pub log_index: u64,
    /// Its place among the records of that entry, over all tenants.
    pub ordinal: u32,
    /// When the leader stamped the command.
    pub at: Timestamp,
    /// Milliseconds by which its clock was then ahead of most voters', as far as it knew; below zero if behind.
    pub ahead_ms: i32,
    /// Who wanted it; empty for the scheduler itself.
    pub actor: Arc<str>,
    /// The request that it goes back to; empty where the execution's own id serves.
    pub correlation_id: Arc<str>,
    /// The command, where a client's command led to it.
    pub command: Option<CommandId>,
    /// Its place in its task's stream, from 1, and the sequence of the one before it there.
    pub stream: Option<StreamLink>,
}

/// A record's place in its task's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamLink {
    /// Counted from 1.
    pub position: u64,
    /// The sequence, in the tenant's chain, of the record before it in the stream; 0 for the first.
    pub previous: u64,
}

/// An event in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Everything but the body.
    pub header: RecordHeader,
    /// The event.
    pub event: Event,
    /// The event's bytes, as they were hashed.
    pub body: Arc<[u8]>,
    /// The hash of the record before it in the chain.
    pub previous_hash: Hash,
    /// Its own hash.
    pub hash: Hash,
}

impl Record {
    /// Puts an event behind the end of a chain.
    #[must_use]
    pub fn chain(header: RecordHeader, event: Event, previous_hash: Hash) -> Self {
        let body: Arc<[u8]> = codec::encode(&event).into();
        let hash = link(&header, &body, previous_hash);
        Self { header, event, body, previous_hash, hash }
    }

    /// Reads a record's body and checks its hash against what was stored.
    ///
    /// # Errors
    /// [`CodecError`] when the body is not an event of this version. A wrong hash is not an error here: compare
    /// [`Record::hash`] with what was expected.
    pub fn reread(header: RecordHeader, body: Arc<[u8]>, previous_hash: Hash) -> Result<Self, CodecError> {
        let event = codec::decode::<_, EVENT_BYTES_MAX>("event", &body)?;
        let hash = link(&header, &body, previous_hash);
        Ok(Self { header, event, body, previous_hash, hash })
    }
}

/// Computes the hash of a record from the one before it, its header, and a digest of its body.
#[must_use]
pub fn link(header: &RecordHeader, body: &[u8], previous: Hash) -> Hash {
    let mut bytes = Vec::with_capacity(160);
    codec::encode_into(header, &mut bytes);
    let digest = Sha256::new()
        .chain_update([codec::VERSION])
        .chain_update(previous.0)
        .chain_update(&bytes)
        .chain_update(Sha256::digest(body))
        .finalize();
    Hash(digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u64) -> RecordHeader {
        RecordHeader {
            tenant: TenantId(1),
            sequence,
            log_index: 9,
            ordinal: 0,
            at: Timestamp(5),
            ahead_ms: 0,
            actor: "ann".into(),
            correlation_id: "c".into(),
            command: None,
            stream: None,
        }
    }

    #[test]
    fn every_field_and_the_body_change_the_hash() {
        let event = Event::WindowAdvanced { commands: Timestamp(1), keys: Timestamp(1) };
        let first = Record::chain(header(1), event.clone(), Hash::default());
        assert_ne!(first.hash, Record::chain(header(2), event.clone(), Hash::default()).hash);
        assert_ne!(first.hash, Record::chain(header(1), event, first.hash).hash);
        let other = Event::WindowAdvanced { commands: Timestamp(2), keys: Timestamp(1) };
        assert_ne!(first.hash, Record::chain(header(1), other, Hash::default()).hash);
    }
}
