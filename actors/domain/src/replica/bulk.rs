//! A bulk of which all or none is created: its parts are staged, and created from a cursor after the commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Replica;
use super::apply::Step;
use crate::answer::{Accepted, Rejection};
use crate::command::NewTask;
use crate::event::Event;
use crate::identifier::{CommandId, TaskId, TenantId};
use crate::limits::{BULK_TASKS_MAX, CREATES_PER_COMMAND_MAX, TASKS_MAX};
use crate::record::Record;
use crate::task::rules::Rules;
use crate::timestamp::Timestamp;

/// The parts of one bulk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bulk {
    pub(super) tenant: TenantId,
    pub(super) staged_at: Timestamp,
    pub(super) parts: BTreeMap<u32, Arc<Vec<NewTask>>>,
    pub(super) commit: Option<Commit>,
}

/// How far a committed bulk has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Commit {
    pub(super) owner: Arc<str>,
    /// The request that committed it.
    pub(super) correlation_id: Arc<str>,
    pub(super) created: usize,
}

impl Bulk {
    pub(super) fn committed(&self) -> bool {
        self.commit.is_some()
    }

    pub(super) fn staged_at(&self) -> Timestamp {
        self.staged_at
    }

    fn tasks(&self) -> impl Iterator<Item = &NewTask> {
        self.parts.values().flat_map(|part| part.iter())
    }
}

impl Replica {
    /// How many tasks of a tenant's committed bulks are yet to be created of which this is true: what they name must stay.
    pub(super) fn promised(&self, tenant: TenantId, is_so: impl Fn(&Rules) -> bool) -> u64 {
        self.promises(tenant).filter(|task| is_so(&task.rules)).count() as u64
    }

    /// The tasks of a tenant's committed bulks that are yet to be created and will run after a task.
    pub(super) fn promised_after(&self, tenant: TenantId, task: TaskId) -> impl Iterator<Item = TaskId> {
        let follows =
            move |new: &&NewTask| new.rules.after.as_ref().is_some_and(|after| after.tasks.contains(&task));
        self.promises(tenant).filter(follows).map(|new| new.task)
    }

    fn promises(&self, tenant: TenantId) -> impl Iterator<Item = &NewTask> {
        let bulks = self.bulks.values().filter(move |bulk| bulk.tenant == tenant);
        bulks.filter_map(|bulk| Some(bulk.tasks().skip(bulk.commit.as_ref()?.created))).flatten()
    }

    /// The request that an event goes back to by which a committed bulk goes on: the first of them does.
    pub(super) fn bulk_behind(&self, event: &Event) -> Option<Arc<str>> {
        let bulk = match event {
            Event::TaskCreated { .. } => self.bulks.values().find(|bulk| bulk.committed())?,
            Event::BulkContinued { bulk, .. } | Event::BulkEnded { bulk, .. } => self.bulks.get(bulk)?,
            _ => return None,
        };
        bulk.commit.as_ref().map(|commit| commit.correlation_id.clone())
    }

    /// Lets a record of a bulk change the state.
    pub(super) fn evolve_bulk(&mut self, record: &Record) {
        match &record.event {
            Event::TasksStaged { bulk, part, tasks } => {
                let (tenant, at) = (record.header.tenant, record.header.at);
                let staged = self.bulks.entry(*bulk).or_insert_with(|| Bulk {
                    tenant,
                    staged_at: at,
                    parts: BTreeMap::new(),
                    commit: None,
                });
                staged.parts.insert(*part, Arc::new(tasks.clone()));
            }
            Event::BulkCommitted { bulk, owner } => {
                if let Some(staged) = self.bulks.get_mut(bulk) {
                    let correlation_id = record.header.correlation_id.clone();
                    staged.commit = Some(Commit { owner: owner.clone(), correlation_id, created: 0 });
                }
            }
            Event::BulkContinued { bulk, created } => {
                if let Some(commit) = self.bulks.get_mut(bulk).and_then(|staged| staged.commit.as_mut()) {
                    commit.created += *created as usize;
                }
            }
            Event::BulkEnded { bulk, .. } => drop(self.bulks.remove(bulk)),
            _ => {}
        }
    }
}

impl Step<'_> {
    pub(super) fn stage(
        &mut self,
        id: CommandId,
        part: u32,
        tasks: &[NewTask],
    ) -> Result<Accepted, Rejection> {
        let known = self.replica.bulks.get(&id);
        if known.is_some_and(|bulk| bulk.tenant != self.tenant || bulk.committed()) {
            return Err(Rejection::Outdated);
        }
        // A part that is staged again takes the place of what it was.
        let others =
            known.into_iter().flat_map(|bulk| bulk.parts.iter().filter(|(other, _)| **other != part));
        let staged: usize = others.map(|(_, tasks)| tasks.len()).sum();
        if staged + tasks.len() > BULK_TASKS_MAX {
            return Err(Rejection::TooMany {
                what: "tasks in one bulk".into(),
                limit: BULK_TASKS_MAX as u64,
            });
        }
        self.record(self.tenant, Event::TasksStaged { bulk: id, part, tasks: tasks.to_vec() });
        Ok(Accepted::Done)
    }

    pub(super) fn commit_staged(&mut self, id: CommandId, parts: u32) -> Result<Accepted, Rejection> {
        let tenant = self.tenant;
        let bulk = self.replica.bulks.get(&id).filter(|bulk| bulk.tenant == tenant);
        let found = bulk.map_or(0, |bulk| u32::try_from(bulk.parts.len()).unwrap_or(u32::MAX));
        let Some(bulk) = bulk.filter(|_| found == parts) else {
            return Err(Rejection::Incomplete { found, expected: parts });
        };
        if bulk.tasks().any(|task| self.replica.task(tenant, task.task).is_some()) {
            return Err(Rejection::TaskExists);
        }
        if self.replica.tasks.len() + bulk.tasks().count() > TASKS_MAX {
            return Err(Rejection::TooMany { what: "tasks".into(), limit: TASKS_MAX as u64 });
        }
        for task in bulk.tasks() {
            self.calendars_exist(tenant, &task.rules.calendars)?;
            self.pools_suffice(tenant, &task.rules)?;
        }
        self.may_all_follow(id)?;
        let owner = self.owner();
        self.record(tenant, Event::BulkCommitted { bulk: id, owner });
        self.continue_bulks();
        Ok(Accepted::Done)
    }

    /// Whether each task of a bulk may run after the tasks that it names, with the others of the bulk beside it.
    fn may_all_follow(&mut self, id: CommandId) -> Result<(), Rejection> {
        let Some(bulk) = self.replica.bulks.get(&id) else { return Ok(()) };
        let follows = |task: &&NewTask| task.rules.after.is_some();
        if !bulk.tasks().any(|task| follows(&task)) {
            return Ok(());
        }
        let (tenant, bulk) = (bulk.tenant, bulk.clone());
        let (mut linked, mut checked) = (Vec::new(), Ok(()));
        for task in bulk.tasks().filter(follows) {
            checked = self.may_follow(tenant, task.task, &task.rules);
            if checked.is_err() {
                break;
            }
            // Only to see the others beside it: they are linked for good when they are created.
            self.replica.chains.link(tenant, task.task, task.rules.after.as_ref());
            linked.push(task.task);
        }
        linked.iter().for_each(|task| self.replica.chains.link(tenant, *task, None));
        checked
    }

    pub(super) fn abandon_staged(&mut self, id: CommandId) -> Result<Accepted, Rejection> {
        if let Some(bulk) = self.replica.bulks.get(&id).filter(|bulk| !bulk.committed()) {
            self.record(bulk.tenant, Event::BulkEnded { bulk: id, created: false });
        }
        Ok(Accepted::Done)
    }

    /// Creates the next tasks of a committed bulk, up to the bound.
    pub(super) fn continue_bulks(&mut self) {
        let Some((id, bulk)) = self.replica.bulks.iter().find(|(_, bulk)| bulk.committed()) else { return };
        let Some(commit) = &bulk.commit else { return };
        let (id, tenant, owner) = (*id, bulk.tenant, commit.owner.clone());
        let tasks: Vec<NewTask> =
            bulk.tasks().skip(commit.created).take(CREATES_PER_COMMAND_MAX).cloned().collect();
        let last = commit.created + tasks.len() >= bulk.tasks().count();
        for task in &tasks {
            // The commit made sure that none exists; one that a client created since by the same name stays.
            let _ = self.create_promised(tenant, &owner, task);
        }
        self.record(
            tenant,
            Event::BulkContinued { bulk: id, created: u32::try_from(tasks.len()).unwrap_or(u32::MAX) },
        );
        if last {
            self.record(tenant, Event::BulkEnded { bulk: id, created: true });
        }
    }
}
