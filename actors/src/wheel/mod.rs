//! The leader's timer wheel: it proposes what is due, and decides nothing.
//!
//! On taking the lead the wheel waits for a read barrier and is filled from the state, from the last *settled* instant of
//! every task and never from now; what is overdue is proposed at once, by the misfire policy. It keeps itself current
//! from the records of applied entries. Several batches are in flight at a time, and what is in flight is not
//! proposed again until it is answered; after a proposal without an answer the state says what is still due.
//!
//! Invariants: nothing is proposed before its instant by this node's clock; a node that does not lead proposes
//! nothing; a task that cannot be planned holds up nobody else. Absent on purpose: every rule (they are in
//! [`plan`](escapement_domain::task::plan) and `decide`), and truth: drop the wheel and it is filled again.

mod actor;
mod breakers;
mod counters;
mod filling;
mod pace;
mod planning;
mod replanning;
mod timers;
mod timetables;
mod upkeep;

use std::fmt;
use std::sync::Arc;

pub use self::counters::{WheelCounters, WheelCounts};

use self::actor::WheelActor;
use crate::keeper::Kept;
use crate::machine::Machine;
use crate::ports::{Clock, Log, Observer};
use crate::worker::clocks::ClockWatch;

/// What the wheel needs.
#[derive(Clone)]
pub struct WheelParts {
    /// The log of this node.
    pub log: Arc<dyn Log>,
    /// The replicated state.
    pub machine: Arc<Machine>,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// Whether this node may stamp.
    pub clocks: Arc<ClockWatch>,
    /// Hears what the wheel does.
    pub observer: Arc<dyn Observer>,
    /// The version of this node's zone data, such as `2025b`.
    pub zone_data: Arc<str>,
}

/// The wheel of this node; it turns while the node leads.
#[derive(Clone)]
pub struct WheelHandle {
    counters: Arc<WheelCounters>,
    _kept: Kept<WheelActor>,
}

impl fmt::Debug for WheelHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WheelHandle").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl WheelHandle {
    /// Starts the wheel in the `LocalSet` around the caller.
    #[must_use]
    pub fn start(parts: WheelParts) -> Self {
        let counters = Arc::new(WheelCounters::default());
        let shared = counters.clone();
        let kept =
            Kept::start("wheel", move |lifeline| WheelActor::new(parts.clone(), shared.clone(), lifeline));
        Self { counters, _kept: kept }
    }

    /// What the wheel has done since it was started.
    #[must_use]
    pub fn counts(&self) -> WheelCounts {
        self.counters.counts()
    }
}
