//! No occurrence is lost: users forgive a late run, and never notice one that silently was not made.
//!
//! The instants of every task are walked by its own timetable from its first one; what was settled must be exactly that
//! series, up to each change of the task and to the moment when the tasks were paused. What fired must have ended.

use std::collections::BTreeSet;

use escapement_domain::event::Event;
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::jitter_of;
use escapement_domain::task::plan::Timetable;
use escapement_domain::task::rules::Rules;
use escapement_domain::timestamp::Timestamp;

use super::story::{Fate, Life, Lives, Segment, Settled};
use crate::evidence::Evidence;

/// What may be in flight when the tasks are paused, in ms.
const IN_FLIGHT_MS: i64 = 3_500;
/// How long a command may be on its way into the log, in ms.
const COMMANDED_WITHIN_MS: u64 = 15_000;

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    let mut found: Vec<String> =
        lives.iter().filter_map(|((_, task), life)| walk(evidence, *task, life).err()).collect();
    found.extend(open_for_ever(evidence));
    found
}

/// One way through the series of a task, from definition to definition.
struct Walk<'a> {
    task: TaskId,
    life: &'a Life,
    /// How often it was fired.
    runs: u32,
    /// The last instant that was settled.
    last: Timestamp,
    /// How much of what was settled has been walked.
    walked: usize,
}

fn walk(evidence: &Evidence, task: TaskId, life: &Life) -> Result<(), String> {
    let first = life.segments.first().and_then(|segment| segment.next);
    let last = first.map_or(life.created_at, |next| life.created_at.min(Timestamp(next.0 - 1)));
    let mut walk = Walk { task, life, runs: 0, last, walked: 0 };
    for (place, segment) in life.segments.iter().enumerate() {
        let expected_at_pause = walk.through(evidence, place, segment)?;
        let replaced = life.segments.get(place + 1).map(|next| next.from);
        let current = segment.from <= evidence.quiesced && replaced.is_none_or(|at| at > evidence.quiesced);
        if current
            && !is_idle(evidence, life)
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

impl Walk<'_> {
    /// Walks what was settled under one definition; returns what was expected next when the tasks were paused.
    fn through(
        &mut self,
        evidence: &Evidence,
        place: usize,
        segment: &Segment,
    ) -> Result<Option<Timestamp>, String> {
        let timetable = self.life.timetable(self.task, place);
        let timetable = timetable.ok_or_else(|| format!("task {} has no timetable", self.task))?;
        self.begins(place, segment, &timetable)?;
        let mut expected = segment.next.filter(|_| !self.is_exhausted(segment));
        let mut expected_at_pause = expected;
        self.nothing_overdue(place, expected)?;
        while let Some(some) = self.life.settled.get(self.walked).filter(|some| some.segment == place) {
            expected = self.step(segment, &timetable, some, expected)?;
            self.walked += 1;
            self.nothing_overdue(place, expected)?;
            if some.at <= evidence.quiesced {
                expected_at_pause = expected;
            }
        }
        self.runs += self.life.heard.get(&place).copied().unwrap_or_default();
        Ok(expected_at_pause)
    }

    fn is_exhausted(&self, segment: &Segment) -> bool {
        segment.definition.max_runs.is_some_and(|most| self.runs >= most)
    }

    /// The first instant under a definition is its timetable's first after the record, but for what was settled before.
    fn begins(&self, place: usize, segment: &Segment, timetable: &Timetable) -> Result<(), String> {
        let unsettled = |next: &Timestamp| place == 0 || *next > self.last;
        let timing = Rules::of(&segment.definition).timing;
        let first = timetable.first(timing, segment.stamp);
        // It was worked out by a clock that was read before the record was stamped, and a command that is repeated is held to
        // when it was issued.
        let shortly_before = segment.next.is_some_and(|next| {
            let before = segment.stamp.since(next);
            next <= segment.stamp
                && before.0 <= COMMANDED_WITHIN_MS
                && (place > 0 || first.is_none())
                && timetable.next_after(Timestamp(next.0 - 1)) == Some(next)
        });
        let fits = segment.next == first.filter(unsettled) || shortly_before;
        let fits = fits && segment.next.as_ref().is_none_or(unsettled);
        fits.then_some(()).ok_or_else(|| {
            format!(
                "task {}: its definition {place} of {} begins with {:?}, and {first:?} is its first instant",
                self.task, segment.stamp, segment.next
            )
        })
    }

    /// Walks what was settled together; returns what follows.
    fn step(
        &mut self,
        segment: &Segment,
        timetable: &Timetable,
        some: &Settled,
        expected: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, String> {
        let task = self.task;
        self.runs += u32::from(some.fate != Fate::PassedOver);
        let ends = some.fate != Fate::PassedOver && self.is_exhausted(segment);
        if some.fate == Fate::Moved {
            let expected = expected.filter(|_| !ends);
            return if expected == some.next {
                Ok(expected)
            } else {
                Err(format!("task {task}: a moved run says {:?}, and {expected:?} is next", some.next))
            };
        }
        if expected != Some(some.first) {
            return Err(format!("task {task}: {} was settled where {expected:?} was due", some.first));
        }
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
        self.last = last;
        let expected = timetable.next_after(last).filter(|_| !ends);
        if expected == some.next {
            Ok(expected)
        } else {
            Err(format!("task {task}: after {last} comes {expected:?}, not {:?}", some.next))
        }
    }

    /// Before a definition is replaced, and before its task is paused or deleted, everything that has come is settled.
    fn nothing_overdue(&self, place: usize, expected: Option<Timestamp>) -> Result<(), String> {
        let mut ends = self.life.ends.iter();
        let overdue = ends.find_map(|end| {
            let here = end.segment == place && end.settled == self.walked;
            let due = expected.into_iter().chain(end.moved).min()?;
            (here && due <= end.stamp).then_some((end, due))
        });
        match overdue {
            None => Ok(()),
            Some((end, due)) => Err(format!(
                "task {}: {due} was not settled when {} was stamped with {}",
                self.task, end.what, end.stamp
            )),
        }
    }
}

fn is_idle(evidence: &Evidence, life: &Life) -> bool {
    life.deleted.is_some_and(|at| at <= evidence.quiesced) || life.paused_at(evidence.quiesced)
}

/// What was moved has run, or was skipped with a reason, or is not due yet.
fn moved(evidence: &Evidence, task: TaskId, life: &Life) -> Result<(), String> {
    let gone = is_idle(evidence, life);
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
