//! A task whose runs may not overlap runs once at a time: its author wrote it for that, and two would tread on each other.
//!
//! Which of two began too early is told by the records; whether they met is told by the witness too. An attempt by hand and a
//! backfill wait for nobody, what was opened while overlaps were allowed is not called back, and what waits when they are allowed
//! goes at once. Why one was let go is held against what did happen.

use std::collections::BTreeMap;

use escapement_domain::event::{Event, ReleaseCause};
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::task::definition::Overlap;

use super::overlap::ran_until;
use super::standing::{Open, Standings};
use super::story::Lives;
use crate::evidence::{Attempt, Evidence};

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    let mut standings = Standings::default();
    let mut running: BTreeMap<TaskId, BTreeMap<ExecutionId, Open>> = BTreeMap::new();
    let mut grants: BTreeMap<(ExecutionId, u64), Open> = BTreeMap::new();
    // The log entries by which executions ended, and those by which tasks were last allowed to overlap.
    let mut ended: BTreeMap<ExecutionId, (TaskId, u64)> = BTreeMap::new();
    let mut changed: BTreeMap<TaskId, u64> = BTreeMap::new();
    for record in &evidence.records {
        match &record.event {
            Event::TaskStarted { task, execution, .. } => {
                let open = standings.of(record).and_then(|standing| standing.open.get(execution)).copied();
                let Some(open) = open else { continue };
                let beside = running.entry(*task).or_default();
                for (other, held) in beside.iter().filter(|(_, held)| exclude(&open, held)) {
                    found.push(format!(
                        "execution {execution} of task {task} began while {other} ran: {open:?}, {held:?}"
                    ));
                }
                beside.insert(*execution, open);
                grants.insert((*execution, record.header.sequence), open);
            }
            Event::TaskReleased { execution, task, cause } => {
                let entry = record.header.log_index;
                let so = match cause {
                    ReleaseCause::Ended { earlier } => ended.get(earlier) == Some(&(*task, entry)),
                    ReleaseCause::OverlapAllowed => changed.get(task) == Some(&entry),
                };
                if !so {
                    found.push(format!("execution {execution} of task {task} was not let go for {cause:?}"));
                }
                let standing = standings.of(record);
                let under_way =
                    |(other, open): (&ExecutionId, &Open)| other != execution && !open.held && !open.backfill;
                let excluded = standing.filter(|standing| standing.rules.overlap != Overlap::Allow);
                if excluded.is_some_and(|standing| standing.open.iter().any(under_way)) {
                    found.push(format!("execution {execution} of task {task} was let go too early"));
                }
            }
            Event::TaskRetry { task, execution, .. } | Event::TaskRequeued { task, execution, .. } => {
                running.entry(*task).or_default().remove(execution);
            }
            Event::TaskCompleted { task, execution, .. }
            | Event::TaskFailed { task, execution, .. }
            | Event::TaskTimedOut { task, execution, .. }
            | Event::TaskCancelled { task, execution, .. }
            | Event::TaskLost { task, execution, .. } => {
                running.entry(*task).or_default().remove(execution);
                ended.insert(*execution, (*task, record.header.log_index));
            }
            Event::TaskUpdated { task, rules, .. } if rules.overlap == Overlap::Allow => {
                changed.insert(*task, record.header.log_index);
            }
            _ => {}
        }
        standings.follow(record);
    }
    found.extend(met(evidence, &grants));
    found
}

/// Whether two executions of one task may not run at once: the one that was opened later had to wait for the other.
fn exclude(one: &Open, other: &Open) -> bool {
    let later = if one.turn > other.turn { one } else { other };
    later.alone && !one.backfill && !other.backfill && one.turn != other.turn
}

/// Attempts of different executions of one task that met.
fn met(evidence: &Evidence, grants: &BTreeMap<(ExecutionId, u64), Open>) -> Vec<String> {
    let mut by_task: BTreeMap<TaskId, Vec<(&Attempt, &Open)>> = BTreeMap::new();
    for attempt in &evidence.attempts {
        if let Some(open) = grants.get(&(attempt.execution, attempt.token)) {
            by_task.entry(attempt.task).or_default().push((attempt, open));
        }
    }
    let mut found = Vec::new();
    for (task, mut attempts) in by_task {
        attempts.sort_by_key(|(attempt, _)| (attempt.started, attempt.token));
        for (place, (first, one)) in attempts.iter().enumerate() {
            let until = ran_until(evidence, first);
            let meeting = attempts[place + 1..].iter().take_while(|(second, _)| second.started < until);
            for (second, _) in meeting.filter(|(_, other)| exclude(one, other)) {
                found.push(format!(
                    "executions {} and {} of task {task} met at {} ms",
                    first.execution, second.execution, second.started
                ));
            }
        }
    }
    found
}
