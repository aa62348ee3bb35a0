//! Nothing happens twice: one occurrence is one execution, and one grant is one attempt, or exactly-once is a word.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::event::{Event, RequeueCause};
use escapement_domain::execution::state::Occurrence;
use escapement_domain::task::definition::Delivery;

use super::story::Lives;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    let (mut occurrences, mut executions, mut ended) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut granted = BTreeMap::new();
    let mut deliveries = BTreeMap::new();
    for record in &evidence.records {
        let tenant = record.header.tenant;
        match &record.event {
            Event::TaskCreated { task, rules, .. } | Event::TaskUpdated { task, rules, .. } => {
                deliveries.insert((tenant, *task), rules.delivery);
            }
            Event::TaskScheduled { task, execution, occurrence, .. } => {
                // A moved occurrence is the occurrence of its instant.
                let once = match occurrence {
                    Occurrence::Moved(at) => Occurrence::Scheduled(*at),
                    other => *other,
                };
                if !occurrences.insert((tenant, *task, once)) {
                    found.push(format!("{occurrence:?} of task {task} fired twice"));
                }
                if executions.insert(*execution) {
                    granted.insert(*execution, (false, deliveries.get(&(tenant, *task)).copied()));
                } else {
                    found.push(format!("execution {execution} was scheduled twice"));
                }
            }
            Event::TaskStarted { execution, .. } => {
                if let Some((in_hand, _)) = granted.get_mut(execution)
                    && std::mem::replace(in_hand, true)
                {
                    found.push(format!("execution {execution} was granted while it was in a worker's hands"));
                }
            }
            Event::TaskReopened { task, execution, .. } => {
                // Another attempt by hand is made as the task says now.
                granted.insert(*execution, (false, deliveries.get(&(tenant, *task)).copied()));
            }
            Event::TaskRetry { execution, .. } => release(&mut granted, execution),
            Event::TaskRequeued { execution, cause, .. } => {
                let delivery = granted.get(execution).and_then(|(_, delivery)| *delivery);
                if leaves_doubt(*cause) && delivery == Some(Delivery::AtMostOnce) {
                    found
                        .push(format!("execution {execution} is at-most-once and was made again: {cause:?}"));
                }
                release(&mut granted, execution);
            }
            Event::TaskCompleted { execution, .. } => {
                if !ended.insert(*execution) {
                    found.push(format!("execution {execution} succeeded twice"));
                }
                release(&mut granted, execution);
            }
            Event::TaskFailed { execution, .. }
            | Event::TaskTimedOut { execution, .. }
            | Event::TaskCancelled { execution, .. }
            | Event::TaskLost { execution, .. } => release(&mut granted, execution),
            _ => {}
        }
    }
    let mut started = BTreeSet::new();
    for attempt in &evidence.attempts {
        if !started.insert((attempt.execution, attempt.token)) {
            found.push(format!(
                "execution {} was started twice under token {}",
                attempt.execution, attempt.token
            ));
        }
    }
    found
}

/// Whether nobody knows what the attempt before did: it is known neither to have failed nor never to have begun.
fn leaves_doubt(cause: RequeueCause) -> bool {
    !matches!(cause, RequeueCause::RetryDue | RequeueCause::NotStarted { .. })
}

fn release<E: Ord, D>(granted: &mut BTreeMap<E, (bool, D)>, execution: &E) {
    if let Some((in_hand, _)) = granted.get_mut(execution) {
        *in_hand = false;
    }
}
