//! Bugs that can be put into the program on purpose, so that the simulation can be seen to see them.
//!
//! Behind the feature `planted`, which no release build has: without it [`has`] is `false` at compile time. With it, a
//! bug is in for the thread on which `plant` was called, and the program itself never calls that.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An occurrence that was settled before fires again when it is proposed again.
    RepeatedOccurrence,
    /// The order of a hash map decides who is granted what.
    HashOrder,
    /// A command that is repeated is carried out again.
    ForgottenCommand,
    /// A snapshot comes back without the executions in flight.
    ForgetfulSnapshot,
    /// The wheel loses a timer when it moves a slot down a level.
    DroppedTimer,
    /// A new leader fills its wheel from now on, not from the last settled instant.
    WheelFromNow,
    /// A worker goes on after its lease has ended.
    IgnoredLease,
    /// A leader that was deposed goes on renewing leases.
    DeposedLeader,
    /// What is written because the Raft log is to be purged lacks the blocks of the event log.
    LostBlocks,
    /// A leader stamps although its clock is off.
    WildClock,
    /// Some steps of chains are never decided.
    ForgottenStep,
    /// A read is answered from what the asked node has, however far behind it is.
    StaleRead,
    /// What the disk gives back is taken for what was written.
    UncheckedChecksum,
}

#[cfg(feature = "planted")]
std::thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Puts a bug in for this thread, or takes it out.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether a bug is in.
#[cfg(feature = "planted")]
#[must_use]
pub fn has(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether a bug is in: never, in a build without the feature.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn has(_: Bug) -> bool {
    false
}
