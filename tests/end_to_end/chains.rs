//! Chains from outside: a task runs after others, once in each run, and a run is shown, cancelled and retried as one.

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{
    await_status, call, changes_in_log, executions, manual, noop, run, script, with,
};
use crate::harness::development::Development;
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, until};

fn after(tasks: &[&str], condition: &str) -> Value {
    json!({ "type": "after", "tasks": tasks, "condition": condition })
}

/// Waits until a run has a status, and returns it.
#[track_caller]
fn await_run(api: &Api, id: &str, status: &str) -> Value {
    eventually(&format!("run {id} is {status}"), || {
        Some(api.get(&format!("/api/runs/{id}"))).filter(|run| run["status"] == status)
    })
}

/// How the steps of a run stand, by the names of their tasks.
fn steps(run: &Value) -> Vec<(String, String)> {
    let steps = run["steps"].as_array().expect("a list").iter();
    let told = |step: &Value| step["status"].as_str().unwrap_or("not reached").to_owned();
    let mut steps: Vec<_> = steps.map(|step| (text(step, "task_name"), told(step))).collect();
    steps.sort();
    steps
}

fn expected(steps: &[(&str, &str)]) -> Vec<(String, String)> {
    steps.iter().map(|(name, status)| ((*name).to_owned(), (*status).to_owned())).collect()
}

/// The execution of a step.
#[track_caller]
fn execution_of(run: &Value, name: &str) -> String {
    let mut steps = run["steps"].as_array().expect("a list").iter();
    text(steps.find(|step| step["task_name"] == name).expect("a step"), "execution_id")
}

#[test]
fn a_task_runs_after_another_with_values_of_its_result() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let build = api.create_id(&call("build", &manual(), &target.url("/ok")));
    let inputs = json!({ "inputs": { "/calls": format!("/tasks/{build}/result/body/calls"), "/how": format!("/tasks/{build}/status") } });
    let deploy = with(call("deploy", &after(&[&build], "all_succeeded"), &target.url("/deploy")), inputs);
    let deploy = api.create_id(&deploy);
    let alarm = api.create_id(&noop("alarm", &after(&[&build, &deploy], "any_failed")));

    let id = run(&api, &build);
    let ended = await_run(&api, &id, "succeeded");
    let all = [("alarm", "skipped"), ("build", "succeeded"), ("deploy", "succeeded")];
    assert_eq!(steps(&ended), expected(&all));
    let called = target.calls_to("/deploy");
    assert_eq!(called.len(), 1);
    assert_eq!(
        called[0].body.parse::<Value>().expect("JSON"),
        json!({ "calls": 1, "from": "deploy", "how": "succeeded" })
    );
    let skipped = executions(&api, &alarm).remove(0);
    assert_eq!((&skipped["trigger"], &skipped["run_id"]), (&json!("after"), &json!(id)));
    assert!(text(&skipped, "reason").contains("nothing that it waited for failed"), "{skipped}");

    let listed = items(&api.get(&format!("/api/executions/?run_id={id}")));
    assert_eq!(listed.len(), 3);
    let shown = ask(&api, &["run", "show", &id], None).expect(0).out;
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains("succeeded")).collect();
    assert!(
        lines[1].contains("build") && lines[2].contains("deploy") && lines[2].contains("build"),
        "{shown}"
    );
    let explained = api.get(&format!("/api/scheduled-tasks/{deploy}/explain"));
    assert_eq!(explained["schedule"], "after build has succeeded");
    let events = items(&api.get("/api/audit/events?limit=1000"));
    let follow = events.iter().find(|event| event["data"]["trigger"] == "after").expect("it is in the log");
    let first = events.iter().find(|event| event["data"]["trigger"] == "manual").expect("it is in the log");
    assert_eq!(
        (&follow["correlation_id"], &follow["actor"]),
        (&first["correlation_id"], &json!("scheduler"))
    );
}

#[test]
fn after_a_failure_the_alarm_and_the_cleaning_run_and_what_needs_a_success_does_not() {
    let development = Development::start();
    let api = development.api();
    let build = api.create_id(&script("build", &manual(), "exit 3"));
    for (name, condition) in [("alarm", "any_failed"), ("cleanup", "all_done"), ("deploy", "all_succeeded")] {
        api.create_id(&noop(name, &after(&[&build], condition)));
    }
    let id = run(&api, &build);
    let ended = await_run(&api, &id, "failed");
    let all = [("alarm", "succeeded"), ("build", "failed"), ("cleanup", "succeeded"), ("deploy", "skipped")];
    assert_eq!(steps(&ended), expected(&all));
}

#[test]
fn a_run_whose_middle_step_failed_goes_on_from_there() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let build = api.create_id(&call("build", &manual(), &target.url("/ok")));
    let test = api.create_id(&call("test", &after(&[&build], "all_succeeded"), &target.url("/fail/1")));
    let deploy = call("deploy", &after(&[&test], "all_succeeded"), &target.url("/deploy"));
    let source = format!("/tasks/{test}/result/body");
    let deploy = api.create_id(&with(deploy, json!({ "inputs": { "/tested": source } })));

    let id = run(&api, &build);
    let failed = await_run(&api, &id, "failed");
    assert_eq!(
        steps(&failed),
        expected(&[("build", "succeeded"), ("deploy", "skipped"), ("test", "failed")])
    );
    let reason = text(&executions(&api, &deploy)[0], "reason");
    assert_eq!(reason, format!("its condition cannot be met: {test} ended as failed"));

    ask(&api, &["run", "retry", &id], None).expect(0);
    let ended = await_run(&api, &id, "succeeded");
    assert_eq!(execution_of(&ended, "test"), execution_of(&failed, "test"), "the same execution");
    assert_ne!(execution_of(&ended, "deploy"), execution_of(&failed, "deploy"), "what was skipped runs");
    assert_eq!((target.calls_to("/ok").len(), target.calls_to("/deploy").len()), (1, 1));
    assert!(target.calls_to("/deploy")[0].body.contains(r#""tested":{"calls":2}"#));
    let again = ask(&api, &["run", "retry", &id], None).expect(1);
    assert!(again.err.contains("nothing of the run failed"), "{}", again.err);
}

#[test]
fn a_run_that_an_event_began_takes_its_values_from_it_when_it_is_retried() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let finished = json!({ "type": "event", "name": "build.finished" });
    let inputs = json!({ "inputs": { "/commit": "/event/payload/commit" } });
    let test = api.create_id(&with(call("test", &finished, &target.url("/fail/1")), inputs));
    api.create_id(&noop("report", &after(&[&test], "all_succeeded")));
    api.post("/api/events/", &json!({ "name": "build.finished", "payload": { "commit": "4f2a91c" } }))
        .expect(202);
    let failed = eventually("it failed", || {
        executions(&api, &test).into_iter().find(|execution| execution["status"] == "failed")
    });
    let id = text(&failed, "id");
    await_run(&api, &id, "failed");
    ask(&api, &["run", "retry", &id], None).expect(0);
    await_run(&api, &id, "succeeded");
    let bodies: Vec<String> = target.calls_to("/fail/1").into_iter().map(|call| call.body).collect();
    assert!(bodies.len() == 2 && bodies[1].contains("4f2a91c"), "{bodies:?}");
    assert_eq!(bodies[0], bodies[1]);
}

#[test]
fn of_one_run_the_first_dead_letter_is_retried_and_what_followed_it_is_decided_anew() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let test = api.create_id(&call("test", &manual(), &target.url("/fail/1")));
    let clean = api.create_id(&call("clean", &after(&[&test], "all_done"), &target.url("/status/500")));
    let alarm = api.create_id(&call("alarm", &after(&[&test], "any_failed"), &target.url("/status/503")));
    let id = run(&api, &test);
    await_run(&api, &id, "failed");
    until("all three failed", || {
        [&test, &clean, &alarm].iter().all(|task| executions(&api, task)[0]["status"] == "failed")
    });

    let told = ask(&api, &["execution", "retry", "--all"], None).expect(0);
    assert!(
        told.out.starts_with("1 execution gets another attempt\n2 executions cannot be retried:\n"),
        "{}",
        told.out
    );
    assert_eq!(told.out.lines().count(), 4, "{}", told.out);
    let ended = await_run(&api, &id, "failed");
    let expected = expected(&[("alarm", "skipped"), ("clean", "failed"), ("test", "succeeded")]);
    assert_eq!(steps(&ended), expected, "what follows a failure is not made for a success");
    let cleaned = executions(&api, &clean);
    assert_eq!(cleaned.len(), 2, "once more, by another execution: {cleaned:?}");
    assert_eq!((target.calls_to("/status/500").len(), target.calls_to("/status/503").len()), (2, 1));
}

#[test]
fn a_cancelled_run_stops_what_is_open_and_goes_no_further() {
    let development = Development::start();
    let api = development.api();
    let build = api.create_id(&noop("build", &manual()));
    let long = api.create_id(&script("long", &after(&[&build], "all_done"), "exec sleep 600"));
    let last = api.create_id(&noop("last", &after(&[&long], "all_done")));
    let id = run(&api, &build);
    until("the second step runs", || {
        executions(&api, &long).first().is_some_and(|execution| execution["status"] == "running")
    });
    ask(&api, &["run", "cancel", &id], None).expect(0);
    let ended = await_run(&api, &id, "cancelled");
    assert_eq!(
        steps(&ended),
        expected(&[("build", "succeeded"), ("last", "not reached"), ("long", "cancelled")])
    );
    assert!(executions(&api, &last).is_empty());
    assert_eq!(api.post(&format!("/api/runs/{id}/cancel"), &Value::Null).status, 409);
}

#[test]
fn a_cancelled_run_that_is_retried_goes_on_from_what_was_stopped() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let build = api.create_id(&call("build", &manual(), &target.url("/ok")));
    let gate = development.place().join("gate");
    let waits = format!("test -e {} || exec sleep 600", gate.display());
    let test = api.create_id(&script("test", &after(&[&build], "all_succeeded"), &waits));
    api.create_id(&noop("deploy", &after(&[&test], "all_succeeded")));
    let id = run(&api, &build);
    until("the second step runs", || {
        executions(&api, &test).first().is_some_and(|execution| execution["status"] == "running")
    });
    ask(&api, &["run", "cancel", &id], None).expect(0);
    let cancelled = await_run(&api, &id, "cancelled");
    std::fs::write(&gate, "").expect("written");
    ask(&api, &["run", "retry", &id], None).expect(0);
    let ended = await_run(&api, &id, "succeeded");
    assert_eq!(
        steps(&ended),
        expected(&[("build", "succeeded"), ("deploy", "succeeded"), ("test", "succeeded")])
    );
    assert_eq!(execution_of(&ended, "test"), execution_of(&cancelled, "test"), "the same execution");
    assert_eq!(target.calls_to("/ok").len(), 1, "what had succeeded is not made again");
}

/// Two chains that meet: what waits for both begins with the second that ends, with values of each, in a run of its own.
#[test]
fn a_task_that_follows_several_chains_runs_once_all_of_them_have_ended() {
    let (development, target) = (Development::start(), Target::start());
    let api = development.api();
    let ends: [(String, String); 2] = ["left", "right"].map(|name| {
        let first = api.create_id(&noop(name, &manual()));
        let last = api.create_id(&call(
            &format!("{name}-last"),
            &after(&[&first], "all_succeeded"),
            &target.url("/ok"),
        ));
        (first, last)
    });
    let inputs: serde_json::Map<String, Value> = ends
        .iter()
        .zip(["/left", "/right"])
        .map(|((_, last), to)| (to.to_owned(), json!(format!("/tasks/{last}/status"))))
        .collect();
    let waiting = after(&[&ends[0].1, &ends[1].1], "all_succeeded");
    let join = with(call("join", &waiting, &target.url("/join")), json!({ "inputs": inputs }));
    let join = api.create_id(&join);
    let left = run(&api, &ends[0].0);
    await_run(&api, &left, "succeeded");
    assert!(executions(&api, &join).is_empty(), "it waits for the other one");
    let right = run(&api, &ends[1].0);
    await_run(&api, &right, "succeeded");
    let joined = eventually("it ran", || {
        executions(&api, &join).into_iter().find(|execution| execution["status"] == "succeeded")
    });
    assert!(![&left, &right].contains(&&text(&joined, "run_id")), "a run of its own: {joined}");
    let called = target.calls_to("/join");
    assert_eq!(called.len(), 1);
    let body: Value = called[0].body.parse().expect("JSON");
    assert_eq!((&body["left"], &body["right"]), (&json!("succeeded"), &json!("succeeded")), "{body}");
    // Each has to end again before it runs again.
    await_run(&api, &run(&api, &ends[0].0), "succeeded");
    assert_eq!(executions(&api, &join).len(), 1);
}

#[test]
fn tasks_that_would_wait_for_each_other_are_refused() {
    let development = Development::start();
    let api = development.api();
    let first = api.create_id(&noop("first", &manual()));
    let second = api.create_id(&noop("second", &after(&[&first], "all_succeeded")));
    let path = format!("/api/scheduled-tasks/{first}");
    let cycle = noop("first", &after(&[&second], "all_succeeded")).to_string();
    let refused = api.send("PUT", &path, &[], Some(&cycle)).expect(422);
    assert!(text(&refused, "detail").contains(&format!("{first} → {second} → {first}")), "{refused}");
    let kept = api.send("DELETE", &path, &[], None).expect(409);
    assert!(text(&kept, "detail").contains(&second), "{kept}");
}

/// A task after itself, two and three in a ring, by each of the conditions that could close it.
#[test]
fn tasks_that_would_stand_in_a_ring_are_refused_with_the_way_around_and_nothing_is_written() {
    let development = Development::start();
    let api = development.api();
    let first = api.create_id(&noop("first", &manual()));
    let second = api.create_id(&noop("second", &after(&[&first], "any_failed")));
    let third = api.create_id(&noop("third", &after(&[&second], "all_done")));
    let place = |task: &str| format!("/api/scheduled-tasks/{task}");
    let tasks = || [&first, &second, &third].map(|task| api.get(&place(task)));
    let (known, before) = (tasks(), changes_in_log(&api));
    for condition in ["all_succeeded", "all_done", "any_failed"] {
        for (task, awaited, way) in [
            (&first, vec![&*first], vec![&*first, &first]),
            (&first, vec![&*second], vec![&*first, &second, &first]),
            (&first, vec![&*third], vec![&*first, &second, &third, &first]),
            (&second, vec![&*first, &third], vec![&*second, &third, &second]),
            (&third, vec![&*first, &second, &third], vec![&*third, &third]),
        ] {
            let body = noop("ring", &after(&awaited, condition)).to_string();
            let refused = api.send("PUT", &place(task), &[], Some(&body)).expect(422);
            let detail = text(&refused, "detail");
            assert!(detail.ends_with(&format!(": {}", way.join(" → "))), "{way:?}: {refused}");
        }
        // Its identifier is the cluster's to choose: one that is sent along names no task yet.
        let own = "0195a0c0-0000-7000-8000-000000000001";
        let itself = with(noop("itself", &after(&[own], condition)), json!({ "id": own }));
        let refused = api.post("/api/scheduled-tasks/", &itself).expect(422);
        assert!(text(&refused, "detail").contains(own), "{refused}");
    }
    assert_eq!((tasks(), changes_in_log(&api)), (known, before), "nothing was written");
    let ended = await_run(&api, &run(&api, &first), "succeeded");
    let all = [("first", "succeeded"), ("second", "skipped"), ("third", "succeeded")];
    assert_eq!(steps(&ended), expected(&all), "the chain is as it was");
}

#[test]
fn a_chain_that_cannot_be_is_refused_at_the_field_that_names_the_task() {
    let development = Development::start();
    let api = development.api();
    let first = api.create_id(&noop("first", &manual()));
    let second = api.create_id(&noop("second", &after(&[&first], "all_done")));
    let pointers = |refused: &Value| -> Vec<String> {
        let faults = refused["errors"].as_array().cloned().unwrap_or_default();
        faults.iter().map(|fault| text(fault, "pointer")).collect()
    };
    let gone = "0195a0c0-0000-7000-8000-000000000001";
    let lost = noop("lost", &after(&[&first, gone], "all_done"));
    let refused = api.post("/api/scheduled-tasks/", &lost).expect(422);
    assert_eq!(pointers(&refused), ["/trigger/tasks/1"], "{refused}");
    let ring = noop("first", &after(&[&second], "all_done")).to_string();
    let refused = api.send("PUT", &format!("/api/scheduled-tasks/{first}"), &[], Some(&ring)).expect(422);
    assert_eq!(pointers(&refused), ["/trigger/tasks/0"], "{refused}");
}

/// Two ways and a shorter one to the same task are no ring; one from its end to its beginning is.
#[test]
fn a_step_to_which_several_ways_lead_runs_once_and_closes_no_ring() {
    let development = Development::start();
    let api = development.api();
    let first = api.create_id(&noop("first", &manual()));
    let left = api.create_id(&noop("left", &after(&[&first], "all_succeeded")));
    let right = api.create_id(&noop("right", &after(&[&first], "all_done")));
    let last = api.create_id(&noop("last", &after(&[&left, &right], "all_succeeded")));
    let place = |task: &str| format!("/api/scheduled-tasks/{task}");
    let shorter = noop("last", &after(&[&right, &first, &left], "all_done")).to_string();
    assert_eq!(api.send("PUT", &place(&last), &[], Some(&shorter)).expect(200)["version"], 2);
    let ring = noop("first", &after(&[&last], "any_failed")).to_string();
    let refused = text(&api.send("PUT", &place(&first), &[], Some(&ring)).expect(422), "detail");
    assert!(refused.contains(&format!(": {first} → ")), "{refused}");
    assert!(refused.ends_with(&format!(" → {last} → {first}")), "{refused}");
    let ended = await_run(&api, &run(&api, &first), "succeeded");
    let all = ["first", "last", "left", "right"].map(|name| (name, "succeeded"));
    assert_eq!(steps(&ended), expected(&all));
    let ran = executions(&api, &last);
    assert_eq!((ran.len(), &ran[0]["trigger"]), (1, &json!("after")), "{ran:?}");
}

/// Twenty runs of four steps, two of them side by side; the leader dies in the middle of them.
#[test]
fn the_leader_dies_in_mid_chain_and_each_step_runs_once() {
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    let api = cluster.api(cluster.follower());
    let step = |name: &str, trigger: &Value| {
        let task = with(call(name, trigger, &target.url("/slow/100")), json!({ "overlap": "allow" }));
        api.create_id(&task)
    };
    let first = step("first", &manual());
    let left = step("left", &after(&[&first], "all_succeeded"));
    let right = step("right", &after(&[&first], "all_succeeded"));
    let last = step("last", &after(&[&left, &right], "all_succeeded"));
    let runs: Vec<String> = (0..20).map(|_| run(&api, &first)).collect();
    until("some have come to the second step", || !executions(&api, &left).is_empty());
    let leader = cluster.leader();
    cluster.kill(leader);
    let survivor = cluster.api(cluster.running()[0]);
    for id in &runs {
        await_run(&survivor, id, "succeeded");
        await_status(&survivor, id, "succeeded");
    }
    for task in [&first, &left, &right, &last] {
        let ran = executions(&survivor, task);
        assert_eq!(ran.len(), runs.len(), "each step once in each run");
        let mut of: Vec<String> = ran.iter().map(|execution| text(execution, "run_id")).collect();
        of.sort();
        let mut all = runs.clone();
        all.sort();
        assert_eq!(of, all);
    }
}
