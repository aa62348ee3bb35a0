//! Calls on runs of chains.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;

use super::dto::run::Run;
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content};
use crate::service::runs::RunView;

type Answer = Result<HttpResponse, Problem>;

/// Returns a run of a chain with its steps.
#[utoipa::path(
    get, path = "/api/runs/{id}", tag = "runs",
    params(("id" = String, Path, description = "The run's id: that of the execution that began it"), ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has")),
    responses(
        (status = 200, description = "The run", body = Run),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let run = call.service.run_of_chain(&caller, call.run()?).await?;
    Ok(HttpResponse::Ok().json(Run::from(run)))
}

/// Tells everything that is open of a run to stop; no step follows any more.
#[utoipa::path(
    post, path = "/api/runs/{id}/cancel", tag = "runs",
    params(("id" = String, Path, description = "The run's id")),
    responses(
        (status = 202, description = "It was told to stop", body = Run),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 409, description = "It has ended", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    Ok(accepted(call.service.cancel_run(&caller, call.run()?).await?))
}

/// Takes a run up again from its failed steps: what failed first on each way gets another attempt, what comes after it is decided
/// anew, what succeeded stays.
#[utoipa::path(
    post, path = "/api/runs/{id}/retry", tag = "runs",
    params(("id" = String, Path, description = "The run's id")),
    responses(
        (status = 202, description = "It goes on", body = Run),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 409, description = "It has not ended, or nothing of it failed", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    Ok(accepted(call.service.retry_run(&caller, call.run()?).await?))
}

fn accepted(run: RunView) -> HttpResponse {
    let location = format!("/api/runs/{}", run.id);
    HttpResponse::Accepted().insert_header((LOCATION, location)).json(Run::from(run))
}
