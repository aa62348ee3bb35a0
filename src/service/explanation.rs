//! Why a task ran at an instant, or did not, and what it waits for now.
//!
//! What became of an instant is the word of the audit, which reads it off the task's events; sentences are made here. A task
//! whose definition and state have not changed since the instant is read from there on, others from their creation.
//! Absent on purpose: why a cluster had no leader, or a worker no time; no event of a task tells that.

use std::sync::Arc;

use escapement_domain::event::Event;
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::schedule::{LocalClock, Occasion, Schedule, describe, jitter_of};
use escapement_domain::task::definition::Definition;
use escapement_domain::task::state::{Phase, Task};
use escapement_domain::timestamp::{Span, Timestamp};

use super::Service;
use super::caller::Caller;
use super::coming::Fires;
use super::events::first_position;
use super::failure::ServiceError;
use super::history::ExecutionRow;
use super::view::TaskState;
use super::waiting::{Wait, waits};
use crate::audit::fires::{Fire, FireReason, FireStatus, Ledger, Range};
use crate::security::Permission;

/// Events that are read at once.
const PAGE: usize = 1_000;
/// Instants of one account: one is asked for.
const INSTANTS_MAX: usize = 16;

/// A task, explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its trigger in English.
    pub schedule: String,
    /// The clock by which it counts.
    pub clock: LocalClock,
    /// Whether it fires; none if it is deleted.
    pub state: Option<TaskState>,
    /// The next fires.
    pub next: Vec<Occasion>,
    /// What it waits for.
    pub waits_for: Vec<Wait>,
    /// The instant that was asked about.
    pub instant: Option<Explained>,
}

/// An instant, explained.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The instant on the task's clock.
    pub at: Occasion,
    /// What became of it; none if it was never an instant of the task.
    pub fire: Option<Fire>,
    /// Why, in a sentence.
    pub explanation: String,
    /// The execution that it made, or skipped.
    pub execution: Option<Arc<ExecutionRow>>,
}

/// What the events say of a task at one instant.
struct Told {
    /// What became of the instant.
    fire: Option<Fire>,
    /// The definition that held then, or the last one.
    definition: Definition,
    created_at: Timestamp,
    /// When the task was deleted, if it was by then.
    deleted_at: Option<Timestamp>,
}

impl Service {
    /// Explains a task of the caller's tenant, a deleted one too: its schedule, its next `count` fires, what it waits for, and
    /// what became of an instant.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn explain(
        &self,
        caller: &Caller,
        id: TaskId,
        at: Option<Timestamp>,
        count: usize,
    ) -> Result<Explanation, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_history(caller.consistency).await?;
        let tenant = self.tenant_number(caller.tenant()).ok_or(ServiceError::NoSuchTask)?;
        let (task, now) = (self.find_task(caller.tenant(), id), self.now());
        let told = match (&task, at) {
            (Some(_), None) => None,
            (_, at) => Some(self.told(tenant, id, task.as_ref(), at.unwrap_or(now)).await?),
        };
        let present = task.as_ref().map(|task| task.definition.open_definition()).transpose()?;
        let definition = match (&present, &told) {
            (Some(definition), _) => definition,
            (None, Some(told)) => &told.definition,
            (None, None) => return Err(ServiceError::NoSuchTask),
        };
        let clock = LocalClock::of(&definition.trigger);
        let calendars = |task: &Task| self.parts.machine.read(|replica| replica.calendars().named_by(task));
        let fires = task.as_ref().map(|task| Fires::of(task, calendars(task))).transpose()?;
        let instant = match (at, &told) {
            (Some(at), Some(told)) => Some(self.explained(tenant, id, at, told)?),
            _ => None,
        };
        Ok(Explanation {
            schedule: describe(&definition.trigger),
            clock,
            state: task.as_ref().map(|task| task.phase().into()),
            next: Occasion::row(clock, now, fires.into_iter().flatten().take(count)),
            waits_for: task
                .map_or_else(Vec::new, |task| self.parts.machine.read(|replica| waits(&task, replica, now))),
            instant,
        })
    }

    /// Reads the events of a task for what became of an instant.
    async fn told(
        &self,
        tenant: TenantId,
        id: TaskId,
        task: Option<&Task>,
        at: Timestamp,
    ) -> Result<Told, ServiceError> {
        let head = self.stream_head(tenant, id).await?;
        let stream = |after, limit| self.parts.read_models.stream(tenant, id, head, after, limit);
        let mut ledger = Ledger::new(Range { from: at, to: Timestamp(at.0 + 1) }, Some(id), INSTANTS_MAX);
        let mut told = None;
        let mut after = 0;
        if let Some(task) = task.filter(|task| unchanged_since(task, at)) {
            let definition = task.definition.open_definition()?;
            let paused = task.phase() == Phase::Paused;
            ledger.assume(id, &definition, task.created_at, task.updated_at, paused);
            told = Some(Told { fire: None, definition, created_at: task.created_at, deleted_at: None });
            let begun = |record: &Record| record.header.at >= at;
            after = first_position(|before| Ok(stream(before, 1)?.records.first().is_none_or(begun)))?;
        }
        'pages: loop {
            let page = stream(after, PAGE)?;
            for record in &page.records {
                ledger.take(record).map_err(|error| ServiceError::broken(error.to_string()))?;
                note(&mut told, record, at)?;
                if settles(&record.event, at) {
                    break 'pages;
                }
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
            tokio::task::yield_now().await;
        }
        let mut told = told.ok_or(ServiceError::NoSuchTask)?;
        let fires = ledger.close(self.now()).map_err(|error| ServiceError::broken(error.to_string()))?;
        told.fire = fires.first().cloned();
        Ok(told)
    }

    fn explained(
        &self,
        tenant: TenantId,
        id: TaskId,
        at: Timestamp,
        told: &Told,
    ) -> Result<Explained, ServiceError> {
        let execution =
            told.fire.as_ref().and_then(|fire| fire.settled).and_then(|settled| settled.execution);
        let execution = match execution {
            Some(execution) => self.parts.read_models.execution(tenant, execution)?,
            None => None,
        };
        let clock = LocalClock::of(&told.definition.trigger);
        let explanation = match &told.fire {
            Some(fire) => why(fire, told, execution.as_deref(), self.now()),
            None => why_not(id, at, told),
        };
        let at = Occasion { at, local: clock.show(at), note: clock.change_between(Timestamp(at.0 - 1), at) };
        Ok(Explained { at, fire: told.fire.clone(), explanation, execution })
    }
}

/// Whether a task is as it was when an instant came. One that may run only so often is never taken for that: how often it had
/// run by then is in its events.
fn unchanged_since(task: &Task, at: Timestamp) -> bool {
    task.updated_at < at && task.rules.max_runs.is_none()
}

/// Notes what an event says of the definition that held at an instant.
fn note(told: &mut Option<Told>, record: &Record, at: Timestamp) -> Result<(), ServiceError> {
    match (&record.event, told) {
        (Event::TaskCreated { definition, created_at, .. }, told) => {
            let (definition, created_at) = (definition.open_definition()?, *created_at);
            *told = Some(Told { fire: None, definition, created_at, deleted_at: None });
        }
        (Event::TaskUpdated { definition, .. }, Some(told)) if record.header.at <= at => {
            told.definition = definition.open_definition()?;
        }
        (Event::TaskDeleted { .. }, Some(told)) if record.header.at <= at => {
            told.deleted_at = Some(record.header.at);
        }
        _ => {}
    }
    Ok(())
}

/// Whether an event settles an instant; nothing that follows says more of it.
fn settles(event: &Event, at: Timestamp) -> bool {
    match event {
        Event::TaskScheduled { occurrence, .. } | Event::TaskSkipped { occurrence, .. } => {
            *occurrence == Occurrence::Scheduled(at)
        }
        Event::TaskMissed { first, last, .. } => (*first..=*last).contains(&at),
        _ => false,
    }
}

/// A span without what nobody reads.
fn rounded(span: Span) -> Span {
    if span < Span::minutes(1) { span } else { Span(span.0 / 1_000 * 1_000) }
}

fn why(fire: &Fire, told: &Told, execution: Option<&ExecutionRow>, now: Timestamp) -> String {
    let definition = &told.definition;
    let jitter = jitter_of(fire.task, fire.at, definition.jitter);
    let due =
        if jitter == Span::ZERO { String::new() } else { format!("; its jitter made it due {jitter} later") };
    let late = rounded(fire.lateness().unwrap_or_default());
    let became = execution.map_or_else(String::new, |row| {
        format!("; its execution {} {}", row.id, if row.status.is_final() { "ended as" } else { "is" })
            + " "
            + row.status.name()
    });
    let reason = fire.reason.as_ref().map(FireReason::explanation);
    match fire.status {
        FireStatus::OnTime => format!("it fired on time, {late} after its instant{due}{became}"),
        FireStatus::Late => {
            let grace = definition.misfire.grace;
            let reason = reason.unwrap_or_else(|| format!("within its grace of {grace}"));
            format!("it fired {late} after its instant: {reason}{due}{became}")
        }
        FireStatus::DelayedByOverlap => format!(
            "it fired {late} after its instant, and its execution had to wait for an earlier one{due}{became}"
        ),
        FireStatus::Skipped => format!("it was skipped: {}", reason.unwrap_or_default()),
        FireStatus::Missed => format!("it was missed: {}", reason.unwrap_or_default()),
        FireStatus::Pending if fire.reason == Some(FireReason::Paused) => {
            "it waits: the task is paused, and its misfire policy settles what has passed when it is resumed"
                .into()
        }
        FireStatus::Pending if fire.at > now => {
            format!("it is to come, in {}{due}", rounded(fire.at.since(now)))
        }
        FireStatus::Pending => format!("it is due and not settled yet{due}"),
        FireStatus::Unexpected => format!(
            "it fired, and the schedule as this node reads it does not name it: were the zone data other ones?{became}"
        ),
    }
}

/// Why an instant was none of the task's.
fn why_not(id: TaskId, at: Timestamp, told: &Told) -> String {
    let definition = &told.definition;
    let clock = LocalClock::of(&definition.trigger);
    if at < told.created_at {
        return format!("the task did not exist yet: it was created at {}", told.created_at);
    }
    if let Some(deleted_at) = told.deleted_at {
        return format!("the task was gone: it was deleted at {deleted_at}");
    }
    let schedule = describe(&definition.trigger);
    let following =
        Schedule::compile(&definition.trigger, id, told.created_at).ok().and_then(|plan| plan.next_after(at));
    let named = Schedule::compile(&definition.trigger, id, told.created_at)
        .ok()
        .and_then(|plan| plan.next_after(Timestamp(at.0 - 1)));
    if named == Some(at) {
        return match (definition.start_at, definition.end_at) {
            (Some(start), _) if at < start => format!("it lies before the task's start at {start}"),
            (_, Some(end)) if at > end => format!("it lies after the task's end at {end}"),
            _ => "the task had run as often as it may".into(),
        };
    }
    match following {
        Some(following) => format!(
            "it was never an instant of this schedule ({schedule}); the next one after it: {following}, local time {}",
            clock.show(following)
        ),
        None => format!("it was never an instant of this schedule ({schedule}), and none comes after it"),
    }
}
