//! Nothing runs before its instant, less the skew that is declared: a report for a day that is not over is wrong.

use escapement_domain::schedule::jitter_of;
use escapement_domain::timestamp::Span;

use super::story::{Fate, Lives};
use crate::evidence::{Evidence, Wish};
use crate::profile::SKEW_MS;

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    for ((_, task), life) in lives {
        for settled in &life.settled {
            let Some(segment) = life.segments.get(settled.segment) else { continue };
            // What was moved by hand has no jitter.
            let bound = if settled.fate == Fate::Moved { Span::ZERO } else { segment.definition.jitter };
            let jitter = jitter_of(*task, settled.last, bound);
            // Before a task is changed, what has come is settled and its jitter is waived.
            let waived = evidence.operations.iter().any(|operation| {
                operation.issued <= settled.at
                    && match operation.wish {
                        Wish::Update(changed, _) | Wish::Pause(changed) | Wish::Delete(changed) => {
                            changed == *task
                        }
                        _ => false,
                    }
            });
            let due = if waived { settled.last } else { settled.last.plus(jitter) };
            let early = evidence.world_time(due) - settled.at.cast_signed();
            if early > SKEW_MS {
                found.push(format!("task {task}: {} was settled {early} ms early", settled.last));
            }
        }
    }
    for attempt in &evidence.attempts {
        let early = evidence.world_time(attempt.scheduled_at) - attempt.started.cast_signed();
        if early > SKEW_MS {
            found.push(format!("execution {} began {early} ms early", attempt.execution));
        }
    }
    found
}
