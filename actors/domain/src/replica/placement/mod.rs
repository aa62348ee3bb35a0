//! Who gets which attempt: the queue of executions that wait, what they wait for, and the workers with what they hold.
//!
//! Placement is state. Nothing proposes an assignment; whenever something changed, [`next_grant`] says who is next, and
//! every replica says the same:
//!
//! 1. the highest priority of which something may go, unless a lower one was passed over too often (`shares`);
//! 2. of its tenants the one that runs the least at this priority, and of equals the one that was served the longest ago;
//! 3. of what it has waiting, what came first;
//! 4. the worker with the most free slots, and of equals the one on the lowest node.
//!
//! What may not go for a pool, a limit, a breaker or a paused queue is set apart when that begins to be so, and never looked
//! at by a grant: a grant costs a few look-ups, however much waits.

mod breakers;
mod change;
mod claims;
mod gates;
mod outside;
mod party;
mod queue;
mod shares;
mod tracks;
mod waits;
mod worker;

pub use self::breakers::{Breaker, BreakerState};
pub use self::claims::Interned;
pub use self::gates::{Gate, Stock};
pub use self::queue::{Kept, Queue};
pub use self::shares::PASSED_MAX;
pub use self::waits::WaitsFor;
pub use self::worker::{Condition, Worker, Workers};

use crate::identifier::{ExecutionId, Incarnation, NodeId};
use crate::task::rules::Requirement;

/// Says which execution is granted next, and to whom; `None` when nobody can take anything.
#[must_use]
pub fn next_grant(queue: &Queue, workers: &Workers) -> Option<(ExecutionId, NodeId, Incarnation)> {
    if queue.is_empty() {
        return None;
    }
    let (execution, (node, incarnation)) = queue.next(|requirement| free_worker(workers, requirement))?;
    Some((execution, node, incarnation))
}

/// The worker that gets the next attempt with such a requirement.
fn free_worker(workers: &Workers, requirement: &Requirement) -> Option<(NodeId, Incarnation)> {
    workers
        .iter()
        .filter(|(_, worker)| worker.free() > 0 && worker.offers.meet(requirement))
        .max_by(|(left_key, left), (right_key, right)| {
            #[cfg(feature = "planted")]
            if crate::planted::has(crate::planted::Bug::HashOrder) {
                return hashed(left_key).cmp(&hashed(right_key));
            }
            left.free().cmp(&right.free()).then_with(|| right_key.cmp(left_key))
        })
        .map(|(key, _)| *key)
}

/// Where a hash map of this process would have a key.
#[cfg(feature = "planted")]
fn hashed(key: &(NodeId, Incarnation)) -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(key)
}
