//! What the metrics of a node tell.

use super::api::Api;
use super::wait::until;

/// Waits until a node's metrics have a line, such as `escapement_wheel_timers 0`.
#[track_caller]
pub(crate) fn await_metric(api: &Api, line: &str) {
    until(&format!("{} tells {line}", api.address), || {
        api.send("GET", "/metrics", &[], None).body.lines().any(|told| told == line)
    });
}
