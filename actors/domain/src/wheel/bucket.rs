//! The timers of one slot, in the order in which they came.
//!
//! A vector that grows by an eighth once it is big: doubling would leave a quarter of ten million timers' memory
//! unused on average. Absent on purpose: removal from the middle, except of many at once.

use super::Timer;

/// Allocations up to this many timers are kept for the next ones.
pub(super) const KEPT_CAPACITY: usize = 64;
/// From this many timers on a bucket grows by an eighth instead of doubling.
const BIG: usize = 512;

#[derive(Debug)]
pub(super) struct Bucket<K>(Vec<Timer<K>>);

impl<K> Bucket<K> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, timer: Timer<K>) {
        if self.0.len() == self.0.capacity() && self.0.len() >= BIG {
            self.0.reserve_exact(self.0.len() / 8);
        }
        self.0.push(timer);
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Timer<K>> {
        self.0.drain(..)
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Timer<K>) -> bool) {
        let before = self.0.len();
        self.0.retain(keep);
        if self.0.len() < before {
            self.0.shrink_to_fit();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }
}
