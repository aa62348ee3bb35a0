//! What waits in a queue for workers outside the cluster, which take it themselves.
//!
//! A queue is its tenant's, so there are no others to share with, and whoever asks is served: only priority, turn, and what
//! gates and doors let through count. A priority that was passed over too often in its queue is next there, as it is among
//! what nodes are granted.

use std::sync::Arc;

use super::party::{LaneKey, Party, level_of};
use super::queue::Queue;
use super::shares::LEVELS;
use crate::execution::state::Execution;
use crate::identifier::{ExecutionId, TenantId};
use crate::task::rules::Requirement;

impl Queue {
    /// What a worker that asks gets next; none when nothing waits, or nothing of it may go.
    #[must_use]
    pub fn next_of(&self, tenant: TenantId, queue: &Arc<str>) -> Option<ExecutionId> {
        let party = self.parties.get(&tenant)?;
        let lanes = lanes(queue);
        let level = match party.passed.get(queue) {
            Some(passed) => passed.level(|level| party.may_go(&lanes[level])),
            None => lanes.iter().position(|lane| party.may_go(lane)),
        };
        party.first_of(&lanes[level?]).map(|(_, execution)| execution)
    }

    /// How many workers could get something now, at most: none when nothing of what waits may go.
    #[must_use]
    pub fn waiting_in(&self, tenant: TenantId, queue: &Arc<str>) -> usize {
        let Some(party) = self.parties.get(&tenant) else { return 0 };
        lanes(queue).iter().map(|lane| party.going_in(lane)).sum()
    }
}

impl Party {
    /// Notes that a worker outside took an execution, for those of lower priority in its queue.
    pub(super) fn taken(&mut self, execution: &Execution) {
        let Requirement::Queue(queue) = &execution.rules.requirement else { return };
        let waiting = lanes(queue).map(|lane| self.waiting_in(&lane));
        let mut passed = self.passed.remove(queue).unwrap_or_default();
        passed.granted(level_of(execution), &waiting);
        if !passed.is_nothing() {
            self.passed.insert(queue.clone(), passed);
        }
    }

    /// Forgets what was passed over in a queue in which nothing waits any more.
    pub(super) fn forget_if_empty(&mut self, requirement: &Requirement) {
        let Requirement::Queue(queue) = requirement else { return };
        if self.passed.contains_key(queue) && lanes(queue).iter().all(|lane| self.waiting_in(lane) == 0) {
            self.passed.remove(queue);
        }
    }
}

/// The lanes of a queue, the highest priority first.
fn lanes(queue: &Arc<str>) -> [LaneKey; LEVELS] {
    let requirement = Requirement::Queue(queue.clone());
    std::array::from_fn(|level| (u8::try_from(level).unwrap_or(u8::MAX), requirement.clone()))
}
