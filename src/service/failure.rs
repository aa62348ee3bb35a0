//! Why a call has no result: each variant says what the caller should do.

use std::sync::Arc;

use escapement_actors::intent::SubmitError;
use escapement_domain::answer::Rejection;
use escapement_domain::codec::CodecError;
use escapement_domain::task::plan::TimetableError;

use super::cluster::ClusterError;
use super::history::HistoryError;
use super::validation::Fault;
use crate::security::Denied;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The caller lacks a role. Do not retry.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// There is no such task for this tenant.
    #[error("there is no such task")]
    NoSuchTask,
    /// There is no such execution for this tenant.
    #[error("there is no such execution")]
    NoSuchExecution,
    /// There is no such run of a chain for this tenant.
    #[error("there is no such run: it is named by the execution that began it")]
    NoSuchRun,
    /// There is no such calendar for this tenant.
    #[error("there is no calendar `{name}`")]
    NoSuchCalendar {
        /// Its name.
        name: Arc<str>,
    },
    /// There is no such tenant.
    #[error("there is no such tenant")]
    NoSuchTenant,
    /// What was sent is wrong. Mend it.
    #[error("{} of what was sent cannot be accepted", faults.len())]
    Invalid {
        /// Every fault, at least one.
        faults: Vec<Fault>,
    },
    /// The state does not allow it: a committed answer. Do not retry unchanged.
    #[error(transparent)]
    Rejected(Rejection),
    /// Not carried out: no leader was found in time. Retry.
    #[error("there is no leader that could take the request")]
    NoLeader,
    /// Not carried out: too much is waiting. Retry later.
    #[error("too many requests are waiting")]
    Busy,
    /// May yet be carried out. Retry with the same idempotency key.
    #[error("no answer in time; the request may still be carried out")]
    Unknown,
    /// Carried out, but this node has not applied it yet. Look again later, or ask another node.
    #[error("the request was carried out, but this node has not caught up with it")]
    Behind,
    /// The cluster did not make the change.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// History cannot be read here. Ask another node.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// This node can no longer serve. Ask another node.
    #[error("this node stopped: {reason}")]
    Stopped {
        /// Why; not for clients.
        reason: Arc<str>,
    },
    /// Something is as it never should be. Report it.
    #[error("internal error: {detail}")]
    Broken {
        /// What; not for clients.
        detail: String,
    },
}

impl ServiceError {
    /// Something is as it never should be.
    pub(super) fn broken(detail: impl Into<String>) -> Self {
        Self::Broken { detail: detail.into() }
    }

    fn unschedulable(pointer: &str, detail: &str) -> Self {
        Self::Invalid { faults: vec![Fault { pointer: pointer.to_owned(), detail: detail.to_owned() }] }
    }
}

impl From<TimetableError> for ServiceError {
    fn from(error: TimetableError) -> Self {
        Self::broken(error.to_string())
    }
}

impl From<CodecError> for ServiceError {
    fn from(error: CodecError) -> Self {
        Self::broken(error.to_string())
    }
}

impl From<Rejection> for ServiceError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::NoSuchTask => Self::NoSuchTask,
            Rejection::NoSuchExecution => Self::NoSuchExecution,
            Rejection::NoSuchCalendar { name } => Self::NoSuchCalendar { name },
            Rejection::Overdue { .. } => Self::Busy,
            Rejection::Unschedulable { pointer, detail } => Self::unschedulable(&pointer, &detail),
            other => Self::Rejected(other),
        }
    }
}

impl From<SubmitError> for ServiceError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::NotLeader { .. } => Self::NoLeader,
            SubmitError::Busy => Self::Busy,
            SubmitError::Unknown => Self::Unknown,
            SubmitError::Unschedulable { pointer, detail } => Self::unschedulable(&pointer, &detail),
            SubmitError::Stopped { reason } => Self::Stopped { reason },
        }
    }
}
