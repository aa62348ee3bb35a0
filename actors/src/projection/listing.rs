//! Lists of executions, newest first, merged from memory and the storage.
//!
//! The order is that of the names: UUIDv7 of the instant that each is for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::timestamp::Timestamp;
use parking_lot::RwLock;

use super::execution::ExecutionRow;
use super::executions::{decode, is_listed, load};
use super::failure::Failure;
use super::keys;
use super::models::Models;
use crate::ports::{Storage, Tree};

/// Executions that one page looks at in the storage before it ends early.
const LOOKED_AT_MAX: usize = 20_000;
/// Pairs that one look at the storage takes.
const SCAN: usize = 256;

/// Which executions are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutionQuery {
    /// Only those of this task.
    pub task: Option<TaskId>,
    /// Only those of this run of a chain.
    pub run: Option<ExecutionId>,
    /// Only those that stand so.
    pub status: Option<Status>,
    /// Only those for this instant or a later one.
    pub from: Option<Timestamp>,
    /// Only those for an instant before this one.
    pub to: Option<Timestamp>,
    /// Only those older than this one: where the page before ended.
    pub before: Option<ExecutionId>,
    /// At most so many.
    pub limit: usize,
}

/// Some executions, newest first.
#[derive(Clone, Debug, Default)]
pub struct ExecutionPage {
    /// The executions. Fewer than were asked for do not mean that there are no more: see `next`.
    pub items: Vec<Arc<ExecutionRow>>,
    /// Where the next page begins: at what is older than this one; none when there is no more.
    pub next: Option<ExecutionId>,
}

impl ExecutionQuery {
    /// Everything, at most `limit` of it.
    #[must_use]
    pub fn newest(limit: usize) -> Self {
        Self { task: None, run: None, status: None, from: None, to: None, before: None, limit }
    }

    fn fits(&self, row: &ExecutionRow) -> bool {
        self.task.is_none_or(|task| task == row.task)
            && self.run.is_none_or(|run| run == row.run())
            && self.status.is_none_or(|status| status == row.status)
    }

    fn range(&self) -> Range<ExecutionId> {
        let low = self.from.map_or(ExecutionId(0), first_at);
        let high = self.to.map_or(ExecutionId(u128::MAX), first_at);
        low..self.before.map_or(high, |before| before.min(high))
    }

    /// The tree that lists the fewest candidates, and what their keys begin with.
    fn index(&self, tenant: TenantId) -> (Tree, Vec<u8>) {
        if let Some(run) = self.run {
            return (Tree::RunExecutions, keys::run(tenant, run));
        }
        match (self.task, self.status) {
            (Some(task), _) => (Tree::TaskExecutions, keys::stream(tenant, task)),
            (None, Some(status)) if is_listed(status) => {
                (Tree::ExecutionStatuses, keys::status(tenant, status))
            }
            (None, _) => (Tree::Executions, keys::scope(tenant)),
        }
    }
}

/// The least name that an execution for this instant can have.
pub(super) fn first_at(instant: Timestamp) -> ExecutionId {
    ExecutionId(u128::from(u64::try_from(instant.0).unwrap_or(0)) << 80)
}

/// Lists executions of a tenant.
pub(super) fn list(
    models: &RwLock<Models>,
    storage: &dyn Storage,
    tenant: TenantId,
    query: &ExecutionQuery,
) -> Result<ExecutionPage, Failure> {
    let wanted = query.limit.saturating_add(1);
    let mut range = query.range();
    let mut found = BTreeMap::new();
    let in_memory = models.read().executions.newest(tenant, range.clone(), |row| query.fits(row), wanted);
    if in_memory.len() == wanted {
        // What is older than these is on no account part of the page.
        range.start = in_memory.last().map_or(range.start, |row| row.id);
    }
    found.extend(in_memory.into_iter().map(|row| (row.id, row)));
    if let Some(first) = query.run.filter(|first| range.contains(first)) {
        // The one that began the run is in no list of it.
        let row = newest_row(&models.read(), storage, tenant, first, None)?;
        found.extend(row.filter(|row| query.fits(row)).map(|row| (row.id, row)));
    }
    let looked_through = look(models, storage, tenant, query, range, &mut found)?;
    if let Some(end) = looked_through {
        found = found.split_off(&end);
    }
    let more = found.len() > query.limit;
    let items: Vec<_> = found.into_values().rev().take(query.limit).collect();
    let next = if more { items.last().map(|row| row.id) } else { looked_through };
    Ok(ExecutionPage { items, next })
}

/// Adds what fits from the storage until the page is full; returns where it gave up looking, if it did.
fn look(
    models: &RwLock<Models>,
    storage: &dyn Storage,
    tenant: TenantId,
    query: &ExecutionQuery,
    range: Range<ExecutionId>,
    found: &mut BTreeMap<ExecutionId, Arc<ExecutionRow>>,
) -> Result<Option<ExecutionId>, Failure> {
    let (tree, beginning) = query.index(tenant);
    let low = keys::with_execution(beginning.clone(), range.start);
    let mut high = keys::with_execution(beginning, range.end);
    let (mut fitting, mut looked_at) = (0, 0);
    loop {
        // Held meanwhile, so that nothing leaves memory between the look at the storage and the look at memory.
        let memory = models.read();
        let pairs = storage.scan(tree, &low, &high, SCAN, true)?;
        let exhausted = pairs.len() < SCAN;
        for (key, value) in pairs {
            let Some(id) = keys::last_execution(&key) else { continue };
            let row = newest_row(&memory, storage, tenant, id, (tree == Tree::Executions).then_some(value))?;
            if let Some(row) = row.filter(|row| query.fits(row)) {
                found.insert(id, row);
                fitting += 1;
            }
            looked_at += 1;
            if fitting > query.limit {
                return Ok(None);
            }
            if looked_at >= LOOKED_AT_MAX {
                return Ok(Some(id));
            }
            high = key;
        }
        if exhausted {
            return Ok(None);
        }
    }
}

/// An execution as memory has it, or else as the storage does: `stored`, if it was read already.
fn newest_row(
    memory: &Models,
    storage: &dyn Storage,
    tenant: TenantId,
    id: ExecutionId,
    stored: Option<Vec<u8>>,
) -> Result<Option<Arc<ExecutionRow>>, Failure> {
    if let Some(row) = memory.executions.get(tenant, id) {
        return Ok(Some(row));
    }
    match stored {
        Some(bytes) => Ok(Some(Arc::new(decode(&bytes)?))),
        None => Ok(load(storage, (tenant, id))?.map(Arc::new)),
    }
}
