//! The clock of one machine: it drifts, and it jumps.
//!
//! Invariant: monotonic time never goes back and shares the drift of the wall clock; a jump moves the wall clock alone.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use escapement_actors::ports::Clock;
use escapement_domain::timestamp::Timestamp;

use super::nature::Nature;

/// Drift, in parts of a million: what a cheap quartz has.
const DRIFT_MAX_PPM: u64 = 100;
/// How far a clock that is kept by a time service may be off, in ms.
const KEPT_WITHIN_MS: u64 = 40;

/// A machine's clock.
pub(super) struct MachineClock {
    nature: Nature,
    drift_ppm: i64,
    /// How far the wall clock is ahead of the true time, drift apart, in ms.
    ahead: AtomicI64,
}

impl MachineClock {
    pub(super) fn new(nature: &Nature) -> Self {
        let (drift_ppm, ahead) =
            nature.draw(|chance| (chance.around(DRIFT_MAX_PPM), chance.around(KEPT_WITHIN_MS)));
        Self { nature: nature.clone(), drift_ppm, ahead: AtomicI64::new(ahead) }
    }

    /// Moves the wall clock.
    pub(super) fn jump(&self, by_ms: i64) {
        self.ahead.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Sets the wall clock right, as a time service does.
    pub(super) fn set_right(&self) {
        self.ahead.store(-self.drifted_ms(), Ordering::Relaxed);
    }

    fn drifted_ms(&self) -> i64 {
        self.nature.now().cast_signed() * self.drift_ppm / 1_000_000
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.nature.wall().0 + self.drifted_ms() + self.ahead.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        let elapsed = self.nature.elapsed();
        let drift = elapsed.as_nanos().cast_signed() * i128::from(self.drift_ppm) / 1_000_000;
        let nanos = (elapsed.as_nanos().cast_signed() + drift).max(0).cast_unsigned();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
