//! What the nodes were seen to apply: the records of every entry once, and whether all nodes agree on them.
//!
//! A replica outside the cluster folds the records as they are first seen; nodes are held against it. Invariant: an
//! entry's records are the same wherever and whenever it is applied.

use std::collections::BTreeMap;

use escapement_actors::machine::Applied;
use escapement_domain::identifier::NodeId;
use escapement_domain::record::{Hash, Record};
use escapement_domain::replica::Replica;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Replica,
    records: Vec<Record>,
    /// For each entry with records: when it was first seen, and a digest of its records.
    entries: BTreeMap<u64, (u64, Hash)>,
}

impl Ledger {
    /// The state that the records fold to.
    pub(super) fn state(&self) -> &Replica {
        &self.state
    }

    /// The records, in order.
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// The last entry that had records.
    pub(super) fn end(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// A node applied an entry at a time of the world. Says what is wrong with it, if anything is.
    pub(super) fn applied(&mut self, node: NodeId, applied: &Applied, now: u64) -> Option<String> {
        let last = applied.records.last()?;
        let hashes: Vec<u8> = applied.records.iter().flat_map(|record| record.hash.0).collect();
        let digest = Hash::of(&hashes);
        match self.entries.get(&applied.index) {
            Some((_, known)) if *known == digest => None,
            Some(_) => Some(format!(
                "entry {} led to other records on node {node}; the last of them is {} {}",
                applied.index,
                last.header.sequence,
                last.event.name()
            )),
            None if applied.index < self.end() => {
                Some(format!("entry {} led to records on node {node} and to none elsewhere", applied.index))
            }
            None => {
                applied.records.iter().for_each(|record| self.state.evolve(record));
                self.records.extend(applied.records.iter().cloned());
                self.entries.insert(applied.index, (now, digest));
                None
            }
        }
    }

    /// The records, when each entry was first seen, and the state.
    pub(super) fn close(self) -> (Vec<Record>, BTreeMap<u64, u64>, Replica) {
        let committed = self.entries.into_iter().map(|(index, (at, _))| (index, at)).collect();
        (self.records, committed, self.state)
    }
}
