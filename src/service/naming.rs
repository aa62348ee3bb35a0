//! What a task names of its tenant's things, and its refusal where one of them is not there or does not suffice.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::answer::Rejection;
use escapement_domain::identifier::TaskId;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::trigger::Trigger;

use super::failure::ServiceError;
use super::validation::{Fault, no_such_calendar};
use crate::json::escaped;

/// The calendars, pools and other tasks that a task names.
#[derive(Clone, Debug)]
pub(super) struct Named {
    calendars: Vec<String>,
    resources: BTreeMap<String, u32>,
    /// Those whose ends it waits for.
    awaited: Vec<TaskId>,
}

impl Named {
    pub(super) fn by(definition: &Definition) -> Self {
        let awaited = match &definition.trigger {
            Trigger::After { tasks, .. } => tasks.clone(),
            _ => Vec::new(),
        };
        Self { calendars: definition.calendars.clone(), resources: definition.resources.clone(), awaited }
    }

    /// The faults of this task that a refusal is about; none if it is about something else.
    fn faults(&self, error: &ServiceError) -> Vec<Fault> {
        let pool = |name: &Arc<str>, detail: String| {
            self.resources
                .contains_key(&**name)
                .then(|| Fault { pointer: format!("/resources/{}", escaped(name)), detail })
        };
        let after = |task: &TaskId, detail: String| {
            let place = self.awaited.iter().position(|awaited| awaited == task)?;
            Some(Fault { pointer: format!("/trigger/tasks/{place}"), detail })
        };
        let fault = match error {
            ServiceError::Rejected(Rejection::MissingCalendars { names }) => {
                let named = names.iter().filter(|name| self.calendars.iter().any(|other| **other == ***name));
                return named.map(|name| no_such_calendar(name, &self.calendars)).collect();
            }
            ServiceError::Rejected(Rejection::NoSuchPool { name }) => {
                pool(name, format!("there is no pool `{name}`; create it with PUT /api/pools/{name}"))
            }
            ServiceError::Rejected(Rejection::PoolTooSmall { name, asked, capacity }) => {
                let asks = self.resources.get(&**name) == Some(asked);
                let detail = format!(
                    "at most {capacity} is allowed: the pool `{name}` has no more, and {asked} is asked"
                );
                asks.then(|| pool(name, detail)).flatten()
            }
            ServiceError::Rejected(Rejection::MissingTasks { tasks }) => {
                let missing = tasks.iter().filter_map(|task| after(task, format!("there is no task {task}")));
                return missing.collect();
            }
            // The way ends with the task that is awaited, and the task itself.
            ServiceError::Rejected(rejection @ Rejection::ChainCycle { tasks }) => {
                tasks.iter().rev().nth(1).and_then(|task| after(task, rejection.to_string()))
            }
            _ => None,
        };
        fault.into_iter().collect()
    }

    /// A refusal as it is told of this task.
    pub(super) fn refused(&self, error: ServiceError) -> ServiceError {
        let faults = self.faults(&error);
        if faults.is_empty() { error } else { ServiceError::Invalid { faults } }
    }
}

/// A refusal of many tasks, as it is told of the first one that it is about, with pointers among them.
pub(super) fn refused_among(error: ServiceError, tasks: &[Named]) -> ServiceError {
    let faulty = tasks.iter().map(|task| task.faults(&error)).enumerate();
    let Some((place, faults)) = faulty.into_iter().find(|(_, faults)| !faults.is_empty()) else {
        return error;
    };
    let within = |Fault { pointer, detail }| Fault { pointer: format!("/{place}{pointer}"), detail };
    ServiceError::Invalid { faults: faults.into_iter().map(within).collect() }
}
