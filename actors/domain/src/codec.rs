//! How commands, event bodies and snapshot parts become bytes: a version byte, then bincode.
//!
//! The only place of this crate that names bincode. Decoding is always bounded, since a hostile length would otherwise
//! be allocated before it is read. Variants of the encoded enums are only ever appended.

use bincode::config::{Configuration, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that this program writes and reads.
pub const VERSION: u8 = 9;

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Nothing there.
    #[error("the {what} is empty")]
    Empty {
        /// What was read.
        what: &'static str,
    },
    /// Written by a program of another version.
    #[error("the {what} has format version {found}; this program reads version {VERSION}")]
    UnknownVersion {
        /// What was read.
        what: &'static str,
        /// The version found.
        found: u8,
    },
    /// Longer than anything that this program writes.
    #[error("the {what} has {found} bytes; at most {limit} are allowed")]
    TooLong {
        /// What was read.
        what: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// Not what was expected.
    #[error("the {what} cannot be read: {detail}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// Where it went wrong.
        detail: String,
    },
}

/// Returns the version byte and the encoding of `value`.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    encode_into(value, &mut bytes);
    bytes
}

/// Appends the encoding of `value`, without a version byte, to `bytes`.
pub fn encode_into<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    let written = bincode::serde::encode_into_std_write(value, bytes, standard());
    debug_assert!(written.is_ok(), "writing to memory cannot fail and no type here refuses to be serialised");
}

/// Reads what [`encode`] wrote, at most `LIMIT` bytes of it, and nothing beyond it.
///
/// # Errors
/// [`CodecError`], which names `what`.
pub fn decode<T: DeserializeOwned, const LIMIT: usize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, CodecError> {
    let (&version, body) = bytes.split_first().ok_or(CodecError::Empty { what })?;
    if version != VERSION {
        return Err(CodecError::UnknownVersion { what, found: version });
    }
    decode_body::<T, LIMIT>(what, body)
}

/// Reads what [`encode_into`] wrote.
///
/// # Errors
/// [`CodecError`], which names `what`.
pub fn decode_body<T: DeserializeOwned, const LIMIT: usize>(
    what: &'static str,
    body: &[u8],
) -> Result<T, CodecError> {
    if body.len() > LIMIT {
        return Err(CodecError::TooLong { what, found: body.len(), limit: LIMIT });
    }
    let configuration: Configuration<_, _, bincode::config::Limit<LIMIT>> = standard().with_limit::<LIMIT>();
    let (value, read) = bincode::serde::decode_from_slice(body, configuration)
        .map_err(|error| CodecError::Malformed { what, detail: error.to_string() })?;
    if read == body.len() {
        Ok(value)
    } else {
        Err(CodecError::Malformed { what, detail: format!("{} bytes follow its end", body.len() - read) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        let error = decode::<u32, 16>("command", &[10, 1]).expect_err("version 10 is unknown");
        let expected = format!("the command has format version 10; this program reads version {VERSION}");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_hostile_length_is_refused_before_it_is_allocated() {
        let hostile = [VERSION, 253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(matches!(decode::<Vec<u8>, 1024>("command", &hostile), Err(CodecError::Malformed { .. })));
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let mut bytes = encode(&7_u32);
        bytes.push(0);
        assert!(decode::<u32, 64>("command", &bytes).is_err());
    }
}
