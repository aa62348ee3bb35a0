//! Who is told to stop stops: whoever cancels a run wants no more of it.
//!
//! Workers outside the cluster are not asked: they hear of it when they show that they live, and some are dead.

use std::collections::BTreeMap;

use escapement_domain::event::Event;
use escapement_domain::identifier::ExecutionId;

use super::overlap::ran_until;
use super::story::Lives;
use crate::evidence::Evidence;
use crate::profile::{LEASE_MS, STOPPED_WITHIN_MS};
use crate::world::crew::OUTSIDE;

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let told = told(evidence);
    let mut found = Vec::new();
    for attempt in evidence.attempts.iter().filter(|attempt| attempt.node != OUTSIDE) {
        let Some(told) = told.get(&(attempt.execution, attempt.token)) else { continue };
        let (execution, token) = (attempt.execution, attempt.token);
        if attempt.started > told + LEASE_MS {
            found.push(format!("execution {execution} began long after it was told to stop, under {token}"));
        }
        let stopped = ran_until(evidence, attempt);
        let quiet = !evidence.disturbed(told.cast_signed(), stopped.cast_signed());
        if quiet && stopped > told + STOPPED_WITHIN_MS {
            let late = stopped - told;
            found.push(format!("execution {execution} ran on for {late} ms when it was told to stop"));
        }
    }
    found
}

/// When each attempt that was in a worker's hands was told to stop, in ms of the world.
fn told(evidence: &Evidence) -> BTreeMap<(ExecutionId, u64), u64> {
    let (mut newest, mut told) = (BTreeMap::new(), BTreeMap::new());
    for record in &evidence.records {
        match &record.event {
            Event::TaskStarted { execution, .. } => {
                newest.insert(*execution, record.header.sequence);
            }
            Event::TaskCancelRequested { execution, .. } => {
                if let Some(token) = newest.get(execution) {
                    told.entry((*execution, *token)).or_insert(evidence.committed_at(record));
                }
            }
            _ => {}
        }
    }
    told
}
