//! What waits in a queue for workers outside the cluster, which take it themselves.
//!
//! A queue is its tenant's, so there are no others to share with, and whoever asks is served: only priority, turn, and what
//! gates and doors let through count. A priority that was passed over too often in its queue is next there, as it is among
//! what nodes are granted.
//!
//! Such workers come and go unannounced, so that a queue has a place in the lines of gates only while somebody is known to
//! take from it: a worker has something of it, or was heard to wait for what gates hold up.

use std::sync::Arc;

use super::party::{LaneKey, Party, level_of};
use super::queue::Queue;
use super::shares::LEVELS;
use crate::execution::state::Execution;
use crate::identifier::{ExecutionId, TenantId};
use crate::task::rules::Requirement;
use crate::timestamp::Timestamp;

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

    /// The queues of which something may go, in order; each once for each priority of which something may.
    pub fn going(&self) -> impl ExactSizeIterator<Item = (TenantId, &Arc<str>)> {
        self.going.iter().map(|(tenant, queue, _)| (*tenant, queue))
    }

    /// The queues of which gates hold something up and that nobody attends, in order; each once for each such priority.
    pub fn held_up(&self) -> impl ExactSizeIterator<Item = (TenantId, &Arc<str>)> {
        self.held_up.iter().map(|(tenant, queue, _)| (*tenant, queue))
    }

    /// Whether nobody attends a queue of which gates hold something up.
    #[must_use]
    pub fn is_unattended(&self, tenant: TenantId, queue: &Arc<str>) -> bool {
        self.held_up.range((tenant, queue.clone(), 0)..=(tenant, queue.clone(), u8::MAX)).next().is_some()
    }

    /// Whether something waits in a queue that nothing but gates holds up.
    #[must_use]
    pub fn is_held_up(&self, tenant: TenantId, queue: &Arc<str>) -> bool {
        let Some(party) = self.parties.get(&tenant) else { return false };
        lanes(queue).iter().any(|lane| party.is_held_up(lane))
    }

    /// Whether a worker that waits until then has to say so: something is held up by gates, and the queue counts as attended for
    /// less long.
    #[must_use]
    pub fn wants_attendance(&self, tenant: TenantId, queue: &Arc<str>, until: Timestamp) -> bool {
        self.is_held_up(tenant, queue) && self.attendance(tenant, queue).is_none_or(|known| known < until)
    }

    /// Until when a queue counts as attended.
    #[must_use]
    pub fn attendance(&self, tenant: TenantId, queue: &Arc<str>) -> Option<Timestamp> {
        self.attended.get(&(tenant, queue.clone())).copied()
    }

    /// The queues that count as attended, and until when; those that end first come first.
    pub fn attended(&self) -> impl Iterator<Item = (TenantId, &Arc<str>, Timestamp)> {
        self.attendance_ends.iter().map(|(until, tenant, queue)| (*tenant, queue, *until))
    }

    pub(in crate::replica) fn attend(&mut self, tenant: TenantId, queue: &Arc<str>, until: Timestamp) {
        let before = self.attended.insert((tenant, queue.clone()), until);
        if let Some(before) = before {
            self.attendance_ends.remove(&(before, tenant, queue.clone()));
        }
        self.attendance_ends.insert((until, tenant, queue.clone()));
        if before.is_none() {
            self.change(tenant, |party| party.touch_queue(queue));
        }
    }

    pub(in crate::replica) fn leave(&mut self, tenant: TenantId, queue: &Arc<str>) {
        if let Some(until) = self.attended.remove(&(tenant, queue.clone())) {
            self.attendance_ends.remove(&(until, tenant, queue.clone()));
            self.change(tenant, |party| party.touch_queue(queue));
        }
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

    /// Looks again at what stands in line of a queue.
    fn touch_queue(&mut self, queue: &Arc<str>) {
        self.unsettle();
        self.changed.extend(lanes(queue));
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
