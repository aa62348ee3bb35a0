//! What is true of one task now.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rules::{Rules, Timing};
use super::sealed::Sealed;
use crate::event::PauseCause;
use crate::execution::state::Status;
use crate::identifier::{ExecutionId, TaskId, TenantId};
use crate::timestamp::Timestamp;

/// One task, as every replica holds it: what decisions read, and the definition unopened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name for ever.
    pub id: TaskId,
    /// Where the replica keeps it.
    pub slot: u32,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who created it.
    pub owner: Arc<str>,
    /// Counts the changes of its definition, from 1.
    pub version: u32,
    /// Changes with every change of the definition, and is never the same for two tasks that follow each other in a slot.
    pub revision: u64,
    /// Why it is paused, if it is.
    pub paused: Option<PauseCause>,
    /// The last instant that was fired, skipped or missed; at first the instant of its creation.
    pub settled: Timestamp,
    /// The first instant that is not settled; `None` when there is none to come.
    pub next: Option<Timestamp>,
    /// How often it was fired by its schedule.
    pub runs: u32,
    /// How many of its executions in a row have failed for good, up to the one that ended last.
    pub failures: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its definition or phase last changed.
    pub updated_at: Timestamp,
    /// What decisions read of its definition.
    pub rules: Arc<Rules>,
    /// Its definition.
    pub definition: Sealed,
    /// Its executions that have not ended, oldest first.
    pub open: Vec<ExecutionId>,
    /// Coming occurrences that somebody skipped or moved, by their instants.
    pub overrides: BTreeMap<Timestamp, Override>,
    /// The execution that ended or was skipped last.
    pub last_execution: Option<LastExecution>,
    /// Where its events are in its tenant's log.
    pub stream: Stream,
}

impl Task {
    /// Whether it fires. A task with a schedule is finished when nothing of it is left, one
    /// that listens to events when it has run as often as it may; whether somebody paused it
    /// counts again when a change of its definition gives it new instants.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let scheduled = self.rules.timing != Timing::Unscheduled;
        let over = scheduled && self.next.is_none() && self.next_moved().is_none();
        if over || self.is_exhausted() {
            Phase::Finished
        } else if self.paused.is_some() {
            Phase::Paused
        } else {
            Phase::Active
        }
    }

    /// Whether it listens to events or follows others, and has run as often as it may.
    fn is_exhausted(&self) -> bool {
        let caused = self.rules.listens.is_some() || self.rules.after.is_some();
        caused && self.rules.max_runs.is_some_and(|most| self.runs >= most)
    }

    /// The moved occurrences that have not run: when each runs, and its own instant.
    pub fn moved(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        self.overrides.iter().filter_map(|(at, change)| match change {
            Override::Move { to, done: false } => Some((*to, *at)),
            Override::Move { .. } | Override::Skip => None,
        })
    }

    /// The first of the [moved](Self::moved) occurrences.
    #[must_use]
    pub fn next_moved(&self) -> Option<(Timestamp, Timestamp)> {
        self.moved().min()
    }
}

/// What was decided by hand about one coming occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Override {
    /// It is not run.
    Skip,
    /// It is run at another time.
    Move {
        /// When.
        to: Timestamp,
        /// Whether that was before its own instant, and is done.
        done: bool,
    },
}

/// Whether a task fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It fires.
    Active,
    /// It does not, until it is resumed.
    Paused,
    /// It has no instant to come.
    Finished,
}

/// The execution of a task that ended last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExecution {
    /// Which.
    pub id: ExecutionId,
    /// How it ended.
    pub status: Status,
    /// The instant it was for.
    pub scheduled_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// The events of one task: a list threaded through its tenant's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stream {
    /// How many there are.
    pub length: u64,
    /// The sequence, in the tenant's log, of the last one; 0 if there is none.
    pub last: u64,
}
