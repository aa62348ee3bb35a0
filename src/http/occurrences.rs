//! Calls on single occurrences of a task: those to come that are skipped or moved, and those of the past that are run.

use actix_web::HttpResponse;

use super::dto::List;
use super::dto::occurrence::{Backfill, BackfillRange, ChangedOccurrence, OccurrenceChange};
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content};
use crate::service::validation::{backfill_range, occurrence_change};

type Answer = Result<HttpResponse, Problem>;

/// Skips or moves one coming occurrence without a change of the definition, or restores it.
#[utoipa::path(
    post, path = "/api/scheduled-tasks/{id}/occurrences", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    request_body = OccurrenceChange,
    responses(
        (status = 200, description = "What becomes of it", body = OccurrenceChange),
        (status = 404, description = "There is no such task", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 409, description = "It has passed, or is neither skipped nor moved", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong, the task has no occurrence then, or a calendar forbids it", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let (caller, id) = (call.writer(Some(node))?, call.task()?);
    let (at, change) = occurrence_change(node).map_err(Problem::invalid)?;
    call.service.change_occurrence(&caller, id, at, change).await?;
    Ok(HttpResponse::Ok().json(OccurrenceChange::of(id, at, change)))
}

/// Lists the occurrences of a task that are skipped or moved.
#[utoipa::path(
    get, path = "/api/scheduled-tasks/{id}/occurrences", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has")),
    responses(
        (status = 200, description = "The occurrences, by their instants", body = List<ChangedOccurrence>),
        (status = 404, description = "There is no such task", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let changed = call.service.changed_occurrences(&caller, call.task()?).await?;
    Ok(HttpResponse::Ok()
        .json(List::whole(changed.into_iter().map(ChangedOccurrence::from).collect::<Vec<_>>())))
}

/// Runs every occurrence of a range of the past once, so many at a time; what a calendar forbids is left out.
#[utoipa::path(
    post, path = "/api/scheduled-tasks/{id}/backfill", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    request_body = BackfillRange,
    responses(
        (status = 200, description = "The backfill", body = Backfill),
        (status = 404, description = "There is no such task", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong, or the range holds nothing or too much", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn backfill(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let (caller, id) = (call.writer(Some(node))?, call.task()?);
    let range = backfill_range(node, call.service.now()).map_err(Problem::invalid)?;
    Ok(HttpResponse::Ok().json(Backfill::from(call.service.backfill(&caller, id, range).await?)))
}

/// Lists the backfills of a task that have not ended.
#[utoipa::path(
    get, path = "/api/scheduled-tasks/{id}/backfills", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has")),
    responses(
        (status = 200, description = "The backfills, oldest first", body = List<Backfill>),
        (status = 404, description = "There is no such task", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn backfills(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let running = call.service.backfills(&caller, call.task()?).await?;
    Ok(HttpResponse::Ok().json(List::whole(running.into_iter().map(Backfill::from).collect::<Vec<_>>())))
}

/// Cancels a backfill: what it has left is not run, and what is open of it is cancelled.
#[utoipa::path(
    delete, path = "/api/scheduled-tasks/{id}/backfills/{backfill}", tag = "tasks",
    params(
        ("id" = String, Path, description = "The task's id"),
        ("backfill" = String, Path, description = "The backfill's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour"),
    ),
    responses(
        (status = 204, description = "Cancelled"),
        (status = 404, description = "There is no such task, or no such backfill that has not ended", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel_backfill(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    call.service.cancel_backfill(&caller, call.task()?, call.backfill()?).await?;
    Ok(HttpResponse::NoContent().finish())
}
