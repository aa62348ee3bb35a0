//! Tokens grow, and only the newest one's result counts: a target that keeps the highest it saw can refuse the rest.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::event::{AttemptEnded, Event};
use escapement_domain::execution::failure::FailureClass;
use escapement_domain::execution::state::Holder;
use escapement_domain::identifier::ExecutionId;

use super::story::Lives;
use crate::evidence::{Ended, Evidence};

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    let mut newest: BTreeMap<ExecutionId, u64> = BTreeMap::new();
    let witnessed: BTreeMap<_, _> =
        evidence.attempts.iter().map(|attempt| ((attempt.execution, attempt.token), attempt)).collect();
    let mut outside = BTreeSet::new();
    for record in &evidence.records {
        if let Event::TaskStarted { execution, holder, .. } = &record.event {
            let token = record.header.sequence;
            if matches!(holder, Holder::Outside { .. }) {
                outside.insert((*execution, token));
            }
            if newest.insert(*execution, token).is_some_and(|before| before >= token) {
                found.push(format!("execution {execution} was granted under {token}, which is not higher"));
            }
        }
        let Some((execution, ended, wanted)) = accepted(&record.event) else { continue };
        if newest.get(&execution) != Some(&ended.token) {
            let newest = newest.get(&execution);
            found.push(format!(
                "a result of {execution} under {} was accepted; the newest is {newest:?}",
                ended.token
            ));
        }
        let seen = witnessed.get(&(execution, ended.token));
        let at = evidence.committed_at(record);
        // That an attempt outside took too long is the leader's word: its worker may be dead, at it still, or never have
        // heard of it.
        let timed_out = ended.failure == Some(FailureClass::TimedOut);
        let word_of_leader = timed_out && outside.contains(&(execution, ended.token));
        let fits = match seen {
            Some(attempt) => word_of_leader || attempt.how == wanted && attempt.ended <= at,
            None => word_of_leader,
        };
        if !fits {
            let seen = seen.map(|attempt| attempt.how);
            found.push(format!(
                "{} of {execution} under {}, and the witness saw {seen:?}",
                record.event.name(),
                ended.token
            ));
        }
    }
    found
}

/// A result that counted, and how the witness must have seen its attempt end.
fn accepted(event: &Event) -> Option<(ExecutionId, &AttemptEnded, Ended)> {
    match event {
        Event::TaskCompleted { execution, ended, .. } => Some((*execution, ended, Ended::Succeeded)),
        Event::TaskTimedOut { execution, ended: Some(ended), .. } if ended.failure.is_some() => {
            Some((*execution, ended, Ended::Failed))
        }
        Event::TaskFailed { execution, ended, .. } | Event::TaskRetry { execution, ended, .. } => {
            Some((*execution, ended, Ended::Failed))
        }
        _ => None,
    }
}
