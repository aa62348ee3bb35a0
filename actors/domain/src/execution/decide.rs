//! What an execution may do next: end, be made again, stop, or be taken back from a lost worker.

use super::retry::backoff;
use super::state::{CancelCause, Execution, Grant, Stage};
use super::waits::Wait;
use crate::command::{AttemptOutcome, AttemptResult};
use crate::event::{AttemptEnded, Event, GiveUpCause, RequeueCause};
use crate::execution::failure::{Failure, FailureClass};
use crate::limits::RETRY_AFTER_MAX;
use crate::task::definition::Delivery;
use crate::task::rules::Requirement;
use crate::timestamp::Timestamp;

/// Decides what the end of an attempt means.
///
/// A result under a fencing token that is not the running attempt's is refused, and the refusal is recorded.
#[must_use]
pub fn report(execution: &Execution, result: &AttemptResult, now: Timestamp) -> Event {
    let current = execution.grant().map(|grant| grant.token);
    if current != Some(result.token) {
        return Event::TaskResultRefused { execution: execution.id, token: result.token, current };
    }
    let ended = |failure| AttemptEnded {
        token: result.token,
        started_at: result.started_at,
        finished_at: result.finished_at,
        failure,
        error: None,
        failed_items: None,
        usage: result.usage,
    };
    let (task, id) = (execution.task, execution.id);
    match &result.outcome {
        AttemptOutcome::Succeeded(value) => {
            Event::TaskCompleted { task, execution: id, ended: ended(None), result: value.clone() }
        }
        AttemptOutcome::Cancelled => {
            let cause = execution.cancelling.unwrap_or(CancelCause::Requested);
            stopped(execution, cause, Some(ended(None)))
        }
        AttemptOutcome::HandedBack => taken_back(execution, RequeueCause::HandedBack { token: result.token }),
        // Whatever the delivery says: what never began can be made as if for the first time.
        AttemptOutcome::NotStarted => match execution.cancelling {
            Some(cause) => stopped(execution, cause, None),
            None => {
                let cause = RequeueCause::NotStarted { token: result.token };
                Event::TaskRequeued { task, execution: id, cause }
            }
        },
        AttemptOutcome::Failed(failure) => {
            let ended = AttemptEnded {
                error: Some(failure.error.clone()),
                failed_items: failure.failed_items.clone(),
                ..ended(Some(failure.class))
            };
            failed(execution, ended, failure, now)
        }
        AttemptOutcome::TimedOut => {
            let failure = Failure { class: FailureClass::TimedOut, ..Failure::new("") };
            failed(execution, ended(Some(failure.class)), &failure, now)
        }
    }
}

/// What follows a failed attempt: its stop, if it was told to, or another attempt, if one is left that its class is worth.
fn failed(execution: &Execution, ended: AttemptEnded, failure: &Failure, now: Timestamp) -> Event {
    let (task, id) = (execution.task, execution.id);
    if let Some(cause) = execution.cancelling {
        return stopped(execution, cause, Some(ended));
    }
    let give_up = |ended, cause| match failure.class {
        FailureClass::TimedOut => Event::TaskTimedOut { task, execution: id, ended: Some(ended), cause },
        _ => Event::TaskFailed { task, execution: id, ended, result: failure.result.clone(), cause },
    };
    let retried = match &execution.rules.retry_on {
        Some(on) => on.covers(failure.class),
        None => failure.class != FailureClass::Inputs,
    };
    if !retried {
        return give_up(ended, GiveUpCause::NotRetried);
    }
    let nth = execution.failures.saturating_add(1);
    if nth >= execution.rules.retry.max_attempts {
        return give_up(ended, GiveUpCause::AttemptsUsedUp);
    }
    if execution.rules.delivery == Delivery::AtMostOnce && !is_known_to_have_failed(execution, failure.class)
    {
        return give_up(ended, GiveUpCause::OutcomeUnknown);
    }
    let wait = backoff(&execution.rules.retry, id, nth);
    let retry_after =
        failure.retry_after.map(|asked| asked.min(RETRY_AFTER_MAX)).filter(|asked| *asked > wait);
    let until = now.plus(retry_after.unwrap_or(wait));
    Event::TaskRetry { task, execution: id, ended, until, retry_after }
}

/// Whether an attempt that failed so did not do, and does not do any more, what it was to do. A program was ended; a target
/// that did not answer may be at it still; and of an attempt that died nobody heard.
fn is_known_to_have_failed(execution: &Execution, class: FailureClass) -> bool {
    let elsewhere = matches!(execution.rules.requirement, Requirement::Http | Requirement::Queue(_));
    match class {
        FailureClass::TimedOut | FailureClass::Connection => !elsewhere,
        FailureClass::Died => false,
        _ => true,
    }
}

/// How an execution ends that was told to stop.
fn stopped(execution: &Execution, cause: CancelCause, ended: Option<AttemptEnded>) -> Event {
    let (task, id) = (execution.task, execution.id);
    match cause {
        CancelCause::OutOfTime => {
            Event::TaskTimedOut { task, execution: id, ended, cause: GiveUpCause::ExecutionTimeout }
        }
        _ => Event::TaskCancelled { task, execution: id, cause, ended },
    }
}

/// Decides what becomes of an attempt whose worker is lost.
#[must_use]
pub fn lose(execution: &Execution, grant: &Grant) -> Event {
    taken_back(execution, RequeueCause::WorkerLost { token: grant.token })
}

/// Decides what becomes of an attempt that was taken from its worker, or given back by it.
#[must_use]
pub fn taken_back(execution: &Execution, cause: RequeueCause) -> Event {
    let (task, id) = (execution.task, execution.id);
    if let Some(cause) = execution.cancelling {
        return stopped(execution, cause, None);
    }
    match execution.rules.delivery {
        Delivery::AtLeastOnce => Event::TaskRequeued { task, execution: id, cause },
        Delivery::AtMostOnce => Event::TaskLost { task, execution: id, cause },
    }
}

/// Decides how an execution stops: at once if no worker has it, else when its worker says so. `None` if it was told
/// before.
#[must_use]
pub fn stop(execution: &Execution, cause: CancelCause) -> Option<Event> {
    let (task, id) = (execution.task, execution.id);
    match &execution.stage {
        Stage::Running(_) if execution.cancelling.is_some() => None,
        Stage::Running(_) => Some(Event::TaskCancelRequested { task, execution: id, cause }),
        Stage::Held | Stage::Queued | Stage::Retrying { .. } => Some(stopped(execution, cause, None)),
    }
}

/// Decides what follows when a wait is over. A proposal for an earlier wait, or one that comes too soon, changes nothing.
#[must_use]
pub fn wait_over(execution: &Execution, wait: Wait, now: Timestamp) -> Option<Event> {
    execution.waits().find(|(until, waits_for)| *waits_for == wait && *until <= now)?;
    let (task, id) = (execution.task, execution.id);
    match wait {
        Wait::Retry { .. } => {
            Some(Event::TaskRequeued { task, execution: id, cause: RequeueCause::RetryDue })
        }
        Wait::Queue { .. } => {
            Some(Event::TaskTimedOut { task, execution: id, ended: None, cause: GiveUpCause::QueueTimeout })
        }
        Wait::Whole => stop(execution, CancelCause::OutOfTime),
    }
}
