//! Nothing runs that nobody asked for, or after it was taken back: work has effects outside that no log undoes.

use std::collections::BTreeMap;

use escapement_domain::event::Event;
use escapement_domain::execution::state::{Holder, Occurrence};
use escapement_domain::record::Record;

use super::standing::Standings;
use super::story::Lives;
use crate::evidence::{Evidence, Wish};
use crate::profile::LEASE_MS;
use crate::world::crew::OUTSIDE;

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    let mut grants = BTreeMap::new();
    let mut tasks = BTreeMap::new();
    let runs: BTreeMap<_, _> = evidence
        .operations
        .iter()
        .filter_map(|operation| match operation.wish {
            Wish::Run(task) | Wish::Backfill(task, ..) => Some((operation.number.to_string(), task)),
            _ => None,
        })
        .collect();
    let mut standings = Standings::default();
    for record in &evidence.records {
        let at = evidence.committed_at(record);
        found.extend(fired_in_a_pause(&standings, record));
        standings.follow(record);
        match &record.event {
            Event::TaskStarted { task, execution, holder, .. } => {
                grants.insert((*execution, record.header.sequence), (holder, at));
                let life = lives.get(&(record.header.tenant, *task));
                tasks.insert(*execution, life.and_then(|life| life.deleted));
                if life.is_none_or(|life| life.deleted.is_some_and(|deleted| deleted < at)) {
                    found.push(format!(
                        "execution {execution} was granted, and its task is gone or never was"
                    ));
                }
            }
            Event::TaskScheduled {
                task,
                occurrence: occurrence @ (Occurrence::Manual(_) | Occurrence::Backfill { .. }),
                ..
            } if runs.get(&*record.header.correlation_id) != Some(task) => {
                found.push(format!("task {task} ran as {occurrence:?}, and nobody asked for it"));
            }
            Event::TaskScheduled { task, .. } => {
                let life = lives.get(&(record.header.tenant, *task));
                if life
                    .is_none_or(|life| life.segments.is_empty() || life.deleted.is_some_and(|gone| gone < at))
                {
                    found.push(format!("task {task} fired, and does not exist"));
                }
            }
            _ => {}
        }
    }
    for attempt in &evidence.attempts {
        let (execution, token) = (attempt.execution, attempt.token);
        match grants.get(&(execution, token)) {
            Some((Holder::Node { node, .. }, at)) if *node == attempt.node && *at <= attempt.started => {}
            Some((Holder::Outside { .. }, at)) if attempt.node == OUTSIDE && *at <= attempt.started => {}
            _ => found.push(format!("execution {execution} began under token {token} without a grant")),
        }
        let deleted = tasks.get(&execution).copied().flatten();
        if deleted.is_some_and(|deleted| attempt.started > deleted + LEASE_MS) {
            found.push(format!("execution {execution} began long after its task was deleted"));
        }
    }
    found
}

/// What no hand made runs neither while its task is paused, nor when it has run as often as it may.
fn fired_in_a_pause(standings: &Standings, record: &Record) -> Option<String> {
    let Event::TaskScheduled { task, occurrence, .. } = &record.event else { return None };
    let by_hand = matches!(occurrence, Occurrence::Manual(_) | Occurrence::Backfill { .. });
    let standing = standings.of(record).filter(|_| !by_hand)?;
    (standing.paused || standing.is_exhausted()).then(|| {
        let (paused, runs) = (standing.paused, standing.runs);
        format!("task {task} fired as {occurrence:?}; paused: {paused}, it had run {runs} times")
    })
}
