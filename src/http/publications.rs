//! Events from outside.

use actix_web::HttpResponse;

use super::dto::publication::{Event, Published};
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content};
use crate::service::validation;

/// Publishes an event: the tasks run that listen to it. It is in the log before it is answered; where very many tasks listen,
/// some of them are met after that.
#[utoipa::path(
    post, path = "/api/events", tag = "events",
    params(("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour: repeated under it, the event fires nothing twice")),
    request_body = Event,
    responses(
        (status = 202, description = "It is in the log", body = Published),
        (status = 403, description = "The token does not let its holder publish events", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong, or too many events of the tenant have open executions", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn publish(call: Call, body: Content) -> Result<HttpResponse, Problem> {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let event = validation::publication(node).map_err(Problem::invalid)?;
    let name = event.name.clone();
    let published = call.service.publish(&caller, event).await?;
    Ok(HttpResponse::Accepted().json(Published::of(&name, published)))
}
