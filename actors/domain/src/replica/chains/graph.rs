//! Which task runs after which: an index over the tasks' rules, made again from them.
//!
//! Invariant: it has no cycle, and what one walk through it meets is bounded; whatever is linked was checked before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::answer::Rejection;
use crate::identifier::{TaskId, TenantId};
use crate::limits::{AWAITED_PER_TASK_MAX, CHAIN_DEPTH_MAX, CHAIN_TASKS_MAX, SUCCESSORS_PER_TASK_MAX};
use crate::task::rules::After;

type Key = (TenantId, TaskId);

/// The tasks that run after others, and those that they run after.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    successors: BTreeMap<Key, BTreeSet<TaskId>>,
    links: BTreeMap<Key, Link>,
}

/// A task that runs after others.
#[derive(Clone, Debug)]
struct Link {
    after: Arc<After>,
    /// The task whose runs it belongs to; itself, if that is not the same for all that it waits for.
    root: TaskId,
}

impl Graph {
    /// What a task runs after.
    #[must_use]
    pub fn after(&self, tenant: TenantId, task: TaskId) -> Option<&Arc<After>> {
        self.links.get(&(tenant, task)).map(|link| &link.after)
    }

    /// The tasks that run after a task, in order.
    pub fn successors(&self, tenant: TenantId, task: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        self.successors.get(&(tenant, task)).into_iter().flatten().copied()
    }

    /// Whether others run after a task.
    #[must_use]
    pub fn is_awaited(&self, tenant: TenantId, task: TaskId) -> bool {
        self.successors.contains_key(&(tenant, task))
    }

    /// The task whose executions begin the runs that a task belongs to.
    #[must_use]
    pub fn root(&self, tenant: TenantId, task: TaskId) -> TaskId {
        self.links.get(&(tenant, task)).map_or(task, |link| link.root)
    }

    /// Whether a task runs after others without belonging to their runs: it begins runs of its own.
    pub(super) fn joins(&self, tenant: TenantId, task: TaskId) -> bool {
        self.links.get(&(tenant, task)).is_some_and(|link| link.root == task)
    }

    /// The tasks of a run that began with this one: itself, and each of which all that it waits for is among them.
    #[must_use]
    pub fn members(&self, tenant: TenantId, begun_by: TaskId) -> BTreeSet<TaskId> {
        let mut members = BTreeSet::from([begun_by]);
        let mut found = vec![begun_by];
        while let Some(task) = found.pop() {
            for next in self.successors(tenant, task) {
                let whole = |after: &Arc<After>| after.tasks.iter().all(|task| members.contains(task));
                if !members.contains(&next) && self.after(tenant, next).is_some_and(whole) {
                    members.insert(next);
                    found.push(next);
                }
            }
        }
        members
    }

    /// Whether a task belongs to the runs that begin with another one.
    pub(super) fn is_member(&self, tenant: TenantId, begun_by: TaskId, task: TaskId) -> bool {
        if self.root(tenant, begun_by) == begun_by {
            return self.root(tenant, task) == begun_by;
        }
        self.members(tenant, begun_by).contains(&task)
    }

    /// The tasks that run after some, directly or not.
    pub(super) fn followers(
        &self,
        tenant: TenantId,
        of: impl IntoIterator<Item = TaskId>,
    ) -> BTreeSet<TaskId> {
        let (mut followers, mut found) = (BTreeSet::new(), Vec::from_iter(of));
        while let Some(task) = found.pop() {
            found.extend(self.successors(tenant, task).filter(|next| followers.insert(*next)));
        }
        followers
    }

    /// Whether a task may run after these; that they exist is for the caller to see.
    pub(super) fn check(&self, tenant: TenantId, task: TaskId, after: &After) -> Result<(), Rejection> {
        at_most("tasks after which one task runs", after.tasks.len(), AWAITED_PER_TASK_MAX)?;
        if let Some(tasks) = self.way_back(tenant, task, after) {
            return Err(Rejection::ChainCycle { tasks });
        }
        for awaited in &after.tasks {
            let others = self.successors(tenant, *awaited).filter(|next| *next != task).count();
            at_most("tasks that run after one task", others + 1, SUCCESSORS_PER_TASK_MAX)?;
        }
        at_most("tasks of one chain", self.connected(tenant, task, after), CHAIN_TASKS_MAX)?;
        let (mut above, mut below) = (BTreeMap::new(), BTreeMap::new());
        let before = after.tasks.iter().map(|awaited| self.height(tenant, *awaited, &mut above)).max();
        let depth = before.unwrap_or(0) + self.depth(tenant, task, &mut below);
        at_most("tasks of a chain of which each runs after the one before", depth, CHAIN_DEPTH_MAX)
    }

    /// The way from a task to itself that there would be, if there would be one.
    fn way_back(&self, tenant: TenantId, task: TaskId, after: &After) -> Option<Vec<TaskId>> {
        if after.tasks.contains(&task) {
            return Some(vec![task, task]);
        }
        let (mut came_from, mut found) = (BTreeMap::new(), vec![task]);
        while let Some(at) = found.pop() {
            if after.tasks.contains(&at) {
                let before = |at: &TaskId| came_from.get(at).copied();
                let mut way: Vec<TaskId> = std::iter::successors(Some(at), before).collect();
                way.reverse();
                way.push(task);
                return Some(way);
            }
            for next in self.successors(tenant, at) {
                if next != task && !came_from.contains_key(&next) {
                    came_from.insert(next, at);
                    found.push(next);
                }
            }
        }
        None
    }

    /// How many tasks would hang together; counted no further than just over what is allowed.
    fn connected(&self, tenant: TenantId, task: TaskId, after: &After) -> usize {
        let (mut met, mut found) = (BTreeSet::from([task]), vec![task]);
        while let Some(at) = found.pop() {
            let awaited = if at == task { Some(after) } else { self.after(tenant, at).map(|after| &**after) };
            let before = awaited.into_iter().flat_map(|after| after.tasks.iter().copied());
            // The present links of the task are not counted: the new ones take their place.
            let behind =
                self.successors(tenant, at).filter(|next| *next != task || after.tasks.contains(&at));
            for next in before.chain(behind) {
                if met.insert(next) {
                    found.push(next);
                }
            }
            if met.len() > CHAIN_TASKS_MAX {
                break;
            }
        }
        met.len()
    }

    /// How many tasks the longest way to a task has, itself counted.
    fn height(&self, tenant: TenantId, task: TaskId, known: &mut BTreeMap<TaskId, usize>) -> usize {
        if let Some(known) = known.get(&task) {
            return *known;
        }
        let awaited = self.after(tenant, task).map_or(&[][..], |after| &after.tasks);
        let before = awaited.iter().map(|awaited| self.height(tenant, *awaited, known)).max();
        let height = before.unwrap_or(0) + 1;
        known.insert(task, height);
        height
    }

    /// How many tasks the longest way from a task has, itself counted.
    fn depth(&self, tenant: TenantId, task: TaskId, known: &mut BTreeMap<TaskId, usize>) -> usize {
        if let Some(known) = known.get(&task) {
            return *known;
        }
        let behind = self.successors(tenant, task).map(|next| self.depth(tenant, next, known)).max();
        let depth = behind.unwrap_or(0) + 1;
        known.insert(task, depth);
        depth
    }

    /// A task runs after these from now on, or after none.
    pub(super) fn link(&mut self, tenant: TenantId, task: TaskId, after: Option<&Arc<After>>) {
        let former = self.links.remove(&(tenant, task));
        for awaited in former.iter().flat_map(|former| &former.after.tasks) {
            let key = (tenant, *awaited);
            let Some(successors) = self.successors.get_mut(&key) else { continue };
            successors.remove(&task);
            if successors.is_empty() {
                self.successors.remove(&key);
            }
        }
        if let Some(after) = after {
            self.links.insert((tenant, task), Link { after: after.clone(), root: task });
            for awaited in &after.tasks {
                self.successors.entry((tenant, *awaited)).or_default().insert(task);
            }
        }
        if former.is_some() || after.is_some() {
            self.settle_roots(tenant, task);
        }
    }

    /// Finds the roots of a task and of what runs after it.
    fn settle_roots(&mut self, tenant: TenantId, task: TaskId) {
        let mut found = vec![task];
        while let Some(at) = found.pop() {
            let roots = |link: &Link| {
                let roots = link.after.tasks.iter().map(|awaited| self.root(tenant, *awaited));
                roots.collect::<BTreeSet<_>>()
            };
            let roots = self.links.get(&(tenant, at)).map(roots).unwrap_or_default();
            let root = if roots.len() == 1 { roots.first().copied().unwrap_or(at) } else { at };
            let changed = match self.links.get_mut(&(tenant, at)) {
                Some(link) => std::mem::replace(&mut link.root, root) != root,
                None => false,
            };
            if changed || at == task {
                found.extend(self.successors(tenant, at));
            }
        }
    }
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), Rejection> {
    if found <= limit { Ok(()) } else { Err(Rejection::TooMany { what: what.into(), limit: limit as u64 }) }
}
