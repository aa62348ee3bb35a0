//! Replaying an event log to the state at its end, or at a point before it.

use std::io::Write;

use escapement_actors::projection::{Until, merged, replay_with};
use escapement_domain::event::Event;
use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::record::Hash;
use escapement_domain::replica::Replica;
use escapement_domain::task::state::{Phase, Task};
use escapement_domain::timestamp::Timestamp;
use serde_json::{Value, json};

use super::archive::{Archive, AuditError};
use super::definition::{instant, sealed_definition};
use super::json::AuditEvent;

/// Records between two words about the progress.
const PROGRESS_EVERY: u64 = 1_000;

/// Where a replay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayUntil {
    /// Behind the event with this sequence: of the named tenant, the named task's, or the only one.
    Sequence(u64),
    /// Behind what was stamped at or before this instant.
    Instant(Timestamp),
}

/// What is replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayOptions {
    /// Where it ends; at the end of the log if absent.
    pub until: Option<ReplayUntil>,
    /// The tenant whose events a sequence counts.
    pub tenant: Option<String>,
    /// The task whose events are shown and whose state is told.
    pub task: Option<TaskId>,
}

/// What a replay came to.
#[derive(Debug)]
pub struct Replayed {
    /// Events that led to it.
    pub events: u64,
    /// The log index of the last of them.
    pub log_index: u64,
    /// The latest stamp.
    pub at: Timestamp,
    /// The hash of the state: that of every replica at this point.
    pub state_hash: Hash,
    /// The state, for whoever wants to look further.
    pub replica: Replica,
    /// The task as it then was, if one was asked for and existed.
    pub task: Option<Value>,
}

impl Replayed {
    /// Tells what the replay came to.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let open = |status| self.replica.executions().values().filter(|open| open.status() == status).count();
        let tenants: Vec<Value> = (self.replica.tenants().iter())
            .map(|tenant| {
                let head = tenant.head;
                json!({ "tenant": &*tenant.name, "events": head.sequence, "hash": head.hash.to_string() })
            })
            .collect();
        json!({
            "events": self.events,
            "log_index": self.log_index,
            "at": self.at.to_string(),
            "state_hash": self.state_hash.to_string(),
            "tasks": self.replica.tasks().len(),
            "queued": open(Status::Queued),
            "running": open(Status::Running),
            "retrying": open(Status::Retrying),
            "tenants": tenants,
            "task": self.task,
        })
    }
}

/// Replays an event log; with a task, writes that task's events to `out`, one JSON object a line.
/// `progress` hears now and then how many records of how many were folded.
///
/// # Errors
/// [`AuditError::Broken`] at the first record that is not what it was. [`AuditError::Partial`] when some tenants' records
/// are not at hand; [`AuditError::OtherState`] when the node has another state to tell. Others when the tenant or task is not known, a
/// sequence could mean several, or the output cannot be written.
pub fn replay(
    archive: &Archive,
    options: &ReplayOptions,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Replayed, AuditError> {
    if !archive.whole() {
        return Err(AuditError::Partial);
    }
    let home = options.task.map(|task| home_of(archive, task)).transpose()?;
    let until = match options.until {
        None => None,
        Some(ReplayUntil::Instant(instant)) => Some(Until::Instant(instant)),
        Some(ReplayUntil::Sequence(sequence)) => {
            let tenant = counted_in(archive, options.tenant.as_deref(), home)?;
            Some(Until::Record { tenant, sequence })
        }
    };
    let total = archive.log().heads().values().map(|head| head.sequence).sum();
    let (mut done, mut written) = (0, Ok(()));
    let replayed = replay_with(archive.log(), until, |record, _| {
        done += 1;
        if done % PROGRESS_EVERY == 0 {
            progress(done, total);
        }
        let shown = options.task.is_some() && record.event.task() == options.task;
        if shown && written.is_ok() {
            written = AuditEvent::of(record, &archive.name(record.header.tenant)).write_json(out);
        }
    })
    .map_err(|fault| archive.broken(fault))?;
    written.and_then(|()| out.flush())?;
    let task =
        options.task.zip(home).and_then(|(task, tenant)| replayed.replica.task(tenant, task)).map(task_json);
    let found = replayed.replica.state_hash();
    if let (None, Some(expected)) = (until, archive.state().filter(|expected| *expected != found)) {
        return Err(AuditError::OtherState { expected, found });
    }
    Ok(Replayed {
        events: replayed.records,
        log_index: replayed.log_index,
        at: replayed.replica.logged(),
        state_hash: found,
        task,
        replica: replayed.replica,
    })
}

/// The tenant of a task, deleted or not.
fn home_of(archive: &Archive, task: TaskId) -> Result<TenantId, AuditError> {
    for record in merged(archive.log()).map_err(|fault| archive.broken(fault))? {
        let record = record.map_err(|fault| archive.broken(fault))?;
        if matches!(record.event, Event::TaskCreated { task: created, .. } if created == task) {
            return Ok(record.header.tenant);
        }
    }
    Err(AuditError::NoSuchTask { task })
}

/// The tenant whose events a sequence counts.
fn counted_in(
    archive: &Archive,
    named: Option<&str>,
    home: Option<TenantId>,
) -> Result<TenantId, AuditError> {
    if let Some(name) = named {
        return archive.number(name);
    }
    if let Some(home) = home {
        return Ok(home);
    }
    let tenants: Vec<TenantId> =
        archive.log().heads().into_keys().filter(|tenant| *tenant != TenantId::CLUSTER).collect();
    match tenants[..] {
        [] => Ok(TenantId::CLUSTER),
        [only] => Ok(only),
        _ => Err(AuditError::WhichTenant { tenants: tenants.len() }),
    }
}

fn task_json(task: &Task) -> Value {
    let state = match task.phase() {
        Phase::Active => "active",
        Phase::Paused => "paused",
        Phase::Finished => "finished",
    };
    let last = task.last_execution.map(|last| {
        json!({
            "id": last.id.to_string(),
            "status": last.status.name(),
            "scheduled_at": last.scheduled_at.to_string(),
            "finished_at": last.finished_at.to_string(),
        })
    });
    let mut told = sealed_definition(&task.definition);
    if let Value::Object(fields) = &mut told {
        let more = json!({
            "id": task.id.to_string(),
            "owner": &*task.owner,
            "version": task.version,
            "state": state,
            "created_at": task.created_at.to_string(),
            "updated_at": task.updated_at.to_string(),
            "settled_at": task.settled.to_string(),
            "next_fire_at": instant(task.next.filter(|_| task.phase() == Phase::Active)),
            "runs": task.runs,
            "open_executions": task.open.iter().map(ToString::to_string).collect::<Vec<String>>(),
            "last_execution": last,
        });
        if let Value::Object(more) = more {
            fields.extend(more);
        }
    }
    told
}
