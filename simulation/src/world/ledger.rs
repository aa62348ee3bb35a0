//! The committed log, and an auditor that applies every entry as it is committed.
//!
//! The auditor's records are what the event log of every node must hold; nodes are held against its marks. It never
//! crashes, restores or lags.

use std::collections::BTreeMap;

use escapement_domain::command::Command;
use escapement_domain::record::{Hash, Record};
use escapement_domain::replica::Replica;

/// Every so many entries the whole states are compared, and not only where the chains end.
const HASH_EVERY: u64 = 128;

/// The committed log.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<(Vec<u8>, u64)>,
    auditor: Replica,
    records: Vec<Record>,
    marks: Vec<u64>,
    states: BTreeMap<u64, Hash>,
}

/// What became of a log.
pub(super) struct Closed {
    /// The auditor's state.
    pub(super) state: Replica,
    /// Its records.
    pub(super) records: Vec<Record>,
    /// When each entry was committed.
    pub(super) committed: Vec<u64>,
}

impl Ledger {
    /// The index of the last entry.
    #[must_use]
    pub(super) fn end(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The bytes of an entry.
    #[must_use]
    pub(super) fn entry(&self, index: u64) -> Option<&[u8]> {
        let place = usize::try_from(index).ok()?.checked_sub(1)?;
        self.entries.get(place).map(|(bytes, _)| bytes.as_slice())
    }

    /// The state that every node must reach.
    #[must_use]
    pub(super) fn state(&self) -> &Replica {
        &self.auditor
    }

    /// Commits an entry at a time of the world; returns a number that tells its records from others.
    pub(super) fn commit(&mut self, bytes: Vec<u8>, now: u64) -> u64 {
        let index = self.end() + 1;
        if let Ok(command) = Command::decode(&bytes) {
            let mut records = Vec::new();
            self.auditor.apply(index, &command, &mut records);
            self.records.extend(records);
        }
        self.entries.push((bytes, now));
        let mark = mark(&self.auditor);
        self.marks.push(mark);
        if index.is_multiple_of(HASH_EVERY) {
            self.states.insert(index, self.auditor.state_hash());
        }
        mark
    }

    /// Says how a node that has applied `index` entries differs, if it does.
    #[must_use]
    pub(super) fn difference(&self, index: u64, replica: &Replica) -> Option<String> {
        let place = usize::try_from(index).ok()?.checked_sub(1)?;
        if self.marks.get(place).is_some_and(|expected| *expected != mark(replica)) {
            return Some(format!("its chains end elsewhere at index {index}"));
        }
        let expected = self.states.get(&index)?;
        let found = replica.state_hash();
        (found != *expected).then(|| format!("its state at index {index} has hash {found}, not {expected}"))
    }

    /// Ends the log.
    #[must_use]
    pub(super) fn close(self) -> Closed {
        Closed {
            state: self.auditor,
            records: self.records,
            committed: self.entries.into_iter().map(|(_, at)| at).collect(),
        }
    }
}

/// The ends of all chains as one number.
fn mark(replica: &Replica) -> u64 {
    replica.tenants().iter().fold(0, |mark, tenant| {
        let mut first = [0_u8; 8];
        first.copy_from_slice(&tenant.head.hash.0[..8]);
        (mark ^ u64::from_le_bytes(first)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    })
}
