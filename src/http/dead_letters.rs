//! Calls on executions that failed for good.

use actix_web::HttpResponse;
use escapement_domain::execution::state::Status;

use super::dto::List;
use super::dto::execution::{DeadLettersRetried, Execution};
use super::executions::filter;
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content, Parameters};

type Answer = Result<HttpResponse, Problem>;

/// Names the list in its cursors.
const LIST: &str = "dead-letters";

/// How an execution ended that failed for good, if only some of them are wanted.
fn failure(parameters: &mut Parameters) -> Option<Status> {
    parameters.choice("status", &Status::FAILURES.map(|status| (status.name(), status)))
}

/// Lists the executions that failed for good (`failed`, `timed_out` or `lost`), each with its reason, newest first.
#[utoipa::path(
    get, path = "/api/dead-letters", tag = "executions",
    params(
        ("task_id" = Option<String>, Query, description = "Only those of this task"),
        ("status" = Option<String>, Query, description = "Only those that are `failed`, `timed_out` or `lost`"),
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
    let failure = failure(&mut parameters);
    let (query, listing) = filter(LIST, (None, failure), &mut parameters, &caller);
    parameters.finish()?;
    let page = call.service.dead_letters(&caller, &query).await?;
    Ok(HttpResponse::Ok().json(List {
        items: page.items.iter().map(|row| Execution::of(row, caller.tenant(), None)).collect::<Vec<_>>(),
        next_cursor: page.next.map(|next| listing.cursor(&next.0.to_be_bytes())),
    }))
}

/// Gives the executions that the same filter lists another attempt each, up to the limit, and tells which got one.
#[utoipa::path(
    post, path = "/api/dead-letters/retry", tag = "executions",
    params(
        ("task_id" = Option<String>, Query, description = "Only those of this task"),
        ("status" = Option<String>, Query, description = "Only those that are `failed`, `timed_out` or `lost`"),
        ("from" = Option<String>, Query, description = "Only those for this instant or a later one"),
        ("to" = Option<String>, Query, description = "Only those for an instant before this one"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of a page, of this call or of the list"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour: repeated under it, the same executions are meant, and none is tried again twice"),
    ),
    responses(
        (status = 200, description = "What was tried again and what not", body = DeadLettersRetried),
        (status = 403, description = "The token does not let its holder operate tasks", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(call: Call, body: Content) -> Answer {
    let mut parameters = call.parameters()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    let failure = failure(&mut parameters);
    let (query, listing) = filter(LIST, (None, failure), &mut parameters, &caller);
    parameters.finish()?;
    let retried = call.service.retry_dead_letters(&caller, &query).await?;
    let next_cursor = retried.next.map(|next| listing.cursor(&next.0.to_be_bytes()));
    Ok(HttpResponse::Ok().json(DeadLettersRetried::of(retried, next_cursor)))
}
