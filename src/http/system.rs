//! Calls about this node itself.

use std::sync::OnceLock;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::{OpenApi as _, ToSchema};

use super::front::Shared;
use super::openapi::Document;
use super::problem::{Problem, ProblemBody};
use super::request::Call;
use crate::telemetry::Metrics;

/// The sign-in page; `{{nonce}}` stands where its style and script are allowed by name.
const SIGN_IN: &str = include_str!("sign_in.html");

/// How a node is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok` or `ready`.
    status: &'static str,
}

/// Says that this process answers.
#[utoipa::path(get, path = "/healthz", tag = "system", security(()), responses((status = 200, description = "It does", body = Health)))]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// Says whether this node can serve: a majority answers it, and it has its history.
#[utoipa::path(
    get, path = "/readyz", tag = "system", security(()),
    responses(
        (status = 200, description = "It can", body = Health),
        (status = 503, description = "It cannot yet", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn readyz(shared: web::Data<Shared>) -> Result<HttpResponse, Problem> {
    shared.service.ready().await.map_err(Problem::not_ready)?;
    Ok(HttpResponse::Ok().json(Health { status: "ready" }))
}

/// Tells what this node counts and measures, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "system", responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(_: Call, shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, Metrics::content_type())).body(shared.metrics.encode())
}

/// Describes this API.
#[utoipa::path(get, path = "/openapi.json", tag = "system", responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)))]
pub(super) async fn openapi(_: Call) -> Result<HttpResponse, actix_web::Error> {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    // What the handlers declare is made of texts and numbers, which always serialise.
    let document = DOCUMENT.get_or_init(|| Document::openapi().to_json().unwrap_or_default());
    Ok(HttpResponse::Ok().content_type("application/json").body(document.as_str()))
}

/// The sign-in page.
#[utoipa::path(get, path = "/", tag = "system", security(()), responses((status = 200, description = "A page for people", body = String, content_type = "text/html")))]
pub(super) async fn sign_in(shared: web::Data<Shared>) -> HttpResponse {
    let nonce = format!("{:032x}", shared.service.entropy().bits());
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    );
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_SECURITY_POLICY, policy))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_FRAME_OPTIONS, "DENY"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(SIGN_IN.replace("{{nonce}}", &nonce))
}
