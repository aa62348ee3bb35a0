//! The event log.

use actix_web::HttpResponse;

use super::cursor::Listing;
use super::dto::List;
use super::dto::event::Event;
use super::problem::{Problem, ProblemBody};
use super::request::Call;
use crate::audit::json::AuditEvent;
use crate::service::history::EventQuery;

/// Lists events of a tenant, oldest first.
#[utoipa::path(
    get, path = "/api/audit/events", tag = "audit",
    params(
        ("after" = Option<u64>, Query, description = "Only those after this `seq`"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before, in place of `after`"),
        ("from" = Option<String>, Query, description = "Only those at or after this instant"),
        ("to" = Option<String>, Query, description = "Only those before this instant"),
        ("task" = Option<String>, Query, description = "Only those of this task"),
        ("tenant" = Option<String>, Query, description = "Of another tenant, or `$cluster`: takes cluster-admin"),
    ),
    responses(
        (status = 200, description = "A page", body = List<Event>),
        (status = 403, description = "Not for this role", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn events(call: Call) -> Result<HttpResponse, Problem> {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let after = parameters.number("after", 0..=u64::MAX);
    let limit = parameters.limit();
    let (from, to) = (parameters.instant("from"), parameters.instant("to"));
    let task = parameters.id("task");
    let tenant = parameters.text("tenant");
    let filters = format!("{from:?} {to:?} {task:?} {tenant:?}");
    let listing = Listing::new("audit", caller.tenant()).filtered(&filters);
    let cursor = parameters.cursor(|text| listing.place(text).map(u64::from_be_bytes));
    if after.is_some() && cursor.is_some() {
        parameters.refuse("after", "`after` and `cursor` do not go together");
    }
    parameters.finish()?;
    let query = EventQuery { after: cursor.or(after).unwrap_or(0), limit, from, to };
    let page = call.service.audit_events(&caller, tenant.as_deref(), task, &query).await?;
    let name = tenant.as_deref().unwrap_or_else(|| caller.tenant());
    Ok(HttpResponse::Ok().json(List::<Event> {
        items: page.records.iter().map(|record| AuditEvent::of(record, name).into()).collect(),
        next_cursor: page.next.map(|next| listing.cursor(&next.to_be_bytes())),
    }))
}
