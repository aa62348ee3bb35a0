//! Calls on circuit breakers and queues.

use actix_web::HttpResponse;

use super::cursor::Listing;
use super::dto::List;
use super::dto::gate::{Breaker, Queue};
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content};
use crate::service::validation::{Fault, breaker_state, queue, target};

type Answer = Result<HttpResponse, Problem>;

fn wrong(fault: Fault) -> Problem {
    Problem::invalid(vec![fault])
}

/// Lists the targets that failed once or were set by hand.
#[utoipa::path(
    get, path = "/api/breakers", tag = "limits",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses((status = 200, description = "A page", body = List<Breaker>))
)]
pub(super) async fn list(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let page = Listing::new("breakers", caller.tenant()).page(&mut parameters);
    parameters.finish()?;
    let breakers = page.of(call.service.breakers(&caller).await?, |view| view.target.to_string());
    Ok(HttpResponse::Ok().json(breakers.map(Breaker::from)))
}

/// Returns the breaker of a target: closed if nothing was heard of it.
#[utoipa::path(
    get, path = "/api/breakers/{key}", tag = "limits",
    params(
        ("key" = String, Path, description = "The target, such as `http:runner.example`; a `/` in it is written `%2F`"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses(
        (status = 200, description = "The breaker", body = Breaker),
        (status = 422, description = "This is no target", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let target = target(&call.text_segment("key")).map_err(wrong)?;
    Ok(HttpResponse::Ok().json(Breaker::from(call.service.breaker(&caller, &target).await?)))
}

/// Opens or closes a breaker by hand. One that was opened so stays open until it is closed so.
#[utoipa::path(
    put, path = "/api/breakers/{key}", tag = "limits",
    params(
        ("key" = String, Path, description = "The target, such as `http:runner.example`; a `/` in it is written `%2F`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour"),
    ),
    request_body = Breaker,
    responses(
        (status = 200, description = "The breaker as it is now", body = Breaker),
        (status = 403, description = "It takes an operator", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let target = target(&call.text_segment("key")).map_err(wrong)?;
    let open = breaker_state(node).map_err(Problem::invalid)?;
    Ok(HttpResponse::Ok().json(Breaker::from(call.service.set_breaker(&caller, &target, open).await?)))
}

/// Lists the queues in which something waits or runs, and those that are paused.
#[utoipa::path(
    get, path = "/api/queues", tag = "limits",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses((status = 200, description = "A page", body = List<Queue>))
)]
pub(super) async fn queues(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let page = Listing::new("queues", caller.tenant()).page(&mut parameters);
    parameters.finish()?;
    let queues = page.of(call.service.queues(&caller).await?, |view| view.name.to_string());
    Ok(HttpResponse::Ok().json(queues.map(Queue::from)))
}

/// Returns a queue: empty if nothing was heard of it.
#[utoipa::path(
    get, path = "/api/queues/{name}", tag = "limits",
    params(("name" = String, Path, description = "The queue"), ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has")),
    responses(
        (status = 200, description = "The queue", body = Queue),
        (status = 422, description = "No queue is called so", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn queue_of(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let name = queue(&call.text_segment("name")).map_err(wrong)?;
    Ok(HttpResponse::Ok().json(Queue::from(call.service.queue(&caller, &name).await?)))
}

/// Grants nothing more of a queue; what workers have of it is finished.
#[utoipa::path(
    post, path = "/api/queues/{name}/pause", tag = "limits",
    params(("name" = String, Path, description = "The queue"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    responses(
        (status = 200, description = "The queue as it is now", body = Queue),
        (status = 403, description = "It takes an operator", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "No queue is called so", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(call: Call, body: Content) -> Answer {
    set_paused(call, body, true).await
}

/// Grants what waits in a queue again.
#[utoipa::path(
    post, path = "/api/queues/{name}/resume", tag = "limits",
    params(("name" = String, Path, description = "The queue"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    responses(
        (status = 200, description = "The queue as it is now", body = Queue),
        (status = 403, description = "It takes an operator", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "No queue is called so", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(call: Call, body: Content) -> Answer {
    set_paused(call, body, false).await
}

async fn set_paused(call: Call, body: Content, paused: bool) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    let name = queue(&call.text_segment("name")).map_err(wrong)?;
    Ok(HttpResponse::Ok().json(Queue::from(call.service.pause_queue(&caller, &name, paused).await?)))
}
