//! The group of nodes.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use escapement_domain::identifier::NodeId;

use super::dto::cluster::{Cluster, NewNode, Successor};
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content};
use crate::service::validation::{new_node, successor};

type Answer = Result<HttpResponse, Problem>;

/// Tells who belongs to the group and who leads it.
#[utoipa::path(
    get, path = "/api/cluster/status", tag = "cluster",
    responses((status = 200, description = "The group", body = Cluster))
)]
pub(super) async fn status(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    Ok(HttpResponse::Ok().json(Cluster::from(call.service.cluster_status(&caller).await?)))
}

/// Adds a node that receives the log and does not vote yet; promote it when it has caught up.
#[utoipa::path(
    post, path = "/api/cluster/nodes", tag = "cluster",
    request_body = NewNode,
    responses(
        (status = 201, description = "It belongs to the group", body = Cluster),
        (status = 409, description = "It must not, or cannot be reached", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn add_node(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let (id, api, peer) = new_node(node).map_err(Problem::invalid)?;
    let status = call.service.add_node(&caller, NodeId(id), api, peer).await?;
    let location = format!("/api/cluster/nodes/{id}");
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(Cluster::from(status)))
}

/// Lets a node vote.
#[utoipa::path(
    post, path = "/api/cluster/nodes/{id}/promote", tag = "cluster",
    params(("id" = u64, Path, description = "The node's number")),
    responses(
        (status = 200, description = "It votes", body = Cluster),
        (status = 409, description = "It lags behind, does not hold the whole history of events yet, or another change is in progress", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn promote_node(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    let status = call.service.promote_node(&caller, NodeId(call.node()?)).await?;
    Ok(HttpResponse::Ok().json(Cluster::from(status)))
}

/// Lets a node take nothing new: it finishes what it has. It holds until the node is undrained, whoever leads and however
/// often the node restarts. Draining a drained node changes nothing; a node that leads goes on leading.
#[utoipa::path(
    post, path = "/api/cluster/nodes/{id}/drain", tag = "cluster",
    params(("id" = u64, Path, description = "The node's number"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    responses(
        (status = 200, description = "Nothing new starts there; `running` says how much it has left", body = Cluster),
        (status = 404, description = "There is no such node", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drain_node(call: Call, body: Content) -> Answer {
    set_drained(&call, &body, true).await
}

/// Lets a node that was drained take work again.
#[utoipa::path(
    post, path = "/api/cluster/nodes/{id}/undrain", tag = "cluster",
    params(("id" = u64, Path, description = "The node's number"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    responses(
        (status = 200, description = "It takes work", body = Cluster),
        (status = 404, description = "There is no such node", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn undrain_node(call: Call, body: Content) -> Answer {
    set_drained(&call, &body, false).await
}

async fn set_drained(call: &Call, body: &Content, drained: bool) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(body)?;
    let caller = call.writer(None)?;
    let status = call.service.drain_node(&caller, NodeId(call.node()?), drained).await?;
    Ok(HttpResponse::Ok().json(Cluster::from(status)))
}

/// Removes a node for good. Its number is never used again.
#[utoipa::path(
    delete, path = "/api/cluster/nodes/{id}", tag = "cluster",
    params(("id" = u64, Path, description = "The node's number")),
    responses(
        (status = 204, description = "Removed"),
        (status = 409, description = "The quorum, or a part of the history of events, would be lost", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove_node(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    call.service.remove_node(&caller, NodeId(call.node()?)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Hands the leadership over.
#[utoipa::path(
    post, path = "/api/cluster/leader", tag = "cluster",
    request_body = Successor,
    responses(
        (status = 200, description = "The group", body = Cluster),
        (status = 409, description = "Nobody can take over", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn transfer_leadership(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.content(&body)?;
    let caller = call.writer(node)?;
    let to = node.map(successor).transpose().map_err(Problem::invalid)?.flatten();
    let status = call.service.transfer_leadership(&caller, to.map(NodeId)).await?;
    Ok(HttpResponse::Ok().json(Cluster::from(status)))
}
