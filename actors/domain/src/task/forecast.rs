//! How many fires each step of the time to come will see, before they stampede.
//!
//! Tasks whose instants coincide are walked through once and counted together: a herd costs as much as one of it. Intervals
//! coincide already when the steps cannot tell them apart. Invariants: a task is counted whole or left out, and what is left
//! out is said; instants before `now` are not counted.
//!
//! Absent on purpose: whatever decides at its time whether an instant becomes an execution (overlap, misfires, pauses to
//! come), and runs by hand, events and retries, which nobody can foresee.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plan::{Timetable, TimetableError};
use super::rules::Timing;
use super::state::Task;
use crate::identifier::TaskId;
use crate::schedule::calendar::Calendar;
use crate::schedule::{Rhythm, jitter_of};
use crate::timestamp::{Span, Timestamp};

/// Rows of instants that are gathered before they are walked through.
const GATHERED_MAX: usize = 1 << 16;
/// Instants after which [`Forecast::count_some`] hands back.
const INSTANTS_PER_TURN: u64 = 20_000;

/// The time to come, in steps of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Where the first one begins.
    pub from: Timestamp,
    /// How long each is; longer than nothing.
    pub step: Span,
    /// How many there are.
    pub count: usize,
}

impl Steps {
    /// As many steps as a horizon holds, from the one on that `now` lies in: they begin on whole steps since 1970.
    #[must_use]
    pub fn from_now(now: Timestamp, horizon: Span, step: Span) -> Self {
        let step = step.max(Span(1));
        let from = now.minus(Span(now.0.unsigned_abs() % step.0));
        Self { from, step, count: usize::try_from(horizon.0.div_ceil(step.0)).unwrap_or(usize::MAX) }
    }

    /// Where a step begins.
    #[must_use]
    pub fn begin(&self, index: usize) -> Timestamp {
        self.from.plus(Span(self.step.0.saturating_mul(index as u64)))
    }

    /// The first instant after the last step.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.begin(self.count)
    }

    /// The step that an instant lies in.
    fn of(&self, instant: Timestamp) -> Option<usize> {
        let index = usize::try_from(instant.since(self.from).0 / self.step.0).ok()?;
        (instant >= self.from && index < self.count).then_some(index)
    }
}

/// The step with the most fires, the first of them, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Where the step begins.
    pub at: Timestamp,
    /// Its fires.
    pub fires: u64,
}

impl Peak {
    /// The peak of a row of counts; none where nothing fires.
    #[must_use]
    pub fn of(steps: &Steps, counts: &[u64]) -> Option<Self> {
        let fires = counts.iter().copied().max().filter(|&most| most > 0)?;
        let index = counts.iter().position(|&count| count == fires)?;
        Some(Self { at: steps.begin(index), fires })
    }
}

/// The instants of some tasks, all the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    rhythm: Rhythm,
    calendars: Vec<Arc<str>>,
    first: Timestamp,
    /// The first instant that is not of the series any more.
    until: Timestamp,
    left: u32,
    /// Whose instants are fired how much later at most: no two tasks have the same.
    jitter: Option<(TaskId, Span)>,
    /// Instants that somebody skipped or moved, and the times to which the moved ones were, in order.
    changed: Vec<Timestamp>,
    moved: Vec<Timestamp>,
}

impl Series {
    fn is_changed_by_hand(&self) -> bool {
        !(self.changed.is_empty() && self.moved.is_empty())
    }
}

/// Tasks with the same series.
#[derive(Debug)]
struct Herd {
    timetable: Option<Timetable>,
    tasks: u64,
}

/// Counts fires.
#[derive(Debug)]
pub struct Forecast {
    now: Timestamp,
    steps: Steps,
    counts: Vec<u64>,
    tasks: u64,
    left_out: u64,
    instants_left: u64,
    gathered: BTreeMap<Series, Herd>,
    /// The largest herds last.
    waiting: Vec<(Series, Herd)>,
}

impl Forecast {
    /// A forecast without tasks that will look at so many instants.
    #[must_use]
    pub fn new(now: Timestamp, steps: Steps, instants_max: u64) -> Self {
        Self {
            now,
            steps,
            counts: vec![0; steps.count],
            tasks: 0,
            left_out: 0,
            instants_left: instants_max,
            gathered: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    /// Adds a task that is active, with the calendars that it names. Its definition is opened only where it decides something.
    ///
    /// # Errors
    /// [`TimetableError`].
    pub fn add(&mut self, task: &Task, calendars: Vec<Arc<Calendar>>) -> Result<(), TimetableError> {
        let (jitter, end) = (task.rules.jitter, self.steps.end());
        let mut series = Series {
            rhythm: Rhythm::Once,
            calendars: Vec::new(),
            first: task.next.unwrap_or(end),
            until: end,
            left: task.rules.max_runs.map_or(u32::MAX, |most| most.saturating_sub(task.runs)),
            jitter: (jitter > Span::ZERO).then_some((task.id, jitter)),
            changed: task.overrides.keys().copied().filter(|at| *at < end).collect(),
            moved: task.moved().map(|(to, _)| to).filter(|to| (self.now..end).contains(to)).collect(),
        };
        series.moved.sort_unstable();
        // What is due since longer than this fires at once, if at all.
        let earliest = self.now.minus(jitter);
        let mut timetable = None;
        let narrowed = !calendars.is_empty();
        if (task.rules.timing == Timing::Recurring || narrowed) && series.first < end {
            let compiled = Timetable::of(task, calendars)?;
            if series.first < earliest || narrowed {
                let before = Timestamp(earliest.max(series.first).0 - 1);
                series.first = compiled.next_allowed_after(before).unwrap_or(end);
            }
            series.until = compiled.end_at().map_or(end, |last| end.min(last.plus(Span(1))));
            series.rhythm = compiled.rhythm();
            series.calendars.clone_from(&task.rules.calendars);
            timetable = Some(compiled);
        }
        if !(earliest..series.until).contains(&series.first) {
            if series.moved.is_empty() {
                self.tasks += 1;
                return Ok(());
            }
            // What was moved is all that is left of it.
            series.until = series.first;
        }
        self.blur(&mut series);
        self.gathered.entry(series).or_insert(Herd { timetable, tasks: 0 }).tasks += 1;
        Ok(())
    }

    /// Moves an unbounded interval to where all those begin that the steps cannot tell from it: the step of an instant does
    /// not depend on what it is past a common divisor of step and interval.
    fn blur(&self, series: &mut Series) {
        let Rhythm::Every(every) = series.rhythm else { return };
        let is_bounded = series.until < self.steps.end() || series.left < u32::MAX;
        let is_changed = !series.calendars.is_empty() || series.is_changed_by_hand();
        if is_bounded || series.jitter.is_some() || is_changed {
            return;
        }
        let past = series.first.since(self.steps.from).0 % common_divisor(every.0, self.steps.step.0);
        series.first = series.first.minus(Span(past));
    }

    /// Whether so much was added that it is to be counted before more is.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.gathered.len() >= GATHERED_MAX
    }

    /// Counts for some milliseconds; returns whether something is left to count. The largest herds gathered come first: what is
    /// left out matters least.
    pub fn count_some(&mut self) -> bool {
        if self.waiting.is_empty() {
            self.waiting = std::mem::take(&mut self.gathered).into_iter().collect();
            self.waiting.sort_by_key(|(_, herd)| herd.tasks);
        }
        let turn_ends = self.instants_left.saturating_sub(INSTANTS_PER_TURN);
        while let Some((series, herd)) = self.waiting.pop() {
            match self.steps_of(&series, herd.timetable.as_ref()) {
                Some(steps) => {
                    self.tasks += herd.tasks;
                    steps.into_iter().for_each(|step| self.counts[step] += herd.tasks);
                }
                None => self.left_out += herd.tasks,
            }
            if self.instants_left < turn_ends {
                break;
            }
        }
        !(self.waiting.is_empty() && self.gathered.is_empty())
    }

    /// The steps in which a series fires; none when it has more instants than may still be looked at.
    fn steps_of(&mut self, series: &Series, timetable: Option<&Timetable>) -> Option<Vec<usize>> {
        let mut found = Vec::new();
        let (mut upcoming, mut left) = (Some(series.first), series.left);
        let mut moved = series.moved.iter().copied().peekable();
        while left > 0 {
            let scheduled = upcoming.filter(|instant| *instant < series.until);
            if let Some(to) = moved.next_if(|to| scheduled.is_none_or(|instant| *to <= instant)) {
                self.instants_left = self.instants_left.checked_sub(1)?;
                left -= 1;
                found.extend(self.steps.of(to));
                continue;
            }
            let Some(instant) = scheduled else { break };
            self.instants_left = self.instants_left.checked_sub(1)?;
            if series.changed.binary_search(&instant).is_err() {
                left -= 1;
                let fire = series.jitter.map(|(task, bound)| instant.plus(jitter_of(task, instant, bound)));
                // An instant that has passed may fire later still; a blurred one may only seem to have passed.
                if fire.is_none_or(|fire| fire >= self.now) {
                    found.extend(self.steps.of(fire.unwrap_or(instant)));
                }
            }
            upcoming = match series.rhythm {
                Rhythm::Once => None,
                Rhythm::Every(every) if series.calendars.is_empty() => Some(instant.plus(every)),
                Rhythm::Every(_) | Rhythm::Cron(..) => {
                    timetable.and_then(|table| table.next_allowed_after(instant))
                }
            };
        }
        Some(found)
    }

    /// How many instants may still be looked at.
    #[must_use]
    pub fn instants_left(&self) -> u64 {
        self.instants_left
    }

    /// The fires of each step.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many tasks are counted, those included that do not fire.
    #[must_use]
    pub fn tasks(&self) -> u64 {
        self.tasks
    }

    /// How many tasks were left out, since too many instants were to be looked at.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

fn common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one.max(1)
}

#[cfg(test)]
mod tests;
