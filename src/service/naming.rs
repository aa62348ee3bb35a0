//! What a task names of its tenant's things, and its refusal where one of them is not there or does not suffice.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::answer::Rejection;
use escapement_domain::task::definition::Definition;

use super::failure::ServiceError;
use super::json::escaped;
use super::validation::{Fault, no_such_calendar};

/// The calendars and pools that a task names.
#[derive(Clone, Debug)]
pub(super) struct Named {
    calendars: Vec<String>,
    resources: BTreeMap<String, u32>,
}

impl Named {
    pub(super) fn by(definition: &Definition) -> Self {
        Self { calendars: definition.calendars.clone(), resources: definition.resources.clone() }
    }

    /// The fault of this task that a refusal is about, if it is.
    fn fault(&self, error: &ServiceError) -> Option<Fault> {
        let pool = |name: &Arc<str>, detail: String| {
            self.resources
                .contains_key(&**name)
                .then(|| Fault { pointer: format!("/resources/{}", escaped(name)), detail })
        };
        match error {
            ServiceError::NoSuchCalendar { name } => {
                let names_it = self.calendars.iter().any(|other| **other == **name);
                names_it.then(|| no_such_calendar(name, &self.calendars))
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
            _ => None,
        }
    }

    /// A refusal as it is told of this task.
    pub(super) fn refused(&self, error: ServiceError) -> ServiceError {
        match self.fault(&error) {
            Some(fault) => ServiceError::Invalid { faults: vec![fault] },
            None => error,
        }
    }
}

/// A refusal of many tasks, as it is told of the first one that it is about, with a pointer among them.
pub(super) fn refused_among(error: ServiceError, tasks: &[Named]) -> ServiceError {
    let found = tasks.iter().enumerate().find_map(|(place, task)| Some((place, task.fault(&error)?)));
    match found {
        Some((place, fault)) => {
            let fault = Fault { pointer: format!("/{place}{}", fault.pointer), detail: fault.detail };
            ServiceError::Invalid { faults: vec![fault] }
        }
        None => error,
    }
}
