//! Nothing is settled late while nothing was broken, nor much later while a majority could go on: a scheduler that is late
//! for no reason cannot be planned with.

use escapement_domain::schedule::jitter_of;

use super::story::Lives;
use crate::evidence::Evidence;
use crate::profile::{LATENESS_MS, LATENESS_WITH_QUORUM_MS};

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    for ((_, task), life) in lives {
        for settled in &life.settled {
            let Some(segment) = life.segments.get(settled.segment) else { continue };
            let due = settled.first.plus(jitter_of(*task, settled.first, segment.definition.jitter));
            // What passes by during a pause is settled when the pause ends or the definition changes.
            if life.paused_at(settled.at.saturating_sub(1)) {
                continue;
            }
            let due = evidence.world_time(due).max(settled.changed.cast_signed());
            let late = settled.at.cast_signed() - due;
            let at = settled.at.cast_signed();
            let when = if late > LATENESS_MS && !evidence.disturbed(due, at) {
                "in quiet times"
            } else if late > LATENESS_WITH_QUORUM_MS && evidence.had_quorum(due, at) {
                "while most nodes were well and connected"
            } else {
                continue;
            };
            found.push(format!("task {task}: {} was settled {late} ms late {when}", settled.first));
        }
    }
    found
}
