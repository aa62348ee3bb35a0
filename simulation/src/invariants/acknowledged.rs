//! What was acknowledged is there, and once: a client that was told *done* builds on it.
//!
//! Operations without an answer are settled by a read of the last state: carried out wholly or not at all, never twice.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::answer::{Accepted, Answer};
use escapement_domain::event::Event;
use escapement_domain::execution::state::Occurrence;
use escapement_domain::record::Record;

use super::story::Lives;
use crate::evidence::{Evidence, Knowledge, Operation};
use crate::profile::{SKEW_MS, WINDOW_MS};

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    let effects = effects(evidence);
    let mut found = Vec::new();
    for operation in &evidence.operations {
        let of = effects.get(&operation.number.to_string());
        let entries: BTreeSet<u64> = of.into_iter().flatten().map(|record| record.header.log_index).collect();
        if entries.len() > 1 {
            let number = operation.number;
            found.push(format!(
                "operation {number} was carried out {} times, in entries {entries:?}",
                entries.len()
            ));
        }
        if let Knowledge::Answered(answer) = &operation.knowledge {
            found.extend(there(operation, answer, of.map_or(&[], Vec::as_slice)));
        }
    }
    found.extend(keys(evidence, &effects));
    for ((tenant, task), life) in lives {
        let exists = evidence.last.task(*tenant, *task).is_some();
        if exists == life.deleted.is_some() {
            found.push(format!(
                "task {task} exists at the end: {exists}, and was deleted at {:?} ms",
                life.deleted
            ));
        }
    }
    found
}

/// What clients' commands led to, by correlation id.
fn effects(evidence: &Evidence) -> BTreeMap<String, Vec<&Record>> {
    let mut effects: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    let by_hand = |record: &&Record| {
        record.header.command.is_some()
            && match &record.event {
                Event::TaskCreated { .. }
                | Event::TaskUpdated { .. }
                | Event::TaskPaused { .. }
                | Event::TaskResumed { .. }
                | Event::TaskDeleted { .. }
                | Event::TasksStaged { .. }
                | Event::BulkCommitted { .. } => true,
                Event::TaskScheduled { occurrence, .. } | Event::TaskSkipped { occurrence, .. } => {
                    matches!(occurrence, Occurrence::Manual(_))
                }
                _ => false,
            }
    };
    for record in evidence.records.iter().filter(by_hand) {
        effects.entry(record.header.correlation_id.to_string()).or_default().push(record);
    }
    effects
}

fn there(operation: &Operation, answer: &Answer, effects: &[&Record]) -> Option<String> {
    let at_index = |matches: &dyn Fn(&Event) -> bool| {
        effects.iter().any(|record| record.header.log_index == answer.index && matches(&record.event))
    };
    let is_there = match &answer.outcome {
        Ok(Accepted::Tasks(tasks)) => tasks.iter().flatten().all(|id| {
            // Under a client's own key the first command with that key did it.
            operation.key.is_some()
                || at_index(&|event| matches!(event, Event::TaskCreated { task, .. } if task == id))
        }),
        Ok(Accepted::Execution { execution, .. })
            if matches!(operation.wish, crate::evidence::Wish::Run(_)) =>
        {
            at_index(&|event| event.execution() == Some(*execution))
        }
        Ok(Accepted::Done) if matches!(operation.wish, crate::evidence::Wish::Delete(_)) => {
            at_index(&|event| matches!(event, Event::TaskDeleted { .. }))
        }
        Ok(Accepted::Task { version, .. }) if matches!(operation.wish, crate::evidence::Wish::Update(..)) => {
            at_index(&|event| matches!(event, Event::TaskUpdated { version: found, .. } if found == version))
        }
        _ => true,
    };
    let said = || {
        format!("operation {} was acknowledged with {answer:?}, and that is not in the log", operation.number)
    };
    (!is_there).then(said)
}

/// A client's own key creates once, as long as it is remembered.
fn keys(evidence: &Evidence, effects: &BTreeMap<String, Vec<&Record>>) -> Vec<String> {
    let mut by_key: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for operation in &evidence.operations {
        let (Some(key), Some(records)) = (operation.key, effects.get(&operation.number.to_string())) else {
            continue;
        };
        by_key.entry(key).or_default().extend(records.iter().map(|record| evidence.committed_at(record)));
    }
    let remembered = (2 * WINDOW_MS).saturating_add_signed(-SKEW_MS);
    by_key
        .into_iter()
        .filter(|(_, times)| {
            times.iter().zip(times.iter().skip(1)).any(|(first, second)| second - first < remembered)
        })
        .map(|(key, times)| format!("under the key {key} tasks were created at {times:?} ms"))
        .collect()
}
