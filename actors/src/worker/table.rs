//! Leases by worker, on a monotonic clock that comes in as an argument.
//!
//! Invariant: a worker that was given up is never extended again. Absent on purpose: clocks, the log, mailboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use escapement_domain::identifier::{Incarnation, NodeId};
use escapement_domain::replica::placement::{Condition, Workers};

/// Workers that are remembered as given up; the oldest starts are forgotten first.
const GIVEN_UP_MAX: usize = 4_096;

/// A worker: a node, and one start of its dispatcher.
pub(super) type WorkerKey = (NodeId, Incarnation);

/// What the state says of a worker that wants its lease renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: it may join.
    New,
    /// It is there, and takes work or not.
    Known {
        /// Whether it takes nothing new.
        draining: bool,
    },
    /// It was lost, or a later start of its node has taken its place.
    Gone,
}

/// Leases by worker.
#[derive(Debug, Default)]
pub(super) struct Table {
    until: BTreeMap<WorkerKey, Duration>,
    given_up: BTreeSet<WorkerKey>,
}

impl Table {
    /// Says how a worker stands.
    pub(super) fn standing(&self, key: WorkerKey, workers: &Workers) -> Standing {
        if self.given_up.contains(&key) {
            return Standing::Gone;
        }
        // Starts of a node are named by their time: a message of an earlier one that was delayed must not bring it back.
        let replaced = workers.keys().any(|(node, incarnation)| *node == key.0 && *incarnation > key.1);
        match workers.get(&key).map(|worker| worker.condition) {
            Some(Condition::Lost) => Standing::Gone,
            _ if replaced => Standing::Gone,
            Some(condition) => Standing::Known { draining: condition == Condition::Draining },
            None => Standing::New,
        }
    }

    /// Extends a lease; `false` if the worker was given up meanwhile.
    pub(super) fn extend(&mut self, key: WorkerKey, until: Duration) -> bool {
        if self.given_up.contains(&key) {
            return false;
        }
        let lease = self.until.entry(key).or_insert(until);
        *lease = until.max(*lease);
        true
    }

    /// Brings the table in line with the state: whoever has no lease gets a full one, whoever is gone is forgotten.
    /// Returns the workers whose lease ran out, which are given up by that.
    pub(super) fn sweep(&mut self, workers: &Workers, now: Duration, lease: Duration) -> Vec<WorkerKey> {
        self.until.retain(|key, _| workers.contains_key(key));
        let mut expired = Vec::new();
        for (key, worker) in workers {
            if worker.condition == Condition::Lost {
                self.until.remove(key);
                continue;
            }
            let until = *self.until.entry(*key).or_insert(now + lease);
            if until <= now {
                self.given_up.insert(*key);
                expired.push(*key);
            }
        }
        while self.given_up.len() > GIVEN_UP_MAX {
            self.given_up.pop_first();
        }
        expired
    }

    /// Gives every worker of the state a full lease: this node has just taken the lead.
    pub(super) fn begin(&mut self, workers: &Workers, until: Duration) {
        *self = Self::default();
        for key in workers.keys() {
            self.until.insert(*key, until);
        }
    }

    /// How long each lease still holds.
    pub(super) fn remaining(&self, now: Duration) -> BTreeMap<WorkerKey, Duration> {
        self.until.iter().map(|(key, until)| (*key, until.saturating_sub(now))).collect()
    }
}
