//! What was acknowledged is there, and once; what was refused is not: a client that was told *done* builds on it, and one
//! that was told *no* goes another way.
//!
//! Operations without an answer are carried out wholly or not at all, never twice.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::event::Event;
use escapement_domain::execution::state::Occurrence;
use escapement_domain::limits::IDEMPOTENCY_WINDOW;
use escapement_domain::record::Record;

use super::story::Lives;
use crate::evidence::{Done, Evidence, Knowledge, Operation, Wish};
use crate::profile::SKEW_MS;

/// What clients' commands led to, by correlation id.
pub(super) type Effects<'a> = BTreeMap<String, Vec<&'a Record>>;

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    let effects = effects(evidence);
    let mut found = Vec::new();
    for operation in &evidence.operations {
        let number = operation.number;
        let of = effects.get(&number.to_string()).map_or(&[][..], Vec::as_slice);
        let entries: BTreeSet<u64> = of.iter().map(|record| record.header.log_index).collect();
        if operation.wish.entries().is_some_and(|most| entries.len() > most) {
            found.push(format!(
                "operation {number} was carried out {} times, in entries {entries:?}",
                entries.len()
            ));
        }
        let created = of.iter().filter(|record| matches!(record.event, Event::TaskCreated { .. })).count();
        if wanted(&operation.wish).is_some_and(|most| created > most) {
            found.push(format!("operation {number} created {created} tasks, more than were asked for"));
        }
        match &operation.knowledge {
            Knowledge::Done(done) => found.extend(there(operation, done, of)),
            Knowledge::Refused(reason) if !of.is_empty() && operation.key.is_none() => found.push(format!(
                "operation {number} was refused ({reason}) and carried out in entries {entries:?}"
            )),
            Knowledge::Refused(reason) if reason.starts_with("unexpected") => {
                found.push(format!("operation {number} was answered with an {reason}"));
            }
            _ => {}
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

/// How many tasks an operation may create; any other creates none.
fn wanted(wish: &Wish) -> Option<usize> {
    match wish {
        Wish::Create(definitions) | Wish::CreateAll(definitions) => Some(definitions.len()),
        _ => Some(0),
    }
}

/// What clients' commands led to, by correlation id.
pub(super) fn effects(evidence: &Evidence) -> Effects<'_> {
    let mut effects = Effects::new();
    let by_hand = |record: &&Record| match &record.event {
        Event::TaskCreated { .. }
        | Event::TaskUpdated { .. }
        | Event::TaskPaused { .. }
        | Event::TaskResumed { .. }
        | Event::TaskDeleted { .. }
        | Event::TaskReopened { .. }
        | Event::TaskOccurrenceChanged { .. }
        | Event::CalendarPut { .. }
        | Event::BackfillStarted { .. }
        | Event::EventPublished { .. }
        | Event::Chain(_)
        | Event::BulkCommitted { .. } => !record.header.correlation_id.is_empty(),
        Event::TaskScheduled { occurrence, .. } | Event::TaskSkipped { occurrence, .. } => {
            record.header.command.is_some() && matches!(occurrence, Occurrence::Manual(_))
        }
        _ => false,
    };
    for record in evidence.records.iter().filter(by_hand) {
        effects.entry(record.header.correlation_id.to_string()).or_default().push(record);
    }
    effects
}

fn there(operation: &Operation, done: &Done, effects: &[&Record]) -> Option<String> {
    let has = |matches: &dyn Fn(&Event) -> bool| effects.iter().any(|record| matches(&record.event));
    // Under a client's own key an earlier operation may have done it.
    let earlier = operation.key.is_some();
    let is_there = match (&operation.wish, done) {
        (Wish::Create(_) | Wish::CreateAll(_), Done::Tasks(tasks)) => tasks.iter().all(|id| {
            earlier || has(&|event| matches!(event, Event::TaskCreated { task, .. } if task == id))
        }),
        (Wish::Run(_), Done::Execution(execution)) => {
            earlier || has(&|event| event.execution() == Some(*execution))
        }
        (Wish::Publish(_), Done::Published(id)) => {
            earlier || has(&|record| matches!(record, Event::EventPublished { event, .. } if event == id))
        }
        (Wish::Delete(_), Done::Gone) => has(&|event| matches!(event, Event::TaskDeleted { .. })),
        (Wish::CancelRun(_) | Wish::RetryRun(_), Done::Changed) => {
            has(&|event| matches!(event, Event::Chain(_)))
        }
        (Wish::Retry(_), Done::Execution(_)) => has(&|event| matches!(event, Event::TaskReopened { .. })),
        (Wish::ChangeOccurrence(..), Done::Changed) => {
            has(&|event| matches!(event, Event::TaskOccurrenceChanged { .. }))
        }
        (Wish::Backfill(..), Done::Changed) => has(&|event| matches!(event, Event::BackfillStarted { .. })),
        (Wish::Update(..), Done::Task(_)) => has(&|event| matches!(event, Event::TaskUpdated { .. })),
        // To pause what is paused changes nothing; how it stands is judged as a read.
        _ => true,
    };
    let number = operation.number;
    (!is_there)
        .then(|| format!("operation {number} was acknowledged with {done:?}, and that is not in the log"))
}

/// A client's own key creates once, as long as it is remembered.
fn keys(evidence: &Evidence, effects: &Effects<'_>) -> Vec<String> {
    let mut by_key: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for operation in evidence.operations.iter().filter(|operation| operation.wish.entries().is_some()) {
        let (Some(key), Some(records)) = (operation.key, effects.get(&operation.number.to_string())) else {
            continue;
        };
        by_key.entry(key).or_default().extend(records.iter().map(|record| evidence.committed_at(record)));
    }
    let remembered = IDEMPOTENCY_WINDOW.0.saturating_add_signed(-SKEW_MS);
    by_key
        .into_iter()
        .filter(|(_, times)| {
            times.iter().zip(times.iter().skip(1)).any(|(first, second)| second - first < remembered)
        })
        .map(|(key, times)| format!("under the key {key} something was done at {times:?} ms"))
        .collect()
}
