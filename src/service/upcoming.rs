//! The next fires over all tasks of a tenant, in order.
//!
//! Computed on a copy of the state that shares its tasks, outside the lock, in time that grows with the tasks and memory
//! that grows with the page: only the tasks with the earliest next instants can be on it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::replica::calendars::Calendars;
use escapement_domain::replica::slots::Slots;
use escapement_domain::task::coming::Fires;
use escapement_domain::task::definition::Kind;
use escapement_domain::task::state::Phase;
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use crate::security::Permission;

/// Chunks of tasks that are looked at before others get a turn.
const CHUNKS_PER_TURN: usize = 64;

/// One fire to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upcoming {
    /// The task.
    pub task: TaskId,
    /// Its name for people.
    pub name: String,
    /// What sort of work it is.
    pub kind: Kind,
    /// The instant for which it fires.
    pub at: Timestamp,
}

impl Service {
    /// The next fires over all tasks of the caller's tenant, at most `limit` of them.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn upcoming(&self, caller: &Caller, limit: usize) -> Result<Vec<Upcoming>, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        let frozen = self.parts.machine.read(|replica| {
            let tenant = replica.tenant_number(caller.tenant())?;
            Some((tenant, replica.tasks().clone(), replica.calendars().clone()))
        });
        let Some((tenant, tasks, calendars)) = frozen else { return Ok(Vec::new()) };
        let earliest = earliest(&tasks, &calendars, tenant, limit).await?;
        merge(&tasks, &calendars, earliest, limit)
    }
}

/// The tasks with the earliest next instants, at most `limit` of them.
async fn earliest(
    tasks: &Slots,
    calendars: &Calendars,
    tenant: TenantId,
    limit: usize,
) -> Result<Vec<(Timestamp, TaskId, u32)>, ServiceError> {
    let mut heap = BinaryHeap::with_capacity(limit + 1);
    for (index, chunk) in tasks.chunks().iter().enumerate() {
        for task in chunk.0.iter().flatten() {
            if task.tenant != tenant || task.phase() != Phase::Active {
                continue;
            }
            let regular = task.rules.calendars.is_empty() && task.overrides.is_empty();
            let next = if regular { task.next } else { Fires::of(task, calendars.named_by(task))?.next() };
            let Some(next) = next else { continue };
            let candidate = (next, task.id, task.slot);
            if heap.len() < limit {
                heap.push(candidate);
            } else if heap.peek().is_some_and(|latest| candidate < *latest) {
                heap.pop();
                heap.push(candidate);
            }
        }
        if index % CHUNKS_PER_TURN == CHUNKS_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(heap.into_vec())
}

/// Merges the fires of some tasks into one order.
fn merge(
    tasks: &Slots,
    calendars: &Calendars,
    earliest: Vec<(Timestamp, TaskId, u32)>,
    limit: usize,
) -> Result<Vec<Upcoming>, ServiceError> {
    let mut waiting: BinaryHeap<_> = earliest.into_iter().map(Reverse).collect();
    let mut open = std::collections::BTreeMap::new();
    let mut merged = Vec::with_capacity(limit.min(waiting.len()));
    while merged.len() < limit {
        let Some(Reverse((at, id, slot))) = waiting.pop() else { break };
        let Some(task) = tasks.get(slot) else { continue };
        let entry = match open.entry(slot) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let definition = task.definition.open_definition()?;
                let mut fires = Fires::of(task, calendars.named_by(task))?;
                // The first one is the instant by which the task was chosen.
                fires.next();
                entry.insert((definition.name, definition.kind, fires))
            }
        };
        merged.push(Upcoming { task: id, name: entry.0.clone(), kind: entry.1, at });
        if let Some(following) = entry.2.next() {
            waiting.push(Reverse((following, id, slot)));
        }
    }
    Ok(merged)
}
