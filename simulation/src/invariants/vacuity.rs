//! A run that saw nothing proves nothing: at least so much of everything must have happened.

use escapement_domain::event::Event;

use super::story::Lives;
use crate::evidence::{Evidence, Knowledge};

/// A run that is long enough to be judged, in ms.
const LONG_MS: u64 = 200_000;

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let fires = count(evidence, |event| matches!(event, Event::TaskScheduled { .. }));
    let ends = count(evidence, |event| matches!(event, Event::TaskCompleted { .. }));
    let answers =
        evidence.operations.iter().filter(|one| matches!(one.knowledge, Knowledge::Answered(_))).count();
    let counts = &evidence.counts;
    let mut floors = vec![("fires", fires, 40), ("successes", ends, 20), ("answers", answers, 30)];
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    floors.push(("elections", number(counts.elections), 1));
    if evidence.settings.fault_gap_ms > 0 {
        floors.push(("elections", number(counts.elections), 2));
        let broken = counts.crashes + counts.freezes + counts.cuts + counts.jumps;
        floors.push(("faults", number(broken), 4));
    }
    if evidence.settings.active_ms < LONG_MS {
        floors.iter_mut().for_each(|(.., floor)| *floor = *floor / 8 + 1);
        floors.retain(|(what, ..)| *what != "faults" && *what != "elections");
    }
    floors
        .into_iter()
        .filter(|(_, found, floor)| found < floor)
        .map(|(what, found, floor)| format!("only {found} {what}; a run is worth nothing below {floor}"))
        .collect()
}

fn count(evidence: &Evidence, matches: impl Fn(&Event) -> bool) -> usize {
    evidence.records.iter().filter(|record| matches(&record.event)).count()
}
