//! Reads and writes of a task are linearizable: each seems to happen at one moment between its call and its answer.
//!
//! The log orders all writes, so it is the witness: a write must have been committed between the call and the answer of
//! its operation; what a client was told of a task must be what the task was at some entry that was there by the answer,
//! and not before an entry that was applied anywhere when the client called.

use std::collections::BTreeMap;

use escapement::service::TaskState;
use escapement_domain::identifier::TaskId;
use escapement_domain::record::Record;
use escapement_domain::replica::Replica;

use super::effects::effects;
use super::story::Lives;
use crate::evidence::{Done, Evidence, Knowledge, Operation, Seen, Wish};

/// How a task stood from an entry on; none when it was not there.
type Standing = (u64, Option<(u32, TaskState)>);

pub(super) fn check(evidence: &Evidence, _lives: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    let effects = effects(evidence);
    let histories = histories(evidence);
    for operation in &evidence.operations {
        let Knowledge::Done(done) = &operation.knowledge else { continue };
        let of = effects.get(&operation.number.to_string()).map_or(&[][..], Vec::as_slice);
        // A bulk is there as a whole with its first entry; the rest of a large one is made after its answer.
        let first = of.first().map(|record| record.header.log_index);
        let is_all = matches!(operation.wish, Wish::CreateAll(_));
        let decides = |record: &&&Record| !is_all || Some(record.header.log_index) == first;
        found.extend(of.iter().filter(decides).filter_map(|record| outside(evidence, operation, record)));
        let seen = match done {
            Done::Task(Seen { task, version, state }) => Some((*task, Some((*version, *state)))),
            Done::Absent => match operation.wish {
                Wish::Read(task) => Some((task, None)),
                _ => None,
            },
            _ => None,
        };
        if let Some((task, standing)) = seen {
            let history = histories.get(&task).map_or(&[][..], Vec::as_slice);
            found.extend(unseen(evidence, operation, (task, standing), history));
        }
    }
    found
}

fn outside(evidence: &Evidence, operation: &Operation, record: &Record) -> Option<String> {
    let at = evidence.committed_at(record);
    let within = operation.issued <= at && at <= operation.answered;
    (!within).then(|| {
        format!(
            "operation {} was called at {} ms, answered at {} ms and committed at {at} ms",
            operation.number, operation.issued, operation.answered
        )
    })
}

fn unseen(
    evidence: &Evidence,
    operation: &Operation,
    (task, standing): (TaskId, Option<(u32, TaskState)>),
    history: &[Standing],
) -> Option<String> {
    // Entries that were applied anywhere when the client called, and those that were by its answer.
    let upto = |time: u64| {
        let last = evidence.committed.iter().take_while(|(_, at)| **at <= time).last();
        last.map_or(0, |(index, _)| *index)
    };
    let (from, to) = (before(evidence, operation.issued), upto(operation.answered));
    let first = history.iter().rposition(|(index, _)| *index <= from);
    let possible = history
        .iter()
        .enumerate()
        .filter(|(place, (index, _))| first.is_none_or(|first| *place >= first) && *index <= to);
    let absent_at_first = first.is_none() && standing.is_none();
    let fits = absent_at_first || possible.into_iter().any(|(_, (_, held))| *held == standing);
    (!fits).then(|| {
        format!(
            "operation {} was told that task {task} is {standing:?}; from entry {from} to {to} it was {history:?}",
            operation.number
        )
    })
}

/// The last entry that was applied somewhere before a time of the world.
fn before(evidence: &Evidence, time: u64) -> u64 {
    let last = evidence.committed.iter().take_while(|(_, at)| **at < time).last();
    last.map_or(0, |(index, _)| *index)
}

/// How every task stood, entry by entry.
fn histories(evidence: &Evidence) -> BTreeMap<TaskId, Vec<Standing>> {
    let mut histories: BTreeMap<TaskId, Vec<Standing>> = BTreeMap::new();
    let mut replica = Replica::default();
    for record in &evidence.records {
        replica.evolve(record);
        let Some(task) = record.event.task() else { continue };
        let held = replica.task(record.header.tenant, task);
        let now = held.map(|task| (task.version, TaskState::from(task.phase())));
        let history = histories.entry(task).or_default();
        if history.last().map(|(_, held)| held) != Some(&now) {
            history.push((record.header.log_index, now));
        }
    }
    histories
}
