//! Calls on executions.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use escapement_domain::execution::state::Status as DomainStatus;
use escapement_domain::identifier::ExecutionId;

use super::cursor::Listing;
use super::dto::List;
use super::dto::execution::{Counts, Execution, LogLine, Status, Worker};
use super::dto::gate::ExecutionChange;
use super::following;
use super::front::Shared;
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content, Parameters};
use crate::service::executions::LogQuery;
use crate::service::history::{ExecutionQuery, ExecutionRow, OutputCursor};
use crate::service::validation::priority;
use crate::service::{Caller, Consistency};

type Answer = Result<HttpResponse, Problem>;

/// Bytes of a place in a log.
const LOG_PLACE_BYTES: usize = 12;

/// Lists executions, newest first.
#[utoipa::path(
    get, path = "/api/executions", tag = "executions",
    params(
        ("task_id" = Option<String>, Query, description = "Only those of this task"),
        ("run_id" = Option<String>, Query, description = "Only those of this run of a chain"),
        ("status" = Option<Status>, Query, description = "Only those that stand so"),
        ("from" = Option<String>, Query, description = "Only those for this instant or a later one"),
        ("to" = Option<String>, Query, description = "Only those for an instant before this one"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses((status = 200, description = "A page", body = List<Execution>))
)]
pub(super) async fn list(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let statuses = DomainStatus::ALL.map(|status| (status.name(), status));
    let status = parameters.choice("status", &statuses);
    let run = parameters.id("run_id");
    let (query, listing) = filter("executions", (run, status), &mut parameters, &caller);
    parameters.finish()?;
    let page = call.service.executions(&caller, &query).await?;
    Ok(HttpResponse::Ok().json(List {
        items: page.items.iter().map(|row| told(&call, &caller, row)).collect::<Vec<_>>(),
        next_cursor: page.next.map(|next| listing.cursor(&next.0.to_be_bytes())),
    }))
}

/// Which executions of a list are wanted, and the list's cursors.
pub(super) fn filter(
    list: &'static str,
    (run, status): (Option<ExecutionId>, Option<DomainStatus>),
    parameters: &mut Parameters,
    caller: &Caller,
) -> (ExecutionQuery, Listing) {
    let mut query = ExecutionQuery {
        task: parameters.id("task_id"),
        run,
        status,
        from: parameters.instant("from"),
        to: parameters.instant("to"),
        before: None,
        limit: parameters.limit(),
    };
    let filters =
        format!("{:?} {:?} {:?} {:?} {:?}", query.task, query.run, query.status, query.from, query.to);
    let listing = Listing::new(list, caller.tenant()).filtered(&filters);
    query.before = parameters.cursor(|text| listing.place(text).map(u128::from_be_bytes).map(ExecutionId));
    (query, listing)
}

/// Returns an execution.
#[utoipa::path(
    get, path = "/api/executions/{id}", tag = "executions",
    params(("id" = String, Path, description = "The execution's id"), ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has")),
    responses(
        (status = 200, description = "The execution", body = Execution),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let row = call.service.execution(&caller, call.execution()?).await?;
    Ok(HttpResponse::Ok().json(told(&call, &caller, &row)))
}

/// Gives an execution in the queue another priority.
#[utoipa::path(
    patch, path = "/api/executions/{id}", tag = "executions",
    params(("id" = String, Path, description = "The execution's id"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    request_body = ExecutionChange,
    responses(
        (status = 200, description = "The execution", body = Execution),
        (status = 409, description = "It does not wait in the queue", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let priority = priority(node).map_err(Problem::invalid)?;
    let row = call.service.set_priority(&caller, call.execution()?, priority).await?;
    Ok(HttpResponse::Ok().json(told(&call, &caller, &row)))
}

/// An execution with what it waits for now.
pub(super) fn told(call: &Call, caller: &Caller, row: &ExecutionRow) -> Execution {
    Execution::of(row, caller.tenant(), call.service.standing(row.id))
}

/// Lists what an execution's attempts wrote. With `follow` the answer is a stream of server-sent events: `line`, whose data is
/// a line and whose id may come back as `Last-Event-ID`, and, when the execution has ended, `end` with its `status`.
#[utoipa::path(
    get, path = "/api/executions/{id}/logs", tag = "executions",
    params(
        ("id" = String, Path, description = "The execution's id"),
        ("attempt" = Option<u32>, Query, description = "Only of this attempt"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("follow" = Option<bool>, Query, description = "Tell what is written as it is written, until the execution has ended"),
        ("Last-Event-ID" = Option<String>, Header, description = "With `follow`: go on after the event with this id"),
    ),
    responses((status = 200, description = "A page, or a stream of events", content((List<LogLine> = "application/json"), (String = "text/event-stream"))))
)]
pub(super) async fn logs(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let id = call.execution()?;
    let attempt = parameters.number("attempt", 1..=u64::from(u32::MAX));
    let attempt = attempt.and_then(|attempt| u32::try_from(attempt).ok());
    let follow = parameters.flag("follow");
    if follow && parameters.has("limit") {
        parameters.refuse("limit", "`limit` does not go with `follow`");
    }
    let limit = parameters.limit();
    let listing = Listing::new("logs", caller.tenant()).filtered(&format!("{id} {attempt:?}"));
    let after = parameters.cursor(|text| listing.place(text).map(place_in_log));
    parameters.finish()?;
    if follow {
        let after = following::last_seen(call.headers(), &listing)?.or(after);
        let followed = call.service.follow_execution(&caller, id, attempt, after).await?;
        return Ok(following::answer(followed, listing));
    }
    let page = call.service.execution_logs(&caller, id, LogQuery { attempt, after, limit }).await?;
    Ok(HttpResponse::Ok().json(List {
        items: page.items.into_iter().map(LogLine::from).collect::<Vec<_>>(),
        next_cursor: page.next.map(|next| listing.cursor(&bytes_of_place(next))),
    }))
}

pub(super) fn place_in_log(bytes: [u8; LOG_PLACE_BYTES]) -> OutputCursor {
    let part = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    OutputCursor { attempt: part(0), pack: part(4), line: part(8) }
}

pub(super) fn bytes_of_place(place: OutputCursor) -> [u8; LOG_PLACE_BYTES] {
    let mut bytes = [0; LOG_PLACE_BYTES];
    for (into, part) in bytes.chunks_mut(4).zip([place.attempt, place.pack, place.line]) {
        into.copy_from_slice(&part.to_be_bytes());
    }
    bytes
}

/// Tells an execution to stop.
#[utoipa::path(
    post, path = "/api/executions/{id}/cancel", tag = "executions",
    params(("id" = String, Path, description = "The execution's id"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    responses(
        (status = 202, description = "It was told to stop", body = Execution),
        (status = 409, description = "It has ended", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    let row = call.service.cancel_execution(&caller, call.execution()?).await?;
    Ok(HttpResponse::Accepted().json(told(&call, &caller, &row)))
}

/// Gives an ended execution its next attempt.
#[utoipa::path(
    post, path = "/api/executions/{id}/retry", tag = "executions",
    params(("id" = String, Path, description = "The execution's id"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    responses(
        (status = 202, description = "It waits for a worker again", body = Execution),
        (status = 409, description = "It succeeded, or has not ended", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    let row = call.service.retry_execution(&caller, call.execution()?).await?;
    let location = format!("/api/executions/{}", row.id);
    Ok(HttpResponse::Accepted().insert_header((LOCATION, location)).json(told(&call, &caller, &row)))
}

/// Counts executions.
#[utoipa::path(
    get, path = "/api/executions/status", tag = "executions",
    responses((status = 200, description = "The counts", body = Counts))
)]
pub(super) async fn status(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    Ok(HttpResponse::Ok().json(Counts::from(call.service.execution_counts(&caller).await?)))
}

/// Lists the workers and what they hold: every node, and the workers outside the cluster that hold something or wait for it.
#[utoipa::path(
    get, path = "/api/workers", tag = "executions",
    params(("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has: of workers that wait, those that do so here")),
    responses((status = 200, description = "The workers", body = List<Worker>))
)]
pub(super) async fn workers(call: Call, request: HttpRequest, shared: web::Data<Shared>) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let nodes = call.service.workers(&caller).await?;
    let elsewhere = match caller.consistency {
        Consistency::Linearizable => shared.elsewhere.workers(&call.service, &request).await,
        Consistency::Local => Vec::new(),
    };
    let outside = call.service.outside_workers(&caller, elsewhere).await?;
    let workers = nodes.into_iter().map(Worker::from).chain(outside.into_iter().map(Worker::from));
    Ok(HttpResponse::Ok().json(List::whole(workers.collect::<Vec<_>>())))
}
