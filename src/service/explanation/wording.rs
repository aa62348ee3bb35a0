//! The sentences of an explanation.

use escapement_domain::event::SkipReason;
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::calendar::CalendarMode;
use escapement_domain::schedule::{LocalClock, Schedule, describe, jitter_of};
use escapement_domain::task::definition::Definition;
use escapement_domain::task::trigger::{AfterCondition, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};

use super::Told;
use crate::audit::fires::{Fire, FireReason, FireStatus};
use crate::service::history::ExecutionRow;

/// When a task fires, and which calendars narrow that. `mode` knows what a calendar does, unless it is gone.
/// `name` knows what a task is called, unless it is gone.
pub(super) fn schedule(
    definition: &Definition,
    mode: impl Fn(&str) -> Option<CalendarMode>,
    name: impl Fn(TaskId) -> Option<String>,
) -> String {
    let mut sentence = match &definition.trigger {
        Trigger::After { tasks, condition } => {
            let named = |task: &TaskId| name(*task).unwrap_or_else(|| task.to_string());
            after(&tasks.iter().map(named).collect::<Vec<_>>(), *condition)
        }
        trigger => describe(trigger),
    };
    for name in &definition.calendars {
        sentence += match mode(name) {
            Some(CalendarMode::Exclude) => "; not on ",
            Some(CalendarMode::Only) => "; only on ",
            None => "; by the calendar ",
        };
        sentence += name;
    }
    sentence
}

/// When a task runs that follows others.
fn after(tasks: &[String], condition: AfterCondition) -> String {
    let (between, verb) = match condition {
        AfterCondition::AllSucceeded => (" and ", "succeeded"),
        AfterCondition::AllDone => (" and ", "ended"),
        AfterCondition::AnyFailed => (" or ", "failed"),
    };
    let have = if tasks.len() == 1 || condition == AfterCondition::AnyFailed { "has" } else { "have" };
    let names = match tasks {
        [before @ .., last] if !before.is_empty() => format!("{}{between}{last}", before.join(", ")),
        _ => tasks.concat(),
    };
    format!("after {names} {have} {verb}")
}

/// Why an instant became what it did.
pub(super) fn why(fire: &Fire, told: &Told, execution: Option<&ExecutionRow>, now: Timestamp) -> String {
    match fire.moved_from {
        Some(from) => format!("moved here by hand from {from}: {}", became(fire, told, execution, now)),
        None => became(fire, told, execution, now),
    }
}

fn became(fire: &Fire, told: &Told, execution: Option<&ExecutionRow>, now: Timestamp) -> String {
    let definition = &told.definition;
    let jitter = match fire.moved_from {
        Some(_) => Span::ZERO,
        None => jitter_of(fire.task, fire.at, definition.jitter),
    };
    let due =
        if jitter == Span::ZERO { String::new() } else { format!("; its jitter made it due {jitter} later") };
    let late = rounded(fire.lateness().unwrap_or_default());
    let became = execution
        .map_or_else(String::new, |row| format!("{}; its {}", by_other_clocks(row), execution_became(row)));
    let reason = fire.reason.as_ref().map(FireReason::explanation);
    match fire.status {
        FireStatus::OnTime => format!("it fired on time, {late} after its instant{due}{became}"),
        FireStatus::Late => {
            let jitter = match definition.jitter {
                jitter if jitter > Span::ZERO && fire.moved_from.is_none() => {
                    format!("its jitter of {jitter} and ")
                }
                _ => String::new(),
            };
            let reason =
                reason.unwrap_or_else(|| format!("within {jitter}its grace of {}", definition.misfire.grace));
            format!("it fired {late} after its instant: {reason}{due}{became}")
        }
        FireStatus::DelayedByOverlap => format!(
            "it fired {late} after its instant, and its execution had to wait for an earlier one{due}{became}"
        ),
        FireStatus::Skipped => format!("it was skipped: {}", reason.unwrap_or_default()),
        FireStatus::Missed => format!("it was missed: {}", reason.unwrap_or_default()),
        FireStatus::Pending => pending(fire, &due, now),
        FireStatus::Unexpected => match reason {
            Some(reason) => format!("it fired, although {reason}{became}"),
            None => format!(
                "it fired, and the schedule as this node reads it does not name it: were the zone data other ones?{became}"
            ),
        },
    }
}

fn pending(fire: &Fire, due: &str, now: Timestamp) -> String {
    match &fire.reason {
        Some(FireReason::Paused) => {
            "it waits: the task is paused, and its misfire policy settles what has passed when it is resumed"
                .into()
        }
        Some(FireReason::Skip(SkipReason::ByHand)) => {
            "it is to come, and will not run: skipped by hand".into()
        }
        Some(FireReason::Moved { to }) => {
            format!("it is to come, and will not run then: moved by hand to {to}")
        }
        Some(reason) => format!("it is to come, and will not run: {}", reason.explanation()),
        None if fire.at > now => format!("it is to come, in {}{due}", rounded(fire.at.since(now))),
        None => format!("it is due and not settled yet{due}"),
    }
}

/// Whether the leader's clock was off when it fired, as far as anybody knew.
fn by_other_clocks(row: &ExecutionRow) -> String {
    let off = Span(row.clock_ahead_ms.unsigned_abs().into());
    match row.clock_ahead_ms {
        0 => String::new(),
        1.. => format!("; it came {off} early by most nodes' clocks, which the leader's was ahead of"),
        _ => format!("; it came {off} late by most nodes' clocks, which the leader's was behind"),
    }
}

/// What an execution has become.
pub(super) fn execution_became(row: &ExecutionRow) -> String {
    let verb = if row.status.is_final() { "ended as" } else { "is" };
    format!("execution {} {verb} {}", row.id, row.status.name())
}

/// A span without what nobody reads.
fn rounded(span: Span) -> Span {
    if span < Span::minutes(1) { span } else { Span(span.0 / 1_000 * 1_000) }
}

/// Why an instant was none of the task's.
pub(super) fn why_not(id: TaskId, at: Timestamp, told: &Told) -> String {
    let definition = &told.definition;
    let clock = LocalClock::of(&definition.trigger);
    if at < told.created_at {
        return format!("the task did not exist yet: it was created at {}", told.created_at);
    }
    if let Some(deleted_at) = told.deleted_at {
        return format!("the task was gone: it was deleted at {deleted_at}");
    }
    let sentence = describe(&definition.trigger);
    let plan = Schedule::compile(&definition.trigger, id, told.created_at).ok();
    let after = |instant| plan.and_then(|plan| plan.next_after(instant));
    if after(Timestamp(at.0 - 1)) == Some(at) {
        return match (definition.start_at, definition.end_at) {
            (Some(start), _) if at < start => format!("it lies before the task's start at {start}"),
            (_, Some(end)) if at > end => format!("it lies after the task's end at {end}"),
            _ => "the task had run as often as it may".into(),
        };
    }
    match after(at) {
        Some(following) => format!(
            "it was never an instant of this schedule ({sentence}); the next one after it: {following}, local time {}",
            clock.show(following)
        ),
        None => format!("it was never an instant of this schedule ({sentence}), and none comes after it"),
    }
}
