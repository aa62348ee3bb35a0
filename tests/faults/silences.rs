//! Links that carry nothing for a while, or never again, under calls that take longer than that.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::campaign::skip;
use crate::harness::api::{Api, text};
use crate::harness::cluster::{Cluster, Settings};
use crate::harness::definitions::{await_status, call, execution, manual, run, with};
use crate::harness::target::Target;
use crate::harness::wait::{now_ms, until, within};
use crate::network::Network;

/// How long the target takes, in ms.
const CALL_MS: i64 = 36_000;
/// When nothing is carried from and to, in ms since the call came: one question whether the target is still there is lost.
const SILENT_MS: [i64; 2] = [8_000, 22_000];
/// When that question is asked, or a little before, in ms since the call came.
const PROBED_MS: i64 = 14_000;
/// When a target of which nothing is heard was given up at the latest, in ms.
const GIVEN_UP_MS: i64 = 90_000;
/// How long the test waits for that at most.
const LONG_PATIENCE: Duration = Duration::from_secs(180);

/// A node on a host of its own, and a target that it has called at a place.
struct Scene {
    network: Arc<Network>,
    _cluster: Cluster,
    api: Api,
    target: Target,
    place: String,
    /// The execution, and when its call came, in ms since 1970.
    id: String,
    came: i64,
}

/// Has a node call a target; none where the machine lacks what that needs.
#[track_caller]
fn called(what: &str, takes_ms: i64, fields: Value) -> Option<Scene> {
    let network = match Network::new(1) {
        Ok(network) => Arc::new(network),
        Err(reason) => {
            skip(what, &reason);
            return None;
        }
    };
    let target = Target::start_at(network.test());
    let settings = Settings { hosts: Some(network.clone()), ..Settings::default() };
    let cluster = Cluster::start_with(1, settings);
    let api = cluster.any();
    let place = format!("/slow/{takes_ms}");
    let id = run(&api, &api.create_id(&with(call("long", &manual(), &target.url(&place)), fields)));
    until("it is with the target", || !target.calls_to(&place).is_empty());
    let came = target.calls_to(&place)[0].at_ms;
    Some(Scene { network, _cluster: cluster, api, target, place, id, came })
}

#[test]
fn a_call_that_takes_long_outlives_a_link_that_carries_nothing_for_a_while() {
    let Some(scene) = called("a silent link under a long call", CALL_MS, json!({})) else { return };
    let Scene { network, api, target, place, id, came, .. } = &scene;
    until("it is with the target for a while", || now_ms() >= came + SILENT_MS[0]);
    network.cut_from_test(1);
    assert!(now_ms() < came + PROBED_MS, "the link was cut too late to lose the question");
    until("the link was silent for so long", || now_ms() >= came + SILENT_MS[1]);
    network.heal();
    let ended = await_status(api, id, "succeeded");
    assert_eq!((&ended["attempt"], target.calls_to(place).len()), (&json!(1), 1), "{ended}");
}

#[test]
fn a_call_is_given_up_when_its_target_is_gone_and_nobody_knows_what_it_did() {
    let once = json!({ "delivery": "at_most_once", "retry": { "max_attempts": 3 } });
    let Some(scene) = called("a link that is cut under a call", 600_000, once) else { return };
    let Scene { network, api, id, .. } = &scene;
    network.cut_from_test(1);
    // What the test asks does not arrive either.
    let heal_at = now_ms() + GIVEN_UP_MS;
    within(LONG_PATIENCE, "its target was gone for so long", || (now_ms() >= heal_at).then_some(()));
    network.heal();
    let ended = execution(api, id);
    let attempt = &ended["attempts"][0];
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("failed"), &json!(1)), "{ended}");
    assert_eq!(attempt["failure"]["class"], "connection", "{ended}");
    assert!(text(attempt, "error").starts_with("the connection broke"), "{ended}");
    assert!(text(&ended, "reason").contains("nobody knows"), "{ended}");
}
