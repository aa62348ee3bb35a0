//! Which tasks listen to which events. It follows from the tasks, and is no part of a snapshot.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::identifier::{TaskId, TenantId};
use crate::task::rules::Rules;
use crate::task::state::Task;

/// The tasks that listen, with their slots, by tenant and by the name of the event.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners(BTreeMap<(TenantId, Arc<str>), BTreeMap<TaskId, u32>>);

impl Listeners {
    /// Those among all tasks.
    pub(super) fn of<'a>(tasks: impl Iterator<Item = &'a Task>) -> Self {
        let mut listeners = Self::default();
        tasks.for_each(|task| listeners.add(task));
        listeners
    }

    /// Notes what a task listens to.
    pub(super) fn add(&mut self, task: &Task) {
        if let Some(listening) = &task.rules.listens {
            let key = (task.tenant, listening.name.clone());
            self.0.entry(key).or_default().insert(task.id, task.slot);
        }
    }

    /// Notes that a task no longer listens to what it listened to under these rules.
    pub(super) fn remove(&mut self, tenant: TenantId, task: TaskId, rules: &Rules) {
        let Some(listening) = &rules.listens else { return };
        let key = (tenant, listening.name.clone());
        let Some(tasks) = self.0.get_mut(&key) else { return };
        tasks.remove(&task);
        if tasks.is_empty() {
            self.0.remove(&key);
        }
    }

    /// The tasks that listen to an event, after one of them, with their slots.
    pub(super) fn after(
        &self,
        tenant: TenantId,
        name: &Arc<str>,
        after: Option<TaskId>,
    ) -> impl Iterator<Item = (TaskId, u32)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listening = self.0.get(&(tenant, name.clone()));
        let tasks = listening.into_iter().flat_map(move |tasks| tasks.range((from, Bound::Unbounded)));
        tasks.map(|(task, slot)| (*task, *slot))
    }
}
