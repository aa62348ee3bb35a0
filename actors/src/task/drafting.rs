//! Makes what a client wrote into what is proposed: rules, the sealed definition, and the first instant.
//!
//! Whether a draft is refused depends on when its command was first issued, never on when it is looked at, so that a
//! command that is repeated is not refused for being repeated late. Absent on purpose: proposing.

use std::sync::Arc;

use escapement_domain::command::{NewTask, Request};
use escapement_domain::identifier::TaskId;
use escapement_domain::limits::DEFINITION_BYTES_MAX;
use escapement_domain::schedule::ScheduleError;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::plan::Timetable;
use escapement_domain::task::rules::{Rules, Timing};
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::Timestamp;

use crate::intent::{Draft, SubmitError};

/// When a command was first issued, and when it is stamped now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub(super) issued_at: Timestamp,
    pub(super) at: Timestamp,
}

/// What the state knows of a task whose definition is to be replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    pub(super) created_at: Timestamp,
    pub(super) timing: Timing,
}

/// A refusal of a definition, before the log.
pub(super) fn unschedulable(pointer: impl Into<Arc<str>>, detail: impl Into<Arc<str>>) -> SubmitError {
    SubmitError::Unschedulable { pointer: pointer.into(), detail: detail.into() }
}

/// Makes a new task of a draft.
///
/// # Errors
/// [`SubmitError::Unschedulable`] with a pointer within the task.
pub(super) fn new_task(draft: Draft, moments: Moments) -> Result<NewTask, SubmitError> {
    let Draft { task, definition, paused } = draft;
    let rules = Rules::of(&definition);
    let timetable = compile(&definition, task, moments.at)?;
    let next = first(&timetable, &rules, moments);
    if next.is_none() && rules.timing != Timing::Unscheduled {
        return Err(never(&definition, rules.timing));
    }
    let (rules, definition) = (Box::new(rules), seal(&definition)?);
    Ok(NewTask { task, rules, definition, created_at: moments.at, next, paused })
}

/// Makes the tasks of a list; a pointer of an error begins with the index of its task.
///
/// # Errors
/// As [`new_task`].
pub(super) fn new_tasks(
    drafts: Vec<Draft>,
    first: usize,
    moments: Moments,
) -> Result<Vec<NewTask>, SubmitError> {
    let each = drafts.into_iter().enumerate();
    each.map(|(index, draft)| new_task(draft, moments).map_err(|error| within(first + index, error)))
        .collect()
}

/// Makes an update of a new definition. One that has no instant to come is no fault here: it ends the task.
///
/// # Errors
/// As [`new_task`]; also for a one-time instant that is newly moved into the past.
pub(super) fn update(
    task: TaskId,
    expected_version: Option<u32>,
    definition: &Definition,
    present: Option<Present>,
    moments: Moments,
) -> Result<Request, SubmitError> {
    let rules = Rules::of(definition);
    let created_at = present.map_or(moments.at, |present| present.created_at);
    let timetable = compile(definition, task, created_at)?;
    let next = first(&timetable, &rules, moments);
    let moved = match (rules.timing, present.map(|present| present.timing)) {
        (Timing::Once { at, .. }, Some(Timing::Once { at: before, .. })) => at != before,
        (Timing::Once { .. }, _) => true,
        (Timing::Recurring | Timing::Unscheduled, _) => false,
    };
    if next.is_none() && moved {
        return Err(never(definition, rules.timing));
    }
    let definition = seal(definition)?;
    Ok(Request::UpdateTask { task, expected_version, rules: Box::new(rules), definition, next })
}

fn first(timetable: &Timetable, rules: &Rules, moments: Moments) -> Option<Timestamp> {
    let issued_at = moments.issued_at.min(moments.at);
    timetable.first(rules.timing, moments.at).or_else(|| timetable.first(rules.timing, issued_at))
}

fn compile(definition: &Definition, task: TaskId, created_at: Timestamp) -> Result<Timetable, SubmitError> {
    // The first instant is the schedule's: what a calendar forbids is settled when it comes.
    Timetable::compile(definition, task, created_at, Vec::new()).map_err(|error| refused(&error))
}

fn refused(error: &ScheduleError) -> SubmitError {
    let Some(fault) = error.faults.first() else { return unschedulable("/trigger", error.to_string()) };
    let detail = match fault.column {
        Some(column) => format!("column {column}: {}", fault.detail),
        None => fault.detail.clone(),
    };
    unschedulable(format!("/trigger{}", fault.pointer), detail)
}

fn never(definition: &Definition, timing: Timing) -> SubmitError {
    match timing {
        Timing::Once { at, .. } if definition.end_at.is_none_or(|end| at <= end) => {
            unschedulable("/trigger/at", format!("{at} is past; with `if_past` `run` it is run all the same"))
        }
        _ if definition.end_at.is_some() => unschedulable("/end_at", "no instant to come lies before it"),
        _ => unschedulable("/trigger", "no instant is to come"),
    }
}

fn seal(definition: &Definition) -> Result<Sealed, SubmitError> {
    let sealed = Sealed::definition(definition);
    match sealed.open().map(<[u8]>::len) {
        Ok(length) if length > DEFINITION_BYTES_MAX => {
            let detail =
                format!("the definition takes {length} bytes; at most {DEFINITION_BYTES_MAX} are allowed");
            Err(unschedulable("", detail))
        }
        _ => Ok(sealed),
    }
}

fn within(index: usize, error: SubmitError) -> SubmitError {
    match error {
        SubmitError::Unschedulable { pointer, detail } => unschedulable(format!("/{index}{pointer}"), detail),
        other => other,
    }
}
