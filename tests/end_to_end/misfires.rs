//! What becomes of instants that nobody could fire in time: after an outage, after a pause, and of a herd of them.

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::definitions::{await_count, executions, noop, with};
use crate::harness::development::Development;
use crate::harness::wait::{instant_in, millis, now_ms, until};

/// Every second, from whole second to whole second.
fn beat() -> Value {
    json!({ "type": "interval", "every": "1s", "anchor": "2026-01-01T00:00:00Z" })
}

/// A task of every second that keeps to a policy.
fn task(api: &Api, policy: &str, window: &str) -> String {
    let misfire = json!({ "policy": policy, "grace": "500ms", "window": window });
    api.create_id(&with(noop(policy, &beat()), json!({ "misfire": misfire, "overlap": "allow" })))
}

/// The instants that fired, in order.
#[track_caller]
fn fired(api: &Api, task: &str) -> Vec<i64> {
    let mut fired: Vec<i64> =
        executions(api, task).iter().map(|execution| millis(&execution["scheduled_at"])).collect();
    fired.sort_unstable();
    fired
}

/// The runs of instants that were missed: the first, the last, and how many.
#[track_caller]
fn missed(api: &Api, task: &str) -> Vec<(i64, i64, u64)> {
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events?limit=1000")));
    let missed = events.iter().filter(|event| event["type"] == "TaskMissed").map(|event| &event["data"]);
    missed
        .map(|data| {
            let count = data["count"].as_u64().expect("a count");
            (millis(&data["first"]), millis(&data["last"]), count)
        })
        .collect()
}

/// Demands that a task fired or missed each instant from its first fire to `until`, and none twice.
#[track_caller]
fn check_whole(api: &Api, task: &str, until: i64) {
    let mut instants = fired(api, task);
    let first = instants[0];
    for (from, to, count) in missed(api, task) {
        assert_eq!(i64::try_from(count).expect("few"), (to - from) / 1_000 + 1, "an instant a second");
        instants.extend((from..=to).step_by(1_000));
    }
    instants.sort_unstable();
    instants.retain(|instant| *instant <= until);
    let expected: Vec<i64> = (first..=until).step_by(1_000).collect();
    assert_eq!(instants, expected);
}

/// Waits until a task fired an instant after `instant`.
#[track_caller]
fn await_fire_after(api: &Api, task: &str, instant: i64) {
    until("it fires again", || fired(api, task).last().is_some_and(|last| *last > instant));
}

#[test]
fn a_pause_is_made_good_by_policy_when_it_ends() {
    let development = Development::start();
    let api = development.api();
    let tasks = [("skip", "1h"), ("run_latest", "1h"), ("run_all", "1h"), ("run_all", "2s")]
        .map(|(policy, window)| task(&api, policy, window));
    let all = |what: &str| {
        for task in &tasks {
            api.post(&format!("/api/scheduled-tasks/{task}/{what}"), &Value::Null).expect(200);
        }
    };
    tasks.iter().for_each(|task| drop(await_count(&api, task, "succeeded", 1)));
    all("pause");
    let begin = now_ms();
    until("instants have passed in the pause", || now_ms() >= begin + 5_000);
    let before = tasks.clone().map(|task| fired(&api, &task));
    assert!(before.iter().flatten().all(|instant| *instant <= begin), "nothing fires in a pause");
    // Whatever is older than this is beyond every grace.
    let end = now_ms() - 500;
    all("resume");
    for task in &tasks {
        await_fire_after(&api, task, end + 1_000);
        check_whole(&api, task, end);
    }
    let within = |task: &str| fired(&api, task).iter().filter(|at| (begin..end).contains(*at)).count();
    let [skip, latest, all, few] = tasks.each_ref().map(|task| (within(task), missed(&api, task)));
    assert_eq!((skip.0, skip.1.len()), (0, 1), "one event for all of them: {skip:?}");
    assert!(skip.1[0].2 >= 4, "{skip:?}");
    assert!(latest.1.len() == 1 && latest.1[0].2 >= 3, "all but the latest, as one event: {latest:?}");
    assert!(all.0 >= 3 && all.1.is_empty(), "none is missed: {all:?}");
    assert!(few.1.len() == 1 && few.0 <= 2, "what lies beyond the window is missed: {few:?}");
}

#[test]
fn an_outage_is_one_event_with_its_range_and_what_is_made_good_says_so() {
    let mut development = Development::start();
    let api = development.api();
    let [skip, latest, all] = ["skip", "run_latest", "run_all"].map(|policy| task(&api, policy, "1h"));
    let tasks = [&skip, &latest, &all];
    tasks.iter().for_each(|task| drop(await_count(&api, task, "succeeded", 1)));
    development.node.kill();
    let begin = now_ms();
    until("instants have passed in the outage", || now_ms() >= begin + 4_500);
    development.restart();
    let (api, end) = (development.api(), now_ms());
    for task in tasks {
        await_fire_after(&api, task, end);
        check_whole(&api, task, end);
    }
    for task in [&skip, &latest] {
        let missed = missed(&api, task);
        assert!(missed.len() == 1 && missed[0].2 >= 3, "{missed:?}");
        // Why it did not run is told of each of them.
        let first = escapement_domain::timestamp::Timestamp(missed[0].0);
        let told = api.get(&format!("/api/scheduled-tasks/{task}/explain?at={first}"));
        let instant = &told["instant"];
        assert_eq!(
            (&instant["status"], &instant["reason"]),
            (&json!("missed"), &json!("passed_over")),
            "{told}"
        );
    }
    assert!(missed(&api, &all).is_empty(), "what is made good was not missed");
    let late = |one: &Value| one["lateness_ms"].as_u64().is_some_and(|late| late > 1_000);
    let late = executions(&api, &all).into_iter().find(late).expect("one of the first in the outage");
    let told = api.get(&format!("/api/scheduled-tasks/{all}/explain?at={}", text(&late, "scheduled_at")));
    let instant = &told["instant"];
    assert_eq!((&instant["status"], &instant["reason"]), (&json!("late"), &json!("made_good")), "{told}");
    assert_eq!(instant["execution_id"], late["id"], "{told}");
}

/// A thousand a second: what is made good does not stampede.
#[test]
fn what_a_herd_missed_is_made_good_in_a_row() {
    const HERD: usize = 2_500;
    let mut development = Development::start();
    let api = development.api();
    let at = now_ms() / 1_000 * 1_000 + 6_000;
    let once = json!({ "type": "once", "at": escapement_domain::timestamp::Timestamp(at).to_string() });
    let misfire = json!({ "misfire": { "policy": "run_latest", "grace": "1s", "window": "1h" } });
    let herd: Vec<Value> =
        (0..HERD).map(|number| with(noop(&format!("{number}"), &once), misfire.clone())).collect();
    assert_eq!(api.post("/api/scheduled-tasks/bulk", &json!(herd)).expect(200)["created"], json!(HERD));
    assert!(now_ms() < at, "the herd is there before it is due");
    development.node.kill();
    until("its instant and its grace have passed", || now_ms() > at + 1_500);
    development.restart();
    let api = development.api();
    until("all of it ran", || api.get("/api/executions/status")["counts"]["succeeded"] == json!(HERD));
    let mut fired: Vec<i64> = crate::harness::definitions::all_executions(&api)
        .iter()
        .map(|execution| millis(&execution["fired_at"]))
        .collect();
    fired.sort_unstable();
    assert_eq!(fired.len(), HERD, "each once");
    let most =
        fired.iter().map(|from| fired.iter().filter(|at| (*from..from + 1_000).contains(*at)).count()).max();
    assert!(most <= Some(1_300), "{most:?} in one second");
}

/// A jitter is what task and instant make of it, whoever leads and whenever the node was started.
#[test]
fn a_jitter_delays_each_fire_by_what_task_and_instant_choose() {
    let mut development = Development::start();
    let jitter = escapement_domain::timestamp::Span::seconds(2);
    let slow = json!({ "type": "interval", "every": "2s", "anchor": "2026-01-01T00:00:00Z" });
    let create = |number: i32| {
        let fields = json!({ "jitter": "2s", "overlap": "allow" });
        development.api().create_id(&with(noop(&format!("{number}"), &slow), fields))
    };
    let tasks: Vec<String> = (0..4).map(create).collect();
    tasks.iter().for_each(|task| drop(await_count(&development.api(), task, "succeeded", 1)));
    development.node.kill();
    development.restart();
    let api = development.api();
    let restarted = instant_in(0);
    let mut delays = Vec::new();
    for task in &tasks {
        until("it fired after the restart", || {
            executions(&api, task).iter().filter(|one| text(one, "scheduled_at") > restarted).count() >= 2
        });
        for execution in executions(&api, task) {
            let instant = escapement_domain::timestamp::Timestamp(millis(&execution["scheduled_at"]));
            let chosen =
                escapement_domain::schedule::jitter_of(task.parse().expect("an id"), instant, jitter);
            let delay = millis(&execution["fired_at"]) - instant.0;
            let chosen = i64::try_from(chosen.0).expect("small");
            assert!((0..=2_000).contains(&chosen) && delay >= chosen, "{delay} for {chosen}: {execution}");
            if text(&execution, "scheduled_at") > restarted {
                assert!(delay - chosen < 1_500, "{delay} for {chosen}: {execution}");
            }
            delays.push(chosen);
        }
    }
    delays.sort_unstable();
    delays.dedup();
    assert!(delays.len() > 5, "instants are spread: {delays:?}");
}

#[test]
fn a_window_bounds_what_fires_and_so_does_a_number_of_runs() {
    let development = Development::start();
    let api = development.api();
    let second = now_ms() / 1_000 * 1_000;
    let (start, end) = (second + 2_000, second + 4_000);
    let at = |ms: i64| escapement_domain::timestamp::Timestamp(ms).to_string();
    let window = json!({ "start_at": at(start), "end_at": at(end), "overlap": "allow" });
    let bounded = api.create_id(&with(noop("bounded", &beat()), window));
    let thrice = api.create_id(&with(noop("thrice", &beat()), json!({ "max_runs": 3, "overlap": "allow" })));
    for task in [&bounded, &thrice] {
        until("it is finished", || api.get(&format!("/api/scheduled-tasks/{task}"))["state"] == "finished");
    }
    // Both ends are within.
    assert_eq!(fired(&api, &bounded), [start, start + 1_000, end]);
    await_count(&api, &thrice, "succeeded", 3);
    let ran = fired(&api, &thrice);
    assert!(ran.len() == 3 && ran[2] - ran[0] == 2_000, "{ran:?}");
    let told = api.get(&format!("/api/scheduled-tasks/{thrice}/next"));
    assert_eq!(told["fires"], json!([]));
}

/// With a jitter far beyond the grace nearly every fire is later than the grace after its instant, and none is missed.
#[test]
fn what_jitter_takes_is_no_lateness() {
    let development = Development::start();
    let api = development.api();
    let tasks = ["skip", "run_latest", "run_all"].map(|policy| {
        let misfire = json!({ "policy": policy, "grace": "1s", "window": "1m" });
        let every = json!({ "type": "interval", "every": "2s", "anchor": "2026-01-01T00:00:00Z" });
        let fields = json!({ "misfire": misfire, "jitter": "6s", "overlap": "allow" });
        api.create_id(&with(noop(policy, &every), fields))
    });
    for task in &tasks {
        await_count(&api, task, "succeeded", 8);
        assert_eq!(missed(&api, task), [], "nobody was away");
        let late = |execution: &Value| millis(&execution["started_at"]) - millis(&execution["scheduled_at"]);
        let late: Vec<i64> = executions(&api, task).iter().map(late).collect();
        assert!(late.iter().any(|late| *late > 1_000), "{late:?}");
    }
}
