//! Workers, and what they hold.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::command::{Offers, Programs};
use crate::identifier::{ExecutionId, Incarnation, NodeId};
use crate::task::rules::Requirement;

/// One start of one node's dispatcher, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Attempts at once.
    pub slots: u32,
    /// What it can carry out.
    pub offers: Offers,
    /// Whether it takes something new.
    pub condition: Condition,
    /// The executions whose attempts it has.
    pub held: BTreeSet<ExecutionId>,
    /// The number of its last report.
    pub reports: u64,
}

/// Whether a worker takes something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// It does.
    Ready,
    /// It finishes what it has.
    Draining,
    /// It is gone; what it held is being taken back.
    Lost,
}

/// Workers by node and start.
pub type Workers = BTreeMap<(NodeId, Incarnation), Worker>;

impl Worker {
    /// Attempts that it could take now.
    #[must_use]
    pub fn free(&self) -> u32 {
        match self.condition {
            Condition::Ready => self.slots.saturating_sub(u32::try_from(self.held.len()).unwrap_or(u32::MAX)),
            Condition::Draining | Condition::Lost => 0,
        }
    }
}

impl Offers {
    /// Whether a worker with these can carry such an attempt out.
    #[must_use]
    pub fn meet(&self, requirement: &Requirement) -> bool {
        match requirement {
            Requirement::Builtin => self.builtin,
            Requirement::Http => self.http,
            Requirement::Process(program) => match &self.programs {
                Programs::Any => true,
                Programs::Listed(listed) => listed.contains(program),
            },
            Requirement::Queue(_) => false,
        }
    }
}
