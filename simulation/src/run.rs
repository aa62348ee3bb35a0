//! One run of one seed: made, run to its end, judged.

use escapement_domain::event::Event;

use crate::evidence::{Counts, Violation};
use crate::invariants;
use crate::plants::Planted;
use crate::profile::Profile;
use crate::trace::TraceDigest;
use crate::world;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The seed.
    pub seed: u64,
    /// How rough it is.
    pub profile: Profile,
    /// How long clients and faults go on, in ms; the profile's own time if absent.
    pub active_ms: Option<u64>,
    /// The planted bug.
    pub planted: Planted,
    /// Whether every happening is written out.
    pub spoken: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// What happened too seldom for the run to count.
    pub shortfalls: Vec<String>,
    /// The trace.
    pub trace: TraceDigest,
    /// How often what happened.
    pub counts: Counts,
    /// Occurrences that were settled and checked.
    pub settled: u64,
    /// Attempts that the witness saw.
    pub attempts: u64,
    /// Operations of clients.
    pub operations: u64,
}

/// Runs a seed and judges it.
///
/// # Errors
/// The operating system's, when it has no room for a runtime.
pub fn run(order: Order) -> std::io::Result<Verdict> {
    let Order { seed, profile, active_ms, planted, spoken } = order;
    let (evidence, trace) = world::run(seed, profile, active_ms, planted, spoken)?;
    let violations = invariants::judge(&evidence);
    let settled = evidence
        .records
        .iter()
        .map(|record| match &record.event {
            Event::TaskScheduled { .. } | Event::TaskSkipped { .. } | Event::TaskMoved { .. } => 1,
            Event::TaskMissed { count, .. } | Event::TaskSuppressed { count, .. } => u64::from(*count),
            _ => 0,
        })
        .sum();
    Ok(Verdict {
        violations,
        shortfalls: invariants::shortfalls(&evidence),
        trace,
        counts: evidence.counts,
        settled,
        attempts: evidence.attempts.len() as u64,
        operations: evidence.operations.len() as u64,
    })
}
