//! The course of one task through time: which definition held when, when it was paused, what was changed by hand, and what
//! the log says of its instants.
//!
//! Whether a calendar or a hand stands behind what the log says is looked up when it says so: both may change later. Absent
//! on purpose: what becomes of an instant, which `judgement` says once the log is at its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::command::Change;
use escapement_domain::event::{Event, SkipReason};
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::record::{Record, RecordHeader};
use escapement_domain::schedule::Schedule;
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::task::definition::{Definition, Misfire};
use escapement_domain::timestamp::Timestamp;

use super::period::{Calendars, Period};
use super::{FireReason, Range, Settled};

/// What the log says of one occurrence.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It fired, held back by an earlier execution or not, and against what it was to do.
    Fired {
        held: bool,
        against: Option<FireReason>,
    },
    Skipped(SkipReason),
    Moved {
        to: Timestamp,
    },
    /// A hand is said to have changed it, and none did.
    Groundless,
}

/// What was decided by hand about an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByHand {
    Skip,
    Move { to: Timestamp, ran: bool },
}

/// A run of instants that the log passes over.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub(super) last: Timestamp,
    pub(super) settled: Settled,
    pub(super) cause: Cause,
}

/// Why it passes over them.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    Missed,
    /// A calendar, as it was then, if the definition named it.
    Forbidden(Arc<str>, Option<Arc<Calendar>>),
}

/// What became of a moved occurrence when its time came.
#[derive(Clone, Debug)]
pub(super) struct MovedRun {
    /// Its own instant.
    pub(super) at: Timestamp,
    pub(super) to: Timestamp,
    pub(super) outcome: Outcome,
    pub(super) settled: Settled,
    pub(super) misfire: Misfire,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Course {
    created_at: Timestamp,
    pub(super) runs: u32,
    pub(super) max_runs: Option<u32>,
    pub(super) misfire: Misfire,
    /// The last instant that was settled.
    settled: Timestamp,
    pub(super) paused_since: Option<Timestamp>,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) by_hand: BTreeMap<Timestamp, ByHand>,
    pub(super) asked: Asked,
}

/// What of a course touches the range that is asked about.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) periods: Vec<Period>,
    pub(super) pauses: Vec<(Timestamp, Timestamp)>,
    pub(super) outcomes: BTreeMap<Timestamp, (Outcome, Settled)>,
    /// By their first instants.
    pub(super) passed: BTreeMap<Timestamp, Passed>,
    pub(super) moved: Vec<MovedRun>,
}

/// What is asked about, and the calendars that are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) range: Range,
    pub(super) calendars: &'a Calendars,
}

impl Course {
    /// A task of which everything up to an instant is settled.
    pub(super) fn new(created_at: Timestamp, settled: Timestamp) -> Self {
        Self {
            created_at,
            runs: 0,
            max_runs: None,
            misfire: Misfire::default(),
            settled,
            paused_since: None,
            deleted_at: None,
            by_hand: BTreeMap::new(),
            asked: Asked::default(),
        }
    }

    /// A definition holds since an instant. A first instant of it that had passed by then (`if_past`: `run`) is one all the same.
    pub(super) fn define(
        &mut self,
        task: TaskId,
        definition: &Definition,
        since: Timestamp,
        first: Option<Timestamp>,
        range: Range,
    ) {
        self.max_runs = definition.max_runs;
        self.misfire = definition.misfire;
        if self.is_exhausted() {
            self.fall_away();
            return;
        }
        // A definition that was accepted compiles; one that does not names no instant.
        let Ok(schedule) = Schedule::compile(&definition.trigger, task, self.created_at) else { return };
        self.hold(Period::new(schedule, definition, since, first), range);
    }

    fn hold(&mut self, period: Period, range: Range) {
        if period.next(Timestamp(range.from.0 - 1), range).is_some() {
            self.asked.periods.push(period);
        }
    }

    /// The definition that holds, if it touches the range.
    fn present(&self) -> Option<&Period> {
        self.asked.periods.last().filter(|period| period.until.is_none())
    }

    /// The present definition holds no more for instants after `until`.
    pub(super) fn end(&mut self, until: Timestamp) {
        if let Some(period) = self.asked.periods.last_mut() {
            period.until = period.until.or(Some(until));
        }
    }

    pub(super) fn pause(&mut self, at: Timestamp) {
        self.paused_since = self.paused_since.or(Some(at));
    }

    pub(super) fn resume(&mut self, at: Timestamp) {
        if let Some(since) = self.paused_since.take()
            && !(self.asked.periods.is_empty() && self.by_hand.is_empty())
        {
            self.asked.pauses.push((since, at));
        }
    }

    pub(super) fn delete(&mut self, at: Timestamp) {
        self.end(at);
        self.deleted_at = Some(at);
    }

    /// How much is known that touches the range.
    pub(super) fn weight(&self) -> usize {
        let Asked { periods, outcomes, passed, moved, .. } = &self.asked;
        periods.len() + outcomes.len() + passed.len() + moved.len()
    }

    /// Whether nothing is to be told of it.
    pub(super) fn is_blank(&self) -> bool {
        self.weight() == 0 && self.by_hand.is_empty()
    }

    /// Takes what the log says of occurrences.
    pub(super) fn note(&mut self, record: &Record, scope: Scope<'_>) {
        let settled = |execution| settled_by(&record.header, execution);
        match &record.event {
            Event::TaskScheduled { occurrence, scheduled_at, execution, held, .. } => {
                let (held, settled) = (*held, settled(Some(*execution)));
                match occurrence {
                    Occurrence::Scheduled(instant) => {
                        let against = self.against(*instant, scope);
                        self.settle(*instant, Outcome::Fired { held, against }, settled, scope.range);
                    }
                    Occurrence::Moved(at) => {
                        let outcome = Outcome::Fired { held, against: None };
                        self.settle_moved(*at, *scheduled_at, outcome, settled, scope.range);
                    }
                    // It counts among the runs that a task may have, and is for no instant of a schedule.
                    Occurrence::Event(_) | Occurrence::After { .. } | Occurrence::Joined { .. } => {}
                    Occurrence::Manual(_) | Occurrence::Backfill { .. } => return,
                }
                self.count_run();
            }
            Event::TaskSkipped { occurrence, scheduled_at, execution, reason, .. } => {
                let settled = settled(Some(*execution));
                match occurrence {
                    Occurrence::Scheduled(instant) => {
                        let grounded =
                            *reason != SkipReason::ByHand || self.by_hand.get(instant) == Some(&ByHand::Skip);
                        let skipped = || Outcome::Skipped(reason.clone());
                        let outcome = if grounded { skipped() } else { Outcome::Groundless };
                        self.settle(*instant, outcome, settled, scope.range);
                    }
                    Occurrence::Moved(at) => {
                        let outcome = Outcome::Skipped(reason.clone());
                        self.settle_moved(*at, *scheduled_at, outcome, settled, scope.range);
                    }
                    Occurrence::Manual(_)
                    | Occurrence::Backfill { .. }
                    | Occurrence::Event(_)
                    | Occurrence::After { .. }
                    | Occurrence::Joined { .. } => {}
                }
            }
            Event::TaskMoved { at, to, .. } => {
                let grounded =
                    matches!(self.by_hand.get(at), Some(ByHand::Move { to: asked, .. }) if asked == to);
                let outcome = if grounded { Outcome::Moved { to: *to } } else { Outcome::Groundless };
                self.settle(*at, outcome, settled(None), scope.range);
            }
            Event::TaskMissed { first, last, .. } => {
                self.pass_over(*first, *last, Cause::Missed, settled(None), scope.range);
            }
            Event::TaskSuppressed { first, last, calendar, .. } => {
                let content = self.present().and_then(|period| period.calendar(calendar, scope.calendars));
                let cause = Cause::Forbidden(calendar.clone(), content);
                self.pass_over(*first, *last, cause, settled(None), scope.range);
            }
            Event::TaskOccurrenceChanged { at, change, .. } => self.change(*at, *change),
            Event::TaskReplanned { before, next, .. } => self.replan(*before, *next, scope.range),
            _ => {}
        }
    }

    /// What an instant that fires now should have done instead.
    fn against(&self, instant: Timestamp, scope: Scope<'_>) -> Option<FireReason> {
        if !scope.range.holds(instant) {
            return None;
        }
        self.changed(instant)
            .or_else(|| self.present()?.forbidden_by(instant, scope.calendars).map(FireReason::forbidden))
    }

    /// What somebody decided about an instant.
    pub(super) fn changed(&self, instant: Timestamp) -> Option<FireReason> {
        Some(match self.by_hand.get(&instant)? {
            ByHand::Skip => FireReason::Skip(SkipReason::ByHand),
            ByHand::Move { to, .. } => FireReason::Moved { to: *to },
        })
    }

    fn settle(&mut self, instant: Timestamp, outcome: Outcome, settled: Settled, range: Range) {
        self.settled = self.settled.max(instant);
        if range.holds(instant) {
            self.asked.outcomes.insert(instant, (outcome, settled));
        } else if self.by_hand.get(&instant) == Some(&ByHand::Skip) {
            self.by_hand.remove(&instant);
        }
    }

    fn settle_moved(
        &mut self,
        at: Timestamp,
        to: Timestamp,
        outcome: Outcome,
        settled: Settled,
        range: Range,
    ) {
        let outcome = match self.by_hand.get_mut(&at) {
            Some(ByHand::Move { to: asked, ran }) if *asked == to && !*ran => {
                *ran = true;
                outcome
            }
            _ => Outcome::Groundless,
        };
        if range.holds(to) {
            self.asked.moved.push(MovedRun { at, to, outcome, settled, misfire: self.misfire });
        }
    }

    fn pass_over(&mut self, first: Timestamp, last: Timestamp, cause: Cause, settled: Settled, range: Range) {
        self.settled = self.settled.max(last);
        if last >= range.from && first < range.to {
            self.asked.passed.insert(first, Passed { last, settled, cause });
        }
    }

    /// A hand changes an occurrence, or takes that back.
    pub(super) fn change(&mut self, at: Timestamp, change: Change) {
        match change {
            Change::Skip => self.by_hand.insert(at, ByHand::Skip),
            Change::Move { to } => self.by_hand.insert(at, ByHand::Move { to, ran: false }),
            Change::Restore => self.by_hand.remove(&at),
        };
    }

    /// What is not settled is named by newer zone data from here on, and begins with `next`.
    fn replan(&mut self, before: Timestamp, next: Option<Timestamp>, range: Range) {
        let following =
            self.present().zip(next).map(|(period, next)| period.by_newer_zone_data(before, next));
        self.end(self.settled);
        if let Some(period) = following {
            self.hold(period, range);
        }
    }

    fn is_exhausted(&self) -> bool {
        self.max_runs.is_some_and(|most| self.runs >= most)
    }

    fn count_run(&mut self) {
        self.runs = self.runs.saturating_add(1);
        if self.is_exhausted() {
            self.end(self.settled);
            self.fall_away();
        }
    }

    /// It has run as often as it may: what was moved and has not run is owed no more.
    fn fall_away(&mut self) {
        self.by_hand.retain(|_, change| !matches!(change, ByHand::Move { ran: false, .. }));
    }
}

/// The event with this header settled an instant.
fn settled_by(header: &RecordHeader, execution: Option<ExecutionId>) -> Settled {
    Settled { at: header.at, log_index: header.log_index, sequence: header.sequence, execution }
}
