//! Pools and limits: what only so many executions of a tenant have at once.
//!
//! Whoever waits at a gate goes in order of priority and queueing, and whoever is first has its share kept for it: others
//! pass only beside it, so that small requests do not starve a large one. When the first was passed over too often for its
//! age, the eldest is first.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shares::PASSED_MAX;
use crate::identifier::ExecutionId;
use crate::timestamp::Timestamp;

/// What only so many executions of a tenant have at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Gate {
    /// Shares of a named pool.
    Pool(Arc<str>),
    /// A place under the limit on a label, `name=value`.
    Label(Arc<str>),
    /// A place under the limit on a queue.
    Queue(Arc<str>),
    /// A place under the limit on the whole tenant.
    Tenant,
}

/// A gate: how much there is, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stock {
    /// How much there is.
    pub capacity: u32,
    /// Counts its changes, from 1.
    pub version: u32,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Who has how much of it.
    pub holders: BTreeMap<ExecutionId, u32>,
    /// How many passed before the eldest that waits, since one that was the eldest passed.
    pub(super) passed: u32,
    held: u64,
}

/// What a snapshot holds of a gate: who has how much follows from what runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredStock {
    capacity: u32,
    version: u32,
    updated_at: Timestamp,
    passed: u32,
}

impl Stock {
    pub(super) fn new(capacity: u32, version: u32, updated_at: Timestamp) -> Self {
        Self { capacity, version, updated_at, holders: BTreeMap::new(), passed: 0, held: 0 }
    }

    /// How much of it is had by somebody.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Whether there is so much left.
    pub(super) fn has(&self, amount: u64) -> bool {
        self.held + amount <= u64::from(self.capacity)
    }

    pub(super) fn take(&mut self, execution: ExecutionId, amount: u32) {
        if let Some(before) = self.holders.insert(execution, amount) {
            self.held -= u64::from(before);
        }
        self.held += u64::from(amount);
    }

    pub(super) fn give_back(&mut self, execution: ExecutionId) {
        if let Some(amount) = self.holders.remove(&execution) {
            self.held -= u64::from(amount);
        }
    }

    /// Whether the eldest goes first, since too many passed before it.
    pub(super) fn eldest_first(&self) -> bool {
        self.passed >= PASSED_MAX
    }

    pub(super) fn keep(&self) -> StoredStock {
        let Self { capacity, version, updated_at, passed, .. } = *self;
        StoredStock { capacity, version, updated_at, passed }
    }

    pub(super) fn restore(stored: &StoredStock) -> Self {
        Self { passed: stored.passed, ..Self::new(stored.capacity, stored.version, stored.updated_at) }
    }
}
