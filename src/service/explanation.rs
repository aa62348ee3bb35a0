//! Why a task ran at an instant, or did not, and what it waits for now.
//!
//! What became of an instant is the word of the audit, which reads it off the task's events; `wording` makes sentences of it.
//! A task whose definition, state and calendars have not changed since the instant is read from there on, others from their
//! creation.
//! Absent on purpose: why a cluster had no leader, or a worker no time; no event of a task tells that.

mod wording;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use escapement_domain::command::Change;
use escapement_domain::event::Event;
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::replica::Replica;
use escapement_domain::schedule::{LocalClock, Occasion};
use escapement_domain::task::coming::Fires;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::state::{Override, Phase, Task};
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::Caller;
use super::events::first_position;
use super::failure::ServiceError;
use super::fires::Source;
use super::history::{ExecutionQuery, ExecutionRow};
use super::view::TaskState;
use super::waiting::{Wait, waits};
use crate::audit::fires::{Assumed, Fire, Ledger, Range};
use crate::security::Permission;

/// Executions of one instant that are looked at: backfills of it are few.
const PAGE: usize = 100;
/// Instants of one account: one is asked for.
const INSTANTS_MAX: usize = 16;

/// A task, explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its trigger in English, and the calendars that narrow it.
    pub schedule: String,
    /// The clock by which it counts.
    pub clock: LocalClock,
    /// Whether it fires; none if it is deleted.
    pub state: Option<TaskState>,
    /// The next fires, and what somebody skipped or moved among them.
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
        let fires: Vec<Timestamp> = fires.into_iter().flatten().take(count).collect();
        let next = match &task {
            Some(task) if task.phase() == Phase::Active => coming(task, clock, now, &fires, count),
            _ => Vec::new(),
        };
        let mode = |name: &str| {
            let mode = |replica: &Replica| Some(replica.calendars().get(tenant, name)?.calendar.mode);
            self.parts.machine.read(mode)
        };
        let instant = match (at, &told) {
            (Some(at), Some(told)) => Some(self.explained(tenant, id, at, told)?),
            _ => None,
        };
        Ok(Explanation {
            schedule: wording::schedule(definition, mode, |task| self.task_name(caller.tenant(), task)),
            clock,
            state: task.as_ref().map(|task| task.phase().into()),
            next,
            waits_for: task.map_or_else(Vec::new, |task| {
                self.parts.machine.read(|replica| waits(&task, fires.first().copied(), replica, now))
            }),
            instant,
        })
    }

    /// Reads events for what became of an instant of a task: the task's from the instant on if it is as it was then and nothing
    /// is amiss, or else all of them; the whole tenant's where calendars have a say that may have been others.
    async fn told(
        &self,
        tenant: TenantId,
        id: TaskId,
        task: Option<&Task>,
        at: Timestamp,
    ) -> Result<Told, ServiceError> {
        let head = self.stream_head(tenant, id).await?;
        let stream = Source::Task(id, head);
        let range = Range { from: at, to: Timestamp(at.0 + 1) };
        let new = || Ledger::new(range, Some(id), INSTANTS_MAX);
        if let Some((mut ledger, told)) =
            task.map(|task| self.assumed(new(), task, at)).transpose()?.flatten()
        {
            let begun = |record: &Record| record.header.at >= at;
            let one = |before| self.parts.read_models.stream(tenant, id, head, before, 1);
            let after = first_position(|before| Ok(one(before)?.records.first().is_none_or(begun)))?;
            let mut told = Some(told);
            self.account(&mut ledger, &mut told, (tenant, id, stream, after), at).await?;
            let told = self.close(ledger, told)?;
            if !told.fire.as_ref().is_some_and(Fire::is_amiss) {
                return Ok(told);
            }
        }
        let (mut ledger, mut told) = (new(), None);
        self.account(&mut ledger, &mut told, (tenant, id, stream, 0), at).await?;
        if ledger.names_calendars() {
            (ledger, told) = (new(), None);
            self.account(&mut ledger, &mut told, (tenant, id, Source::Tenant, 0), at).await?;
        }
        self.close(ledger, told)
    }

    /// A ledger that takes a task for what it is now, if it and its calendars are as they were when an instant came.
    fn assumed(
        &self,
        mut ledger: Ledger,
        task: &Task,
        at: Timestamp,
    ) -> Result<Option<(Ledger, Told)>, ServiceError> {
        let calendars = self.parts.machine.read(|replica| {
            let stored = |name: &Arc<str>| {
                let stored = replica.calendars().get(task.tenant, name)?;
                (stored.updated_at < at).then(|| (name.clone(), stored.calendar.clone()))
            };
            task.rules.calendars.iter().map(stored).collect::<Option<Vec<_>>>()
        });
        let Some(calendars) = calendars.filter(|_| unchanged_since(task, at)) else { return Ok(None) };
        let definition = task.definition.open_definition()?;
        let changes = task.overrides.iter().map(|(at, change)| match change {
            Override::Skip => (*at, Change::Skip),
            Override::Move { to, .. } => (*at, Change::Move { to: *to }),
        });
        let assumed = Assumed {
            definition: &definition,
            created_at: task.created_at,
            since: task.updated_at,
            paused: task.paused.is_some(),
            changes: changes.collect(),
            calendars,
        };
        ledger.assume(task.id, assumed);
        Ok(Some((ledger, Told { fire: None, definition, created_at: task.created_at, deleted_at: None })))
    }

    /// Enters a task's events until the instant is settled.
    async fn account(
        &self,
        ledger: &mut Ledger,
        told: &mut Option<Told>,
        (tenant, id, source, after): (TenantId, TaskId, Source, u64),
        at: Timestamp,
    ) -> Result<(), ServiceError> {
        self.read(tenant, source, after, |record| {
            ledger.take(record).map_err(|error| ServiceError::broken(error.to_string()))?;
            if record.event.task() != Some(id) {
                return Ok(ControlFlow::Continue(()));
            }
            note(told, record, at)?;
            Ok(if settles(&record.event, at) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .await
    }

    fn close(&self, ledger: Ledger, told: Option<Told>) -> Result<Told, ServiceError> {
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
        let mut explanation = match &told.fire {
            Some(fire) => wording::why(fire, told, execution.as_deref(), self.now()),
            None => wording::why_not(id, at, told),
        };
        if let Some(row) = self.backfilled(tenant, id, at)? {
            explanation += "; a backfill ran it: ";
            explanation += &wording::execution_became(&row);
        }
        let at = Occasion { at, local: clock.show(at), note: clock.change_between(Timestamp(at.0 - 1), at) };
        Ok(Explained { at, fire: told.fire.clone(), explanation, execution })
    }

    /// The last execution that a backfill made of an instant.
    fn backfilled(
        &self,
        tenant: TenantId,
        id: TaskId,
        at: Timestamp,
    ) -> Result<Option<Arc<ExecutionRow>>, ServiceError> {
        let query = ExecutionQuery {
            task: Some(id),
            from: Some(at),
            to: Some(Timestamp(at.0 + 1)),
            ..ExecutionQuery::newest(PAGE)
        };
        let of_backfill = |row: &Arc<ExecutionRow>| matches!(row.occurrence, Occurrence::Backfill { .. });
        let page = self.parts.read_models.executions(tenant, &query)?;
        Ok(page.items.into_iter().filter(of_backfill).max_by_key(|row| row.log_index))
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
        Event::TaskScheduled { occurrence, scheduled_at, .. }
        | Event::TaskSkipped { occurrence, scheduled_at, .. } => match occurrence {
            Occurrence::Scheduled(_) | Occurrence::Moved(_) => *scheduled_at == at,
            Occurrence::Manual(_)
            | Occurrence::Backfill { .. }
            | Occurrence::Event(_)
            | Occurrence::After { .. }
            | Occurrence::Joined { .. } => false,
        },
        Event::TaskMissed { first, last, .. } | Event::TaskSuppressed { first, last, .. } => {
            (*first..=*last).contains(&at)
        }
        _ => false,
    }
}

/// The next fires of a task, and among them the occurrences that somebody skipped or moved, with a note that says so.
fn coming(
    task: &Task,
    clock: LocalClock,
    now: Timestamp,
    fires: &[Timestamp],
    count: usize,
) -> Vec<Occasion> {
    let mut notes: BTreeMap<Timestamp, Vec<String>> = fires.iter().map(|at| (*at, Vec::new())).collect();
    let last = if fires.len() < count { Timestamp::MAX } else { fires.last().copied().unwrap_or(now) };
    let mut note = |at: Timestamp, note: String| {
        if at > now && at <= last {
            notes.entry(at).or_default().push(note);
        }
    };
    for (at, change) in &task.overrides {
        match change {
            Override::Skip => note(*at, "skipped by hand".into()),
            Override::Move { to, done } => {
                note(*at, format!("moved by hand to {to}"));
                if !done {
                    note(*to, format!("moved by hand from {at}"));
                }
            }
        }
    }
    let mut row = Occasion::row(clock, now, notes.keys().copied());
    for (occasion, by_hand) in row.iter_mut().zip(notes.into_values()) {
        let all: Vec<String> = occasion.note.take().into_iter().chain(by_hand).collect();
        occasion.note = (!all.is_empty()).then(|| all.join("; "));
    }
    row
}
