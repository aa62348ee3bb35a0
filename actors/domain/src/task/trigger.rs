//! What makes a task due: a schedule, an event, other tasks, or only a hand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identifier::TaskId;
use crate::timestamp::{Span, Timestamp};

/// What makes a task due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// At the local times that a cron expression names.
    Cron {
        /// The expression as the client wrote it.
        expression: String,
        /// The IANA zone whose local time the expression means.
        timezone: String,
        /// What happens on the nights when clocks change.
        dst: Dst,
    },
    /// Every so often, counted from an anchor, without drift.
    Interval {
        /// The distance between two instants.
        every: Span,
        /// An instant of the series; the task's creation if absent.
        anchor: Option<Timestamp>,
    },
    /// At one instant.
    Once {
        /// The instant.
        at: Timestamp,
        /// What to do when it lies in the past at creation.
        if_past: IfPast,
    },
    /// When an event with this name arrives whose payload meets the filter.
    Event {
        /// The event's name.
        name: String,
        /// JSON Pointers with the JSON text that each must equal.
        filter: BTreeMap<String, String>,
    },
    /// When other tasks end.
    After {
        /// The tasks that are waited for.
        tasks: Vec<TaskId>,
        /// What their ends must have been.
        condition: AfterCondition,
    },
    /// Only by hand.
    Manual,
}

/// What a `once` trigger does with an instant that is already past when the task is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum IfPast {
    /// The definition is refused.
    #[default]
    Refuse,
    /// The task fires at once.
    Run,
}

/// What the ends of the awaited tasks must have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum AfterCondition {
    /// Each succeeded.
    #[default]
    AllSucceeded,
    /// Each ended, however.
    AllDone,
    /// At least one failed.
    AnyFailed,
}

impl AfterCondition {
    /// Every condition.
    pub const ALL: [Self; 3] = [Self::AllSucceeded, Self::AllDone, Self::AnyFailed];

    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AllSucceeded => "all_succeeded",
            Self::AllDone => "all_done",
            Self::AnyFailed => "any_failed",
        }
    }
}

/// What happens to local times that a change of clocks removes or repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dst {
    /// For local times that do not exist.
    pub gap: Gap,
    /// For local times that exist twice.
    pub fold: Fold,
}

/// What happens to a local time that a change of clocks skips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Gap {
    /// As Debian's cron: fixed times move to the first valid minute after the gap, wildcard times are left out.
    #[default]
    Cron,
    /// Left out.
    Skip,
    /// Moved later by the length of the gap.
    Shift,
}

/// What happens to a local time that a change of clocks repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Fold {
    /// As Debian's cron: fixed times run once, at the first; wildcard times run in both.
    #[default]
    Cron,
    /// At the first only.
    First,
    /// At the second only.
    Second,
    /// At both.
    Both,
}
