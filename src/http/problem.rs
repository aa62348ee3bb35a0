//! What is answered instead of what was asked for: RFC 9457 problem details.
//!
//! Invariant: a problem says what the caller can do and nothing of the node's insides; what only operators should know goes
//! to the log, under the same correlation id.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use escapement_domain::answer::Rejection;
use serde::Serialize;
use utoipa::ToSchema;

use crate::json::JsonError;
use crate::security::TokenError;
use crate::service::ServiceError;
use crate::service::cluster::ClusterError;
use crate::service::history::HistoryError;
use crate::service::validation::Fault;

/// The content type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";
/// The code of a question that this node cannot answer until its history is complete.
const HISTORY_INCOMPLETE: &str = "history_incomplete";
/// Seconds after which it may be tried again.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why a request is not answered with what was asked for.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry: bool,
    allow: Option<Box<HeaderValue>>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct FieldError {
    /// A JSON Pointer to the field; of a query parameter, `?` and its name.
    pub(super) pointer: String,
    /// What is wrong and what is allowed.
    pub(super) detail: String,
}

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// Names the sort of problem.
    #[serde(rename = "type")]
    kind: String,
    /// The sort of problem in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request, and what to do.
    detail: &'a str,
    /// Names the sort of problem, for programs.
    code: &'a str,
    /// The id under which the node's log says more.
    correlation_id: &'a str,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    #[schema(required = false, value_type = Vec<FieldError>)]
    errors: &'a [FieldError],
}

impl From<Fault> for FieldError {
    fn from(fault: Fault) -> Self {
        Self { pointer: fault.pointer, detail: fault.detail }
    }
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into(), errors: Vec::new(), retry: false, allow: None }
    }

    /// Something that will pass.
    fn passing(code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { retry: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail) }
    }

    /// A header that cannot be used.
    pub(super) fn bad_header(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_header", "Invalid header", detail)
    }

    /// Query parameters that cannot be used.
    pub(super) fn bad_parameters(faults: Vec<Fault>) -> Self {
        let detail = faults.first().map_or_else(String::new, |fault| fault.detail.clone());
        let problem = Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", "Invalid parameter", detail);
        Self { errors: faults.into_iter().map(FieldError::from).collect(), ..problem }
    }

    /// Content that is JSON and yet wrong.
    pub(super) fn invalid(faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [only] => only.detail.clone(),
            many => format!("{} fields are wrong", many.len()),
        };
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid content", detail);
        Self { errors: faults.into_iter().map(FieldError::from).collect(), ..problem }
    }

    /// A bulk of which none was created, because some cannot be.
    pub(super) fn invalid_bulk(faults: Vec<Fault>) -> Self {
        Self { detail: "none was created: some cannot be accepted".into(), ..Self::invalid(faults) }
    }

    /// Whether it is that history is not all here.
    pub(super) fn is_incomplete_history(&self) -> bool {
        self.code == HISTORY_INCOMPLETE
    }

    /// Nothing is there.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// Content of a sort that is not taken.
    pub(super) fn unsupported(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported_media_type", "Unsupported media type", detail)
    }

    /// The version is another one.
    pub(super) fn version_mismatch(current: u32) -> Self {
        let detail = format!("the task has version {current}; read it again and decide anew");
        Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", "Version mismatch", detail)
    }

    /// Not ready.
    pub(super) fn not_ready(reason: &str) -> Self {
        Self::passing("not_ready", "Not ready", reason)
    }

    /// What a status that came without a problem means.
    pub(super) fn of_status(status: StatusCode, headers: &HeaderMap) -> Self {
        let allow = headers.get(ALLOW).cloned().map(Box::new);
        let (code, title, detail) = match status {
            StatusCode::NOT_FOUND => ("not_found", "Not found", "there is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method_not_allowed", "Method not allowed", "this path does not take this method; see Allow")
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                ("too_large", "Content too large", "a body has at most 1 MiB, or 32 MiB for a bulk")
            }
            StatusCode::REQUEST_TIMEOUT => {
                ("timeout", "Request timeout", "the request did not arrive in time")
            }
            status if status.is_client_error() => {
                ("bad_request", "Bad request", "the request cannot be read")
            }
            _ => (
                "internal",
                "Internal error",
                "something went wrong here; the log says more under the correlation id",
            ),
        };
        Self { allow, ..Self::new(status, code, title, detail) }
    }

    /// The sort of the problem, for programs.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong, in words.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The fields that are wrong.
    pub(super) fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Moves the pointers of the fields below another one.
    pub(super) fn below(mut self, pointer: &str) -> Self {
        for error in &mut self.errors {
            error.pointer.insert_str(0, pointer);
        }
        self
    }

    /// The answer, for the request with this correlation id.
    pub(super) fn respond(&self, correlation_id: &str) -> HttpResponse {
        let body = ProblemBody {
            kind: format!("urn:escapement:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            correlation_id,
            errors: &self.errors,
        };
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        if self.retry {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"escapement\""));
        }
        if let Some(allow) = &self.allow {
            response.insert_header((ALLOW, HeaderValue::clone(allow)));
        }
        // A structure of texts and numbers always serialises.
        response.body(serde_json::to_string(&body).unwrap_or_default())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.title, self.detail)
    }
}

/// The front door writes the body: it knows the correlation id.
impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status)
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Unauthenticated", error.to_string())
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        let detail = error.to_string();
        let errors = error.pointer.map(|pointer| FieldError { pointer, detail: error.detail });
        let problem = Self::new(StatusCode::BAD_REQUEST, "malformed_json", "Malformed JSON", detail);
        Self { errors: errors.into_iter().collect(), ..problem }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let internal = || Self::of_status(StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new());
        match error {
            ServiceError::Denied(denied) => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", denied.to_string())
            }
            ServiceError::NoSuchTask
            | ServiceError::NoSuchExecution
            | ServiceError::NoSuchRun
            | ServiceError::NoSuchCalendar { .. }
            | ServiceError::NoSuchTenant => Self::not_found(error.to_string()),
            ServiceError::Invalid { faults } => Self::invalid(faults),
            ServiceError::Rejected(rejection) => rejection.into(),
            ServiceError::NoLeader => Self::passing(
                "no_leader",
                "No leader",
                "there is no leader that could take the request; nothing was done, try again",
            ),
            ServiceError::Busy => {
                Self::passing("busy", "Busy", "too many requests are waiting; nothing was done, try again")
            }
            ServiceError::Unknown => Self::passing(
                "unknown_outcome",
                "Unknown outcome",
                "there was no answer in time, and the request may still be carried out; \
                 send it again with the same Idempotency-Key and it is carried out once",
            ),
            ServiceError::Behind => Self::passing(
                "behind",
                "Not caught up",
                "the cluster is ahead of this node; a change was carried out, read it in a moment or from another node",
            ),
            ServiceError::Cluster(error) => error.into(),
            ServiceError::History(error) => error.into(),
            ServiceError::Stopped { reason } => {
                tracing::warn!(%reason, "a request came to a node that stopped");
                Self::passing("stopping", "Stopping", "this node can no longer serve; ask another one")
            }
            ServiceError::Broken { detail } => {
                tracing::error!(%detail, "a request met what should never be");
                internal()
            }
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        let conflict = |code, title| Self::new(StatusCode::CONFLICT, code, title, &*detail);
        let unprocessable = |code, title| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, &*detail);
        match &rejection {
            Rejection::NoSuchTask
            | Rejection::NoSuchExecution
            | Rejection::NoSuchBackfill
            | Rejection::NoSuchCalendar { .. }
            | Rejection::MissingCalendars { .. }
            | Rejection::NoSuchPool { .. }
            | Rejection::NoSuchLimit => Self::not_found(detail),
            Rejection::PoolInUse { .. } => conflict("pool_in_use", "Pool in use"),
            Rejection::PoolTooSmall { .. } => unprocessable("pool_too_small", "Pool too small"),
            Rejection::CalendarInUse { name, tasks } => {
                let users = if *tasks == 1 { "1 task names".into() } else { format!("{tasks} tasks name") };
                let detail = format!(
                    "{users} the calendar `{name}`: take it out of `calendars` there first; \
                     GET /api/scheduled-tasks/?calendar={name} lists them"
                );
                Self { detail, ..conflict("calendar_in_use", "Calendar in use") }
            }
            Rejection::OccurrencePassed { .. } => conflict("occurrence_passed", "Occurrence passed"),
            Rejection::OccurrenceUnchanged { .. } => conflict("occurrence_unchanged", "Occurrence unchanged"),
            Rejection::MovedIntoThePast { .. } => unprocessable("moved_into_the_past", "Moved into the past"),
            Rejection::VersionMismatch { current } => Self::version_mismatch(*current),
            Rejection::MissingTasks { .. } => unprocessable("no_such_task", "No such task"),
            Rejection::ChainCycle { .. } => unprocessable("chain_cycle", "Tasks wait for each other"),
            Rejection::TaskAwaited { .. } => conflict("task_awaited", "Task awaited"),
            Rejection::NoSuchRun => conflict("run_ended", "Run ended"),
            Rejection::RunOpen => conflict("run_open", "Run open"),
            Rejection::NothingToRetry => conflict("nothing_to_retry", "Nothing to retry"),
            Rejection::Superseded { .. } => conflict("superseded", "Superseded"),
            Rejection::Unschedulable { .. } => unprocessable("unschedulable", "Unschedulable"),
            Rejection::WrongPhase { .. } => conflict("wrong_state", "Wrong state"),
            Rejection::WrongStatus { .. } => conflict("wrong_status", "Wrong status"),
            Rejection::TaskExists => conflict("task_exists", "Task exists"),
            Rejection::Outdated => conflict("outdated", "Outdated"),
            Rejection::Incomplete { .. } => conflict("incomplete", "Incomplete"),
            Rejection::StaleLease => conflict("stale_lease", "Stale lease"),
            Rejection::UnknownWorker => conflict("unknown_worker", "Unknown worker"),
            Rejection::KeyReused => unprocessable("idempotency_key_reused", "Idempotency key reused"),
            Rejection::TooMany { .. } => unprocessable("limit_reached", "Limit reached"),
            Rejection::Overdue { .. } => Self::passing("busy", "Busy", detail),
            Rejection::Expired { .. } => Self::passing(
                "expired",
                "Expired",
                "this node's clock is far behind the cluster's; ask another one",
            ),
            Rejection::Unreadable { .. } => {
                tracing::error!(%detail, "the cluster cannot read a command of this node");
                Self::of_status(StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new())
            }
        }
    }
}

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        let detail = error.to_string();
        match error {
            ClusterError::NoLeader => Self::passing("no_leader", "No leader", detail),
            ClusterError::UnknownNode(_) => Self::not_found(detail),
            ClusterError::Refused { .. } => Self::new(StatusCode::CONFLICT, "refused", "Refused", detail),
            ClusterError::Unreachable { .. } => {
                Self::new(StatusCode::CONFLICT, "unreachable", "Node unreachable", detail)
            }
            ClusterError::InProgress => {
                Self { retry: true, ..Self::new(StatusCode::CONFLICT, "in_progress", "In progress", detail) }
            }
            ClusterError::Unknown => Self::passing("unknown_outcome", "Unknown outcome", detail),
            ClusterError::Stopped => Self::passing("stopping", "Stopping", detail),
        }
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Incomplete => Self::passing(
                HISTORY_INCOMPLETE,
                "History incomplete",
                "this node is still completing its history; ask another one, or try again",
            ),
            HistoryError::Elsewhere => Self::passing(
                "unreachable",
                "Node unreachable",
                "the node that has it does not answer; try again",
            ),
            HistoryError::Failed { detail } => {
                tracing::error!(%detail, "history cannot be read");
                Self::of_status(StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new())
            }
        }
    }
}
