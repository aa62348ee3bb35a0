//! Calls of workers outside the cluster: work from a queue, and what they say of it; and what targets say of attempts that
//! they report later.

use actix_web::HttpResponse;
use escapement_domain::identifier::ExecutionId;

use super::dto::List;
use super::dto::execution::Execution;
use super::dto::leasing::{Completion, Heartbeat, LeaseExtension, LeaseRequest, Leased, ProgressReport};
use super::executions::told;
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content, Report};
use crate::executor::LeaseToken;
use crate::json::Node;
use crate::security::TokenError;
use crate::service::leasing::LeasedExecution;
use crate::service::validation;

type Answer = Result<HttpResponse, Problem>;

/// Leases executions from a queue to a worker. With `wait` the call waits for the first of them.
#[utoipa::path(
    post, path = "/api/workers/{queue}/lease", tag = "workers",
    params(("queue" = String, Path, description = "The queue's name, as the tasks' action has it; a `%` in it is written `%25`"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    request_body = LeaseRequest,
    responses(
        (status = 200, description = "What the worker has now; an empty list when nothing came in time", body = List<Leased>),
        (status = 422, description = "Fields are wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn lease(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let request = validation::lease_request(&call.text_segment("queue"), node).map_err(Problem::invalid)?;
    let leased = call.service.lease(&caller, &request).await?;
    let tell =
        |leased: &LeasedExecution| Leased::of(leased, caller.tenant(), call.service.standing(leased.row.id));
    let items: Vec<Leased> = leased.iter().map(tell).collect();
    Ok(HttpResponse::Ok().json(List::whole(items)))
}

/// Shows that a worker lives: extends the lease of its attempt, and tells it whether to stop.
#[utoipa::path(
    post, path = "/api/executions/{id}/heartbeat", tag = "workers",
    params(("id" = String, Path, description = "The execution's id")),
    request_body = Heartbeat,
    responses(
        (status = 200, description = "Until when the lease holds now", body = LeaseExtension),
        (status = 401, description = "There is neither a token nor the lease token of a target", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 404, description = "There is no such execution", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 409, description = "The attempt has ended, or is in other hands", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn heartbeat(report: Report, body: Content) -> Answer {
    let (node, id, target) = begin(&report, &body)?;
    let call = &report.call;
    let extension = match target {
        None => {
            let caller = call.writer(Some(node))?;
            let token = validation::heartbeat(node).map_err(Problem::invalid)?;
            call.service.heartbeat(&caller, id, token).await?
        }
        Some(token) => {
            validation::heartbeat(node).map_err(Problem::invalid)?;
            call.service.target_lives(id, token).await?
        }
    };
    Ok(HttpResponse::Ok().json(LeaseExtension::from(extension)))
}

/// Notes how far an attempt is.
#[utoipa::path(
    post, path = "/api/executions/{id}/progress", tag = "workers",
    params(("id" = String, Path, description = "The execution's id")),
    request_body = ProgressReport,
    responses(
        (status = 200, description = "The execution", body = Execution),
        (status = 401, description = "There is neither a token nor the lease token of a target", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 404, description = "There is no such execution", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 409, description = "The attempt has ended, or is in other hands", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn progress(report: Report, body: Content) -> Answer {
    let (node, id, target) = begin(&report, &body)?;
    let call = &report.call;
    let (row, caller) = match target {
        None => {
            let caller = call.writer(Some(node))?;
            let (token, said) = validation::progress(node).map_err(Problem::invalid)?;
            (call.service.report_progress(&caller, id, token, said).await?, caller)
        }
        Some(token) => {
            let (_, said) = validation::progress(node).map_err(Problem::invalid)?;
            call.service.target_progresses(call.correlation_id(), id, token, said).await?
        }
    };
    Ok(HttpResponse::Ok().json(told(call, &caller, &row)))
}

/// Ends an attempt.
#[utoipa::path(
    post, path = "/api/executions/{id}/complete", tag = "workers",
    params(("id" = String, Path, description = "The execution's id"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    request_body = Completion,
    responses(
        (status = 200, description = "The execution", body = Execution),
        (status = 401, description = "There is neither a token nor the lease token of a target", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 404, description = "There is no such execution", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 409, description = "The attempt has ended before, or is in other hands", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn complete(report: Report, body: Content) -> Answer {
    let (node, id, target) = begin(&report, &body)?;
    let call = &report.call;
    let (row, caller) = match target {
        None => {
            let caller = call.writer(Some(node))?;
            let validation::Completion { token, outcome } =
                validation::completion(node).map_err(Problem::invalid)?;
            (call.service.complete_attempt(&caller, id, token, outcome).await?, caller)
        }
        Some(token) => {
            let outcome = validation::completion(node).map_err(Problem::invalid)?.outcome;
            call.service.target_completes(call.correlation_id(), id, token, outcome).await?
        }
    };
    Ok(HttpResponse::Ok().json(told(call, &caller, &row)))
}

/// What every report has; the lease token, if it is that of a target, which needs no other.
fn begin<'b>(
    report: &Report,
    body: &'b Content,
) -> Result<(Node<'b>, ExecutionId, Option<LeaseToken>), Problem> {
    let call = &report.call;
    let content = call.required_content(body);
    let target = content.as_ref().ok().and_then(|node| validation::lease_token(*node));
    if report.is_anonymous && target.is_none() {
        // Who has no token at all is told nothing else.
        return Err(TokenError::Missing.into());
    }
    call.parameters()?.finish()?;
    Ok((content?, call.execution()?, target))
}
