//! What did not run, waited or was stopped had the reason that its record names: an operator who reads why acts on it.
//!
//! Every reason is held against the task as the records had it at that moment, and so is what ran although there was a reason not
//! to. Whether the ends that a step waited for were such is told by *followed*.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use escapement_domain::command::Change;
use escapement_domain::event::{Event, SkipReason};
use escapement_domain::execution::state::{CancelCause, Occurrence, Status};
use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::limits::OPEN_EXECUTIONS_PER_TASK_MAX;
use escapement_domain::record::Record;
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::task::definition::{MisfirePolicy, Overlap};
use escapement_domain::task::plan::Timetable;
use escapement_domain::task::rules::Timing;
use escapement_domain::task::trigger::AfterCondition;
use escapement_domain::timestamp::{Span, Timestamp};

use super::standing::{Standing, Standings};
use super::story::Lives;
use crate::evidence::Evidence;

/// What the records say so far, beside the tasks.
#[derive(Default)]
struct Books {
    calendars: BTreeMap<(TenantId, Arc<str>), Arc<Calendar>>,
    /// How executions of a task ended, ever.
    ended: BTreeSet<(TaskId, Status)>,
}

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let (mut standings, mut books) = (Standings::default(), Books::default());
    let mut found = Vec::new();
    for record in &evidence.records {
        if let (Some(task), Some(standing)) = (record.event.task(), standings.of(record))
            && let Err(why) = books.judge(task, standing, record)
        {
            found.push(format!("task {task}: {} of {} {why}", record.event.name(), record.header.at));
        }
        books.read(record);
        standings.follow(record);
    }
    found
}

fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

impl Books {
    fn read(&mut self, record: &Record) {
        let tenant = record.header.tenant;
        let status = match &record.event {
            Event::CalendarPut { name, calendar, .. } => {
                self.calendars.insert((tenant, name.clone()), Arc::new(calendar.clone()));
                return;
            }
            Event::TaskSkipped { .. } => Status::Skipped,
            Event::TaskCompleted { .. } => Status::Succeeded,
            Event::TaskFailed { .. } => Status::Failed,
            Event::TaskTimedOut { .. } => Status::TimedOut,
            Event::TaskCancelled { .. } => Status::Cancelled,
            Event::TaskLost { .. } => Status::Lost,
            _ => return,
        };
        self.ended.extend(record.event.task().map(|task| (task, status)));
    }

    fn judge(&self, id: TaskId, task: &Standing, record: &Record) -> Result<(), String> {
        let (tenant, now) = (record.header.tenant, record.header.at);
        match &record.event {
            Event::TaskScheduled { occurrence, held, .. } => {
                waits(task, *occurrence, *held)?;
                let Occurrence::Scheduled(instant) = occurrence else { return Ok(()) };
                demand(!task.by_hand.contains_key(instant), || {
                    format!("ran {instant}, which was skipped or moved by hand")
                })?;
                self.allowed(tenant, id, task, *instant)
            }
            Event::TaskSkipped { occurrence, scheduled_at, reason, .. } => {
                self.skipped(task, *occurrence, *scheduled_at, reason, now)
            }
            Event::TaskMissed { first, last, next, .. } => {
                demand(task.by_hand.range(first..=last).next().is_none(), || {
                    format!("passes over {first} to {last}, of which something was decided by hand")
                })?;
                if task.paused {
                    return demand(*last <= now, || format!("passes over {last} too soon"));
                }
                [first, last].into_iter().try_for_each(|instant| self.allowed(tenant, id, task, *instant))?;
                missed(task, *last, task.rules.jitter, *next, now)
            }
            Event::TaskSuppressed { first, last, calendar, .. } => {
                demand(*last <= now && !task.paused, || {
                    format!("passes over {last}; the task is paused: {}", task.paused)
                })?;
                [first, last].into_iter().try_for_each(|instant| {
                    let forbids = self.forbids(tenant, id, task, *instant);
                    demand(forbids == Some(calendar), || {
                        format!("says that {calendar} forbids {instant}, and {forbids:?} does")
                    })
                })
            }
            Event::TaskMoved { at, to, .. } => {
                let by_hand = task.by_hand.get(at);
                demand(by_hand == Some(&Change::Move { to: *to }), || {
                    format!("says that {at} was moved to {to}, and it was {by_hand:?}")
                })
            }
            Event::TaskCancelRequested { cause, .. } => stops(task, *cause),
            Event::TaskCancelled { execution, cause, .. } => {
                match task.open.get(execution).and_then(|open| open.stopping) {
                    None => stops(task, *cause),
                    // The task may have changed since it was told.
                    Some(told) => demand(told == *cause, || format!("stops for {cause:?}, not for {told:?}")),
                }
            }
            _ => Ok(()),
        }
    }

    /// The calendar that forbids an instant of a task.
    fn forbids<'a>(
        &self,
        tenant: TenantId,
        id: TaskId,
        task: &'a Standing,
        instant: Timestamp,
    ) -> Option<&'a Arc<str>> {
        let names = &task.rules.calendars;
        let calendars = names.iter().filter_map(|name| self.calendars.get(&(tenant, name.clone())));
        let calendars: Vec<_> = calendars.cloned().collect();
        if calendars.is_empty() {
            return None;
        }
        let timetable = Timetable::compile(&task.definition, id, task.created_at, calendars).ok()?;
        names.get(usize::from(timetable.forbidden_by(instant)?))
    }

    fn allowed(
        &self,
        tenant: TenantId,
        id: TaskId,
        task: &Standing,
        instant: Timestamp,
    ) -> Result<(), String> {
        match self.forbids(tenant, id, task, instant) {
            None => Ok(()),
            Some(calendar) => Err(format!("does not say that {calendar} forbids {instant}")),
        }
    }

    fn skipped(
        &self,
        task: &Standing,
        occurrence: Occurrence,
        scheduled_at: Timestamp,
        reason: &SkipReason,
        now: Timestamp,
    ) -> Result<(), String> {
        let (overlap, after) = (task.rules.overlap, task.rules.after.as_deref());
        let waits_for = |condition| after.is_some_and(|after| after.condition == condition);
        let holds = match reason {
            SkipReason::Overlap => overlap == Overlap::Skip && task.rivals().next().is_some(),
            SkipReason::OverlapQueueFull => {
                overlap == Overlap::QueueOne && task.rivals().any(|rival| rival.held)
            }
            SkipReason::TooManyOpen => task.open.len() >= OPEN_EXECUTIONS_PER_TASK_MAX,
            SkipReason::ByHand => task.by_hand.get(&scheduled_at) == Some(&Change::Skip),
            SkipReason::Missed => {
                let moved = matches!(occurrence, Occurrence::Moved(at) if task.by_hand.get(&at)
                    == Some(&Change::Move { to: scheduled_at }));
                demand(moved, || "is of an occurrence that was not moved there".into())?;
                return if task.paused {
                    demand(scheduled_at <= now, || "comes too soon".into())
                } else {
                    missed(task, scheduled_at, Span::ZERO, None, now)
                };
            }
            SkipReason::Paused => after.is_some() && task.paused,
            SkipReason::Exhausted => after.is_some() && task.is_exhausted(),
            SkipReason::Unsuccessful { task: other, status } => {
                *status != Status::Succeeded
                    && waits_for(AfterCondition::AllSucceeded)
                    && after.is_some_and(|after| after.tasks.contains(other))
                    && self.ended.contains(&(*other, *status))
            }
            SkipReason::NoneFailed => waits_for(AfterCondition::AnyFailed),
            // What a calendar forbids passes by as suppressed.
            SkipReason::Forbidden { .. } => false,
        };
        demand(holds, || {
            format!("gives {reason:?} as its reason; paused: {}, open: {:?}", task.paused, task.open)
        })
    }
}

/// An execution waits if something else of its task is under way and its policy says so, and only then.
fn waits(task: &Standing, occurrence: Occurrence, held: bool) -> Result<(), String> {
    if matches!(occurrence, Occurrence::Backfill { .. }) {
        return demand(!held, || "lets a backfill wait".into());
    }
    let rivals = task.rivals().count();
    let fits = match task.rules.overlap {
        Overlap::Allow => !held,
        Overlap::Skip => !held && rivals == 0,
        // What nobody had begun was stopped before; what runs is waited for.
        Overlap::QueueOne | Overlap::QueueAll | Overlap::CancelRunning => held == (rivals > 0),
    };
    let one_waits = held && task.rivals().any(|rival| rival.held);
    demand(fits && !(task.rules.overlap == Overlap::QueueOne && one_waits), || {
        format!("waits: {held}, beside {rivals} others under {:?}", task.rules.overlap)
    })
}

/// Only a newer run of a task that wants it so takes the place of another.
fn stops(task: &Standing, cause: CancelCause) -> Result<(), String> {
    let overlap = task.rules.overlap;
    demand(cause != CancelCause::Superseded || overlap == Overlap::CancelRunning, || {
        format!("says that another run takes its place, and its policy is {overlap:?}")
    })
}

/// What was missed was late by more than its grace, the longest jitter that it may have had apart, and its policy does not
/// make it good.
fn missed(
    task: &Standing,
    due: Timestamp,
    jitter: Span,
    next: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), String> {
    let misfire = task.rules.misfire;
    let late = now.since(due.plus(jitter));
    demand(late > misfire.grace, || format!("misses {due}, which is late by {late:?}: {misfire:?}"))?;
    let given_up = match (task.rules.timing, misfire.policy) {
        (_, MisfirePolicy::Skip) => true,
        (Timing::Once { .. }, _) => false,
        (_, MisfirePolicy::RunAll) => late > misfire.window,
        (_, MisfirePolicy::RunLatest) => late > misfire.window || next.is_some_and(|next| next <= now),
    };
    let from_the_start =
        matches!(task.rules.timing, Timing::Once { run_if_past: true, .. }) && due <= task.created_at;
    demand(given_up && !from_the_start, || {
        format!("misses {due}, which was to be made good: {misfire:?}, next is {next:?}")
    })
}
