//! The clocks and the random bits of the command line, which is outside of every node.
//!
//! Invariant: the only file of the command line and the load generator that asks the operating system for them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use escapement_actors::ports::Entropy;
use escapement_domain::identifier::CommandId;
use escapement_domain::timestamp::Timestamp;

/// Returns the wall clock's instant.
#[expect(
    clippy::disallowed_methods,
    reason = "a person at a terminal has no Clock port; nothing replicated is made here"
)]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Measures how long something takes, whatever the wall clock does meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "a measurement from outside of every node")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the time since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Returns the time since the start in milliseconds, with their fraction.
    pub(crate) fn elapsed_ms(self) -> f64 {
        self.elapsed().as_secs_f64() * 1_000.0
    }
}

/// The operating system's random bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RandomBits;

impl Entropy for RandomBits {
    fn bits(&self) -> u128 {
        rand::random()
    }
}

/// Returns an identifier that nobody else has: of this instant, with random bits.
pub(crate) fn fresh_id() -> CommandId {
    CommandId::from_parts(u64::try_from(now().0).unwrap_or(0), RandomBits.bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_identifiers_differ() {
        assert_ne!(fresh_id(), fresh_id());
    }
}
