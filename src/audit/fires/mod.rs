//! Proof of schedule: every instant that a task should have fired, and what became of it, from the event log alone.
//!
//! The definitions, calendars, changes by hand, pauses and deletions in the log say which instants there should have been;
//! the fires, skips and misses in it say what became of them. Invariant: each instant that a definition named while it held
//! is told once, whatever the log says or leaves out; so is each time to which an occurrence was moved, and each fire that
//! nothing named.
//!
//! Absent on purpose: everything that decides what is due. Nothing here is shared with the wheel or with the plans that are
//! proposed; only what a trigger and a calendar *mean* is the domain's word, as it is for them. The `next` that events carry
//! is not believed, but where newer zone data say it.

mod archived;
mod course;
mod json;
mod judgement;
mod ledger;
#[cfg(test)]
mod model;
mod period;
#[cfg(test)]
mod tests;

use escapement_domain::event::SkipReason;
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::task::definition::MisfirePolicy;
use escapement_domain::timestamp::{Span, Timestamp};

pub use self::archived::{FiresOptions, TenantFires, archived_fires};
pub use self::json::{fire_json, totals_json};
pub use self::ledger::{Assumed, Ledger, Unaccountable};

/// A fire that was stamped so long after it was due, or less, was on time: what a change of leaders may take.
pub const ON_TIME: Span = Span::seconds(1);

/// The instants that are asked about: from one on, and before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub from: Timestamp,
    /// The first that is not meant any more.
    pub to: Timestamp,
}

impl Range {
    pub(super) fn holds(self, instant: Timestamp) -> bool {
        (self.from..self.to).contains(&instant)
    }
}

/// What became of an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FireStatus {
    /// It fired when it was due.
    OnTime,
    /// It fired later than [`ON_TIME`] after that.
    Late,
    /// It fired, and its execution had to wait for an earlier one.
    DelayedByOverlap,
    /// It was not to fire, for a reason.
    Skipped,
    /// It should have fired and did not.
    Missed,
    /// It is to come, or not settled yet.
    Pending,
    /// It fired, and no definition named it, or it was not to fire.
    Unexpected,
}

impl FireStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::OnTime,
        Self::Late,
        Self::DelayedByOverlap,
        Self::Skipped,
        Self::Missed,
        Self::Pending,
        Self::Unexpected,
    ];

    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OnTime => "on_time",
            Self::Late => "late",
            Self::DelayedByOverlap => "delayed_by_overlap",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
            Self::Pending => "pending",
            Self::Unexpected => "unexpected",
        }
    }
}

/// Why it became that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FireReason {
    /// What a skip says: an overlap, a calendar, somebody's hand.
    Skip(SkipReason),
    /// Somebody moved it.
    Moved {
        /// To this time, which is accounted for by itself.
        to: Timestamp,
    },
    /// The task was paused.
    Paused,
    /// Nobody could fire it within its grace, and its misfire policy made it good.
    MadeGood(MisfirePolicy),
    /// Nobody could fire it within its grace, and its misfire policy passed it over.
    PassedOver(MisfirePolicy),
    /// Nobody can fire it any more, and the log says nothing of it.
    Unsettled,
    /// A calendar or a hand is said to be the reason, and the log holds no calendar and no hand that was.
    Groundless,
}

impl FireReason {
    pub(super) fn forbidden(calendar: std::sync::Arc<str>) -> Self {
        Self::Skip(SkipReason::Forbidden { calendar })
    }

    /// The name that the API uses.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Skip(reason) => reason.name(),
            Self::Moved { .. } => "moved",
            Self::Paused => "paused",
            Self::MadeGood(_) => "made_good",
            Self::PassedOver(_) => "passed_over",
            Self::Unsettled => "unsettled",
            Self::Groundless => "groundless",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub fn explanation(&self) -> String {
        match self {
            Self::Skip(reason) => reason.explanation().into(),
            Self::Paused => "the task was paused at this instant".into(),
            Self::Moved { to } => format!("it was moved by hand to {to}"),
            Self::MadeGood(policy) => {
                format!(
                    "nobody could fire it within its grace; misfire: {} made it good",
                    policy_name(*policy)
                )
            }
            Self::PassedOver(policy) => {
                format!(
                    "nobody could fire it within its grace; misfire: {} passed it over",
                    policy_name(*policy)
                )
            }
            Self::Unsettled => "its grace is over, and the log holds neither a fire nor a skip of it".into(),
            Self::Groundless => {
                "the log says that a calendar or a hand changed it, and holds none that did".into()
            }
        }
    }
}

fn policy_name(policy: MisfirePolicy) -> &'static str {
    match policy {
        MisfirePolicy::Skip => "skip",
        MisfirePolicy::RunLatest => "run_latest",
        MisfirePolicy::RunAll => "run_all",
    }
}

/// One instant of one task, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fire {
    /// The instant, or the time to which an occurrence was moved.
    pub at: Timestamp,
    /// The instant of the occurrence that was moved here.
    pub moved_from: Option<Timestamp>,
    /// The task.
    pub task: TaskId,
    /// What became of it.
    pub status: FireStatus,
    /// Why, if it is not what one would expect.
    pub reason: Option<FireReason>,
    /// The event that settled it, if there is one.
    pub settled: Option<Settled>,
}

/// The event that settled an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// When it was stamped.
    pub at: Timestamp,
    /// The index of its log entry.
    pub log_index: u64,
    /// Its place in its tenant's chain.
    pub sequence: u64,
    /// The execution that it made, or skipped.
    pub execution: Option<ExecutionId>,
}

impl Fire {
    /// How long after the instant it was fired.
    #[must_use]
    pub fn lateness(&self) -> Option<Span> {
        let fired = !matches!(self.status, FireStatus::Skipped | FireStatus::Missed | FireStatus::Pending);
        self.settled.filter(|_| fired).map(|settled| settled.at.since(self.at))
    }

    /// Whether the log says of it what the log itself does not bear out.
    #[must_use]
    pub fn is_amiss(&self) -> bool {
        let baseless = matches!(self.reason, Some(FireReason::Unsettled | FireReason::Groundless));
        self.status == FireStatus::Unexpected || baseless
    }
}

/// How many instants became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals([u64; FireStatus::ALL.len()]);

impl Totals {
    /// Counts some.
    #[must_use]
    pub fn of(fires: &[Fire]) -> Self {
        let mut totals = Self::default();
        for fire in fires {
            totals.0[fire.status as usize] += 1;
        }
        totals
    }

    /// How many became this.
    #[must_use]
    pub fn count(&self, status: FireStatus) -> u64 {
        self.0[status as usize]
    }
}
