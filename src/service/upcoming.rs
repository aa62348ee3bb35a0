//! The next fires over all tasks of a tenant, in order.
//!
//! Computed on a copy of the state that shares its tasks, outside the lock, in time that grows with the tasks and memory
//! that grows with the page: only the tasks with the earliest next instants can be on it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::replica::slots::Slots;
use escapement_domain::task::definition::Kind;
use escapement_domain::task::state::Phase;
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::tasks::Fires;
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
            Some((tenant, replica.tasks().clone()))
        });
        let Some((tenant, tasks)) = frozen else { return Ok(Vec::new()) };
        let earliest = earliest(&tasks, tenant, limit).await;
        merge(&tasks, earliest, limit)
    }
}

/// The tasks with the earliest next instants, at most `limit` of them.
async fn earliest(tasks: &Slots, tenant: TenantId, limit: usize) -> Vec<(Timestamp, TaskId, u32)> {
    let mut heap = BinaryHeap::with_capacity(limit + 1);
    for (index, chunk) in tasks.chunks().iter().enumerate() {
        for task in chunk.0.iter().flatten() {
            let Some(next) = task.next.filter(|_| task.phase() == Phase::Active && task.tenant == tenant)
            else {
                continue;
            };
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
    heap.into_vec()
}

/// Merges the fires of some tasks into one order.
fn merge(
    tasks: &Slots,
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
                let mut fires = Fires::of(task)?;
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
