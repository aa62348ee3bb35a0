//! What is missing after the state was replaced by a snapshot, and when it is there.
//!
//! Records that this node makes meanwhile lie beyond the gap. The latest of them are kept, so that the fetched ones meet them
//! even while many more come; older ones are dropped and fetched like the rest. Where the gap ends the fetched chain is held
//! against the hash that the replicated state has there.

use std::collections::{BTreeMap, VecDeque};

use escapement_domain::identifier::TenantId;
use escapement_domain::record::{ChainHead, Record};

use super::event_log::EventLog;
use super::failure::Failure;

/// Records beyond a gap that are kept for each tenant.
const TAIL_MAX: usize = 8_192;

/// The gaps of a node's event log.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    gaps: BTreeMap<TenantId, Gap>,
    /// The chains' ends in the state as it was at a log index, to be held against the log when that is reached.
    unchecked: Option<(u64, Vec<(TenantId, ChainHead)>)>,
    last_fetched: Option<TenantId>,
}

#[derive(Debug, Default)]
struct Gap {
    /// The last record that is known to exist.
    target: ChainHead,
    tail: VecDeque<Record>,
}

impl CatchUp {
    /// The state has these ends of chains at `index`: the log must have them, too, when what is under way has come.
    pub(super) fn expect(&mut self, index: u64, heads: Vec<(TenantId, ChainHead)>) {
        self.unchecked = Some((index, heads));
        // What came before the state was replaced need not meet what comes after it.
        self.gaps.values_mut().for_each(|gap| gap.tail.clear());
    }

    /// Holds the log against what is expected, if everything up to `seen` has come.
    ///
    /// # Errors
    /// [`Failure::Diverged`] when the log has another record where the state has one.
    pub(super) fn check(&mut self, seen: u64, log: &EventLog) -> Result<(), Failure> {
        let Some((_, heads)) = self.unchecked.take_if(|(index, _)| *index <= seen) else { return Ok(()) };
        for (tenant, head) in heads {
            if log.head(tenant).sequence >= head.sequence {
                log.compare(tenant, head)?;
                continue;
            }
            let gap = self.gaps.entry(tenant).or_default();
            if gap.target.sequence < head.sequence {
                gap.target = head;
            }
        }
        Ok(())
    }

    /// Takes a record that lies beyond the end of its chain here.
    pub(super) fn keep(&mut self, record: &Record) {
        let gap = self.gaps.entry(record.header.tenant).or_default();
        gap.target = ChainHead { sequence: record.header.sequence, hash: record.hash };
        gap.tail.push_back(record.clone());
        if gap.tail.len() > TAIL_MAX {
            gap.tail.pop_front();
        }
    }

    /// The record that was kept and follows a chain's end now, if there is one.
    pub(super) fn next_kept(&mut self, tenant: TenantId, log: &EventLog) -> Option<Record> {
        let head = log.head(tenant).sequence;
        let tail = &mut self.gaps.get_mut(&tenant)?.tail;
        while tail.front().is_some_and(|record| record.header.sequence <= head) {
            tail.pop_front();
        }
        let follows = tail.front().is_some_and(|record| record.header.sequence == head + 1);
        if follows { tail.pop_front() } else { None }
    }

    /// Closes a tenant's gap if the log has come to its end.
    ///
    /// # Errors
    /// [`Failure::Diverged`] when what was fetched is another history than the state's.
    pub(super) fn close(&mut self, tenant: TenantId, log: &EventLog) -> Result<(), Failure> {
        let Some(gap) = self.gaps.get(&tenant) else { return Ok(()) };
        if log.head(tenant).sequence < gap.target.sequence {
            return Ok(());
        }
        log.compare(tenant, gap.target)?;
        self.gaps.remove(&tenant);
        Ok(())
    }

    /// Whether the log has everything that this node knows to exist.
    pub(super) fn is_complete(&self) -> bool {
        self.gaps.is_empty() && self.unchecked.is_none()
    }

    /// The tenant whose records are to be fetched next: each in its turn.
    pub(super) fn next_to_fetch(&mut self) -> Option<TenantId> {
        let after = self.last_fetched;
        let next = self.gaps.keys().find(|tenant| Some(**tenant) > after).or_else(|| self.gaps.keys().next());
        self.last_fetched = next.copied();
        self.last_fetched
    }
}
