//! What an execution in the queue waits for, in a word for people.

use std::sync::Arc;

use super::gates::Gate;
use super::queue::Queue;
use crate::execution::state::{Execution, Stage};
use crate::timestamp::Timestamp;

/// What an open execution waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// An earlier execution of its task to end.
    Predecessor,
    /// The time of its next attempt.
    Retry(Timestamp),
    /// Its queue to be resumed.
    PausedQueue(Arc<str>),
    /// A worker that could carry it out: there is none.
    Worker,
    /// A place among so many executions of its task.
    Task(u32),
    /// Its target to be called again.
    Breaker(Arc<str>),
    /// More of a pool, or under a limit, than there is in all.
    Impossible(Gate, u32),
    /// A share of a pool, or a place under a limit.
    Gate(Gate),
    /// Its turn, and a free slot.
    Turn,
}

impl Queue {
    /// What an execution waits for; `None` if it runs.
    #[must_use]
    pub fn waits_for(&self, execution: &Execution) -> Option<WaitsFor> {
        match execution.stage {
            Stage::Held => return Some(WaitsFor::Predecessor),
            Stage::Retrying { until } => return Some(WaitsFor::Retry(until)),
            Stage::Running(_) => return None,
            Stage::Queued => {}
        }
        let Some(party) = self.parties.get(&execution.tenant) else { return Some(WaitsFor::Turn) };
        let requirement = &execution.rules.requirement;
        if let crate::task::rules::Requirement::Queue(queue) = requirement
            && party.paused.contains(queue)
        {
            return Some(WaitsFor::PausedQueue(queue.clone()));
        }
        let (key, side) = party.place_of(execution);
        if let Some(target) = side.target.filter(|target| !party.target_admits(target)) {
            return Some(WaitsFor::Breaker(target));
        }
        if let Some((gate, amount)) = key.demands.iter().find(|demand| party.is_impossible(demand)) {
            return Some(WaitsFor::Impossible(gate.clone(), *amount));
        }
        // Workers outside the cluster come and go unannounced.
        let outside = matches!(requirement, crate::task::rules::Requirement::Queue(_));
        if !outside && !self.is_staffed(requirement) {
            return Some(WaitsFor::Worker);
        }
        if let Some((_, most)) = side.task.filter(|(task, most)| !party.task_admits(*task, *most)) {
            return Some(WaitsFor::Task(most));
        }
        if party.is_full() {
            return Some(WaitsFor::Gate(Gate::Tenant));
        }
        let blocked = party.tracks.get(&key).and_then(|track| track.blocked.clone());
        let turn = if outside { WaitsFor::Worker } else { WaitsFor::Turn };
        Some(blocked.map_or(turn, WaitsFor::Gate))
    }
}
