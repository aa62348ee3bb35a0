//! No occurrence is lost: users forgive a late run, and never notice one that silently was not made.
//!
//! The instants of every task are walked by its own timetable from its first one; what was settled must be exactly that
//! series, up to the moment when the tasks were paused. What fired must have ended.

use std::collections::BTreeSet;

use escapement_domain::event::Event;
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::jitter_of;
use escapement_domain::timestamp::Timestamp;

use super::story::{Fate, Life, Lives};
use crate::evidence::Evidence;

/// What may be in flight when the tasks are paused, in ms.
const IN_FLIGHT_MS: i64 = 3_500;

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    let mut found: Vec<String> =
        lives.iter().filter_map(|((_, task), life)| walk(evidence, *task, life).err()).collect();
    found.extend(open_for_ever(evidence));
    found
}

fn walk(evidence: &Evidence, task: TaskId, life: &Life) -> Result<(), String> {
    let mut runs = 0;
    let mut settled = life.settled.iter().peekable();
    for (place, segment) in life.segments.iter().enumerate() {
        let exhausted = |runs: u32| segment.definition.max_runs.is_some_and(|most| runs >= most);
        let timetable = life.timetable(task, place);
        let mut expected = segment.next.filter(|_| !exhausted(runs));
        let mut expected_at_pause = expected;
        while let Some(some) = settled.next_if(|some| some.segment == place) {
            if some.fate == Fate::Moved {
                runs += 1;
                expected = expected.filter(|_| !exhausted(runs));
                if expected != some.next {
                    return Err(format!(
                        "task {task}: a moved run says {:?}, and {expected:?} is next",
                        some.next
                    ));
                }
                if some.at <= evidence.quiesced {
                    expected_at_pause = expected;
                }
                continue;
            }
            if expected != Some(some.first) {
                return Err(format!("task {task}: {} was settled where {expected:?} was due", some.first));
            }
            let timetable = timetable.as_ref().ok_or_else(|| format!("task {task} has no timetable"))?;
            let mut last = some.first;
            for _ in 1..some.count {
                last = timetable.next_after(last).unwrap_or(Timestamp::MAX);
            }
            if last != some.last {
                return Err(format!(
                    "task {task}: {} instants from {} end at {last}, not {}",
                    some.count, some.first, some.last
                ));
            }
            runs += u32::from(some.fate == Fate::Fired);
            let ends = some.fate == Fate::Fired && exhausted(runs);
            expected = timetable.next_after(last).filter(|_| !ends);
            if expected != some.next {
                return Err(format!("task {task}: after {last} comes {expected:?}, not {:?}", some.next));
            }
            if some.at <= evidence.quiesced {
                expected_at_pause = expected;
            }
        }
        runs += life.heard.get(&place).copied().unwrap_or_default();
        let replaced = life.segments.get(place + 1).map(|next| next.from);
        let current = segment.from <= evidence.quiesced && replaced.is_none_or(|at| at > evidence.quiesced);
        let gone =
            life.deleted.is_some_and(|at| at <= evidence.quiesced) || life.paused_at(evidence.quiesced);
        if current
            && !gone
            && let Some(instant) = expected_at_pause
        {
            let due = instant.plus(jitter_of(task, instant, segment.definition.jitter));
            if evidence.world_time(due) + IN_FLIGHT_MS < evidence.quiesced.cast_signed() {
                return Err(format!("task {task}: {instant} was never settled"));
            }
        }
    }
    moved(evidence, task, life)
}

/// What was moved has run, or was skipped with a reason, or is not due yet.
fn moved(evidence: &Evidence, task: TaskId, life: &Life) -> Result<(), String> {
    let gone = life.deleted.is_some_and(|at| at <= evidence.quiesced) || life.paused_at(evidence.quiesced);
    let due = |to: &Timestamp| evidence.world_time(*to) + IN_FLIGHT_MS < evidence.quiesced.cast_signed();
    match life.moved.iter().find(|(_, to)| due(to)).filter(|_| !gone) {
        Some((at, to)) => Err(format!("task {task}: {at} was moved to {to} and never ran")),
        None => Ok(()),
    }
}

fn open_for_ever(evidence: &Evidence) -> Vec<String> {
    let mut open = BTreeSet::new();
    for record in &evidence.records {
        match &record.event {
            Event::TaskScheduled { execution, .. } | Event::TaskReopened { execution, .. } => {
                open.insert(*execution);
            }
            Event::TaskCompleted { execution, .. }
            | Event::TaskFailed { execution, .. }
            | Event::TaskTimedOut { execution, .. }
            | Event::TaskCancelled { execution, .. }
            | Event::TaskLost { execution, .. } => {
                open.remove(execution);
            }
            _ => {}
        }
    }
    open.into_iter().map(|execution| format!("execution {execution} was fired and never ended")).collect()
}
