//! The course of one task through time: which definition held when, when it was paused, and what the log says of its instants.

use std::collections::BTreeMap;

use escapement_domain::event::SkipReason;
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::record::RecordHeader;
use escapement_domain::schedule::{Schedule, jitter_of};
use escapement_domain::task::definition::{Definition, Misfire};
use escapement_domain::timestamp::{Span, Timestamp};

use super::{Fire, FireReason, FireStatus, ON_TIME, Range, Settled};

/// What the log says of one instant.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Fired { held: bool },
    Skipped(SkipReason),
}

/// Why a definition holds no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Changed,
    Deleted,
    /// It has run as often as it may; what is left of it fires no more.
    Exhausted,
}

/// One definition while it held.
#[derive(Debug)]
struct Period {
    schedule: Schedule,
    /// When it was defined: nobody could fire before.
    since: Timestamp,
    /// Only instants after this one.
    after: Timestamp,
    /// Only instants up to this one, if it holds no more.
    until: Option<(Timestamp, End)>,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    misfire: Misfire,
    jitter: Span,
    max_runs: Option<u32>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Course {
    created_at: Timestamp,
    runs: u32,
    paused_since: Option<Timestamp>,
    max_runs: Option<u32>,
    asked: Asked,
}

/// What of a course touches the range that is asked about.
#[derive(Debug, Default)]
struct Asked {
    periods: Vec<Period>,
    pauses: Vec<(Timestamp, Timestamp)>,
    outcomes: BTreeMap<Timestamp, (Outcome, Settled)>,
    missed: Vec<(Timestamp, Timestamp, Settled)>,
}

impl Course {
    pub(super) fn new(created_at: Timestamp, paused: bool) -> Self {
        let paused_since = paused.then_some(created_at);
        Self { created_at, runs: 0, paused_since, max_runs: None, asked: Asked::default() }
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
        // A definition that was accepted compiles; one that does not names no instant.
        let Ok(schedule) = Schedule::compile(&definition.trigger, task, self.created_at) else { return };
        let period = Period {
            schedule,
            since,
            after: first.map_or(since, |first| since.min(Timestamp(first.0 - 1))),
            until: None,
            start_at: definition.start_at,
            end_at: definition.end_at,
            misfire: definition.misfire,
            jitter: definition.jitter,
            max_runs: definition.max_runs,
        };
        if !self.is_exhausted() && period.next(Timestamp(range.from.0 - 1), range).is_some() {
            self.asked.periods.push(period);
        }
    }

    /// Whether it has run as often as its present definition lets it.
    pub(super) fn is_exhausted(&self) -> bool {
        self.max_runs.is_some_and(|most| self.runs >= most)
    }

    /// The present definition holds no more for instants after `until`.
    pub(super) fn end(&mut self, until: Timestamp, end: End) {
        if let Some(period) = self.asked.periods.last_mut()
            && period.until.is_none()
        {
            period.until = Some((until, end));
        }
    }

    pub(super) fn pause(&mut self, at: Timestamp) {
        self.paused_since = self.paused_since.or(Some(at));
    }

    pub(super) fn resume(&mut self, at: Timestamp) {
        if let Some(since) = self.paused_since.take()
            && !self.asked.periods.is_empty()
        {
            self.asked.pauses.push((since, at));
        }
    }

    /// An instant was settled.
    pub(super) fn settle(&mut self, instant: Timestamp, outcome: Outcome, settled: Settled, range: Range) {
        let fired = matches!(outcome, Outcome::Fired { .. });
        if range.holds(instant) {
            self.asked.outcomes.insert(instant, (outcome, settled));
        }
        if fired {
            self.runs = self.runs.saturating_add(1);
            if self.is_exhausted() {
                self.end(instant, End::Exhausted);
            }
        }
    }

    /// Instants were passed over.
    pub(super) fn miss(&mut self, first: Timestamp, last: Timestamp, settled: Settled, range: Range) {
        if last >= range.from && first < range.to {
            self.asked.missed.push((first, last, settled));
        }
    }

    /// How much is known that touches the range.
    pub(super) fn weight(&self) -> usize {
        self.asked.periods.len() + self.asked.outcomes.len()
    }

    /// Tells every instant in the range, in order, until `take` wants no more.
    pub(super) fn tell(
        mut self,
        task: TaskId,
        range: Range,
        as_of: Timestamp,
        take: &mut impl FnMut(Fire) -> bool,
    ) -> bool {
        let mut told = BTreeMap::new();
        for period in &self.asked.periods {
            // What is to come of the present definition is bounded by the runs that it has left.
            let most = period.max_runs.filter(|_| period.until.is_none());
            let mut left = most.map(|most| most.saturating_sub(self.runs));
            let mut before = Timestamp(range.from.0 - 1);
            while let Some(at) = period.next(before, range) {
                before = at;
                let (status, reason, settled) = self.judge(task, period, at, as_of);
                if status == FireStatus::Pending {
                    match left.as_mut() {
                        Some(0) => break,
                        Some(left) => *left -= 1,
                        None => {}
                    }
                }
                let fire = Fire { at, task, status, reason, settled };
                // The same instant under two definitions is one: the first of them settled it.
                if told.insert(at, ()).is_none() && !take(fire) {
                    return false;
                }
            }
        }
        let unexpected = std::mem::take(&mut self.asked.outcomes);
        for (at, (outcome, settled)) in unexpected {
            if told.contains_key(&at) {
                continue;
            }
            let (status, reason) = match outcome {
                Outcome::Fired { .. } => (FireStatus::Unexpected, None),
                Outcome::Skipped(reason) => (FireStatus::Unexpected, Some(FireReason::Skip(reason))),
            };
            if !take(Fire { at, task, status, reason, settled: Some(settled) }) {
                return false;
            }
        }
        true
    }

    fn judge(
        &self,
        task: TaskId,
        period: &Period,
        instant: Timestamp,
        as_of: Timestamp,
    ) -> (FireStatus, Option<FireReason>, Option<Settled>) {
        let due = instant.plus(jitter_of(task, instant, period.jitter)).max(period.since);
        let misfire = period.misfire;
        if let Some((outcome, settled)) = self.asked.outcomes.get(&instant) {
            let (status, reason) = match outcome {
                Outcome::Skipped(reason) => (FireStatus::Skipped, Some(FireReason::Skip(reason.clone()))),
                Outcome::Fired { held: true } => (FireStatus::DelayedByOverlap, None),
                Outcome::Fired { .. } if settled.at.since(due) <= ON_TIME => (FireStatus::OnTime, None),
                Outcome::Fired { .. } if self.paused_at(due) => (FireStatus::Late, Some(FireReason::Paused)),
                Outcome::Fired { .. } => {
                    let missed = settled.at.since(instant.max(period.since)) > misfire.grace;
                    (FireStatus::Late, missed.then_some(FireReason::MadeGood(misfire.policy)))
                }
            };
            return (status, reason, Some(*settled));
        }
        let missed = self.asked.missed.iter().find(|(first, last, _)| (*first..=*last).contains(&instant));
        if let Some((.., settled)) = missed {
            let (status, reason) = if self.paused_at(due) {
                (FireStatus::Skipped, FireReason::Paused)
            } else {
                (FireStatus::Missed, FireReason::PassedOver(misfire.policy))
            };
            return (status, Some(reason), Some(*settled));
        }
        let (status, reason) = self.judge_unsettled(period, due, as_of);
        (status, reason, None)
    }

    fn judge_unsettled(
        &self,
        period: &Period,
        due: Timestamp,
        as_of: Timestamp,
    ) -> (FireStatus, Option<FireReason>) {
        let grace = period.misfire.grace;
        // From here on somebody should have fired it.
        let from = self.asked.pauses.iter().find(|(since, until)| (*since..*until).contains(&due));
        let ready = from.map_or(due, |(_, until)| *until);
        match period.until {
            Some((until, End::Changed)) if due > until => {
                return (FireStatus::Skipped, Some(FireReason::Changed));
            }
            Some((until, End::Deleted)) if ready.plus(grace) >= until => {
                let reason = if self.paused_at(due) { FireReason::Paused } else { FireReason::Deleted };
                return (FireStatus::Skipped, Some(reason));
            }
            _ => {}
        }
        if self.paused_since.is_some_and(|since| due >= since) {
            return match period.until {
                Some(_) => (FireStatus::Skipped, Some(FireReason::Paused)),
                None => (FireStatus::Pending, Some(FireReason::Paused)),
            };
        }
        if ready.plus(grace) < as_of {
            (FireStatus::Missed, Some(FireReason::Unsettled))
        } else {
            (FireStatus::Pending, None)
        }
    }

    fn paused_at(&self, due: Timestamp) -> bool {
        self.paused_since.is_some_and(|since| due >= since)
            || self.asked.pauses.iter().any(|(since, until)| (*since..*until).contains(&due))
    }
}

impl Period {
    /// The first instant after `before` that lies in the range and was named while the definition held.
    fn next(&self, before: Timestamp, range: Range) -> Option<Timestamp> {
        let start = self.start_at.map_or(before, |start| before.max(Timestamp(start.0 - 1)));
        let next = self.schedule.next_after(start.max(self.after))?;
        let held = self.until.is_none_or(|(until, _)| next <= until);
        (held && self.end_at.is_none_or(|end| next <= end) && next < range.to).then_some(next)
    }
}

/// The event with this header settled an instant.
pub(super) fn settled_by(header: &RecordHeader, execution: Option<ExecutionId>) -> Settled {
    Settled { at: header.at, log_index: header.log_index, sequence: header.sequence, execution }
}
