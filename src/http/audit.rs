//! The event log: as events, and as it is stored, for whoever verifies or replays it.

use actix_web::HttpResponse;
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::zone_data_version;
use escapement_domain::timestamp::Timestamp;

use super::cursor::Listing;
use super::dto::List;
use super::dto::event::{Chain, Chains, Event};
use super::dto::fires::{AuditedFire, AuditedFires};
use super::problem::{Problem, ProblemBody};
use super::request::Call;
use crate::audit::fires::Range;
use crate::audit::frame_blocks;
use crate::audit::json::AuditEvent;
use crate::service::fires::FiresQuery;
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

/// Tells where the chains of events end.
#[utoipa::path(
    get, path = "/api/audit/chains", tag = "audit",
    params(
        ("tenant" = Option<String>, Query, description = "Only this one; another than one's own, or `$cluster`, takes cluster-admin"),
        ("state" = Option<bool>, Query, description = "Also the hash of the whole state there: takes cluster-admin, and some seconds with a million tasks"),
    ),
    responses(
        (status = 200, description = "Of every tenant for a cluster-admin, of one's own otherwise; everything up to `log_index` is on this node's disk", body = Chains),
        (status = 403, description = "Not for this role", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn chains(call: Call) -> Result<HttpResponse, Problem> {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let tenant = parameters.text("tenant");
    let state = parameters.flag("state");
    parameters.finish()?;
    let chains = call.service.audit_chains(&caller, tenant.as_deref(), state).await?;
    Ok(HttpResponse::Ok().json(Chains {
        log_index: chains.log_index,
        all_tenants: chains.whole,
        items: chains.chains.into_iter().map(Chain::from).collect(),
        state_hash: chains.state_hash.map(|hash| hash.to_string()),
        next_cursor: None,
    }))
}

/// Tells blocks of events as they are stored, with the hash of each event, so that whoever asks can hold every hash against
/// the bytes that it covers.
///
/// The answer is a row of blocks: for each the sequence that it is stored under (8 bytes, big endian), its length (4 bytes, big
/// endian) and its bytes. Ask again from one past the last of those sequences; an empty answer is the end.
#[utoipa::path(
    get, path = "/api/audit/blocks", tag = "audit",
    params(
        ("from" = Option<u64>, Query, description = "Only blocks that begin at or after this `seq`; 1 if it is left out"),
        ("tenant" = Option<String>, Query, description = "Of another tenant, or `$cluster`: takes cluster-admin"),
    ),
    responses(
        (status = 200, description = "Some blocks", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 403, description = "Not for this role", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn blocks(call: Call) -> Result<HttpResponse, Problem> {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let from = parameters.number("from", 1..=u64::MAX);
    let tenant = parameters.text("tenant");
    parameters.finish()?;
    let blocks = call.service.audit_blocks(&caller, tenant.as_deref(), from.unwrap_or(1)).await?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(frame_blocks(&blocks)))
}

/// Says of every instant in a range that tasks should have fired, by the definitions that held then, what became of it.
///
/// It is computed anew from the event log for every page: from the tenant's, or with `task` from that task's own events. A range
/// holds up to 100,000 instants.
#[utoipa::path(
    get, path = "/api/audit/fires", tag = "audit",
    params(
        ("from" = String, Query, description = "Only those at or after this instant"),
        ("to" = String, Query, description = "Only those before this instant"),
        ("task" = Option<String>, Query, description = "Only those of this task; a deleted one has them still"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("tenant" = Option<String>, Query, description = "Of another tenant: takes cluster-admin"),
    ),
    responses(
        (status = 200, description = "A page, with the totals of the whole range", body = AuditedFires),
        (status = 403, description = "Not for this role", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "The range holds too many", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn fires(call: Call) -> Result<HttpResponse, Problem> {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let (from, to) = (parameters.required_instant("from"), parameters.required_instant("to"));
    let task = parameters.id("task");
    let limit = parameters.limit();
    let tenant = parameters.text("tenant");
    if from.is_some() && to.is_some() && to <= from {
        parameters.refuse("to", "`to` is an instant after `from`");
    }
    let range = Range { from: from.unwrap_or_default(), to: to.unwrap_or_default() };
    let filters = format!("{range:?} {task:?} {tenant:?}");
    let listing = Listing::new("fires", caller.tenant()).filtered(&filters);
    let after = parameters.cursor(|text| listing.place(text).map(place));
    parameters.finish()?;
    let query = FiresQuery { range, task, after, limit };
    let page = call.service.audit_fires(&caller, tenant.as_deref(), &query).await?;
    let name = tenant.as_deref().unwrap_or_else(|| caller.tenant());
    let cursor = |(at, task): (Timestamp, TaskId)| {
        listing.cursor(&[&at.0.to_be_bytes()[..], &task.0.to_be_bytes()].concat())
    };
    Ok(HttpResponse::Ok().json(AuditedFires {
        items: page.fires.iter().map(|fire| AuditedFire::of(fire, name)).collect(),
        next_cursor: page.next.map(cursor),
        totals: page.totals.into(),
        as_of: page.as_of.to_string(),
        zone_data: zone_data_version(),
    }))
}

/// The instant and the task that a cursor of instants names.
fn place(bytes: [u8; 24]) -> (Timestamp, TaskId) {
    let (mut at, mut task) = ([0; 8], [0; 16]);
    at.copy_from_slice(&bytes[..8]);
    task.copy_from_slice(&bytes[8..]);
    (Timestamp(i64::from_be_bytes(at)), TaskId(u128::from_be_bytes(task)))
}
