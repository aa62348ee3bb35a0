//! One run of one seed: made, run to its end, judged.

use escapement_domain::event::Event;

use crate::evidence::{Counts, Knowledge, Violation, Wish};
use crate::invariants::{self, Judgement};
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
    /// Whether it was asked to be shorter than runs are.
    pub was_short: bool,
    /// The trace.
    pub trace: TraceDigest,
    /// How often what happened.
    pub counts: Counts,
    /// Occurrences that were settled: fired, skipped or missed.
    pub settled: u64,
    /// Occurrences that fired.
    pub fires: u64,
    /// Instants that were matched with runs without a look at identifiers.
    pub matched: u64,
    /// Of these, the ones during which a majority was well, so that their run had to begin soon.
    pub matched_soon: u64,
    /// Attempts that the witness saw.
    pub attempts: u64,
    /// Operations of clients.
    pub operations: u64,
    /// Of these, the ones that were done to what holds up work.
    pub held_up: u64,
}

/// Runs a seed and judges it.
///
/// # Errors
/// The operating system's, when it has no room for a runtime.
pub fn run(order: Order) -> std::io::Result<Verdict> {
    let Order { seed, profile, active_ms, planted, spoken } = order;
    let (evidence, trace) = world::run(seed, profile, active_ms, planted, spoken)?;
    let Judgement { violations, matched, matched_soon } = invariants::judge(&evidence);
    let settled = evidence
        .records
        .iter()
        .map(|record| match &record.event {
            Event::TaskScheduled { .. } | Event::TaskSkipped { .. } | Event::TaskMoved { .. } => 1,
            Event::TaskMissed { count, .. } | Event::TaskSuppressed { count, .. } => u64::from(*count),
            _ => 0,
        })
        .sum();
    let done = evidence.operations.iter().filter(|one| matches!(one.knowledge, Knowledge::Done(_)));
    let held_up = done.filter(|one| matches!(one.wish, Wish::Hold(_)));
    Ok(Verdict {
        violations,
        shortfalls: invariants::shortfalls(&evidence, matched),
        was_short: active_ms.is_some_and(|active_ms| active_ms < profile.settings().active_ms),
        trace,
        counts: evidence.counts,
        settled,
        fires: invariants::fires(&evidence),
        matched,
        matched_soon,
        attempts: evidence.attempts.len() as u64,
        operations: evidence.operations.len() as u64,
        held_up: held_up.count() as u64,
    })
}
