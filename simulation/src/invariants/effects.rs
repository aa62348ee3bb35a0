//! What clients' commands led to in the log, and whether it is what they asked for.

use std::collections::BTreeMap;

use escapement_domain::event::{Chaining, Event, Placing};
use escapement_domain::execution::state::{CancelCause, Occurrence};
use escapement_domain::record::Record;
use escapement_domain::task::definition::Definition;

use crate::definitions::{CALENDAR, EVENT, QUEUE, SIDE};
use crate::evidence::{Evidence, Hold, Operation, Wish};

/// What clients' commands led to, by correlation id.
pub(super) type Effects<'a> = BTreeMap<String, Vec<&'a Record>>;

/// What clients' commands led to, by correlation id.
pub(super) fn effects(evidence: &Evidence) -> Effects<'_> {
    let mut effects = Effects::new();
    let by_hand = |record: &&Record| match &record.event {
        Event::TaskCreated { .. }
        | Event::TaskUpdated { .. }
        | Event::TaskPaused { .. }
        | Event::TaskResumed { .. }
        | Event::TaskDeleted { .. }
        | Event::TaskReopened { .. }
        | Event::TaskOccurrenceChanged { .. }
        | Event::CalendarPut { .. }
        | Event::TaskPriorityChanged { .. }
        | Event::Placement(
            Placing::GatePut { .. }
            | Placing::GateDeleted { .. }
            | Placing::QueuePaused { .. }
            | Placing::QueueResumed { .. }
            | Placing::BreakerOpened { execution: None, .. }
            | Placing::BreakerClosed { execution: None, .. },
        )
        | Event::BackfillStarted { .. }
        | Event::EventPublished { .. }
        | Event::Chain(_)
        | Event::BulkCommitted { .. } => !record.header.correlation_id.is_empty(),
        // What the scheduler does with an execution goes back to whoever asked for that.
        Event::TaskCancelRequested { .. } | Event::TaskCancelled { .. } => record.header.command.is_some(),
        Event::TaskScheduled { occurrence, .. } | Event::TaskSkipped { occurrence, .. } => {
            record.header.command.is_some() && matches!(occurrence, Occurrence::Manual(_))
        }
        _ => false,
    };
    for record in evidence.records.iter().filter(by_hand) {
        effects.entry(record.header.correlation_id.to_string()).or_default().push(record);
    }
    effects
}

/// The first of an operation's effects that is not what was asked for, if one is.
pub(super) fn astray<'a>(operation: &Operation, effects: &[&'a Record]) -> Option<&'a Record> {
    let mut asked = match &operation.wish {
        Wish::Create(definitions) | Wish::CreateAll(definitions) => definitions.as_slice(),
        _ => &[],
    }
    .iter();
    effects.iter().copied().find(|record| match &record.event {
        // One of several may be refused; those that are created are in order.
        Event::TaskCreated { definition, .. } => {
            let created = definition.open_definition().ok();
            !asked.any(|asked| created.as_ref() == Some(asked))
        }
        event => !fits(&operation.wish, event),
    })
}

/// Whether a wish may lead to an event.
fn fits(wish: &Wish, event: &Event) -> bool {
    let same = |asked: &Definition, found: &escapement_domain::task::sealed::Sealed| {
        found.open_definition().is_ok_and(|found| found == *asked)
    };
    match (wish, event) {
        (Wish::CreateAll(_), Event::BulkCommitted { .. }) => true,
        (Wish::Update(asked, definition), Event::TaskUpdated { task, definition: found, .. }) => {
            asked == task && same(definition, found)
        }
        (Wish::Pause(asked), Event::TaskPaused { task, .. })
        | (Wish::Resume(asked), Event::TaskResumed { task, .. })
        | (Wish::Delete(asked), Event::TaskDeleted { task, .. })
        | (Wish::Run(asked), Event::TaskScheduled { task, .. } | Event::TaskSkipped { task, .. }) => {
            asked == task
        }
        (
            Wish::Delete(asked),
            Event::TaskCancelRequested { task, cause, .. } | Event::TaskCancelled { task, cause, .. },
        ) => asked == task && *cause == CancelCause::TaskDeleted,
        (
            Wish::Run(asked),
            Event::TaskCancelRequested { task, cause, .. } | Event::TaskCancelled { task, cause, .. },
        ) => asked == task && *cause == CancelCause::Superseded,
        (
            Wish::Cancel(asked),
            Event::TaskCancelRequested { execution, cause, .. }
            | Event::TaskCancelled { execution, cause, .. },
        ) => asked == execution && *cause == CancelCause::Requested,
        (
            Wish::CancelRun(_),
            Event::TaskCancelRequested { cause, .. } | Event::TaskCancelled { cause, .. },
        ) => *cause == CancelCause::Requested,
        (Wish::CancelRun(asked), Event::Chain(Chaining::RunCancelled { run, .. }))
        | (Wish::RetryRun(asked), Event::Chain(Chaining::RunTakenUp { run, .. })) => asked == run,
        (Wish::Retry(_), Event::TaskReopened { .. } | Event::Chain(Chaining::RunTakenUp { .. }))
        | (Wish::RetryRun(_), Event::TaskReopened { .. }) => true,
        (
            Wish::ChangeOccurrence(asked, instant, wanted),
            Event::TaskOccurrenceChanged { task, at, change, .. },
        ) => (asked, instant, wanted) == (task, at, change),
        (
            Wish::Backfill(asked, (from, to), at_once),
            Event::BackfillStarted { task, instants, concurrency, .. },
        ) => {
            (asked, at_once) == (task, concurrency)
                && instants.iter().all(|instant| from <= instant && instant <= to)
        }
        (Wish::PutCalendar(asked), Event::CalendarPut { name, calendar, .. }) => {
            **asked == *calendar && **name == *CALENDAR
        }
        (Wish::Hold(hold), event) => holds(hold, event),
        (Wish::Publish(side), Event::EventPublished { name, payload: found, .. }) => {
            **name == *EVENT && found.text() == Some(&format!("{{\"{}\":{side}.0}}", SIDE.0))
        }
        _ => false,
    }
}

/// Whether what was done to what holds up work may lead to an event.
fn holds(hold: &Hold, event: &Event) -> bool {
    if let (Hold::Prioritise(asked, wanted), Event::TaskPriorityChanged { execution, priority, .. }) =
        (hold, event)
    {
        return (asked, wanted) == (execution, priority);
    }
    let Event::Placement(placing) = event else { return false };
    match (hold, placing) {
        (Hold::PutGate(asked, wanted), Placing::GatePut { gate, capacity, .. }) => {
            (asked, wanted) == (gate, capacity)
        }
        (Hold::DeleteLimit(asked), Placing::GateDeleted { gate }) => asked == gate,
        (Hold::PauseQueue(true), Placing::QueuePaused { queue })
        | (Hold::PauseQueue(false), Placing::QueueResumed { queue }) => **queue == *QUEUE,
        (Hold::SetBreaker(asked, true), Placing::BreakerOpened { target, until, .. }) => {
            asked == target && until.is_none()
        }
        (Hold::SetBreaker(asked, false), Placing::BreakerClosed { target, .. }) => asked == target,
        _ => false,
    }
}
