//! A run that saw nothing proves nothing: it counts only if so much of everything has happened.

use escapement_domain::event::Event;

use crate::evidence::{Evidence, Knowledge};

/// How long a run must go on to count, in ms.
const LONG_MS: u64 = 120_000;

/// What happened too seldom for the run to count.
#[must_use]
pub fn shortfalls(evidence: &Evidence, matched: u64) -> Vec<String> {
    let counts = &evidence.counts;
    let mut floors = vec![
        ("ms", evidence.settings.active_ms, LONG_MS),
        ("fires", fires(evidence), 200),
        ("instants matched", matched, 50),
        ("successes", count(evidence, |event| matches!(event, Event::TaskCompleted { .. })), 100),
        ("acknowledged writes", acknowledged(evidence), 60),
        ("elections", counts.elections, 1),
    ];
    if evidence.settings.fault_gap_ms > 0 {
        floors.push(("crashes", counts.crashes, 3));
        floors.push(("changes of the leader", counts.changes, 2));
    }
    floors
        .into_iter()
        .filter(|(_, found, floor)| found < floor)
        .map(|(what, found, floor)| format!("only {found} {what}, and it takes {floor}"))
        .collect()
}

/// Occurrences that became executions.
#[must_use]
pub fn fires(evidence: &Evidence) -> u64 {
    count(evidence, |event| matches!(event, Event::TaskScheduled { .. }))
}

fn acknowledged(evidence: &Evidence) -> u64 {
    let writes = evidence.operations.iter().filter(|one| one.wish.writes());
    writes.filter(|one| matches!(one.knowledge, Knowledge::Done(_))).count() as u64
}

fn count(evidence: &Evidence, matches: impl Fn(&Event) -> bool) -> u64 {
    evidence.records.iter().filter(|record| matches(&record.event)).count() as u64
}
