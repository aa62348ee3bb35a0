//! Executions by name, by task and by how they stand: the newest in memory, all of them in the storage.
//!
//! Open executions stay in memory and are written whenever they changed; ended ones leave it once they are written. A reader
//! asks memory first: what is not there is in the storage as it is.
//!
//! Invariant: what is written of an execution depends on its records alone, so folding them again gives the same rows.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use escapement_domain::event::Event;
use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{ExecutionId, TenantId};
use escapement_domain::record::Record;

use super::execution::ExecutionRow;
use super::failure::Failure;
use super::keys;
use crate::ports::{Storage, Tree, Write};

type Key = (TenantId, ExecutionId);

/// Executions that are open, or that the storage does not have as they are.
#[derive(Debug, Default)]
pub(super) struct Executions {
    entries: BTreeMap<Key, Entry>,
    dirty: BTreeSet<Key>,
}

#[derive(Debug)]
struct Entry {
    row: Arc<ExecutionRow>,
    /// How the storage has it; none if it does not.
    stored: Option<Status>,
    /// Whether the storage's lists are known to have it.
    listed: bool,
}

/// How a record moved an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) before: Option<Status>,
    pub(super) after: Status,
}

/// What of the executions went into a batch.
#[derive(Debug)]
pub(super) struct ExecutionsFlush(Vec<Arc<ExecutionRow>>);

impl Executions {
    /// Lets a record change the execution that it is about.
    pub(super) fn fold(&mut self, record: &Record, storage: &dyn Storage) -> Result<Option<Moved>, Failure> {
        if matches!(record.event, Event::TaskResultRefused { .. }) {
            return Ok(None);
        }
        let Some(execution) = record.event.execution() else { return Ok(None) };
        let key = (record.header.tenant, execution);
        let made = ExecutionRow::made_by(record);
        let reopens = matches!(record.event, Event::TaskReopened { .. });
        if let Some(row) = made.as_ref().filter(|_| !reopens) {
            let moved = Moved { before: None, after: row.status };
            self.entries.insert(key, Entry { row: Arc::new(row.clone()), stored: None, listed: false });
            self.dirty.insert(key);
            return Ok(Some(moved));
        }
        let entry = match self.entries.entry(key) {
            Slot::Occupied(occupied) => occupied.into_mut(),
            Slot::Vacant(vacant) => {
                let stored = load(storage, key)?;
                let status = stored.as_ref().map(|row| row.status);
                let Some(row) = stored.or(made) else { return Ok(None) };
                vacant.insert(Entry { row: Arc::new(row), stored: status, listed: true })
            }
        };
        // Retention may have removed one that had ended, or be about to.
        entry.listed &= !reopens;
        let before = entry.row.status;
        Arc::make_mut(&mut entry.row).evolve(record);
        self.dirty.insert(key);
        Ok(Some(Moved { before: Some(before), after: entry.row.status }))
    }

    /// Adds to a batch what changed.
    pub(super) fn flush_into(&mut self, batch: &mut Vec<Write>) -> ExecutionsFlush {
        let mut flushing = Vec::with_capacity(self.dirty.len());
        for key in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let row = entry.row.clone();
            write_row(&row, entry, batch);
            entry.stored = Some(row.status);
            entry.listed = true;
            flushing.push(row);
        }
        ExecutionsFlush(flushing)
    }

    /// Forgets what ended and has been written.
    pub(super) fn flushed(&mut self, flush: &ExecutionsFlush) {
        for written in &flush.0 {
            let key = (written.tenant, written.id);
            let unchanged = self.entries.get(&key).is_some_and(|entry| Arc::ptr_eq(&entry.row, written));
            if unchanged && written.status.is_final() {
                self.entries.remove(&key);
            }
        }
    }

    /// The execution, if it is in memory.
    pub(super) fn get(&self, tenant: TenantId, execution: ExecutionId) -> Option<Arc<ExecutionRow>> {
        self.entries.get(&(tenant, execution)).map(|entry| entry.row.clone())
    }

    /// Executions in memory from `low` to below `high` that fit, newest first.
    pub(super) fn newest(
        &self,
        tenant: TenantId,
        range: std::ops::Range<ExecutionId>,
        fits: impl Fn(&ExecutionRow) -> bool,
        limit: usize,
    ) -> Vec<Arc<ExecutionRow>> {
        if range.is_empty() {
            return Vec::new();
        }
        self.entries
            .range((tenant, range.start)..(tenant, range.end))
            .rev()
            .filter(|(_, entry)| fits(&entry.row))
            .take(limit)
            .map(|(_, entry)| entry.row.clone())
            .collect()
    }
}

/// Reads an execution from the storage.
pub(super) fn load(storage: &dyn Storage, (tenant, execution): Key) -> Result<Option<ExecutionRow>, Failure> {
    match storage.get(Tree::Executions, &keys::execution(tenant, execution))? {
        Some(bytes) => decode(&bytes).map(Some),
        None => Ok(None),
    }
}

/// Reads an execution's row.
pub(super) fn decode(bytes: &[u8]) -> Result<ExecutionRow, Failure> {
    ExecutionRow::decode(bytes)
        .map_err(|error| Failure::Row { tree: Tree::Executions.name(), detail: error.to_string() })
}

/// Whether executions that stand so are listed by their status: all but the many that succeeded.
pub(super) fn is_listed(status: Status) -> bool {
    status != Status::Succeeded
}

fn write_row(row: &ExecutionRow, entry: &Entry, batch: &mut Vec<Write>) {
    let (tenant, id) = (row.tenant, row.id);
    let mut put = |tree, key, value| batch.push(Write { tree, key, value });
    put(Tree::Executions, keys::execution(tenant, id), Some(row.encode()));
    if !entry.listed {
        put(Tree::TaskExecutions, keys::task_execution(tenant, row.task, id), Some(Vec::new()));
        if row.follows() {
            put(
                Tree::RunExecutions,
                keys::with_execution(keys::run(tenant, row.run()), id),
                Some(Vec::new()),
            );
        }
    }
    if let Some(before) = entry.stored.filter(|before| *before != row.status && is_listed(*before)) {
        put(Tree::ExecutionStatuses, keys::status_execution(tenant, before, id), None);
    }
    if is_listed(row.status) && (!entry.listed || entry.stored != Some(row.status)) {
        put(Tree::ExecutionStatuses, keys::status_execution(tenant, row.status, id), Some(Vec::new()));
    }
}

/// Adds to a batch the removal of an ended execution.
pub(super) fn remove_row(row: &ExecutionRow, batch: &mut Vec<Write>) {
    let (tenant, id) = (row.tenant, row.id);
    let mut remove = |tree, key| batch.push(Write { tree, key, value: None });
    remove(Tree::Executions, keys::execution(tenant, id));
    remove(Tree::TaskExecutions, keys::task_execution(tenant, row.task, id));
    if row.follows() {
        remove(Tree::RunExecutions, keys::with_execution(keys::run(tenant, row.run()), id));
    }
    if is_listed(row.status) {
        remove(Tree::ExecutionStatuses, keys::status_execution(tenant, row.status, id));
    }
}
