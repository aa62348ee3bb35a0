//! What workers of the cluster say of attempts that ended.

use serde::{Deserialize, Serialize};

use crate::execution::failure::Failure;
use crate::execution::usage::Usage;
use crate::identifier::{ExecutionId, Incarnation, NodeId, TenantId};
use crate::task::sealed::Sealed;
use crate::timestamp::Timestamp;

/// Ends of attempts, from one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worker's node.
    pub node: NodeId,
    /// The worker's start.
    pub incarnation: Incarnation,
    /// Counts the worker's reports from 1: one that was heard before changes nothing.
    pub sequence: u64,
    /// The ends.
    pub results: Vec<AttemptResult>,
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptResult {
    /// The execution.
    pub execution: ExecutionId,
    /// Its tenant, for the record when the execution is no longer open.
    pub tenant: TenantId,
    /// The fencing token under which it was made.
    pub token: u64,
    /// When it began, by the worker's clock.
    pub started_at: Timestamp,
    /// When it ended, by the worker's clock.
    pub finished_at: Timestamp,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What it used, if its worker could tell.
    pub usage: Option<Usage>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptOutcome {
    /// It did what it was asked, and returned this JSON text.
    Succeeded(Option<Sealed>),
    /// It failed.
    Failed(Failure),
    /// It took too long.
    TimedOut,
    /// It stopped because it was told to.
    Cancelled,
    /// The worker stops and gives it back; it is known to have ended.
    HandedBack,
    /// The worker stops and never began it: nothing of it has happened.
    NotStarted,
}
