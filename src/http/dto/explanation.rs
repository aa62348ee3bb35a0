//! When a task fires next, and why it fired or did not.

use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::{LocalClock, Occasion};
use serde::Serialize;
use utoipa::ToSchema;

use crate::service;

/// Instants to come.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Fires {
    /// The instants, in order.
    fires: Vec<String>,
    /// The IANA zone by whose clock the task counts.
    timezone: &'static str,
    /// The same instants on that clock.
    occurrences: Vec<Occurrence>,
}

/// An instant on a task's clock.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Occurrence {
    /// The instant.
    at: String,
    /// The local time, with its offset from UTC.
    #[schema(example = "2026-03-29T03:00:00.000+02:00")]
    local: String,
    /// How the clock was changed since the instant before, and what was done to the occurrence by hand.
    #[schema(required = true, example = "clocks forward 1h on Mar 29 at 02:00")]
    note: Option<String>,
}

/// A task, explained.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Explanation {
    /// The task.
    task_id: String,
    /// When it fires, in English.
    #[schema(example = "at 02:00 from Monday to Friday, Berlin time; not on de-holidays")]
    schedule: String,
    /// The IANA zone by whose clock it counts.
    timezone: &'static str,
    /// `active`, `paused`, `finished` or `deleted`.
    state: &'static str,
    /// The next fires, if nothing changes; one that was skipped or moved by hand says so in its `note`.
    next: Vec<Occurrence>,
    /// What it waits for now.
    waits_for: Vec<Wait>,
    /// The instant that `at` asked about.
    #[schema(required = true)]
    instant: Option<Instant>,
}

/// One thing that is waited for.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Wait {
    /// `instant`, `due`, `trigger`, `suppressed`, `paused`, `finished`, `no_worker`; of an execution `overlap`, `queued`, `workers_busy`,
    /// `no_worker`, `retry` or `running`.
    reason: &'static str,
    /// A sentence for people.
    detail: String,
    /// The execution that waits, or is waited for.
    #[schema(required = true)]
    execution_id: Option<String>,
}

/// An instant, explained.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Instant {
    /// The instant.
    at: String,
    /// The local time.
    local: String,
    /// The instant of the occurrence that was moved here by hand.
    #[schema(required = true)]
    moved_from: Option<String>,
    /// `on_time`, `late`, `delayed_by_overlap`, `skipped`, `missed`, `pending`, `unexpected`, or `not_an_instant` of this task.
    status: &'static str,
    /// A word for why, where there is something to say.
    #[schema(required = true)]
    reason: Option<&'static str>,
    /// Why, in a sentence.
    explanation: String,
    /// When the leader stamped what settled it.
    #[schema(required = true)]
    settled_at: Option<String>,
    /// Milliseconds from the instant to that stamp, if it fired.
    #[schema(required = true)]
    lateness_ms: Option<u64>,
    /// The execution that it made, or skipped.
    #[schema(required = true)]
    execution_id: Option<String>,
    /// The execution's status.
    #[schema(required = true)]
    execution_status: Option<&'static str>,
    /// The index of the log entry that settled it.
    #[schema(required = true)]
    log_index: Option<u64>,
}

impl Fires {
    /// Tells instants on a clock.
    pub(in crate::http) fn of(clock: LocalClock, occasions: Vec<Occasion>) -> Self {
        let fires = occasions.iter().map(|occasion| occasion.at.to_string()).collect();
        let occurrences = occasions.into_iter().map(Occurrence::from).collect();
        Self { fires, timezone: clock.name(), occurrences }
    }
}

impl From<Occasion> for Occurrence {
    fn from(occasion: Occasion) -> Self {
        Self { at: occasion.at.to_string(), local: occasion.local, note: occasion.note }
    }
}

impl Explanation {
    /// Tells the explanation of a task.
    pub(in crate::http) fn of(task: TaskId, explanation: service::Explanation) -> Self {
        Self {
            task_id: task.to_string(),
            schedule: explanation.schedule,
            timezone: explanation.clock.name(),
            state: explanation.state.map_or("deleted", service::TaskState::name),
            next: explanation.next.into_iter().map(Occurrence::from).collect(),
            waits_for: explanation.waits_for.into_iter().map(Wait::from).collect(),
            instant: explanation.instant.map(Instant::from),
        }
    }
}

impl From<service::Wait> for Wait {
    fn from(wait: service::Wait) -> Self {
        let execution_id = wait.execution.map(|execution| execution.to_string());
        Self { reason: wait.reason, detail: wait.detail, execution_id }
    }
}

impl From<service::Explained> for Instant {
    fn from(explained: service::Explained) -> Self {
        let fire = explained.fire.as_ref();
        let settled = fire.and_then(|fire| fire.settled);
        Self {
            at: explained.at.at.to_string(),
            local: explained.at.local,
            moved_from: fire.and_then(|fire| fire.moved_from).map(|from| from.to_string()),
            status: fire.map_or("not_an_instant", |fire| fire.status.name()),
            reason: fire.and_then(|fire| fire.reason.as_ref()).map(|reason| reason.name()),
            explanation: explained.explanation,
            settled_at: settled.map(|settled| settled.at.to_string()),
            lateness_ms: fire.and_then(|fire| fire.lateness()).map(|lateness| lateness.0),
            execution_id: settled.and_then(|settled| settled.execution).map(|id| id.to_string()),
            execution_status: explained.execution.map(|row| row.status.name()),
            log_index: settled.map(|settled| settled.log_index),
        }
    }
}
