//! What became of each task of a bulk.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::problem::{FieldError, Problem};
use crate::service::{BulkOutcome, ServiceError};

/// What became of a bulk.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct BulkResult {
    /// One result a task, in order.
    items: Vec<BulkItemResult>,
    /// How many were created.
    created: usize,
    /// How many were not.
    failed: usize,
}

/// What became of one task of a bulk.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct BulkItemResult {
    /// Its place in the request, from 0.
    index: usize,
    /// The status that it would have been answered with by itself.
    status: u16,
    /// Its id, if it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid")]
    id: Option<String>,
    /// Its version, if it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// The sort of problem, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// The problem in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The fields that are wrong, within the task.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

impl BulkResult {
    pub(in crate::http) fn of(outcomes: Vec<BulkOutcome>) -> Self {
        let items: Vec<_> = outcomes.into_iter().enumerate().map(BulkItemResult::of).collect();
        let created = items.iter().filter(|item| item.id.is_some()).count();
        Self { created, failed: items.len() - created, items }
    }
}

impl BulkItemResult {
    fn of((index, outcome): (usize, BulkOutcome)) -> Self {
        let problem = match outcome {
            BulkOutcome::Created(task) => {
                return Self {
                    index,
                    status: 201,
                    id: Some(task.to_string()),
                    version: Some(1),
                    code: None,
                    detail: None,
                    errors: Vec::new(),
                };
            }
            BulkOutcome::Invalid(faults) => Problem::from(ServiceError::Invalid { faults }),
            BulkOutcome::Failed(error) => Problem::from(error),
        };
        Self {
            index,
            status: problem.status.as_u16(),
            id: None,
            version: None,
            code: Some(problem.code()),
            detail: Some(problem.detail().to_owned()),
            errors: problem.errors().to_vec(),
        }
    }
}
