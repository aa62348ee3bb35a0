//! A task's own events, oldest first, though each record knows only the one before it.
//!
//! Every so often the place of a record is noted by its position in the stream. A page begins at the first note behind it and
//! walks back, so that its cost grows with the page and not with the stream.

use std::collections::BTreeMap;

use escapement_domain::event::Event;
use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::task::state::Stream;

use super::event_log::EventLog;
use super::failure::{Failure, Fault, FaultKind};
use super::keys;
use crate::ports::{Storage, Tree, Write};

/// Positions between two notes.
pub(super) const STRIDE: u64 = 256;

/// Some events of a task, oldest first.
#[derive(Clone, Debug, Default)]
pub struct StreamPage {
    /// The records.
    pub records: Vec<Record>,
    /// The position after which the next page begins; none when there is no more for now.
    pub next: Option<u64>,
}

/// Notes that the storage does not have yet.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pending: BTreeMap<(TenantId, TaskId, u64), u64>,
}

/// What of the notes went into a batch.
#[derive(Debug)]
pub(super) struct NotesFlush(Vec<(TenantId, TaskId, u64)>);

impl Notes {
    /// Notes a record if its position wants it. The last event of a task is noted too: the state knows no such task any
    /// more, and would not say where its stream ends.
    pub(super) fn fold(&mut self, record: &Record) {
        let (Some(link), Some(task)) = (record.header.stream, record.event.task()) else { return };
        if link.position % STRIDE == 0 || matches!(record.event, Event::TaskDeleted { .. }) {
            self.pending.insert((record.header.tenant, task, link.position), record.header.sequence);
        }
    }

    pub(super) fn flush_into(&self, batch: &mut Vec<Write>) -> NotesFlush {
        batch.extend(self.pending.iter().map(|((tenant, task, position), sequence)| Write {
            tree: Tree::TaskStreams,
            key: keys::position(*tenant, *task, *position),
            value: Some(sequence.to_be_bytes().to_vec()),
        }));
        NotesFlush(self.pending.keys().copied().collect())
    }

    pub(super) fn flushed(&mut self, flush: &NotesFlush) {
        for key in &flush.0 {
            self.pending.remove(key);
        }
    }

    /// The first note at or behind a position that memory has.
    pub(super) fn at_or_behind(&self, tenant: TenantId, task: TaskId, position: u64) -> Option<Stream> {
        let range = (tenant, task, position)..=(tenant, task, u64::MAX);
        self.pending.range(range).next().map(|((_, _, length), last)| Stream { length: *length, last: *last })
    }

    /// The last note that memory has.
    pub(super) fn last(&self, tenant: TenantId, task: TaskId) -> Option<Stream> {
        let range = (tenant, task, 0)..=(tenant, task, u64::MAX);
        self.pending
            .range(range)
            .next_back()
            .map(|((_, _, length), last)| Stream { length: *length, last: *last })
    }
}

/// The first note at or behind a position that the storage has.
pub(super) fn stored_at_or_behind(
    storage: &dyn Storage,
    tenant: TenantId,
    task: TaskId,
    position: u64,
) -> Result<Option<Stream>, Failure> {
    let from = keys::position(tenant, task, position);
    let to = keys::end_of(keys::stream(tenant, task));
    storage.scan(Tree::TaskStreams, &from, &to, 1, false)?.first().map(note).transpose()
}

/// The last note that the storage has.
pub(super) fn stored_last(
    storage: &dyn Storage,
    tenant: TenantId,
    task: TaskId,
) -> Result<Option<Stream>, Failure> {
    let from = keys::stream(tenant, task);
    let to = keys::end_of(keys::stream(tenant, task));
    storage.scan(Tree::TaskStreams, &from, &to, 1, true)?.first().map(note).transpose()
}

fn note((key, value): &(Vec<u8>, Vec<u8>)) -> Result<Stream, Failure> {
    let position = key.split_last_chunk::<8>().map(|(_, position)| u64::from_be_bytes(*position));
    let sequence = value.as_slice().try_into().ok().map(u64::from_be_bytes);
    match (position, sequence) {
        (Some(length), Some(last)) => Ok(Stream { length, last }),
        _ => {
            let detail = "neither a position nor a sequence".into();
            Err(Failure::Row { tree: Tree::TaskStreams.name(), detail })
        }
    }
}

/// Walks back from a place in a task's stream to the position after `after`; returns the records up to position `through`,
/// oldest first.
pub(super) fn walk_back(
    log: &EventLog,
    (tenant, task): (TenantId, TaskId),
    from: Stream,
    after: u64,
    through: u64,
) -> Result<Vec<Record>, Fault> {
    let mut records = Vec::new();
    let (mut position, mut sequence) = (from.length, from.last);
    while position > after {
        let fault = |kind| Fault::new(tenant, sequence, kind);
        let record = log.record(tenant, sequence)?.ok_or_else(|| fault(FaultKind::Missing))?;
        let link = record.header.stream.filter(|link| link.position == position);
        let Some(link) = link.filter(|_| record.event.task() == Some(task)) else {
            return Err(fault(FaultKind::Unthreaded { position }));
        };
        if position <= through {
            records.push(record);
        }
        (position, sequence) = (position - 1, link.previous);
    }
    records.reverse();
    Ok(records)
}
