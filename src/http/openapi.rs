//! The OpenAPI document, made of what the handlers declare beside themselves.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{
    audit, breakers, bulk, calendars, cluster, dead_letters, executions, gates, leasing, occurrences,
    publications, runs, schedules, system, tasks,
};

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(title = "Escapement", description = "A scheduler that fires every task exactly once, on a Raft-replicated event log. A path answers with and without its trailing slash; /api/v1/… is the same as /api/…."),
    paths(
        tasks::create, tasks::list, tasks::upcoming, tasks::get, tasks::update, tasks::delete, tasks::run, tasks::pause,
        tasks::resume, tasks::next, tasks::explain, tasks::events, schedules::forecast, occurrences::change, occurrences::list, occurrences::backfill,
        occurrences::backfills, occurrences::cancel_backfill, bulk::create, calendars::put, calendars::list, calendars::get,
        calendars::delete, gates::put_pool, gates::list_pools, gates::get_pool, gates::delete_pool, gates::put_limit,
        gates::list_limits, gates::get_limit, gates::delete_limit, breakers::list, breakers::get, breakers::put,
        breakers::queues, breakers::queue_of, breakers::pause, breakers::resume,
        publications::publish, executions::list, executions::get, executions::change, executions::logs,
        executions::cancel, executions::retry, executions::status, runs::get, runs::cancel, runs::retry, dead_letters::list, dead_letters::retry, executions::workers,
        leasing::lease, leasing::heartbeat, leasing::progress, leasing::complete, audit::events, audit::chains, audit::blocks,
        audit::fires, cluster::status,
        cluster::add_node, cluster::promote_node, cluster::drain_node, cluster::undrain_node, cluster::remove_node, cluster::transfer_leadership, system::healthz,
        system::readyz, system::metrics, system::openapi, system::sign_in,
    ),
    security(("token" = [])),
    modifiers(&Token),
)]
pub(super) struct Document;

/// How a token is sent.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}
