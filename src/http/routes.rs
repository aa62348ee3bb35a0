//! Which path leads to which handler.
//!
//! The front door has cut off trailing slashes and `/v1` by then. [`PATTERNS`] names every path once more, since labels of
//! metrics must be known beforehand; a test holds the routes, the patterns and the OpenAPI document together.

use actix_web::http::Method;
use actix_web::web::{PayloadConfig, ServiceConfig, delete, get, head, patch, post, put, resource};

use super::{
    audit, breakers, bulk, calendars, cluster, dead_letters, executions, gates, leasing, occurrences,
    publications, runs, schedules, system, tasks,
};

/// Bytes of a body.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The patterns of every path.
pub(super) const PATTERNS: [&str; 60] = [
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/api/scheduled-tasks",
    "/api/scheduled-tasks/bulk",
    "/api/scheduled-tasks/upcoming",
    "/api/scheduled-tasks/{id}",
    "/api/scheduled-tasks/{id}/run",
    "/api/scheduled-tasks/{id}/pause",
    "/api/scheduled-tasks/{id}/resume",
    "/api/scheduled-tasks/{id}/next",
    "/api/scheduled-tasks/{id}/explain",
    "/api/scheduled-tasks/{id}/events",
    "/api/schedules/forecast",
    "/api/scheduled-tasks/{id}/occurrences",
    "/api/scheduled-tasks/{id}/backfill",
    "/api/scheduled-tasks/{id}/backfills",
    "/api/scheduled-tasks/{id}/backfills/{backfill}",
    "/api/calendars",
    "/api/calendars/{name}",
    "/api/pools",
    "/api/pools/{name}",
    "/api/limits",
    "/api/limits/{kind}/{name}",
    "/api/breakers",
    "/api/breakers/{key}",
    "/api/queues",
    "/api/queues/{name}",
    "/api/queues/{name}/pause",
    "/api/queues/{name}/resume",
    "/api/events",
    "/api/executions",
    "/api/executions/status",
    "/api/executions/{id}",
    "/api/executions/{id}/logs",
    "/api/executions/{id}/cancel",
    "/api/executions/{id}/retry",
    "/api/executions/{id}/heartbeat",
    "/api/executions/{id}/progress",
    "/api/executions/{id}/complete",
    "/api/runs/{id}",
    "/api/runs/{id}/cancel",
    "/api/runs/{id}/retry",
    "/api/dead-letters",
    "/api/dead-letters/retry",
    "/api/workers",
    "/api/workers/{queue}/lease",
    "/api/audit/events",
    "/api/audit/chains",
    "/api/audit/blocks",
    "/api/audit/fires",
    "/api/cluster/status",
    "/api/cluster/nodes",
    "/api/cluster/nodes/{id}",
    "/api/cluster/nodes/{id}/promote",
    "/api/cluster/nodes/{id}/drain",
    "/api/cluster/nodes/{id}/undrain",
    "/api/cluster/leader",
];

/// Sets every route up.
pub(super) fn configure(config: &mut ServiceConfig) {
    config.app_data(PayloadConfig::new(BODY_BYTES_MAX));
    system(config);
    tasks(config);
    occurrences(config);
    calendars(config);
    gates(config);
    executions(config);
    cluster(config);
}

fn system(config: &mut ServiceConfig) {
    config
        .service(resource("/").route(get().to(system::sign_in)))
        .service(resource("/healthz").route(get().to(system::healthz)).route(head().to(system::healthz)))
        .service(resource("/readyz").route(get().to(system::readyz)).route(head().to(system::readyz)))
        .service(resource("/metrics").route(get().to(system::metrics)))
        .service(resource("/openapi.json").route(get().to(system::openapi)));
}

fn tasks(config: &mut ServiceConfig) {
    let bulk_config = PayloadConfig::new(bulk::BODY_BYTES_MAX);
    config
        .service(
            resource("/api/scheduled-tasks").route(get().to(tasks::list)).route(post().to(tasks::create)),
        )
        .service(resource("/api/scheduled-tasks/bulk").app_data(bulk_config).route(post().to(bulk::create)))
        .service(resource("/api/scheduled-tasks/upcoming").route(get().to(tasks::upcoming)))
        .service(
            resource("/api/scheduled-tasks/{id}")
                .route(get().to(tasks::get))
                .route(put().to(tasks::update))
                .route(delete().to(tasks::delete)),
        )
        .service(resource("/api/scheduled-tasks/{id}/run").route(post().to(tasks::run)))
        .service(resource("/api/scheduled-tasks/{id}/pause").route(post().to(tasks::pause)))
        .service(resource("/api/scheduled-tasks/{id}/resume").route(post().to(tasks::resume)))
        .service(resource("/api/scheduled-tasks/{id}/next").route(get().to(tasks::next)))
        .service(resource("/api/scheduled-tasks/{id}/explain").route(get().to(tasks::explain)))
        .service(resource("/api/scheduled-tasks/{id}/events").route(get().to(tasks::events)))
        .service(resource("/api/schedules/forecast").route(get().to(schedules::forecast)));
}

fn occurrences(config: &mut ServiceConfig) {
    config
        .service(
            resource("/api/scheduled-tasks/{id}/occurrences")
                .route(get().to(occurrences::list))
                .route(post().to(occurrences::change)),
        )
        .service(resource("/api/scheduled-tasks/{id}/backfill").route(post().to(occurrences::backfill)))
        .service(resource("/api/scheduled-tasks/{id}/backfills").route(get().to(occurrences::backfills)))
        .service(
            resource("/api/scheduled-tasks/{id}/backfills/{backfill}")
                .route(delete().to(occurrences::cancel_backfill)),
        );
}

fn calendars(config: &mut ServiceConfig) {
    config.service(resource("/api/calendars").route(get().to(calendars::list))).service(
        resource("/api/calendars/{name}")
            .route(get().to(calendars::get))
            .route(put().to(calendars::put))
            .route(delete().to(calendars::delete)),
    );
}

fn gates(config: &mut ServiceConfig) {
    config
        .service(resource("/api/pools").route(get().to(gates::list_pools)))
        .service(
            resource("/api/pools/{name}")
                .route(get().to(gates::get_pool))
                .route(put().to(gates::put_pool))
                .route(delete().to(gates::delete_pool)),
        )
        .service(resource("/api/limits").route(get().to(gates::list_limits)))
        .service(
            resource("/api/limits/{kind}/{name}")
                .route(get().to(gates::get_limit))
                .route(put().to(gates::put_limit))
                .route(delete().to(gates::delete_limit)),
        )
        .service(resource("/api/breakers").route(get().to(breakers::list)))
        .service(
            resource("/api/breakers/{key}").route(get().to(breakers::get)).route(put().to(breakers::put)),
        )
        .service(resource("/api/queues").route(get().to(breakers::queues)))
        .service(resource("/api/queues/{name}").route(get().to(breakers::queue_of)))
        .service(resource("/api/queues/{name}/pause").route(post().to(breakers::pause)))
        .service(resource("/api/queues/{name}/resume").route(post().to(breakers::resume)));
}

fn executions(config: &mut ServiceConfig) {
    config
        .service(resource("/api/events").route(post().to(publications::publish)))
        .service(resource("/api/executions").route(get().to(executions::list)))
        .service(resource("/api/executions/status").route(get().to(executions::status)))
        .service(
            resource("/api/executions/{id}")
                .route(get().to(executions::get))
                .route(patch().to(executions::change)),
        )
        .service(resource("/api/executions/{id}/logs").route(get().to(executions::logs)))
        .service(resource("/api/executions/{id}/cancel").route(post().to(executions::cancel)))
        .service(resource("/api/executions/{id}/retry").route(post().to(executions::retry)))
        .service(resource("/api/executions/{id}/heartbeat").route(post().to(leasing::heartbeat)))
        .service(resource("/api/executions/{id}/progress").route(post().to(leasing::progress)))
        .service(resource("/api/executions/{id}/complete").route(post().to(leasing::complete)))
        .service(resource("/api/runs/{id}").route(get().to(runs::get)))
        .service(resource("/api/runs/{id}/cancel").route(post().to(runs::cancel)))
        .service(resource("/api/runs/{id}/retry").route(post().to(runs::retry)))
        .service(resource("/api/dead-letters").route(get().to(dead_letters::list)))
        .service(resource("/api/dead-letters/retry").route(post().to(dead_letters::retry)))
        .service(resource("/api/workers").route(get().to(executions::workers)))
        .service(resource("/api/workers/{queue}/lease").route(post().to(leasing::lease)))
        .service(resource("/api/audit/events").route(get().to(audit::events)))
        .service(resource("/api/audit/chains").route(get().to(audit::chains)))
        .service(resource("/api/audit/blocks").route(get().to(audit::blocks)))
        .service(resource("/api/audit/fires").route(get().to(audit::fires)));
}

fn cluster(config: &mut ServiceConfig) {
    config
        .service(resource("/api/cluster/status").route(get().to(cluster::status)))
        .service(resource("/api/cluster/nodes").route(post().to(cluster::add_node)))
        .service(resource("/api/cluster/nodes/{id}").route(delete().to(cluster::remove_node)))
        .service(resource("/api/cluster/nodes/{id}/promote").route(post().to(cluster::promote_node)))
        .service(resource("/api/cluster/nodes/{id}/drain").route(post().to(cluster::drain_node)))
        .service(resource("/api/cluster/nodes/{id}/undrain").route(post().to(cluster::undrain_node)))
        .service(resource("/api/cluster/leader").route(post().to(cluster::transfer_leadership)));
}

/// The pattern of a path as a label knows it.
pub(super) fn pattern_of(pattern: Option<&str>) -> &'static str {
    let known = PATTERNS.iter().find(|known| Some(**known) == pattern);
    known.copied().unwrap_or("unmatched")
}

/// The method as a label knows it.
pub(super) fn method_name(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
