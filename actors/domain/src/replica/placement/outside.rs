//! What waits in a queue for workers outside the cluster, which take it themselves.
//!
//! A queue is its tenant's, so there are no others to share with, and whoever asks is served: only priority, turn, and what
//! gates and doors let through count.

use std::sync::Arc;

use super::party::Party;
use super::queue::Queue;
use super::shares::LEVELS;
use crate::identifier::{ExecutionId, TenantId};
use crate::task::rules::Requirement;

impl Queue {
    /// What a worker that asks gets next; none when nothing waits, or nothing of it may go.
    #[must_use]
    pub fn next_of(&self, tenant: TenantId, queue: &Arc<str>) -> Option<ExecutionId> {
        let requirement = Requirement::Queue(queue.clone());
        let (party, lane) = self.first_lane(tenant, &requirement)?;
        party.first_of(&lane).map(|(_, execution)| execution)
    }

    /// How many workers could get something now, at most: none when nothing of what waits may go.
    #[must_use]
    pub fn waiting_in(&self, tenant: TenantId, queue: &Arc<str>) -> usize {
        let requirement = Requirement::Queue(queue.clone());
        let Some((party, _)) = self.first_lane(tenant, &requirement) else { return 0 };
        levels().map(|level| party.going_in(&(level, requirement.clone()))).sum()
    }

    /// The highest priority of which something may go.
    fn first_lane(&self, tenant: TenantId, requirement: &Requirement) -> Option<(&Party, (u8, Requirement))> {
        let party = self.parties.get(&tenant)?;
        let lane = levels().map(|level| (level, requirement.clone())).find(|lane| party.may_go(lane))?;
        Some((party, lane))
    }
}

fn levels() -> impl Iterator<Item = u8> {
    (0..LEVELS).filter_map(|level| u8::try_from(level).ok())
}
