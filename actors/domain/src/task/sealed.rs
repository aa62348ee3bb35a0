//! The envelope around bodies that can hold secrets.
//!
//! Today every body is in clear (scheme 0). The envelope is there from the first record on, so that bodies can later be
//! sealed under a tenant's key, and deleted by deleting the key, without a new format. Hash chains cover a digest of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::codec::{self, CodecError};
use crate::limits::EVENT_BYTES_MAX;

/// A body in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// How the bytes are sealed: 0 is in clear.
    scheme: u8,
    /// The key under which they are sealed; 0 with scheme 0.
    key: u32,
    /// The body.
    bytes: Arc<[u8]>,
}

impl Sealed {
    /// Puts bytes into an envelope, in clear.
    #[must_use]
    pub fn in_clear(bytes: Vec<u8>) -> Self {
        Self { scheme: 0, key: 0, bytes: bytes.into() }
    }

    /// Puts a definition into an envelope, in clear.
    #[must_use]
    pub fn definition(definition: &Definition) -> Self {
        Self::in_clear(codec::encode(definition))
    }

    /// Opens the envelope of a definition.
    ///
    /// # Errors
    /// [`CodecError`] when the envelope is sealed in a way that this program does not know, or holds something else.
    pub fn open_definition(&self) -> Result<Definition, CodecError> {
        codec::decode::<_, EVENT_BYTES_MAX>("definition", self.open()?)
    }

    /// The text in the envelope, if it can be opened and is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.open().ok()?).ok()
    }

    /// Opens the envelope.
    ///
    /// # Errors
    /// [`CodecError::UnknownVersion`] when it is sealed in a way that this program does not know.
    pub fn open(&self) -> Result<&[u8], CodecError> {
        match self.scheme {
            0 => Ok(&self.bytes),
            found => Err(CodecError::UnknownVersion { what: "sealed body", found }),
        }
    }
}
