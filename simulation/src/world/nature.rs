//! What everything in one run shares: virtual time, chance, and the trace.
//!
//! Invariant: whatever is drawn or noted is drawn and noted in the order of the run, so that a seed is one run and no
//! other. Time is tokio's paused clock, which moves on only when everybody waits.

use std::sync::Arc;
use std::time::Duration;

use escapement_actors::ports::Entropy;
use escapement_domain::timestamp::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::trace::{Trace, TraceDigest};

/// Time, chance and trace of one run; clones are the same.
#[derive(Clone)]
pub(super) struct Nature(Arc<Inner>);

struct Inner {
    begun: Instant,
    epoch: i64,
    chance: Mutex<Chance>,
    trace: Mutex<Trace>,
}

impl Nature {
    /// Begins time at zero. `epoch` is the instant of that zero.
    pub(super) fn new(epoch: i64, chance: Chance, spoken: bool) -> Self {
        let (chance, trace) = (Mutex::new(chance), Mutex::new(Trace::new(spoken)));
        Self(Arc::new(Inner { begun: instant(), epoch, chance, trace }))
    }

    /// Milliseconds since the beginning of the world.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The same to the nanosecond.
    pub(super) fn elapsed(&self) -> Duration {
        instant() - self.0.begun
    }

    /// The true wall clock.
    pub(super) fn wall(&self) -> Timestamp {
        Timestamp(self.0.epoch + self.now().cast_signed())
    }

    /// Draws from the one source of chance.
    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(&mut self.0.chance.lock())
    }

    /// Notes a happening in the trace.
    pub(super) fn note(&self, numbers: &[u64], text: impl FnOnce() -> String) {
        self.0.trace.lock().note(self.now(), numbers, text);
    }

    /// The trace so far.
    pub(super) fn trace(&self) -> TraceDigest {
        self.0.trace.lock().digest()
    }
}

impl Entropy for Nature {
    fn bits(&self) -> u128 {
        self.draw(Chance::bits)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where virtual time comes in")]
fn instant() -> Instant {
    Instant::now()
}
