//! What a task may do next: fire, skip, miss, run by hand.
//!
//! An occurrence that was settled before yields no events rather than a rejection: after a failover the new leader
//! proposes it again, and hearing it twice must change nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definition::{MisfirePolicy, Overlap};
use super::rules::Timing;
use super::state::{Override, Phase, Task};
use crate::answer::Rejection;
use crate::command::{Change, Due, Passed, PassedCause, Replanned};
use crate::event::{Event, PauseCause, ReleaseCause, SkipReason};
use crate::execution::state::{CancelCause, Execution, Occurrence, Stage};
use crate::identifier::{CommandId, ExecutionId};
use crate::json::Json;
use crate::limits::{OPEN_EXECUTIONS_PER_TASK_MAX, OVERRIDES_PER_TASK_MAX};
use crate::planted::{self, Bug};
use crate::timestamp::{Span, Timestamp};

/// The open executions that a decision may look at.
pub type OpenExecutions = BTreeMap<ExecutionId, Arc<Execution>>;

/// Decides what becomes of a due occurrence, or of a run of instants that are passed over.
///
/// Empty when it changes nothing: settled before, not yet due, computed under another `revision`, or implausible. The
/// proposer computed the instants; here they are only held against each other and against the task. By how much jitter a
/// fire is late is the proposer's matter: it may be waived, and is never before the instant.
#[must_use]
pub fn fire(task: &Task, revision: u64, open: &OpenExecutions, item: &Due, now: Timestamp) -> Vec<Event> {
    let last = item.passed.map_or(item.due, |passed| passed.last);
    let repeats = planted::has(Bug::RepeatedOccurrence) && task.next.is_some_and(|next| next > item.due);
    let plausible = revision == item.revision
        && (task.next == Some(item.due) || repeats)
        && item.due <= last
        && last <= now
        && item.next.is_none_or(|next| next > last)
        && item.next_allowed.is_none_or(|allowed| allowed > last);
    if !plausible {
        return Vec::new();
    }
    let phase = task.phase();
    if let Some(passed) = &item.passed {
        return pass_over(task, phase, item, passed, now).into_iter().collect();
    }
    if let Some(change) = task.overrides.get(&item.due) {
        return vec![changed(task, item, *change)];
    }
    if phase != Phase::Active {
        return Vec::new();
    }
    let late = task.rules.lateness(item.due, now);
    if runs(task, item.due, late, item.next_allowed, now) {
        let after_run = if is_last_run(task) { None } else { item.next };
        let following = Following { after_run, after_skip: item.next };
        start(task, open, Occurrence::Scheduled(item.due), item.due, following)
    } else {
        vec![missed(task, item.due, item.due, 1, item.next)]
    }
}

/// Decides a run of instants that are passed over.
fn pass_over(task: &Task, phase: Phase, item: &Due, passed: &Passed, now: Timestamp) -> Option<Event> {
    let (first, last, count) = (item.due, passed.last, passed.count);
    if count == 0 || task.overrides.range(first..=last).next().is_some() {
        return None;
    }
    match passed.cause {
        PassedCause::Missed => {
            // What passed while the task was paused runs no more once its definition changes: it is proposed as a gap.
            let gap = phase == Phase::Paused;
            let hopeless = phase == Phase::Active && passes_over_all(task, last, item.next_allowed, now);
            (gap || hopeless).then(|| missed(task, first, last, count, item.next))
        }
        PassedCause::Forbidden { calendar } => {
            let calendar = task.rules.calendars.get(usize::from(calendar))?.clone();
            let (slot, task, next) = (task.slot, task.id, item.next);
            (phase == Phase::Active).then_some(Event::TaskSuppressed {
                slot,
                task,
                first,
                last,
                count,
                calendar,
                next,
            })
        }
    }
}

/// What becomes of an instant that somebody skipped or moved.
fn changed(task: &Task, item: &Due, change: Override) -> Event {
    let occurrence = Occurrence::Scheduled(item.due);
    match change {
        Override::Skip => skipped(task, occurrence, item.due, item.next, SkipReason::ByHand),
        Override::Move { to, .. } => {
            Event::TaskMoved { slot: task.slot, task: task.id, at: item.due, to, next: item.next }
        }
    }
}

/// Decides what becomes of an occurrence whose moved time has come. Empty when it changes nothing.
#[must_use]
pub fn fire_moved(task: &Task, open: &OpenExecutions, at: Timestamp, now: Timestamp) -> Vec<Event> {
    let Some(Override::Move { to, done: false }) = task.overrides.get(&at) else { return Vec::new() };
    if task.phase() != Phase::Active || *to > now {
        return Vec::new();
    }
    let occurrence = Occurrence::Moved(at);
    if runs(task, *to, now.since(*to), None, now) {
        let after_run = if is_last_run(task) { None } else { task.next };
        start(task, open, occurrence, *to, Following { after_run, after_skip: task.next })
    } else {
        vec![skipped(task, occurrence, *to, task.next, SkipReason::Missed)]
    }
}

/// Decides that an occurrence which was moved into a pause is missed, before the task changes. Empty when it changes nothing.
#[must_use]
pub fn miss_moved(task: &Task, at: Timestamp, now: Timestamp) -> Vec<Event> {
    match task.overrides.get(&at) {
        Some(Override::Move { to, done: false }) if task.phase() == Phase::Paused && *to <= now => {
            vec![skipped(task, Occurrence::Moved(at), *to, task.next, SkipReason::Missed)]
        }
        _ => Vec::new(),
    }
}

/// Decides whether a coming occurrence may be skipped or moved, or be as it was.
///
/// # Errors
/// [`Rejection::OccurrencePassed`], [`Rejection::OccurrenceUnchanged`], [`Rejection::MovedIntoThePast`], or
/// [`Rejection::TooMany`].
pub fn change_occurrence(
    task: &Task,
    at: Timestamp,
    change: Change,
    now: Timestamp,
) -> Result<Event, Rejection> {
    let present = task.overrides.get(&at);
    if matches!(present, Some(Override::Move { done: true, .. })) {
        return Err(Rejection::OccurrencePassed { at });
    }
    let waits_elsewhere = present.is_some_and(|present| matches!(present, Override::Move { .. }));
    let to_come = at > now && task.next.is_some_and(|next| at >= next);
    // One whose instant has passed, and which was moved to a later time, can be moved again or dropped.
    if !to_come && (!waits_elsewhere || change == Change::Restore) {
        return Err(Rejection::OccurrencePassed { at });
    }
    match change {
        Change::Restore if present.is_none() => return Err(Rejection::OccurrenceUnchanged { at }),
        Change::Move { to } if to <= now => return Err(Rejection::MovedIntoThePast { to }),
        Change::Skip | Change::Move { .. }
            if present.is_none() && task.overrides.len() >= OVERRIDES_PER_TASK_MAX =>
        {
            let what = "occurrences of one task that are skipped or moved".into();
            return Err(Rejection::TooMany { what, limit: OVERRIDES_PER_TASK_MAX as u64 });
        }
        Change::Skip | Change::Move { .. } | Change::Restore => {}
    }
    Ok(Event::TaskOccurrenceChanged { slot: task.slot, task: task.id, at, change })
}

/// Decides the next instant of a task by newer zone data. What is due already is settled as it was planned.
#[must_use]
pub fn replan(task: &Task, revision: u64, item: &Replanned, now: Timestamp) -> Option<Event> {
    let current = revision == item.revision && task.next == Some(item.before) && item.before > now;
    let plausible = item.next != Some(item.before) && item.next.is_none_or(|next| next > task.settled);
    (current && plausible).then_some(Event::TaskReplanned {
        slot: task.slot,
        task: task.id,
        before: item.before,
        next: item.next,
    })
}

/// Decides the execution of one instant of a backfill, under no overlap policy but the backfill's own concurrency.
#[must_use]
pub fn backfill(task: &Task, backfill: CommandId, instant: Timestamp) -> Event {
    let occurrence = Occurrence::Backfill { backfill, instant };
    Event::TaskScheduled {
        slot: task.slot,
        task: task.id,
        execution: ExecutionId::of(task.id, occurrence, instant),
        occurrence,
        scheduled_at: instant,
        task_version: task.version,
        next: task.next,
        held: false,
    }
}

/// Decides a run by hand under the overlap policy.
///
/// # Errors
/// None today: a paused or finished task runs by hand too.
pub fn run(
    task: &Task,
    open: &OpenExecutions,
    occurrence: Occurrence,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let following = Following { after_run: task.next, after_skip: task.next };
    Ok(start(task, open, occurrence, now, following))
}

/// Decides a step of a chain: it is skipped if its condition cannot be met or its task is paused, else it begins under the
/// overlap policy.
#[must_use]
pub fn follow(
    task: &Task,
    open: &OpenExecutions,
    occurrence: Occurrence,
    unmet: Option<SkipReason>,
    now: Timestamp,
) -> Vec<Event> {
    let idle = match task.phase() {
        Phase::Active => None,
        Phase::Paused => Some(SkipReason::Paused),
        Phase::Finished => Some(SkipReason::Exhausted),
    };
    match unmet.or(idle) {
        Some(reason) => vec![skipped(task, occurrence, now, task.next, reason)],
        None => {
            let following = Following { after_run: task.next, after_skip: task.next };
            start(task, open, occurrence, now, following)
        }
    }
}

/// Decides what becomes of an event for a task. Empty when it does not meet it: it listens to another one, or does not fire.
#[must_use]
pub fn hear(
    task: &Task,
    open: &OpenExecutions,
    event: CommandId,
    published_at: Timestamp,
    payload: &Json,
) -> Vec<Event> {
    let meets =
        task.rules.listens.as_ref().is_some_and(|listening| listening.is_met_by(payload, published_at));
    if !meets || task.phase() != Phase::Active {
        return Vec::new();
    }
    let following = Following { after_run: task.next, after_skip: task.next };
    start(task, open, Occurrence::Event(event), published_at, following)
}

fn is_last_run(task: &Task) -> bool {
    task.rules.max_runs.is_some_and(|most| task.runs.saturating_add(1) >= most)
}

/// Whether an instant that is due is run, be it in time, late, or missed and made good.
fn runs(task: &Task, due: Timestamp, late: Span, next_allowed: Option<Timestamp>, now: Timestamp) -> bool {
    let misfire = &task.rules.misfire;
    if late <= misfire.grace {
        return true;
    }
    if let Timing::Once { run_if_past, .. } = task.rules.timing {
        let past_from_the_start = run_if_past && due <= task.created_at;
        return past_from_the_start || misfire.policy != MisfirePolicy::Skip;
    }
    match misfire.policy {
        MisfirePolicy::Skip => false,
        MisfirePolicy::RunLatest => late <= misfire.window && next_allowed.is_none_or(|next| next > now),
        MisfirePolicy::RunAll => late <= misfire.window,
    }
}

/// Whether every instant of a run that ends with `last` is missed and not made good.
fn passes_over_all(task: &Task, last: Timestamp, next_allowed: Option<Timestamp>, now: Timestamp) -> bool {
    let misfire = &task.rules.misfire;
    let late = task.rules.lateness(last, now);
    if late <= misfire.grace || task.rules.timing != Timing::Recurring {
        return false;
    }
    match misfire.policy {
        MisfirePolicy::Skip => true,
        MisfirePolicy::RunLatest => late > misfire.window || next_allowed.is_some_and(|next| next <= now),
        MisfirePolicy::RunAll => late > misfire.window,
    }
}

fn missed(task: &Task, first: Timestamp, last: Timestamp, count: u32, next: Option<Timestamp>) -> Event {
    Event::TaskMissed { slot: task.slot, task: task.id, first, last, count, next }
}

/// The instant that follows an occurrence: a run counts against `max_runs`, a skip does not.
struct Following {
    after_run: Option<Timestamp>,
    after_skip: Option<Timestamp>,
}

/// Starts an execution under the overlap policy, or skips it with the reason.
fn start(
    task: &Task,
    open: &OpenExecutions,
    occurrence: Occurrence,
    scheduled_at: Timestamp,
    following: Following,
) -> Vec<Event> {
    let execution = ExecutionId::of(task.id, occurrence, scheduled_at);
    let scheduled = |held| Event::TaskScheduled {
        slot: task.slot,
        task: task.id,
        execution,
        occurrence,
        scheduled_at,
        task_version: task.version,
        next: following.after_run,
        held,
    };
    let skipped = |reason| skipped(task, occurrence, scheduled_at, following.after_skip, reason);
    let rivals: Vec<&Arc<Execution>> = rivals(task, open).collect();
    if rivals.is_empty() {
        return vec![scheduled(false)];
    }
    if task.open.len() >= OPEN_EXECUTIONS_PER_TASK_MAX {
        return vec![skipped(SkipReason::TooManyOpen)];
    }
    match task.rules.overlap {
        Overlap::Allow => vec![scheduled(false)],
        Overlap::Skip => vec![skipped(SkipReason::Overlap)],
        Overlap::QueueAll => vec![scheduled(true)],
        Overlap::QueueOne => {
            let one_waits = rivals.iter().any(|other| other.stage == Stage::Held);
            if one_waits { vec![skipped(SkipReason::OverlapQueueFull)] } else { vec![scheduled(true)] }
        }
        Overlap::CancelRunning => {
            let stop =
                |other: &&Arc<Execution>| crate::execution::decide::stop(other, CancelCause::Superseded);
            let mut events: Vec<Event> = rivals.iter().filter_map(stop).collect();
            let running = rivals.iter().any(|other| other.grant().is_some());
            events.push(scheduled(running));
            events
        }
    }
}

/// The open executions of a task that the overlap policy counts: a backfill has its own concurrency, and is none of them.
fn rivals<'a>(task: &Task, open: &'a OpenExecutions) -> impl Iterator<Item = &'a Arc<Execution>> {
    task.open
        .iter()
        .filter_map(|id| open.get(id))
        .filter(|other| !matches!(other.occurrence, Occurrence::Backfill { .. }))
}

fn skipped(
    task: &Task,
    occurrence: Occurrence,
    scheduled_at: Timestamp,
    next: Option<Timestamp>,
    reason: SkipReason,
) -> Event {
    Event::TaskSkipped {
        slot: task.slot,
        task: task.id,
        execution: ExecutionId::of(task.id, occurrence, scheduled_at),
        occurrence,
        scheduled_at,
        task_version: task.version,
        next,
        reason,
    }
}

/// Decides which execution of the task may stop waiting, now that `earlier` ended.
#[must_use]
pub fn release(task: &Task, open: &OpenExecutions, earlier: ExecutionId) -> Option<Event> {
    let mut waiting = None;
    for other in rivals(task, open) {
        if other.stage != Stage::Held {
            return None;
        }
        waiting = waiting.or(Some(other));
    }
    waiting.map(|other| released(other, ReleaseCause::Ended { earlier }))
}

/// Decides which executions of the task may stop waiting, now that it was changed: all of them if they may overlap from now on,
/// since those that follow would keep the task busy for ever.
#[must_use]
pub fn release_by_change(task: &Task, open: &OpenExecutions) -> Vec<Event> {
    if task.rules.overlap != Overlap::Allow {
        return Vec::new();
    }
    let waiting = rivals(task, open).filter(|other| other.stage == Stage::Held);
    waiting.map(|other| released(other, ReleaseCause::OverlapAllowed)).collect()
}

fn released(waiting: &Execution, cause: ReleaseCause) -> Event {
    Event::TaskReleased { task: waiting.task, execution: waiting.id, cause }
}

/// Decides whether a task pauses itself: too many of its executions in a row have failed for good. What was due before is
/// settled first.
#[must_use]
pub fn pause_if_failing(task: &Task, now: Timestamp) -> Option<Event> {
    let most = task.rules.pause_after_failures?;
    let pauses = task.failures >= most && task.phase() == Phase::Active && nothing_overdue(task, now).is_ok();
    let cause = PauseCause::Failures { count: task.failures };
    pauses.then_some(Event::TaskPaused { slot: task.slot, task: task.id, cause })
}

/// Refuses a change of the definition whose first instant was to come when the change was stamped, and has been settled since
/// under the definition before: it is not the first one any more, and without it the series would be over.
///
/// # Errors
/// [`Rejection::Overdue`]: the proposer computes the first instant anew and asks again.
pub fn still_to_come(task: &Task, first: Option<Timestamp>, stamped: Timestamp) -> Result<(), Rejection> {
    match first {
        Some(due) if stamped < due && due <= task.settled => Err(Rejection::Overdue { due }),
        _ => Ok(()),
    }
}

/// Refuses a change of the definition while an instant has come under the present one, its jitter over or not, or a time to
/// which an occurrence was moved.
///
/// # Errors
/// [`Rejection::Overdue`]: the proposer settles it first and asks again.
pub fn nothing_overdue(task: &Task, now: Timestamp) -> Result<(), Rejection> {
    let moved = task.next_moved().map(|(to, _)| to);
    match task.next.into_iter().chain(moved).min() {
        Some(due) if due <= now && task.phase() != Phase::Finished => Err(Rejection::Overdue { due }),
        _ => Ok(()),
    }
}
