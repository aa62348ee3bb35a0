//! Proof of schedule: instants that should have fired, and what became of them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::fires::{Fire, FireStatus, Totals};

/// A page of instants, and the count of all in the range.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct AuditedFires {
    /// The instants of the page, in order.
    pub(in crate::http) items: Vec<AuditedFire>,
    /// Names the next page as `cursor`; null on the last one.
    #[schema(required = true)]
    pub(in crate::http) next_cursor: Option<String>,
    /// How many in the whole range became what.
    pub(in crate::http) totals: FireTotals,
    /// The moment for which the account is given.
    pub(in crate::http) as_of: String,
    /// The version of the zone data by which schedules were read.
    pub(in crate::http) zone_data: &'static str,
}

/// An instant that a task should have fired, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct AuditedFire {
    /// Whose it is.
    tenant: String,
    /// The task.
    task_id: String,
    /// The instant, or the time to which an occurrence was moved by hand.
    at: String,
    /// The instant of the occurrence that was moved here.
    #[schema(required = true)]
    moved_from: Option<String>,
    /// `on_time` (stamped a second after it was due, or less), `late`, `delayed_by_overlap`, `skipped`, `missed`, `pending`, or
    /// `unexpected`: it fired, and no definition named it, or it was not to fire.
    status: &'static str,
    /// `overlap`, `overlap_queue_full`, `too_many_open`, `calendar`, `by_hand`, `moved`, `paused`, `made_good`,
    /// `passed_over`, `unsettled` or `groundless`.
    #[schema(required = true)]
    reason: Option<&'static str>,
    /// The reason in a sentence.
    #[schema(required = true)]
    explanation: Option<String>,
    /// When the leader stamped what settled it.
    #[schema(required = true)]
    settled_at: Option<String>,
    /// Milliseconds from the instant to that stamp, if it fired.
    #[schema(required = true)]
    lateness_ms: Option<u64>,
    /// The execution that it made, or skipped.
    #[schema(required = true)]
    execution_id: Option<String>,
    /// The index of the log entry that settled it.
    #[schema(required = true)]
    log_index: Option<u64>,
    /// The `seq` of the event that settled it.
    #[schema(required = true)]
    seq: Option<u64>,
}

/// How many instants became what.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct FireTotals {
    on_time: u64,
    late: u64,
    delayed_by_overlap: u64,
    skipped: u64,
    missed: u64,
    pending: u64,
    unexpected: u64,
}

impl AuditedFire {
    /// Tells an instant of a tenant.
    pub(in crate::http) fn of(fire: &Fire, tenant: &str) -> Self {
        let settled = fire.settled;
        Self {
            tenant: tenant.to_owned(),
            task_id: fire.task.to_string(),
            at: fire.at.to_string(),
            moved_from: fire.moved_from.map(|from| from.to_string()),
            status: fire.status.name(),
            reason: fire.reason.as_ref().map(|reason| reason.name()),
            explanation: fire.reason.as_ref().map(|reason| reason.explanation()),
            settled_at: settled.map(|settled| settled.at.to_string()),
            lateness_ms: fire.lateness().map(|lateness| lateness.0),
            execution_id: settled.and_then(|settled| settled.execution).map(|id| id.to_string()),
            log_index: settled.map(|settled| settled.log_index),
            seq: settled.map(|settled| settled.sequence),
        }
    }
}

impl From<Totals> for FireTotals {
    fn from(totals: Totals) -> Self {
        Self {
            on_time: totals.count(FireStatus::OnTime),
            late: totals.count(FireStatus::Late),
            delayed_by_overlap: totals.count(FireStatus::DelayedByOverlap),
            skipped: totals.count(FireStatus::Skipped),
            missed: totals.count(FireStatus::Missed),
            pending: totals.count(FireStatus::Pending),
            unexpected: totals.count(FireStatus::Unexpected),
        }
    }
}
