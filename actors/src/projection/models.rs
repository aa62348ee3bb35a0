//! The read models together: how a record changes them, and what of them is written.
//!
//! Everything that one flush writes, blocks of the event log and checkpoints among it, is one batch: after a crash the models
//! stand exactly where their checkpoints say.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::codec;
use escapement_domain::event::Event;
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::TenantId;
use escapement_domain::record::Record;
use serde::{Deserialize, Serialize};

use super::executions::{Executions, ExecutionsFlush};
use super::failure::{Failure, Fault, FaultKind};
use super::keys;
use super::statistics::Statistics;
use super::streams::{Notes, NotesFlush};
use crate::ports::{Storage, Tree, Write};

/// The format of the read models. Another one makes them be built again from the event log.
const FORMAT: u8 = 2;
/// Pairs that one look at a tree takes.
const SCAN: usize = 1_024;

/// Every read model, as far as it is not only in the storage.
#[derive(Debug, Default)]
pub(super) struct Models {
    pub(super) executions: Executions,
    pub(super) notes: Notes,
    pub(super) statistics: BTreeMap<TenantId, Statistics>,
    folded: BTreeMap<TenantId, Checkpoint>,
    dirty: BTreeSet<TenantId>,
    /// Records folded since the last flush began.
    pub(super) unflushed: usize,
}

/// How far a tenant's records were folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The sequence of the last record.
    pub sequence: u64,
    /// The log index of that record.
    pub log_index: u64,
}

/// What of the models went into a batch.
#[derive(Debug)]
pub(super) struct ModelsFlush {
    executions: ExecutionsFlush,
    notes: NotesFlush,
}

impl Models {
    /// Loads the models, or clears what is there if some of it is missing or of another format; then all is folded again.
    pub(super) fn load(storage: &dyn Storage) -> Result<Self, Failure> {
        let mut models = Self::default();
        for tree in Tree::DERIVED {
            if storage.get(tree, keys::MARKER)?.as_deref() != Some(&[FORMAT]) {
                rebuild(storage)?;
                return Ok(models);
            }
        }
        models.folded = checkpoints(storage)?;
        for (tenant, bytes) in rows(storage, Tree::Statistics)? {
            models.statistics.insert(tenant, decoded(Tree::Statistics, Statistics::decode(&bytes))?);
        }
        Ok(models)
    }

    /// Clears every model in the storage, to be folded again.
    pub(super) fn reset(storage: &dyn Storage) -> Result<Self, Failure> {
        rebuild(storage)?;
        Ok(Self::default())
    }

    /// The last record of a tenant that was folded.
    pub(super) fn folded(&self, tenant: TenantId) -> Checkpoint {
        self.folded.get(&tenant).copied().unwrap_or_default()
    }

    /// How far each tenant was folded.
    pub(super) fn checkpoints(&self) -> &BTreeMap<TenantId, Checkpoint> {
        &self.folded
    }

    /// Lets the next record of its tenant change the models; one that was folded before changes nothing.
    ///
    /// # Errors
    /// [`Failure`] when a row cannot be read, or records between the last one and this one are missing.
    pub(super) fn fold(&mut self, record: &Record, storage: &dyn Storage) -> Result<(), Failure> {
        let tenant = record.header.tenant;
        let next = self.folded(tenant).sequence + 1;
        if record.header.sequence < next {
            return Ok(());
        }
        if record.header.sequence > next {
            return Err(Fault::new(tenant, next, FaultKind::Missing).into());
        }
        let moved = self.executions.fold(record, storage)?;
        self.notes.fold(record);
        let statistics = self.statistics.entry(tenant).or_default();
        if let Some(moved) = moved {
            statistics.moved(moved.before, moved.after);
        }
        match &record.event {
            Event::TaskScheduled { occurrence, scheduled_at, .. } => {
                statistics.fired();
                if matches!(occurrence, Occurrence::Scheduled(_)) {
                    let at = record.header.at;
                    statistics.fired_late(at, at.since(*scheduled_at));
                }
            }
            Event::TaskMissed { count, .. } => statistics.passed_by(*count),
            _ => {}
        }
        let checkpoint = Checkpoint { sequence: record.header.sequence, log_index: record.header.log_index };
        self.folded.insert(tenant, checkpoint);
        self.dirty.insert(tenant);
        self.unflushed += 1;
        Ok(())
    }

    /// Adds to a batch what changed, and how far that goes.
    pub(super) fn flush_into(&mut self, batch: &mut Vec<Write>) -> ModelsFlush {
        self.unflushed = 0;
        let flush = ModelsFlush {
            executions: self.executions.flush_into(batch),
            notes: self.notes.flush_into(batch),
        };
        for tenant in std::mem::take(&mut self.dirty) {
            let statistics = self.statistics.get(&tenant).map(Statistics::encode);
            batch.push(Write { tree: Tree::Statistics, key: keys::scope(tenant), value: statistics });
            let checkpoint = codec::encode(&self.folded(tenant));
            batch.push(Write { tree: Tree::Checkpoints, key: keys::scope(tenant), value: Some(checkpoint) });
        }
        flush
    }

    /// Forgets what was written and is needed no more.
    pub(super) fn flushed(&mut self, flush: &ModelsFlush) {
        self.executions.flushed(&flush.executions);
        self.notes.flushed(&flush.notes);
    }
}

/// How far the read models in a storage had folded each tenant: the event log beside them reached at least as far. Nothing
/// where they are missing or of another format.
///
/// # Errors
/// [`Failure`] when the storage fails or a row cannot be read.
pub fn checkpoints(storage: &dyn Storage) -> Result<BTreeMap<TenantId, Checkpoint>, Failure> {
    if storage.get(Tree::Checkpoints, keys::MARKER)?.as_deref() != Some(&[FORMAT]) {
        return Ok(BTreeMap::new());
    }
    let rows = rows(storage, Tree::Checkpoints)?.into_iter();
    rows.map(|(tenant, bytes)| {
        Ok((tenant, decoded(Tree::Checkpoints, codec::decode::<_, 64>("checkpoint", &bytes))?))
    })
    .collect()
}

fn rebuild(storage: &dyn Storage) -> Result<(), Failure> {
    for tree in Tree::DERIVED {
        storage.clear(tree)?;
    }
    let marker = |tree| Write { tree, key: keys::MARKER.to_vec(), value: Some(vec![FORMAT]) };
    storage.write(Tree::DERIVED.map(marker).to_vec())?;
    Ok(())
}

/// The rows of a tree that has one for each tenant.
fn rows(storage: &dyn Storage, tree: Tree) -> Result<Vec<(TenantId, Vec<u8>)>, Failure> {
    let mut found = Vec::new();
    for pair in super::scan_all(storage, tree, SCAN) {
        let (key, value) = pair?;
        if let Some((tenant, _)) = keys::tenant_of(&key) {
            found.push((tenant, value));
        }
    }
    Ok(found)
}

fn decoded<T>(tree: Tree, result: Result<T, codec::CodecError>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Row { tree: tree.name(), detail: error.to_string() })
}
