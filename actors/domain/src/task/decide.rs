//! What a task may do next: fire, skip, miss, run by hand.
//!
//! An occurrence that was settled before yields no events rather than a rejection: after a failover the new leader
//! proposes it again, and hearing it twice must change nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definition::{MisfirePolicy, Overlap};
use super::rules::Timing;
use super::state::{Phase, Task};
use crate::answer::Rejection;
use crate::command::Due;
use crate::event::{Event, SkipReason};
use crate::execution::state::{CancelCause, Execution, Occurrence, Stage};
use crate::identifier::ExecutionId;
use crate::limits::OPEN_EXECUTIONS_PER_TASK_MAX;
use crate::planted::{self, Bug};
use crate::schedule::jitter_of;
use crate::timestamp::Timestamp;

/// The open executions that a decision may look at.
pub type OpenExecutions = BTreeMap<ExecutionId, Arc<Execution>>;

/// Decides what becomes of a due occurrence, or of a run of missed ones.
///
/// Empty when it changes nothing: settled before, not yet due, computed under another revision, or implausible. The
/// proposer computed the instants; here they are only held against each other and against the task.
#[must_use]
pub fn fire(task: &Task, open: &OpenExecutions, item: &Due, now: Timestamp) -> Vec<Event> {
    let last = item.missed_through.map_or(item.due, |(last, _)| last);
    let repeats = planted::has(Bug::RepeatedOccurrence) && task.next.is_some_and(|next| next > item.due);
    let plausible = task.revision == item.revision
        && (task.next == Some(item.due) || repeats)
        && item.due <= last
        && item.next.is_none_or(|next| next > last);
    if !plausible {
        return Vec::new();
    }
    if let Some((last, count)) = item.missed_through {
        // What passed while the task was paused runs no more once its definition changes: it is proposed as a gap.
        let gap = task.phase == Phase::Paused && last <= now;
        let hopeless = task.phase == Phase::Active && passes_over_all(task, last, item.next, now);
        return if (gap || hopeless) && count > 0 {
            vec![missed(task, item.due, last, count, item.next)]
        } else {
            Vec::new()
        };
    }
    if task.phase != Phase::Active || item.due.plus(jitter_of(task.id, item.due, task.rules.jitter)) > now {
        return Vec::new();
    }
    if runs(task, item.due, item.next, now) {
        let exhausted = task.rules.max_runs.is_some_and(|most| task.runs.saturating_add(1) >= most);
        let after_run = if exhausted { None } else { item.next };
        start(
            task,
            open,
            Occurrence::Scheduled(item.due),
            item.due,
            Following { after_run, after_skip: item.next },
        )
    } else {
        vec![missed(task, item.due, item.due, 1, item.next)]
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

/// Whether an instant that is due is run, be it in time, late, or missed and made good.
fn runs(task: &Task, due: Timestamp, next: Option<Timestamp>, now: Timestamp) -> bool {
    let misfire = &task.rules.misfire;
    let late = now.since(due);
    if late <= misfire.grace {
        return true;
    }
    if let Timing::Once { run_if_past, .. } = task.rules.timing {
        let past_from_the_start = run_if_past && due <= task.created_at;
        return past_from_the_start || misfire.policy != MisfirePolicy::Skip;
    }
    match misfire.policy {
        MisfirePolicy::Skip => false,
        MisfirePolicy::RunLatest => late <= misfire.window && next.is_none_or(|next| next > now),
        MisfirePolicy::RunAll => late <= misfire.window,
    }
}

/// Whether every instant of a run that ends with `last` is missed and not made good.
fn passes_over_all(task: &Task, last: Timestamp, next: Option<Timestamp>, now: Timestamp) -> bool {
    let misfire = &task.rules.misfire;
    let late = now.since(last);
    if late <= misfire.grace || task.rules.timing != Timing::Recurring {
        return false;
    }
    match misfire.policy {
        MisfirePolicy::Skip => true,
        MisfirePolicy::RunLatest => late > misfire.window || next.is_some_and(|next| next <= now),
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
    let skipped = |reason| Event::TaskSkipped {
        slot: task.slot,
        task: task.id,
        execution,
        occurrence,
        scheduled_at,
        task_version: task.version,
        next: following.after_skip,
        reason,
    };
    if task.open.is_empty() {
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
            let one_waits =
                task.open.iter().filter_map(|id| open.get(id)).any(|other| other.stage == Stage::Held);
            if one_waits { vec![skipped(SkipReason::OverlapQueueFull)] } else { vec![scheduled(true)] }
        }
        Overlap::CancelRunning => {
            let mut events: Vec<Event> = task
                .open
                .iter()
                .filter_map(|id| open.get(id))
                .filter_map(|other| crate::execution::decide::stop(other, CancelCause::Superseded))
                .collect();
            let running = task.open.iter().filter_map(|id| open.get(id)).any(|other| other.grant().is_some());
            events.push(scheduled(running));
            events
        }
    }
}

/// Decides which execution of the task may stop waiting, now that another one ended.
#[must_use]
pub fn release(task: &Task, open: &OpenExecutions) -> Option<Event> {
    let mut waiting = None;
    for other in task.open.iter().filter_map(|id| open.get(id)) {
        if other.stage != Stage::Held {
            return None;
        }
        waiting = waiting.or(Some(other));
    }
    waiting.map(|other| Event::TaskReleased { task: task.id, execution: other.id })
}

/// Refuses a change of the definition while an occurrence under the present one is due.
///
/// # Errors
/// [`Rejection::Overdue`]: the proposer settles it first and asks again.
pub fn nothing_overdue(task: &Task, now: Timestamp) -> Result<(), Rejection> {
    match task.next {
        Some(due)
            if task.phase != Phase::Finished
                && due.plus(jitter_of(task.id, due, task.rules.jitter)) <= now =>
        {
            Err(Rejection::Overdue { due })
        }
        _ => Ok(()),
    }
}
