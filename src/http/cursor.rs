//! Cursors of lists: opaque to clients, and of use only for the list that gave them.
//!
//! A cursor carries the place where a page ended and a digest of what was listed, so that one of another list, another
//! tenant or other filters is refused rather than misread. It guards against mistakes, not against forgery: what a forged
//! one could name is a place in a list that its holder may read anyway.

use sha2::{Digest as _, Sha256};

use super::dto::List;
use super::request::Parameters;

/// Bytes of the digest.
const DIGEST_BYTES: usize = 8;
/// Bytes of the longest place.
const PLACE_BYTES_MAX: usize = 1_100;

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
        self.bytes(cursor)?.try_into().ok()
    }

    fn bytes(&self, cursor: &str) -> Option<Vec<u8>> {
        let text = cursor.as_bytes();
        let allowed = 2 * DIGEST_BYTES..=2 * (PLACE_BYTES_MAX + DIGEST_BYTES);
        if !allowed.contains(&text.len()) || !text.len().is_multiple_of(2) {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes: Option<Vec<u8>> =
            text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
        let mut place = bytes?;
        let digest = place.split_off(place.len() - DIGEST_BYTES);
        (digest == self.digest(&place)).then_some(place)
    }

    /// Takes `limit` and `cursor` of a list that goes by names.
    pub(super) fn page(self, parameters: &mut Parameters) -> Page {
        let limit = parameters.limit();
        let after = parameters.cursor(|text| String::from_utf8(self.bytes(text)?).ok());
        Page { listing: self, after, limit }
    }

    fn digest(&self, place: &[u8]) -> [u8; DIGEST_BYTES] {
        let full = self.0.clone().chain_update(place).finalize();
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&full[..DIGEST_BYTES]);
        digest
    }
}

/// Which page of a list that goes by names.
pub(super) struct Page {
    listing: Listing,
    after: Option<String>,
    limit: usize,
}

impl Page {
    /// The name after which the page begins.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// How many it has at most.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The cursor of the page that begins after a name.
    pub(super) fn cursor(&self, name: &str) -> String {
        self.listing.cursor(name.as_bytes())
    }

    /// The page of a whole list, which is put in the order of its names.
    pub(super) fn of<T>(&self, whole: Vec<T>, name: impl Fn(&T) -> String) -> List<T> {
        let mut named: Vec<(String, T)> = whole.into_iter().map(|item| (name(&item), item)).collect();
        named.retain(|(name, _)| self.after().is_none_or(|after| name.as_str() > after));
        named.sort_by(|(left, _), (right, _)| left.cmp(right));
        let more = named.len() > self.limit;
        named.truncate(self.limit);
        let next_cursor = named.last().filter(|_| more).map(|(name, _)| self.cursor(name));
        List { items: named.into_iter().map(|(_, item)| item).collect(), next_cursor }
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
