//! A node's two clocks: a wall clock that drifts and jumps, and a monotonic one that only drifts.

use escapement_domain::timestamp::Timestamp;

use crate::chance::Chance;

/// A node's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    epoch: i64,
    offset_ms: i64,
    wall_ppm: i64,
    monotonic_ppm: i64,
}

impl Clock {
    /// Clocks that are nearly right.
    pub(super) fn new(epoch: i64, chance: &mut Chance) -> Self {
        Self {
            epoch,
            offset_ms: chance.around(100),
            wall_ppm: chance.around(200),
            monotonic_ppm: chance.around(500),
        }
    }

    /// What the wall clock shows.
    #[must_use]
    pub(super) fn wall(&self, now: u64) -> Timestamp {
        let now = now.cast_signed();
        Timestamp(self.epoch + now + now * self.wall_ppm / 1_000_000 + self.offset_ms)
    }

    /// What the monotonic clock shows, in ms.
    #[must_use]
    pub(super) fn monotonic(&self, now: u64) -> u64 {
        let drifted = now.cast_signed() * self.monotonic_ppm / 1_000_000;
        now.saturating_add_signed(drifted) + 1_000_000
    }

    /// The wall clock jumps.
    pub(super) fn jump(&mut self, by_ms: i64) {
        self.offset_ms += by_ms;
    }

    /// The wall clock is set right, nearly.
    pub(super) fn set_right(&mut self, chance: &mut Chance) {
        self.offset_ms = chance.around(100);
    }
}
