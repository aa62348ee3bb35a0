//! The facts of an event as a readable JSON object.
//!
//! Slots and other places that only the replicated state needs are left out: the hash covers the stored bytes, not this.

use escapement_domain::answer::{Accepted, Answer};
use escapement_domain::command::{Change, Offers, Programs};
use escapement_domain::event::{AttemptEnded, Event, ReleaseCause, RequeueCause, SkipReason};
use escapement_domain::execution::state::{CancelCause, Holder, Occurrence};
use serde_json::{Map, Value, json};

use super::chaining::chaining_data;
use super::definition::{calendar_json, instant, sealed_definition, sealed_text};
use super::placing::placing_data;

/// Tells what happened.
pub(super) fn event_data(event: &Event) -> Value {
    match event {
        Event::TenantAdded { number, name } => json!({ "tenant": name, "number": number.0 }),
        Event::TaskCreated { .. }
        | Event::TaskUpdated { .. }
        | Event::TaskPaused { .. }
        | Event::TaskResumed { .. }
        | Event::TaskDeleted { .. } => definition_data(event),
        Event::TaskScheduled { .. } | Event::TaskSkipped { .. } | Event::TaskMissed { .. } => {
            occurrence_data(event)
        }
        Event::TaskSuppressed { .. }
        | Event::TaskOccurrenceChanged { .. }
        | Event::TaskMoved { .. }
        | Event::TaskReplanned { .. } => change_data(event),
        Event::BackfillStarted { task, backfill, instants, concurrency, .. } => json!({
            "task_id": task.to_string(),
            "backfill_id": backfill.to_string(),
            "from": instant(instants.first().copied()),
            "to": instant(instants.last().copied()),
            "count": instants.len(),
            "concurrency": concurrency,
        }),
        Event::BackfillEnded { task, backfill, left_out } => json!({
            "task_id": task.to_string(), "backfill_id": backfill.to_string(), "left_out": left_out,
        }),
        Event::EventPublished { event, name, payload } => {
            json!({ "event_id": event.to_string(), "name": name, "payload": sealed_text(payload) })
        }
        Event::EventHandedOut { event, up_to, met } => json!({
            "event_id": event.to_string(),
            "up_to_task": up_to.map(|task| task.to_string()),
            "met": met,
        }),
        Event::CalendarPut { name, version, calendar } => {
            json!({ "calendar": name, "version": version, "definition": calendar_json(calendar) })
        }
        Event::CalendarDeleted { name } => json!({ "calendar": name }),
        Event::Placement(placing) => placing_data(placing),
        Event::Chain(chaining) => chaining_data(chaining),
        Event::ZoneDataAdopted { version } => json!({ "version": version }),
        Event::WorkerJoined { .. }
        | Event::WorkerDraining { .. }
        | Event::WorkerLost { .. }
        | Event::WorkerReported { .. } => worker_data(event),
        Event::CommandAnswered { command, idempotency, answer, .. } => json!({
            "command_id": command.to_string(),
            "idempotency_key": idempotency.as_ref().map(|idempotency| &*idempotency.key),
            "answer": answer_data(answer),
        }),
        Event::WindowAdvanced { commands, keys } => {
            json!({ "commands_before": commands.to_string(), "keys_before": keys.to_string() })
        }
        Event::TasksStaged { bulk, part, tasks } => {
            let tasks: Vec<String> = tasks.iter().map(|task| task.task.to_string()).collect();
            json!({ "bulk_id": bulk.to_string(), "part": part, "task_ids": tasks })
        }
        Event::BulkCommitted { bulk, owner } => json!({ "bulk_id": bulk.to_string(), "owner": owner }),
        Event::BulkContinued { bulk, created } => json!({ "bulk_id": bulk.to_string(), "created": created }),
        Event::BulkEnded { bulk, created } => json!({ "bulk_id": bulk.to_string(), "created": created }),
        _ => execution_data(event),
    }
}

fn definition_data(event: &Event) -> Value {
    match event {
        Event::TaskCreated { task, owner, definition, created_at, next, paused, .. } => json!({
            "task_id": task.to_string(),
            "owner": owner,
            "created_at": created_at.to_string(),
            "version": 1,
            "state": if *paused { "paused" } else { "active" },
            "next_fire_at": instant(*next),
            "definition": sealed_definition(definition),
        }),
        Event::TaskUpdated { task, version, definition, next, .. } => json!({
            "task_id": task.to_string(),
            "version": version,
            "next_fire_at": instant(*next),
            "definition": sealed_definition(definition),
        }),
        Event::TaskPaused { task, cause, .. } => json!({
            "task_id": task.to_string(), "cause": cause.name(), "explanation": cause.explanation(),
        }),
        Event::TaskResumed { task, .. } | Event::TaskDeleted { task, .. } => {
            json!({ "task_id": task.to_string() })
        }
        _ => Value::Null,
    }
}

fn occurrence_data(event: &Event) -> Value {
    match event {
        Event::TaskScheduled {
            task, execution, occurrence, scheduled_at, task_version, next, held, ..
        } => json!({
            "task_id": task.to_string(),
            "execution_id": execution.to_string(),
            "trigger": trigger(*occurrence),
            "made_by": made_by(*occurrence),
            "scheduled_at": scheduled_at.to_string(),
            "task_version": task_version,
            "next_fire_at": instant(*next),
            "waits_for_an_earlier_one": held,
        }),
        Event::TaskSkipped {
            task, execution, occurrence, scheduled_at, task_version, next, reason, ..
        } => json!({
            "task_id": task.to_string(),
            "execution_id": execution.to_string(),
            "trigger": trigger(*occurrence),
            "made_by": made_by(*occurrence),
            "scheduled_at": scheduled_at.to_string(),
            "task_version": task_version,
            "next_fire_at": instant(*next),
            "reason": reason.name(),
            "explanation": reason.explanation(),
        }),
        Event::TaskMissed { task, first, last, count, next, .. } => json!({
            "task_id": task.to_string(),
            "first": first.to_string(),
            "last": last.to_string(),
            "count": count,
            "next_fire_at": instant(*next),
        }),
        _ => Value::Null,
    }
}

/// What calendars, hands and newer zone data made of instants.
fn change_data(event: &Event) -> Value {
    match event {
        Event::TaskSuppressed { task, first, last, count, calendar, next, .. } => json!({
            "task_id": task.to_string(),
            "first": first.to_string(),
            "last": last.to_string(),
            "count": count,
            "reason": "calendar",
            "calendar": calendar,
            "explanation": SkipReason::Forbidden { calendar: calendar.clone() }.explanation(),
            "next_fire_at": instant(*next),
        }),
        Event::TaskOccurrenceChanged { task, at, change, .. } => {
            let (done, to) = match change {
                Change::Skip => ("skip", None),
                Change::Move { to } => ("move", Some(*to)),
                Change::Restore => ("restore", None),
            };
            json!({ "task_id": task.to_string(), "at": at.to_string(), "do": done, "to": instant(to) })
        }
        Event::TaskMoved { task, at, to, next, .. } => json!({
            "task_id": task.to_string(),
            "at": at.to_string(),
            "to": to.to_string(),
            "next_fire_at": instant(*next),
        }),
        Event::TaskReplanned { task, before, next, .. } => json!({
            "task_id": task.to_string(),
            "before": before.to_string(),
            "next_fire_at": instant(*next),
        }),
        _ => Value::Null,
    }
}

fn execution_data(event: &Event) -> Value {
    let mut data = Map::new();
    let task = event.task().map(|task| ("task_id".to_owned(), task.to_string().into()));
    let execution =
        event.execution().map(|execution| ("execution_id".to_owned(), execution.to_string().into()));
    data.extend(task.into_iter().chain(execution));
    if let Value::Object(more) = course_data(event) {
        data.extend(more);
    }
    Value::Object(data)
}

/// What an event tells of an execution beside whose it is.
fn course_data(event: &Event) -> Value {
    match event {
        Event::TaskStarted { attempt, holder, .. } => started_data(*attempt, holder),
        Event::TaskProgress { token, percent, message, .. } => {
            json!({ "fencing_token": token, "percent": percent, "message": message.as_deref() })
        }
        Event::TaskPriorityChanged { priority, .. } => json!({ "priority": priority }),
        Event::TaskRetry { ended, until, retry_after, .. } => json!({
            "ended": attempt_ended(ended),
            "retry_at": until.to_string(),
            "retry_after": retry_after.map(|asked| asked.to_string()),
        }),
        Event::TaskReleased { cause, .. } => release_cause(*cause),
        Event::TaskRequeued { cause, .. } | Event::TaskLost { cause, .. } => requeue_cause(*cause),
        Event::TaskCompleted { ended, result, .. } => {
            json!({ "ended": attempt_ended(ended), "result": result.as_ref().map(sealed_text) })
        }
        Event::TaskFailed { ended, result, cause, .. } => {
            let result = result.as_ref().map(sealed_text);
            json!({ "ended": attempt_ended(ended), "result": result, "cause": cause.name() })
        }
        Event::TaskTimedOut { ended, cause, .. } => {
            json!({ "ended": ended.as_ref().map(attempt_ended), "cause": cause.name() })
        }
        Event::TaskCancelRequested { cause, .. } => json!({ "cause": cancel_cause(*cause) }),
        Event::TaskCancelled { cause, ended, .. } => {
            json!({ "cause": cancel_cause(*cause), "ended": ended.as_ref().map(attempt_ended) })
        }
        Event::TaskResultRefused { token, current, .. } => {
            json!({ "fencing_token": token, "current_token": current })
        }
        Event::TaskReopened {
            occurrence,
            scheduled_at,
            task_version,
            attempts,
            status,
            retry_items,
            cause,
            ..
        } => json!({
            "trigger": trigger(*occurrence),
            "scheduled_at": scheduled_at.to_string(),
            "task_version": task_version,
            "attempts": attempts,
            "previous_status": status.name(),
            "retry_items": retry_items.as_ref().map(sealed_text),
            "cause": cause.as_ref().map(sealed_text),
        }),
        _ => Value::Null,
    }
}

fn worker_data(event: &Event) -> Value {
    match event {
        Event::WorkerJoined { node, incarnation, slots, offers } => json!({
            "worker": node.0,
            "incarnation": incarnation.to_string(),
            "slots": slots,
            "offers": offered(offers),
        }),
        Event::WorkerDraining { node, incarnation } | Event::WorkerLost { node, incarnation } => {
            json!({ "worker": node.0, "incarnation": incarnation.to_string() })
        }
        Event::WorkerReported { node, incarnation, sequence } => {
            json!({ "worker": node.0, "incarnation": incarnation.to_string(), "report": sequence })
        }
        _ => Value::Null,
    }
}

fn offered(offers: &Offers) -> Value {
    let programs = match &offers.programs {
        Programs::Any => json!("any"),
        Programs::Listed(programs) => json!(programs.iter().map(|program| &**program).collect::<Vec<&str>>()),
    };
    json!({ "http": offers.http, "builtin": offers.builtin, "programs": programs })
}

fn started_data(attempt: u32, holder: &Holder) -> Value {
    match holder {
        Holder::Node { node, incarnation } => {
            json!({ "attempt": attempt, "worker": node.0, "incarnation": incarnation.to_string() })
        }
        Holder::Outside { worker, lease } => {
            json!({ "attempt": attempt, "worker": &**worker, "lease": lease.to_string() })
        }
    }
}

fn attempt_ended(ended: &AttemptEnded) -> Value {
    json!({
        "fencing_token": ended.token,
        "started_at": ended.started_at.to_string(),
        "finished_at": ended.finished_at.to_string(),
        "failure": ended.failure.map(|class| json!({ "class": class.name(), "code": class.code() })),
        "error": ended.error.as_deref(),
        "failed_items": ended.failed_items.as_ref().map(sealed_text),
        "cpu_ms": ended.usage.map(|usage| usage.cpu_ms),
        "peak_memory_bytes": ended.usage.map(|usage| usage.peak_memory_bytes),
    })
}

fn answer_data(answer: &Answer) -> Value {
    match &answer.outcome {
        Err(rejection) => json!({ "rejected": rejection.to_string() }),
        Ok(Accepted::Done) => json!("done"),
        Ok(Accepted::Task { task, version }) => json!({ "task_id": task.to_string(), "version": version }),
        Ok(Accepted::Tasks(tasks)) => {
            let told = tasks.iter().map(|task| match task {
                Ok(task) => json!({ "task_id": task.to_string() }),
                Err(rejection) => json!({ "rejected": rejection.to_string() }),
            });
            json!({ "tasks": told.collect::<Vec<Value>>() })
        }
        Ok(Accepted::Execution { execution, status }) => {
            json!({ "execution_id": execution.to_string(), "status": status.name() })
        }
        Ok(Accepted::Settled { fired, passed_over, ignored }) => {
            json!({ "fired": fired, "passed_over": passed_over, "ignored": ignored })
        }
        Ok(Accepted::Backfill { backfill, total }) => {
            json!({ "backfill_id": backfill.to_string(), "total": total })
        }
        Ok(Accepted::Calendar { version } | Accepted::Gate { version }) => json!({ "version": version }),
        Ok(Accepted::Event { event, at, met, executions, complete }) => json!({
            "event_id": event.to_string(),
            "at": at.to_string(),
            "met": met,
            "executions": executions.iter().map(ToString::to_string).collect::<Vec<String>>(),
            "complete": complete,
        }),
        Ok(Accepted::Chosen(choice)) => {
            json!({ "chosen": choice.executions.iter().map(ToString::to_string).collect::<Vec<String>>() })
        }
        Ok(Accepted::Leased(leased)) => {
            let told = leased.iter().map(
                |(execution, token)| json!({ "execution_id": execution.to_string(), "fencing_token": token }),
            );
            json!({ "leased": told.collect::<Vec<Value>>() })
        }
    }
}

fn trigger(occurrence: Occurrence) -> &'static str {
    match occurrence {
        Occurrence::Scheduled(_) | Occurrence::Moved(_) => "schedule",
        Occurrence::Manual(_) => "manual",
        Occurrence::Backfill { .. } => "backfill",
        Occurrence::Event(_) => "event",
        Occurrence::After { .. } | Occurrence::Joined { .. } => "after",
    }
}

/// What exactly made an occurrence.
fn made_by(occurrence: Occurrence) -> Value {
    match occurrence {
        Occurrence::Scheduled(at) => json!({ "instant": at.to_string() }),
        Occurrence::Moved(from) => json!({ "moved_instant": from.to_string() }),
        Occurrence::Manual(command) => json!({ "command_id": command.to_string() }),
        Occurrence::Backfill { backfill, instant } => {
            json!({ "backfill_id": backfill.to_string(), "instant": instant.to_string() })
        }
        Occurrence::Event(event) => json!({ "event_id": event.to_string() }),
        Occurrence::After { run, round } => json!({ "run_id": run.to_string(), "round": round }),
        Occurrence::Joined { end } => json!({ "last_end_seq": end }),
    }
}

fn cancel_cause(cause: CancelCause) -> &'static str {
    match cause {
        CancelCause::Requested => "requested",
        CancelCause::Superseded => "superseded",
        CancelCause::TaskDeleted => "task_deleted",
        CancelCause::OutOfTime => "execution_timeout",
    }
}

fn release_cause(cause: ReleaseCause) -> Value {
    match cause {
        ReleaseCause::Ended { earlier } => {
            json!({ "cause": "earlier_ended", "earlier_execution_id": earlier.to_string() })
        }
        ReleaseCause::OverlapAllowed => json!({ "cause": "overlap_allowed" }),
    }
}

fn requeue_cause(cause: RequeueCause) -> Value {
    match cause {
        RequeueCause::RetryDue => json!({ "cause": "retry_due" }),
        RequeueCause::WorkerLost { token } => json!({ "cause": "worker_lost", "fencing_token": token }),
        RequeueCause::LeaseExpired { token } => json!({ "cause": "lease_expired", "fencing_token": token }),
        RequeueCause::HandedBack { token } => json!({ "cause": "handed_back", "fencing_token": token }),
        RequeueCause::NotStarted { token } => json!({ "cause": "not_started", "fencing_token": token }),
    }
}
