//! What the wheel has done, for metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Counts that the wheel keeps and anybody reads.
#[derive(Debug, Default)]
pub struct WheelCounters {
    pub(super) turning: AtomicBool,
    pub(super) timers: AtomicUsize,
    pub(super) fired: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WheelCounts {
    /// Whether the wheel is filled and this node leads.
    pub turning: bool,
    /// Timers in the wheel.
    pub timers: usize,
    /// Occurrences that became executions by its proposals.
    pub fired: u64,
    /// Fire commands proposed.
    pub batches: u64,
    /// Proposals without an answer.
    pub failed: u64,
}

impl WheelCounters {
    /// Reads them.
    #[must_use]
    pub fn counts(&self) -> WheelCounts {
        WheelCounts {
            turning: self.turning.load(Ordering::Relaxed),
            timers: self.timers.load(Ordering::Relaxed),
            fired: self.fired.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}
