//! The only place that turns values into bytes and back: serde by bincode, behind a version byte.
//!
//! Invariants: decoding never allocates beyond [`FRAME_BYTES_MAX`], whatever a peer sent; bytes of
//! another version are refused by name before anything else of them is read; bytes left over are
//! an error. Enum variants that pass through here are only ever appended. Absent on purpose:
//! frames and files, which call this for their contents.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::FRAME_BYTES_MAX;

type Limited = Configuration<LittleEndian, Varint, Limit<FRAME_BYTES_MAX>>;

const CONFIGURATION: Limited = bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();

/// The kinds of versioned bytes, each with the version that this build writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// A frame between two nodes.
    Frame,
    /// An entry of the Raft log.
    Entry,
    /// The head of a snapshot file.
    Snapshot,
    /// The identity of a data directory.
    Identity,
    /// A write on a disk in memory.
    Journal,
}

impl Record {
    /// The version that this build writes, and the only one that it reads.
    #[must_use]
    pub(crate) const fn version(self) -> u8 {
        match self {
            Self::Frame | Self::Entry | Self::Snapshot | Self::Identity | Self::Journal => 1,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Entry => "log entry",
            Self::Snapshot => "snapshot",
            Self::Identity => "identity",
            Self::Journal => "journal record",
        }
    }

    const fn writer(self) -> &'static str {
        match self {
            Self::Frame => "peer sent",
            Self::Entry | Self::Snapshot | Self::Identity | Self::Journal => "the disk holds",
        }
    }

    /// Refuses any version but this build's.
    ///
    /// # Errors
    /// [`CodecError::Version`], which names both versions.
    pub(crate) fn check_version(self, theirs: u8) -> Result<(), CodecError> {
        if theirs == self.version() { Ok(()) } else { Err(CodecError::Version { record: self, theirs }) }
    }
}

/// Why bytes could not be read or a value could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// Written by another version of this program; update one of the two.
    #[error("this node speaks {} version {}; {} {theirs}", record.name(), record.version(), record.writer())]
    Version {
        /// What was read.
        record: Record,
        /// The version found.
        theirs: u8,
    },
    /// Not what this version writes: damaged, or from something else.
    #[error("malformed {}: {reason}", record.name())]
    Malformed {
        /// What was read.
        record: Record,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Writes the version byte and the value.
///
/// # Errors
/// [`CodecError::Malformed`] when the value cannot be represented.
pub(crate) fn encode<T: Serialize>(record: Record, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![record.version()];
    bincode::serde::encode_into_std_write(value, &mut bytes, CONFIGURATION)
        .map_err(|error| CodecError::Malformed { record, reason: error.to_string() })?;
    Ok(bytes)
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// [`CodecError::Version`] for another version's bytes, [`CodecError::Malformed`] for anything
/// that this version does not write, trailing bytes included.
pub(crate) fn decode<T: DeserializeOwned>(record: Record, bytes: &[u8]) -> Result<T, CodecError> {
    let malformed = |reason: String| CodecError::Malformed { record, reason };
    let (&version, rest) = bytes.split_first().ok_or_else(|| malformed("empty".to_owned()))?;
    record.check_version(version)?;
    let (value, read) = bincode::serde::decode_from_slice(rest, CONFIGURATION)
        .map_err(|error| malformed(error.to_string()))?;
    if read != rest.len() {
        return Err(malformed(format!("{} bytes left over", rest.len() - read)));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        let mut bytes = encode(Record::Frame, &7_u64).unwrap();
        bytes[0] = 2;
        let error = decode::<u64>(Record::Frame, &bytes).unwrap_err();
        assert_eq!(error.to_string(), "this node speaks frame version 1; peer sent 2");
    }

    #[test]
    fn a_hostile_length_is_refused_without_allocating_it() {
        let bytes = [1, 253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert!(matches!(decode::<Vec<u8>>(Record::Frame, &bytes), Err(CodecError::Malformed { .. })));
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let mut bytes = encode(Record::Entry, &7_u64).unwrap();
        bytes.push(0);
        assert!(decode::<u64>(Record::Entry, &bytes).is_err());
    }
}
