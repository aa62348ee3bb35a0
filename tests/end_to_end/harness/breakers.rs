//! Circuit breakers of targets, and a breaker that tries its target.

use serde_json::{Value, json};

use super::api::{Api, text};
use super::definitions::{await_status, call, event_log, execution, manual, run, with};
use super::target::Target;
use super::wait::until;

/// The path of a target at which a probe hangs.
pub(crate) const PROBED: &str = "/held/0";

/// How the breaker of a target is called.
pub(crate) fn key_of(target: &Target) -> String {
    target.url("").replacen("http://", "http:", 1)
}

/// The breaker of a target.
#[track_caller]
pub(crate) fn breaker(api: &Api, target: &Target) -> Value {
    api.get(&format!("/api/breakers/{}", key_of(target)))
}

/// What became of breakers, in order: `Opened`, `HalfOpened`, `Closed`.
#[track_caller]
pub(crate) fn turns(api: &Api) -> Vec<String> {
    let names = event_log(api).into_iter().map(|event| text(&event, "type"));
    names.filter_map(|name| Some(name.strip_prefix("Breaker")?.to_owned())).collect()
}

/// Opens the breaker of a target, lets its probe hang, and returns the probe, and one that waits for it to call `/ok`.
#[track_caller]
pub(crate) fn half_open(api: &Api, target: &Target, delivery: &str) -> (String, String) {
    let rule = json!({ "failure_threshold": 1, "open_for": "1s" });
    let fields = json!({ "circuit_breaker": rule, "delivery": delivery, "overlap": "allow" });
    let [failing, slow, good] = [("failing", "/status/503"), ("slow", PROBED), ("good", "/ok")]
        .map(|(name, path)| api.create_id(&with(call(name, &manual(), &target.url(path)), fields.clone())));
    await_status(api, &run(api, &failing), "failed");
    let probe = run(api, &slow);
    until("the probe hangs", || !target.calls_to(PROBED).is_empty());
    let waits = run(api, &good);
    let shown = breaker(api, target);
    assert_eq!((&shown["state"], &shown["probe"]), (&json!("half_open"), &json!(probe)), "{shown}");
    assert_eq!(execution(api, &waits)["attempt"], 0);
    (probe, waits)
}
