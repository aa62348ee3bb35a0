//! Circuit breakers: targets that are not called for a while because they failed too often in a row.

use serde::{Deserialize, Serialize};

use crate::identifier::ExecutionId;
use crate::timestamp::Timestamp;

/// What is known of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Whether it is called.
    pub state: BreakerState,
    /// Attempts that failed since the last one that succeeded.
    pub failures: u32,
    /// When the state last changed.
    pub changed_at: Timestamp,
    /// When an attempt failed last while it was called, or when it was first heard of.
    pub failed_at: Timestamp,
}

/// Whether a target is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BreakerState {
    /// It is.
    Closed,
    /// It is not.
    Open {
        /// When one attempt may try; never by itself if somebody opened it by hand.
        until: Option<Timestamp>,
    },
    /// One attempt at a time tries.
    HalfOpen {
        /// That attempt's execution.
        probe: Option<ExecutionId>,
    },
}

impl BreakerState {
    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }
}

impl Breaker {
    pub(super) fn new(at: Timestamp) -> Self {
        Self { state: BreakerState::Closed, failures: 0, changed_at: at, failed_at: at }
    }

    /// Whether an attempt may be granted.
    pub(super) fn admits(&self) -> bool {
        match self.state {
            BreakerState::Closed | BreakerState::HalfOpen { probe: None } => true,
            BreakerState::Open { .. } | BreakerState::HalfOpen { probe: Some(_) } => false,
        }
    }

    /// How readily it is forgotten for another: the least goes first, and none goes whose target is not called.
    pub(super) fn worth(&self) -> Option<(bool, Timestamp)> {
        (self.state == BreakerState::Closed).then_some((self.failures > 0, self.failed_at))
    }
}
