//! What makes a task due.

use std::collections::BTreeMap;

use escapement_domain::task::trigger as domain;
use serde::Serialize;
use utoipa::ToSchema;

/// What makes a task due.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::http) enum Trigger {
    /// At the local times that a cron expression names.
    Cron {
        /// Five fields as in crontab, six with leading seconds, or `@daily` and the like.
        #[schema(example = "0 2 * * 1-5")]
        expression: String,
        /// An IANA zone; UTC if it is left out.
        #[serde(default)]
        #[schema(example = "Europe/Berlin", default = "UTC")]
        timezone: String,
        /// What happens on the nights when clocks change.
        #[serde(default)]
        dst: Dst,
    },
    /// Every so often, counted from an anchor.
    Interval {
        /// A duration of at least a second.
        #[schema(example = "15m")]
        every: String,
        /// An instant of the series; the task's creation if it is left out.
        #[serde(default)]
        anchor: Option<String>,
    },
    /// At one instant.
    Once {
        /// The instant.
        at: String,
        /// What to do when it is past already.
        #[serde(default)]
        #[schema(default = "refuse")]
        if_past: IfPast,
    },
    /// When an event of this name is published whose payload meets the filter.
    Event {
        /// The event's name.
        #[schema(max_length = 256, example = "build.finished")]
        name: String,
        /// JSON Pointers into the payload with the values that all must be equal; every event of the name if it is left out.
        #[serde(default)]
        #[schema(value_type = BTreeMap<String, serde_json::Value>, example = json!({ "/branch": "main" }))]
        filter: BTreeMap<String, Box<serde_json::value::RawValue>>,
    },
    /// When other tasks end.
    After {
        /// Their ids, 1 to 32.
        tasks: Vec<String>,
        /// What their ends must have been.
        #[serde(default)]
        #[schema(default = "all_succeeded")]
        condition: AfterCondition,
    },
    /// Only by hand.
    Manual,
}

/// What happens to local times that a change of clocks removes or repeats.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::http) struct Dst {
    /// For local times that do not exist.
    #[serde(default)]
    gap: Gap,
    /// For local times that exist twice.
    #[serde(default)]
    fold: Fold,
}

/// What happens to a local time that a change of clocks skips.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Gap {
    /// Fixed times move behind the gap, wildcard times are left out.
    #[default]
    Cron,
    /// Left out.
    Skip,
    /// Moved later by the length of the gap.
    Shift,
}

/// What happens to a local time that a change of clocks repeats.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Fold {
    /// Fixed times run once, wildcard times in both.
    #[default]
    Cron,
    /// At the first only.
    First,
    /// At the second only.
    Second,
    /// At both.
    Both,
}

/// What to do with an instant that is past.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum IfPast {
    /// The task is refused.
    #[default]
    Refuse,
    /// It fires at once.
    Run,
}

/// What the ends of other tasks must have been.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum AfterCondition {
    /// Each succeeded.
    #[default]
    AllSucceeded,
    /// Each ended.
    AllDone,
    /// One failed.
    AnyFailed,
}

impl From<domain::Trigger> for Trigger {
    fn from(trigger: domain::Trigger) -> Self {
        match trigger {
            domain::Trigger::Cron { expression, timezone, dst } => {
                Self::Cron { expression, timezone, dst: dst.into() }
            }
            domain::Trigger::Interval { every, anchor } => {
                Self::Interval { every: every.to_string(), anchor: anchor.map(|anchor| anchor.to_string()) }
            }
            domain::Trigger::Once { at, if_past } => Self::Once {
                at: at.to_string(),
                if_past: match if_past {
                    domain::IfPast::Refuse => IfPast::Refuse,
                    domain::IfPast::Run => IfPast::Run,
                },
            },
            domain::Trigger::Event { name, filter } => {
                let filter = filter.into_iter().filter_map(|(at, value)| Some((at, super::raw(&value)?)));
                Self::Event { name, filter: filter.collect() }
            }
            domain::Trigger::After { tasks, condition } => Self::After {
                tasks: tasks.iter().map(ToString::to_string).collect(),
                condition: match condition {
                    domain::AfterCondition::AllSucceeded => AfterCondition::AllSucceeded,
                    domain::AfterCondition::AllDone => AfterCondition::AllDone,
                    domain::AfterCondition::AnyFailed => AfterCondition::AnyFailed,
                },
            },
            domain::Trigger::Manual => Self::Manual,
        }
    }
}

impl From<domain::Dst> for Dst {
    fn from(dst: domain::Dst) -> Self {
        Self {
            gap: match dst.gap {
                domain::Gap::Cron => Gap::Cron,
                domain::Gap::Skip => Gap::Skip,
                domain::Gap::Shift => Gap::Shift,
            },
            fold: match dst.fold {
                domain::Fold::Cron => Fold::Cron,
                domain::Fold::First => Fold::First,
                domain::Fold::Second => Fold::Second,
                domain::Fold::Both => Fold::Both,
            },
        }
    }
}
