//! A second opinion that looks at no identifier: runs are matched to the windows in which one was due, earliest deadline
//! first, so that a fault in the names of things cannot hide in them.
//!
//! For tasks of which somebody outside can tell what must run: they recur, never fail, and were never changed, paused,
//! deleted or cancelled. Runs must not outnumber the instants that had come, but for those whose worker was lost
//! before it was heard; each instant during which a majority was well must have a run of its own soon; and each one at all,
//! sooner or later, of a task that makes good whatever it missed.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::event::{Event, Placing};
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::replica::placement::Gate;
use escapement_domain::timestamp::Timestamp;

use super::story::{Life, Lives};
use crate::definitions::{is_plain, makes_good};
use crate::evidence::{Attempt, Ended, Evidence, Wish};
use crate::profile::{LEASE_MS, SKEW_MS};

/// How long after its instant a run may begin when workers have a few others to run first, in ms.
const WINDOW_MS: i64 = 30_000;
/// How many a few are: behind more, whatever has the lowest priority waits until it is old.
const FEW_WAITING: usize = 30;

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    judge(evidence, lives).0
}

/// How many instants are judged, and how many of them by when their run began.
pub(super) fn judged(evidence: &Evidence, lives: &Lives) -> (u64, u64) {
    judge(evidence, lives).1
}

fn judge(evidence: &Evidence, lives: &Lives) -> (Vec<String>, (u64, u64)) {
    let (unreported, waiting, limited) = (unreported(evidence), waiting(evidence), limited(evidence));
    let (mut found, mut judged) = (Vec::new(), (0, 0));
    for ((tenant, task), life) in lives {
        let left_alone = life.segments.len() == 1
            && !life.cancelled
            && life.deleted.is_none()
            && !by_hand(evidence, *task)
            && life.phases.iter().all(|(at, paused)| !paused || *at > evidence.quiesced);
        if !left_alone || !is_plain(&life.segments[0].definition) {
            continue;
        }
        let of_task = evidence.attempts.iter().filter(|attempt| attempt.task == *task);
        let runs: Vec<_> = of_task.filter(|attempt| attempt.how == Ended::Succeeded).collect();
        let mut starts: Vec<i64> = runs.iter().map(|attempt| attempt.started.cast_signed()).collect();
        starts.sort_unstable();
        // A worker is lost only when something was broken, and that is known from outside.
        let excused = |run: &&&Attempt| {
            let (from, to) = (run.started.cast_signed(), (run.ended + LEASE_MS).cast_signed());
            unreported.contains(&(run.execution, run.token)) && evidence.disturbed(from, to)
        };
        let unheard = runs.iter().filter(excused).count();
        // The operator pauses it when everything is to come to rest, and it may go on until that is heard.
        let paused = life.phases.iter().find(|(_, paused)| *paused).map_or(evidence.quiesced, |(at, _)| *at);
        let instants = instants(evidence, (*task, life), paused.max(evidence.quiesced));
        let surplus = surplus(&starts, &instants);
        if surplus > unheard {
            found.push(format!(
                "task {task} ran {surplus} times more than it was due, {unheard} of them unheard"
            ));
        }
        let due: Vec<i64> =
            instants.into_iter().filter(|at| *at + SKEW_MS < evidence.quiesced.cast_signed()).collect();
        let is_quick = |at: &i64| {
            let before = waiting.range(..=*at).next_back();
            let most = before.into_iter().chain(waiting.range(*at..*at + WINDOW_MS)).map(|(_, ahead)| *ahead);
            !limited.contains(tenant)
                && most.max().unwrap_or(0) <= FEW_WAITING
                && evidence.had_quorum(*at, *at + WINDOW_MS)
        };
        let quick: Vec<i64> = due.iter().copied().filter(is_quick).collect();
        judged = (judged.0 + due.len() as u64, judged.1 + quick.len() as u64);
        if let Some(instant) = unmatched(&starts, &quick, WINDOW_MS) {
            found.push(format!(
                "task {task} was due at {instant} ms while most nodes were well, and no run is left for it"
            ));
        }
        let misses_nothing = makes_good(&life.segments[0].definition);
        if let Some(instant) = unmatched(&starts, &due, i64::MAX / 2).filter(|_| misses_nothing) {
            found.push(format!("task {task} was due at {instant} ms, and no run is left for it"));
        }
    }
    (found, judged)
}

/// Attempts that were taken back before their end was heard: each of them ran once more for nothing.
fn unreported(evidence: &Evidence) -> BTreeSet<(ExecutionId, u64)> {
    let mut held = BTreeMap::new();
    let mut unreported = BTreeSet::new();
    for record in &evidence.records {
        match &record.event {
            Event::TaskStarted { execution, .. } => {
                held.insert(*execution, record.header.sequence);
            }
            Event::TaskRequeued { execution, .. } | Event::TaskLost { execution, .. } => {
                unreported.extend(held.remove(execution).map(|token| (*execution, token)));
            }
            _ => {}
        }
    }
    unreported
}

/// Tenants that were ever limited as a whole: what of theirs runs when is their limit's matter.
fn limited(evidence: &Evidence) -> BTreeSet<TenantId> {
    let limits = evidence.records.iter().filter(|record| {
        matches!(&record.event, Event::Placement(Placing::GatePut { gate: Gate::Tenant, .. }))
    });
    limits.map(|record| record.header.tenant).collect()
}

/// How many executions waited for a worker, by the ms of the world from when on.
fn waiting(evidence: &Evidence) -> BTreeMap<i64, usize> {
    let (mut waiting, mut lengths) = (BTreeSet::new(), BTreeMap::new());
    for record in &evidence.records {
        let Some(execution) = record.event.execution() else { continue };
        match &record.event {
            Event::TaskScheduled { held: false, .. }
            | Event::TaskReleased { .. }
            | Event::TaskRequeued { .. }
            | Event::TaskReopened { .. } => {
                waiting.insert(execution);
            }
            Event::Placement(_)
            | Event::Chain(_)
            | Event::TaskProgress { .. }
            | Event::TaskPriorityChanged { .. }
            | Event::TaskCancelRequested { .. }
            | Event::TaskResultRefused { .. } => {}
            _ => {
                waiting.remove(&execution);
            }
        }
        lengths.insert(evidence.world_time(record.header.at), waiting.len());
    }
    lengths
}

/// Whether somebody may have run the task by hand, moved an occurrence, or run an execution of it again: then its runs cannot be told apart without
/// names.
fn by_hand(evidence: &Evidence, task: TaskId) -> bool {
    let by_hand = |wish: &Wish| match wish {
        Wish::Run(run) | Wish::Backfill(run, ..) | Wish::ChangeOccurrence(run, ..) => *run == task,
        _ => false,
    };
    evidence.operations.iter().any(|operation| by_hand(&operation.wish))
        || evidence.records.iter().any(
            |record| matches!(&record.event, Event::TaskReopened { .. } if record.event.task() == Some(task)),
        )
}

/// The instants of a task up to its pause, in ms of the world.
fn instants(evidence: &Evidence, (task, life): (TaskId, &Life), paused: u64) -> Vec<i64> {
    let Some(timetable) = life.timetable(task, 0) else { return Vec::new() };
    let end = Timestamp(evidence.epoch + paused.cast_signed() + 2 * SKEW_MS);
    std::iter::successors(life.segments[0].next, |instant| timetable.next_after(*instant))
        .take_while(|instant| *instant <= end)
        .map(|instant| evidence.world_time(instant))
        .collect()
}

/// How many runs find no instant that had come.
fn surplus(starts: &[i64], instants: &[i64]) -> usize {
    let (mut used, mut surplus) = (0, 0);
    for start in starts {
        if instants.get(used).is_some_and(|instant| *instant - SKEW_MS <= *start) {
            used += 1;
        } else {
            surplus += 1;
        }
    }
    surplus
}

/// The first instant that finds no run in its window, when each takes the earliest that is left.
fn unmatched(starts: &[i64], instants: &[i64], window: i64) -> Option<i64> {
    let mut left = starts.iter().copied().peekable();
    instants.iter().copied().find(|instant| {
        while left.next_if(|start| *start < instant - SKEW_MS).is_some() {}
        left.next_if(|start| *start <= instant + window).is_none()
    })
}
