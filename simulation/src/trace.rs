//! What happened in a run, as one number: two runs of a seed are equal exactly when their traces are.
//!
//! Every happening is absorbed in its order. Its text is made only when somebody wants to read it.

use std::fmt;
use std::io::{Write, stdout};

/// The trace of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    state: u64,
    length: u64,
    spoken: bool,
}

impl Trace {
    /// Starts a trace; a spoken one writes a line for every happening to the standard output.
    #[must_use]
    pub fn new(spoken: bool) -> Self {
        Self { state: 0xcbf2_9ce4_8422_2325, length: 0, spoken }
    }

    /// Absorbs numbers that tell a happening from any other, and says it aloud if somebody listens.
    pub fn note(&mut self, now: u64, numbers: &[u64], text: impl FnOnce() -> String) {
        self.length += 1;
        for number in [now].iter().chain(numbers) {
            self.state = mix(self.state ^ *number);
        }
        if self.spoken {
            // Whoever stops listening, such as `head`, wants no more of it.
            self.spoken = writeln!(stdout(), "{now:>9} ms  {}", text()).is_ok();
        }
    }

    /// The trace as a number.
    #[must_use]
    pub fn digest(&self) -> TraceDigest {
        TraceDigest(mix(self.state ^ self.length))
    }
}

/// A trace as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceDigest(u64);

impl fmt::Display for TraceDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// The finishing steps of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
