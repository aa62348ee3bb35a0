//! Calls on pools and limits.

use actix_web::HttpResponse;
use escapement_domain::replica::placement::Gate;

use super::cursor::Listing;
use super::dto::List;
use super::dto::gate::{Limit, Pool};
use super::problem::{Problem, ProblemBody};
use super::put_answer;
use super::request::{Call, Content};
use crate::service::GateKind;
use crate::service::validation::{capacity, limit, pool};

type Answer = Result<HttpResponse, Problem>;

/// Makes a pool, or gives it another capacity: what is held already is not torn away.
#[utoipa::path(
    put, path = "/api/pools/{name}", tag = "limits",
    params(
        ("name" = String, Path, description = "Its name: 1 to 128 letters, digits, `-`, `_` and `.`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour"),
    ),
    request_body = Pool,
    responses(
        (status = 200, description = "The pool as it is now", body = Pool),
        (status = 201, description = "The pool, which is new", body = Pool, headers(("Location" = String))),
        (status = 403, description = "It takes an admin", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_pool(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let gate = pool(&call.text_segment("name")).map_err(|fault| Problem::invalid(vec![fault]))?;
    let capacity = capacity(node, "capacity", "a pool").map_err(Problem::invalid)?;
    let (view, new) = call.service.put_gate(&caller, gate, capacity).await?;
    let location = format!("/api/pools/{}", call.segment("name"));
    Ok(put_answer(new, location).json(Pool::from(view)))
}

/// Lists pools by name.
#[utoipa::path(
    get, path = "/api/pools", tag = "limits",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses((status = 200, description = "A page", body = List<Pool>))
)]
pub(super) async fn list_pools(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let page = Listing::new("pools", caller.tenant()).page(&mut parameters);
    parameters.finish()?;
    let pools = call.service.gates(&caller, GateKind::Pools).await?;
    let pools = page.of(pools, |view| match &view.gate {
        Gate::Pool(name) => name.to_string(),
        Gate::Label(_) | Gate::Queue(_) | Gate::Tenant => String::new(),
    });
    Ok(HttpResponse::Ok().json(pools.map(Pool::from)))
}

/// Returns a pool, with who holds it and who waits.
#[utoipa::path(
    get, path = "/api/pools/{name}", tag = "limits",
    params(("name" = String, Path, description = "Its name"), ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has")),
    responses(
        (status = 200, description = "The pool", body = Pool),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_pool(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let view = call.service.gate(&caller, &Gate::Pool(call.text_segment("name").into())).await?;
    Ok(HttpResponse::Ok().json(Pool::from(view)))
}

/// Deletes a pool that no task names.
#[utoipa::path(
    delete, path = "/api/pools/{name}", tag = "limits",
    params(("name" = String, Path, description = "Its name"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 409, description = "Tasks name it", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete_pool(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    call.service.delete_gate(&caller, Gate::Pool(call.text_segment("name").into())).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Limits how many executions with a label, of a queue or of the whole tenant run at once.
#[utoipa::path(
    put, path = "/api/limits/{kind}/{name}", tag = "limits",
    params(
        ("kind" = String, Path, description = "`label`, `queue` or `tenant`"),
        ("name" = String, Path, description = "The label as `name=value`, the queue, or the tenant"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour"),
    ),
    request_body = Limit,
    responses(
        (status = 200, description = "The limit as it is now", body = Limit),
        (status = 201, description = "The limit, which is new", body = Limit, headers(("Location" = String))),
        (status = 403, description = "It takes an admin", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_limit(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let gate = limit_of(&call, caller.tenant())?;
    let most = capacity(node, "max_concurrent", "a limit").map_err(Problem::invalid)?;
    let (view, new) = call.service.put_gate(&caller, gate, most).await?;
    let location = format!("/api/limits/{}/{}", call.segment("kind"), call.segment("name"));
    Ok(put_answer(new, location).json(Limit::of(view, caller.tenant())))
}

/// Lists limits by kind and name.
#[utoipa::path(
    get, path = "/api/limits", tag = "limits",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses((status = 200, description = "A page", body = List<Limit>))
)]
pub(super) async fn list_limits(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let page = Listing::new("limits", caller.tenant()).page(&mut parameters);
    parameters.finish()?;
    let limits = call.service.gates(&caller, GateKind::Limits).await?;
    let limits = page.of(limits, |view| match &view.gate {
        Gate::Label(label) => format!("label/{label}"),
        Gate::Queue(queue) => format!("queue/{queue}"),
        Gate::Pool(_) | Gate::Tenant => "tenant".into(),
    });
    Ok(HttpResponse::Ok().json(limits.map(|view| Limit::of(view, caller.tenant()))))
}

/// Returns a limit, with what runs and what waits.
#[utoipa::path(
    get, path = "/api/limits/{kind}/{name}", tag = "limits",
    params(
        ("kind" = String, Path, description = "`label`, `queue` or `tenant`"),
        ("name" = String, Path, description = "The label as `name=value`, the queue, or the tenant"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses(
        (status = 200, description = "The limit", body = Limit),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_limit(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let view = call.service.gate(&caller, &limit_of(&call, caller.tenant())?).await?;
    Ok(HttpResponse::Ok().json(Limit::of(view, caller.tenant())))
}

/// Deletes a limit.
#[utoipa::path(
    delete, path = "/api/limits/{kind}/{name}", tag = "limits",
    params(
        ("kind" = String, Path, description = "`label`, `queue` or `tenant`"),
        ("name" = String, Path, description = "The label as `name=value`, the queue, or the tenant"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete_limit(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    call.service.delete_gate(&caller, limit_of(&call, caller.tenant())?).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn limit_of(call: &Call, tenant: &str) -> Result<Gate, Problem> {
    limit(call.segment("kind"), &call.text_segment("name"), tenant)
        .map_err(|fault| Problem::invalid(vec![fault]))
}
