//! The part of a definition that decisions read: small, shared by a task and its executions, without secrets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::claims::Claims;
use super::definition::{Definition, Delivery, Misfire, Overlap, Retry};
use super::listening::Listening;
use super::retry_on::RetryOn;
use super::trigger::{AfterCondition, IfPast, Trigger};
use crate::identifier::TaskId;
use crate::timestamp::{Span, Timestamp};

/// What decisions read of a definition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rules {
    /// Whether and how the task has instants.
    pub timing: Timing,
    /// What happens to instants that nobody fired in time.
    pub misfire: Misfire,
    /// What happens while an earlier execution is open.
    pub overlap: Overlap,
    /// What happens to an attempt whose worker is lost.
    pub delivery: Delivery,
    /// From 0 to 9.
    pub priority: u8,
    /// How failed attempts are made again.
    pub retry: Retry,
    /// Which failures are retried; every one if it is none.
    pub retry_on: Option<Box<RetryOn>>,
    /// How long one attempt may take.
    pub timeout: Span,
    /// How long an execution may take in all.
    pub execution_timeout: Option<Span>,
    /// How long an execution may wait for a worker.
    pub queue_timeout: Option<Span>,
    /// The longest delay added to each instant.
    pub jitter: Span,
    /// Finished after so many fires.
    pub max_runs: Option<u32>,
    /// Paused when so many executions in a row have failed for good.
    pub pause_after_failures: Option<u32>,
    /// What a worker must offer.
    pub requirement: Requirement,
    /// The names of the calendars that narrow the schedule.
    pub calendars: Vec<Arc<str>>,
    /// The events that make it run; `None` if it listens to none.
    pub listens: Option<Arc<Listening>>,
    /// What an execution takes up while it runs; `None` if nothing.
    pub claims: Option<Arc<Claims>>,
    /// The tasks after whose ends it runs; `None` unless that is its trigger.
    pub after: Option<Arc<After>>,
}

/// The tasks after whose ends another one runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct After {
    /// The tasks that are waited for, each once, in order.
    pub tasks: Vec<TaskId>,
    /// What their ends must have been.
    pub condition: AfterCondition,
}

impl After {
    /// What a trigger waits for, if it waits for tasks.
    fn of(trigger: &Trigger) -> Option<Self> {
        let Trigger::After { tasks, condition } = trigger else { return None };
        let mut tasks = tasks.clone();
        tasks.sort_unstable();
        tasks.dedup();
        Some(Self { tasks, condition: *condition })
    }
}

/// Whether and how a task has instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timing {
    /// A series of instants.
    Recurring,
    /// One instant, which may have been in the past from the start.
    Once {
        /// The instant.
        at: Timestamp,
        /// Whether an instant that was past at creation is run all the same.
        run_if_past: bool,
    },
    /// None: it runs by hand or on a cause.
    Unscheduled,
}

/// What a worker must offer to be granted an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Requirement {
    /// The node's own operations.
    Builtin,
    /// HTTP calls.
    Http,
    /// Running this program.
    Process(Arc<str>),
    /// Leasing from this queue.
    Queue(Arc<str>),
}

impl Rules {
    /// Returns the rules of a definition.
    #[must_use]
    pub fn of(definition: &Definition) -> Self {
        let timing = match &definition.trigger {
            Trigger::Cron { expression, .. } => match crate::schedule::once_of(expression) {
                Some(at) => Timing::Once { at, run_if_past: false },
                None => Timing::Recurring,
            },
            Trigger::Interval { .. } => Timing::Recurring,
            Trigger::Once { at, if_past } => Timing::Once { at: *at, run_if_past: *if_past == IfPast::Run },
            Trigger::Event { .. } | Trigger::After { .. } | Trigger::Manual => Timing::Unscheduled,
        };
        let requirement = match &definition.action {
            Action::Http(_) => Requirement::Http,
            Action::Process(process) => Requirement::Process(process.program.as_str().into()),
            Action::Queue { queue, .. } => Requirement::Queue(queue.as_str().into()),
            Action::Builtin { .. } => Requirement::Builtin,
        };
        Self {
            timing,
            misfire: definition.misfire,
            overlap: definition.overlap,
            delivery: definition.delivery,
            priority: definition.priority,
            retry: definition.retry,
            retry_on: definition.retry_on.clone().map(Box::new),
            timeout: definition.timeout,
            execution_timeout: definition.execution_timeout,
            queue_timeout: definition.queue_timeout,
            jitter: definition.jitter,
            max_runs: definition.max_runs,
            pause_after_failures: definition.pause_after_failures,
            requirement,
            calendars: definition.calendars.iter().map(|name| name.as_str().into()).collect(),
            listens: Listening::of(definition).map(Arc::new),
            claims: Claims::of(definition).map(Arc::new),
            after: After::of(&definition.trigger).map(Arc::new),
        }
    }

    /// How late an instant of the schedule is at `now`, as a misfire policy counts it.
    ///
    /// What jitter may take is no lateness. All of it may be taken by any instant, since instants fire in their order: one
    /// with little of its own waits for the one before.
    #[must_use]
    pub fn lateness(&self, instant: Timestamp, now: Timestamp) -> Span {
        now.since(instant.plus(self.jitter))
    }

    /// The pools that it names.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<str>> {
        self.claims.iter().flat_map(|claims| claims.resources.keys())
    }
}
