//! Whoever reads what happened to a task is told what the log has, from the first record on, and all that was there when
//! it was asked.

use escapement_domain::record::Record;

use super::story::Lives;
use crate::evidence::{Done, EVENTS_READ, Evidence, Knowledge, Wish};

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    for operation in &evidence.operations {
        let (Wish::ReadEvents(task), Knowledge::Done(Done::Events(served))) =
            (&operation.wish, &operation.knowledge)
        else {
            continue;
        };
        let tenant = evidence.last.tenant_number(operation.tenant);
        let of_task =
            |record: &&Record| Some(record.header.tenant) == tenant && record.event.task() == Some(*task);
        let mut records = evidence.records.iter().filter(of_task);
        let wrong = served.iter().find(|(sequence, hash)| {
            records.next().is_none_or(|record| record.header.sequence != *sequence || record.hash != *hash)
        });
        let number = operation.number;
        if let Some((sequence, _)) = wrong {
            found.push(format!(
                "operation {number} was told of record {sequence} of task {task}: the log has another"
            ));
        } else if served.len() < EVENTS_READ
            && let Some(missing) =
                records.next().filter(|record| evidence.committed_at(record) < operation.issued)
        {
            let sequence = missing.header.sequence;
            found.push(format!(
                "operation {number} was not told of record {sequence} of task {task}, which was there"
            ));
        }
    }
    found
}
