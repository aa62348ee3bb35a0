//! The door that every request comes through: its path is brought into one form, its token is checked, it gets its
//! correlation id, and whatever went wrong behind the door leaves as a problem.
//!
//! Invariant: what is not named as open needs a token, a path that does not exist included. Reports on attempts are let
//! through without one to their handlers, which demand the lease token of the attempt then.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, web};
use escapement_domain::replica::CLUSTER_TENANT;

use super::elsewhere::{self, Elsewhere};
use super::problem::Problem;
use super::routes;
use crate::security::{Keys, Principal, TokenError, bearer};
use crate::service::Service;
use crate::telemetry::{CorrelationId, HttpLabels, Metrics, StatusClass};

/// Paths that need no token.
const OPEN: [&str; 3] = ["/", "/healthz", "/readyz"];
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// What every worker of the server shares.
pub(super) struct Shared {
    pub(super) service: Service,
    pub(super) keys: Keys,
    pub(super) metrics: Metrics,
    pub(super) elsewhere: Elsewhere,
}

/// See the module.
pub(super) async fn front_door(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(shared) = request.app_data::<web::Data<Shared>>().cloned() else {
        return Ok(request.into_response(actix_web::HttpResponse::InternalServerError().finish()));
    };
    let began = shared.service.clock().monotonic();
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let correlation = CorrelationId::of_request(
        header("traceparent"),
        header(CORRELATION_ID.as_str()),
        shared.service.entropy(),
    );
    let method = routes::method_name(request.method());
    bring_into_form(&mut request);
    request.extensions_mut().insert(correlation.clone());
    let response = match admit(&request, &shared) {
        Ok(principal) => {
            if let Some(principal) = principal {
                request.extensions_mut().insert(principal);
            }
            let response = next.call(request).await?.map_into_boxed_body();
            shared.elsewhere.complete(&shared.service, response).await
        }
        Err(problem) => request.error_response(problem),
    };
    let route = routes::pattern_of(response.request().match_pattern().as_deref());
    let response = leave(response, &correlation);
    let labels = HttpLabels { method, route, status: StatusClass::of(response.status().as_u16()) };
    shared.metrics.http_answered(labels, shared.service.clock().monotonic().saturating_sub(began));
    Ok(response)
}

/// `/api/v1/…` is `/api/…`, and a path is the same with and without its trailing slash.
fn bring_into_form(request: &mut ServiceRequest) {
    let path = request.uri().path();
    let unversioned = match path.strip_prefix("/api/v1") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/api{rest}"),
        _ => path.to_owned(),
    };
    let trimmed = match unversioned.strip_suffix('/') {
        Some(trimmed) if !trimmed.is_empty() => trimmed,
        _ => unversioned.as_str(),
    };
    if trimmed == path {
        return;
    }
    let target = match request.uri().query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    let mut parts = request.uri().clone().into_parts();
    // A part of a path that was read is a path; should it ever not be, the request goes on as it came.
    let Ok(path_and_query) = target.parse() else { return };
    parts.path_and_query = Some(path_and_query);
    let Ok(uri) = Uri::from_parts(parts) else { return };
    request.match_info_mut().get_mut().update(&uri);
    request.head_mut().uri = uri;
}

/// Whether the lease token in the content may stand for a token: a report on an attempt, by its target.
fn is_report(request: &ServiceRequest) -> bool {
    let of = request.path().strip_prefix("/api/executions/").and_then(|rest| rest.split_once('/'));
    request.method() == Method::POST
        && of.is_some_and(|(_, what)| matches!(what, "heartbeat" | "progress" | "complete"))
}

/// Who asks; `None` where nobody needs to say.
fn admit(request: &ServiceRequest, shared: &Shared) -> Result<Option<Principal>, Problem> {
    let unsaid = !request.headers().contains_key(AUTHORIZATION);
    if OPEN.contains(&request.path()) || unsaid && is_report(request) {
        return Ok(None);
    }
    let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap_or("-"));
    let principal = shared.keys.verify(bearer(header)?, shared.service.now())?;
    // The cluster's own tenant belongs to no token.
    if principal.tenant == CLUSTER_TENANT { Err(TokenError::NoTenant.into()) } else { Ok(Some(principal)) }
}

/// Gives the answer what every answer has, and a failure its problem.
fn leave(response: ServiceResponse<BoxBody>, correlation: &CorrelationId) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    let mut response = if failed && !elsewhere::is_handed_back(&response) {
        let (request, answer) = response.into_parts();
        let known = answer.error().and_then(Error::as_error::<Problem>).cloned();
        let problem = known.unwrap_or_else(|| {
            let problem = Problem::of_status(status, answer.headers());
            if status.is_server_error() {
                let error = answer.error().map(ToString::to_string);
                tracing::error!(correlation_id = %correlation, error, "a request failed");
            }
            problem
        });
        ServiceResponse::new(request, problem.respond(correlation.as_str()))
    } else {
        response
    };
    let headers = response.headers_mut();
    // Its alphabet is that of a header.
    if let Ok(value) = HeaderValue::from_str(correlation.as_str()) {
        headers.insert(CORRELATION_ID, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
