//! How a value lies on the disk: a version byte, a CRC-32C over tree, key and value, then the value.
//!
//! The checksum covers tree and key too, so that a value that turned up under another key is found as surely as a
//! flipped bit.

use std::fmt;
use std::io;

use escapement_actors::ports::Tree;
use escapement_domain::planted::{self, Bug};

/// The format written today.
const VERSION: u8 = 1;
/// Bytes before the value: version and checksum.
const HEADER_BYTES: usize = 1 + 4;
/// How many bytes of a key an error shows.
const KEY_BYTES_SHOWN: usize = 64;

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
#[error("record in tree `{tree}` under key {key} {fault}")]
pub struct RecordFault {
    tree: &'static str,
    key: ShownKey,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("is only {0} bytes long: shorter than its header")]
    Short(usize),
    #[error("has version {0}, which this program does not know")]
    Version(u8),
    #[error("does not match its checksum: the disk returned something else than was written")]
    Checksum,
}

/// A key as an error shows it: in hexadecimal digits, beginning only if it is long.
#[derive(Debug)]
struct ShownKey(Vec<u8>);

impl fmt::Display for ShownKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("0x")?;
        for byte in self.0.iter().take(KEY_BYTES_SHOWN) {
            write!(formatter, "{byte:02x}")?;
        }
        if self.0.len() > KEY_BYTES_SHOWN { formatter.write_str("…") } else { Ok(()) }
    }
}

impl From<RecordFault> for io::Error {
    fn from(fault: RecordFault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}

fn checksum(tree: Tree, key: &[u8], value: &[u8]) -> u32 {
    let sum = crc32c::crc32c(tree.name().as_bytes());
    let sum = crc32c::crc32c_append(sum, key);
    crc32c::crc32c_append(sum, value)
}

/// Puts a value into the form in which it lies on the disk.
#[must_use]
pub fn seal_record(tree: Tree, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + value.len());
    record.push(VERSION);
    record.extend_from_slice(&checksum(tree, key, value).to_le_bytes());
    record.extend_from_slice(value);
    record
}

/// Takes a value out of the form in which it lies on the disk.
///
/// # Errors
/// [`RecordFault`] when it is too short, of an unknown version, or not what was written.
pub fn open_record(tree: Tree, key: &[u8], record: &[u8]) -> Result<Vec<u8>, RecordFault> {
    let fault = |fault| RecordFault { tree: tree.name(), key: ShownKey(key.to_vec()), fault };
    let Some((&[version, ref sum @ ..], value)) = record.split_first_chunk::<HEADER_BYTES>() else {
        return Err(fault(Fault::Short(record.len())));
    };
    let is_as_written = u32::from_le_bytes(*sum) == checksum(tree, key, value);
    match (version == VERSION, is_as_written || planted::has(Bug::UncheckedChecksum)) {
        (true, true) => Ok(value.to_vec()),
        // All but the version is as this version writes it: that byte is what the disk changed. A later version must have
        // another checksum than this one.
        (false, true) | (true, false) => Err(fault(Fault::Checksum)),
        (false, false) => Err(fault(Fault::Version(version))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flips one bit of a sealed record and returns what opening it says.
    #[track_caller]
    fn check_flipped(byte: usize) -> String {
        let mut record = seal_record(Tree::Executions, b"\x01\xff", b"value");
        record[byte] ^= 0x10;
        open_record(Tree::Executions, b"\x01\xff", &record).expect_err("a flipped bit").to_string()
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let record = seal_record(Tree::Executions, b"key", b"value");
        assert_eq!(open_record(Tree::Executions, b"key", &record).expect("intact"), b"value");
    }

    #[test]
    fn a_flipped_bit_is_named_by_tree_and_key_wherever_it_is() {
        for byte in 0..HEADER_BYTES + 5 {
            let message = check_flipped(byte);
            assert!(
                message.starts_with("record in tree `executions` under key 0x01ff does not match"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_record_of_another_version_is_named() {
        let message =
            open_record(Tree::Executions, b"key", &[17, 1, 2, 3, 4, 5]).expect_err("new").to_string();
        assert!(message.contains("has version 17, which this program does not know"), "{message}");
    }

    #[test]
    fn a_value_under_another_key_or_in_another_tree_is_found() {
        let record = seal_record(Tree::Executions, b"key", b"value");
        assert!(open_record(Tree::Executions, b"kez", &record).is_err());
        assert!(open_record(Tree::Output, b"key", &record).is_err());
    }

    #[test]
    fn a_record_shorter_than_its_header_is_an_error() {
        let message = open_record(Tree::Output, &[0; 100], &[1, 2]).expect_err("short").to_string();
        assert!(message.contains("only 2 bytes") && message.contains('…'), "{message}");
    }
}
