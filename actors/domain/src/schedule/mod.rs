//! When a trigger is due: compiled once, then asked for the next instant, a million times over.
//!
//! A [`Schedule`] answers *which instant comes strictly after this one?* It is evaluated by whoever proposes and
//! never while applying: zone data may differ between nodes, so the answer travels in the log. How evaluation goes:
//! local fields (`cron`) → the zone's gaps and folds (`evaluation`) → UTC. Debian's cron is the model for the
//! nights when clocks change: a job is *wildcard* if its minute or hour begins with `*`, else *fixed*.
//!
//! The `cron` crate is not used. It wants a seconds field and counts Sunday as 1, so that crontab's `1-5` becomes
//! Sunday to Thursday without a word; it holds days of month and of week together where crontab takes either; it
//! knows no `L`, `W`, `#`, `H` or `FRI-SUN`, ends in 2100, and can answer with an instant in the past in a fold.
//!
//! Invariants: `next_after(t) > t` always; equal arguments give equal answers; a schedule that compiles from a cron
//! expression fires at least once after its task's creation. Absent on purpose: clocks, calendars of holidays,
//! misfire policies, and whatever else decides whether a due instant becomes an execution.

pub mod calendar;
mod civil;
mod clock;
mod cron;
mod description;
mod error;
mod evaluation;
mod expression;
mod field;
mod rhythm;
mod special;
mod spread;
mod timezone;
mod zone;

use chrono_tz::Tz;

pub use self::clock::{LocalClock, Occasion, zone_data_version};
pub use self::description::describe;
pub use self::error::{ScheduleError, ScheduleFault};
pub use self::expression::EXPRESSION_BYTES_MAX;
pub use self::spread::jitter_of;

pub(crate) use self::rhythm::Rhythm;

use self::cron::Cron;
use self::evaluation::ClockRules;
use self::expression::Body;
use self::zone::Zone;
use crate::identifier::TaskId;
use crate::task::trigger::{Dst, Trigger};
use crate::timestamp::{Span, Timestamp};

/// How many instants of a cron expression one call of [`Schedule::overdue`] counts before it hands back.
pub const OVERDUE_STEPS_MAX: u64 = 10_000;

/// A trigger, compiled: about a hundred bytes, cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule(Plan);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Never,
    Once(Timestamp),
    Interval { every: Span, anchor: Timestamp },
    Cron { cron: Cron, tz: Tz, rules: ClockRules },
}

const _: () = assert!(size_of::<Schedule>() <= 104);

/// What became due while nobody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The latest instant that was counted; `None` if none was.
    pub last: Option<Timestamp>,
    /// How many instants were counted.
    pub count: u64,
    /// The first instant that was not counted; `None` if there is none.
    pub next: Option<Timestamp>,
    /// Whether `next` lies after the bound. Otherwise ask again from `next`.
    pub complete: bool,
}

impl Schedule {
    /// Compiles a trigger. `task` seeds `H`; `created_at` anchors an interval that has no anchor. Events, other
    /// tasks and hands have no schedule: they compile to one that is never due.
    ///
    /// A zone in the expression (`CRON_TZ=`) is taken when the trigger's is UTC, which is also what it is when it
    /// was left out; two zones that differ are refused.
    ///
    /// # Errors
    /// [`ScheduleError`] with every fault, for an expression that cannot be read or can never fire, an unknown
    /// zone, an interval of no length, or an instant outside [`Timestamp::MIN`]..=[`Timestamp::MAX`].
    pub fn compile(trigger: &Trigger, task: TaskId, created_at: Timestamp) -> Result<Self, ScheduleError> {
        match trigger {
            Trigger::Cron { expression, timezone, dst } => {
                compile_cron(expression, timezone, *dst, task, created_at)
            }
            Trigger::Interval { every: Span(0), .. } => {
                let detail = "an interval is longer than nothing, such as `10m`";
                Err(ScheduleFault::new("/every", detail).into())
            }
            Trigger::Interval { every, anchor } => {
                let anchor = in_range("/anchor", anchor.unwrap_or(created_at))?;
                Ok(Self(Plan::Interval { every: *every, anchor }))
            }
            Trigger::Once { at, .. } => Ok(Self(Plan::Once(in_range("/at", *at)?))),
            Trigger::Event { .. } | Trigger::After { .. } | Trigger::Manual => Ok(Self(Plan::Never)),
        }
    }

    /// Returns the first instant strictly after `after`; `None` if there is none before the year 10000.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Plan::Never => None,
            Plan::Once(at) => (*at > after).then_some(*at),
            Plan::Interval { every, anchor } => next_interval(*every, *anchor, after),
            Plan::Cron { cron, tz, rules } => {
                let second = after.0.div_euclid(1_000);
                let next = evaluation::next_after(cron, Zone::of(*tz), *rules, second)?;
                Some(Timestamp(next * 1_000))
            }
        }
    }

    /// The zone whose local days the schedule goes by; UTC for what has none.
    #[must_use]
    pub fn zone(&self) -> Tz {
        match &self.0 {
            Plan::Cron { tz, .. } => *tz,
            Plan::Never | Plan::Once(_) | Plan::Interval { .. } => Tz::UTC,
        }
    }

    /// Yields the instants after `from` up to and including `to`, in order.
    pub fn between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
        let next = move |after: Timestamp| self.next_after(after).filter(|&instant| instant <= to);
        std::iter::successors(next(from), move |&instant| next(instant))
    }

    /// Counts what is due from `first`, an instant of this schedule, up to and including `bound`.
    ///
    /// For an interval the answer is arithmetic. A cron expression is walked for at most [`OVERDUE_STEPS_MAX`]
    /// instants; if more are due the answer is not `complete`, and another call takes `next` as its `first`.
    #[must_use]
    pub fn overdue(&self, first: Timestamp, bound: Timestamp) -> Overdue {
        if first > bound {
            return Overdue { last: None, count: 0, next: Some(first), complete: true };
        }
        if let Plan::Interval { every, .. } = self.0 {
            return self.overdue_interval(first, bound, every);
        }
        let mut overdue =
            Overdue { last: Some(first), count: 1, next: self.next_after(first), complete: false };
        while let Some(instant) = overdue.next.filter(|&next| next <= bound) {
            if overdue.count == OVERDUE_STEPS_MAX {
                return overdue;
            }
            overdue = Overdue {
                last: Some(instant),
                count: overdue.count + 1,
                next: self.next_after(instant),
                complete: false,
            };
        }
        Overdue { complete: true, ..overdue }
    }

    fn overdue_interval(&self, first: Timestamp, bound: Timestamp, every: Span) -> Overdue {
        let later = self.next_after(first).filter(|&second| second <= bound);
        let (last, count) = match later {
            None => (first, 1),
            Some(second) => {
                let more = bound.since(second).0 / every.0;
                (second.plus(Span(more * every.0)), more + 2)
            }
        };
        Overdue { last: Some(last), count, next: self.next_after(last), complete: true }
    }
}

/// The instant of an expression that names a single one (`@at`).
#[must_use]
pub fn once_of(expression: &str) -> Option<Timestamp> {
    match expression::parse(expression, &|_, _| 0).ok()?.body {
        Body::At(at) => Some(at),
        Body::Fields(_) | Body::Every(_) => None,
    }
}

fn compile_cron(
    expression: &str,
    timezone: &str,
    dst: Dst,
    task: TaskId,
    created_at: Timestamp,
) -> Result<Schedule, ScheduleError> {
    let zone = timezone::parse(timezone).map_err(|detail| ScheduleFault::new("/timezone", detail));
    let parsed = expression::parse(expression, &|purpose, choices| spread::spread(task, purpose, choices));
    let (zone, parsed) = match (zone, parsed) {
        (Ok(zone), Ok(parsed)) => (zone, parsed),
        (Ok(_), Err(error)) => return Err(error),
        (Err(fault), parsed) => {
            let mut faults = parsed.err().map_or_else(Vec::new, |error| error.faults);
            faults.push(fault);
            return Err(ScheduleError { faults });
        }
    };
    let tz = match parsed.zone {
        Some(named) if zone != Tz::UTC && named != zone => {
            let detail = format!(
                "the expression names {}, the trigger {}; one of them is enough",
                named.name(),
                zone.name()
            );
            return Err(ScheduleFault::new("/timezone", detail).into());
        }
        named => named.unwrap_or(zone),
    };
    let fields = match parsed.body {
        Body::Every(every) => {
            return Ok(Schedule(Plan::Interval { every, anchor: in_range("/anchor", created_at)? }));
        }
        Body::At(at) => return Ok(Schedule(Plan::Once(at))),
        Body::Fields(fields) => fields,
    };
    let rules = ClockRules::new(dst, fields.is_wildcard());
    let schedule = Schedule(Plan::Cron { cron: fields.compile(), tz, rules });
    if schedule.next_after(created_at).is_none() {
        let detail = format!("it can never fire in {}: no time that it names exists there", tz.name());
        return Err(ScheduleFault::new("/expression", detail).into());
    }
    Ok(schedule)
}

fn in_range(pointer: &'static str, instant: Timestamp) -> Result<Timestamp, ScheduleFault> {
    if (Timestamp::MIN..=Timestamp::MAX).contains(&instant) {
        Ok(instant)
    } else {
        Err(ScheduleFault::new(pointer, "an instant lies in the years 1970 to 9999"))
    }
}

/// The series runs both ways from its anchor; only instants of the calendar count.
fn next_interval(every: Span, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
    let after = i128::from(after.0.max(Timestamp::MIN.0 - 1));
    let (every, anchor) = (i128::from(every.0), i128::from(anchor.0));
    let next = anchor + ((after - anchor).div_euclid(every) + 1) * every;
    let next = Timestamp(i64::try_from(next).ok()?);
    (next <= Timestamp::MAX).then_some(next)
}
