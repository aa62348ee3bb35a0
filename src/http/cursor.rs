//! Cursors of lists: opaque to clients, and of use only for the list that gave them.
//!
//! A cursor carries the place where a page ended and a digest of what was listed, so that one of another list, another
//! tenant or other filters is refused rather than misread. It guards against mistakes, not against forgery: what a forged
//! one could name is a place in a list that its holder may read anyway.

use sha2::{Digest as _, Sha256};

/// Bytes of the digest.
const DIGEST_BYTES: usize = 8;
/// Bytes of the longest place.
const PLACE_BYTES_MAX: usize = 128;

/// A list, as its cursors know it.
#[derive(Clone, Debug)]
pub(super) struct Listing(Sha256);

impl Listing {
    /// A list of a tenant.
    pub(super) fn new(name: &str, tenant: &str) -> Self {
        Self(Sha256::new()).filtered(name).filtered(tenant)
    }

    /// The list under one more filter.
    #[must_use]
    pub(super) fn filtered(mut self, filter: &str) -> Self {
        self.0.update((filter.len() as u64).to_be_bytes());
        self.0.update(filter.as_bytes());
        self
    }

    /// Makes a cursor.
    pub(super) fn cursor(&self, place: &[u8]) -> String {
        let digest = self.digest(place);
        place.iter().chain(&digest).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads a cursor of this list; `None` if it is not one.
    pub(super) fn place<const BYTES: usize>(&self, cursor: &str) -> Option<[u8; BYTES]> {
        const { assert!(BYTES <= PLACE_BYTES_MAX, "a place is short") };
        let text = cursor.as_bytes();
        if text.len() != 2 * (BYTES + DIGEST_BYTES) {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes: Option<Vec<u8>> =
            text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
        let bytes = bytes?;
        let (place, digest) = bytes.split_at(BYTES);
        (digest == self.digest(place)).then(|| place.try_into().ok()).flatten()
    }

    fn digest(&self, place: &[u8]) -> [u8; DIGEST_BYTES] {
        let full = self.0.clone().chain_update(place).finalize();
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&full[..DIGEST_BYTES]);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_use_only_for_its_list() {
        let list = Listing::new("tasks", "acme").filtered("active");
        let cursor = list.cursor(&7_u64.to_be_bytes());
        assert_eq!(list.place::<8>(&cursor), Some(7_u64.to_be_bytes()));
        assert_eq!(list.place::<16>(&cursor), None);
        assert_eq!(Listing::new("tasks", "acme").place::<8>(&cursor), None);
        assert_eq!(Listing::new("tasks", "other").filtered("active").place::<8>(&cursor), None);
        assert_eq!(Listing::new("executions", "acme").filtered("active").place::<8>(&cursor), None);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let list = Listing::new("tasks", "acme");
        let cursor = list.cursor(&7_u64.to_be_bytes());
        let changed = format!("1{}", &cursor[1..]);
        let short = &cursor[..cursor.len() - 2];
        for wrong in ["", "x", "zz", "é", changed.as_str(), short, &"é".repeat(16)] {
            assert_eq!(list.place::<8>(wrong), None, "{wrong}");
        }
    }
}
