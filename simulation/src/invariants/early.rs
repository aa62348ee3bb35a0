//! Nothing runs before its instant, less the skew that is declared: a report for a day that is not over is wrong.
//!
//! Nor before its jitter is over: whoever spreads a herd wants it spread. By the leader's own stamp that is so to the millisecond,
//! with the jitter where no clock jumps.

use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::jitter_of;
use escapement_domain::timestamp::Span;

use super::story::{Fate, Lives};
use crate::evidence::{Evidence, Knowledge, Wish};

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    let skew = evidence.settings.skew_ms();
    for ((_, task), life) in lives {
        for settled in &life.settled {
            let Some(segment) = life.segments.get(settled.segment) else { continue };
            // What was moved by hand has no jitter, and what is passed over waits for none.
            let waived = settled.fate != Fate::Fired || is_waived(evidence, *task, settled.at);
            let bound = if waived { Span::ZERO } else { segment.definition.jitter };
            let due = settled.last.plus(jitter_of(*task, settled.last, bound));
            let early = evidence.world_time(due) - settled.at.cast_signed();
            if early > skew {
                found.push(format!("task {task}: {} was settled {early} ms early", settled.last));
            }
            // The log refuses what comes before its instant, whatever the clocks say; its jitter is the leader's matter.
            let due = if evidence.settings.clocks_jump() { settled.last } else { due };
            if settled.stamp < due {
                found.push(format!("task {task}: {due} was settled at {}, by the record", settled.stamp));
            }
        }
    }
    for attempt in &evidence.attempts {
        let early = evidence.world_time(attempt.scheduled_at) - attempt.started.cast_signed();
        if early > skew {
            found.push(format!("execution {} began {early} ms early", attempt.execution));
        }
    }
    found
}

/// Whether somebody may have been changing a task: before it is changed, what has come is settled and its jitter is waived.
fn is_waived(evidence: &Evidence, task: TaskId, at: u64) -> bool {
    let changes = |wish: &Wish| match wish {
        Wish::Update(changed, _) | Wish::Pause(changed) | Wish::Delete(changed) => *changed == task,
        _ => false,
    };
    // Whom nobody answered may be heard at any time.
    let over = |knowledge: &Knowledge| !matches!(knowledge, Knowledge::Pending | Knowledge::Unknown);
    let mut changing = evidence.operations.iter().filter(|operation| changes(&operation.wish));
    at >= evidence.quiesced
        || changing.any(|operation| {
            operation.issued <= at && (!over(&operation.knowledge) || at <= operation.answered)
        })
}
