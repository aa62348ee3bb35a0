//! What clients ask of executions, and the event log.

use actix_web::http::Method;
use escapement_domain::command::Programs;
use escapement_domain::identifier::ExecutionId;
use escapement_domain::replica::Replica;
use escapement_domain::timestamp::Span;
use serde_json::{Value, json};

use super::{Api, Ask, interval, items, manual, text, with};
use crate::security::Role;
use crate::service::testing::NOW;

async fn run(api: &Api, task: &Value) -> Value {
    let path = format!("/api/scheduled-tasks/{}/run", text(task, "id"));
    api.ask(Ask::of(Method::POST, &path)).await.expect(202)
}

fn id_of(execution: &Value) -> ExecutionId {
    text(execution, "id").parse().expect("a UUID")
}

async fn post(api: &Api, execution: &Value, what: &str) -> super::Reply {
    api.ask(Ask::of(Method::POST, &format!("/api/executions/{}/{what}", text(execution, "id")))).await
}

async fn show(api: &Api, execution: &Value) -> Value {
    api.get(&format!("/api/executions/{}", text(execution, "id"))).await.expect(200)
}

#[actix_web::test]
async fn an_execution_is_answered_in_the_contracts_shape() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(interval("one", "1m")).await;
    api.node.advance(60_250);
    api.node.fire(text(&task, "id").parse().expect("a UUID"), Some(NOW.plus(Span::minutes(2))));
    let list = api.get(&format!("/api/executions/?task_id={}", text(&task, "id"))).await.expect(200);
    let running = items(&list)[0].clone();
    api.node.advance(1_000);
    api.node.succeed(id_of(&running));
    let done = show(&api, &running).await;
    let at = |millis: i64| json!(escapement_domain::timestamp::Timestamp(NOW.0 + millis).to_string());
    let expected = json!({
        "id": running["id"], "task_id": task["id"], "run_id": running["id"], "task_version": 1, "tenant": "acme", "trigger": "schedule",
        "status": "succeeded", "scheduled_at": at(60_000), "fired_at": at(60_250), "started_at": at(60_250),
        "finished_at": at(61_250), "lateness_ms": 250, "clock_ahead_ms": null, "attempt": 1,
        "attempts": [{ "number": 1, "worker": "node-1", "started_at": at(61_250), "finished_at": at(61_250),
                       "outcome": "succeeded", "failure": null, "error": null,
                       "cpu_seconds": null, "peak_memory_bytes": null }],
        "progress": null, "result": { "passed": 7 }, "error": null, "retry_items": null, "reason": null,
        "priority": null, "waiting_for": null, "log_index": done["log_index"], "correlation_id": done["correlation_id"]
    });
    assert_eq!(done, expected);
    let task = api.get(&format!("/api/scheduled-tasks/{}", text(&task, "id"))).await.expect(200);
    let last = json!({ "id": done["id"], "status": "succeeded", "scheduled_at": at(60_000), "finished_at": at(61_250) });
    assert_eq!(task["last_execution"], last);
}

#[actix_web::test]
async fn a_run_by_hand_obeys_the_overlap_policy() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(manual("one")).await;
    let path = format!("/api/scheduled-tasks/{}/run", text(&task, "id"));
    let reply = api.post(&path, &Value::Null).await;
    let first = reply.expect(202);
    assert_eq!(reply.header("location"), Some(format!("/api/executions/{}", text(&first, "id")).as_str()));
    assert_eq!((&first["status"], &first["trigger"]), (&json!("running"), &json!("manual")));
    let second = run(&api, &task).await;
    assert_eq!(second["status"], json!("skipped"));
    assert!(text(&second, "reason").contains("overlap: skip"), "{second}");
}

#[actix_web::test]
async fn executions_are_listed_newest_first_and_filtered() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(with(manual("one"), json!({ "overlap": "allow" }))).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        api.node.advance(1_000);
        runs.push(run(&api, &task).await);
    }
    api.node.fail(id_of(&runs[1]));
    let ids = async |query: &str| {
        let page = api.get(&format!("/api/executions?{query}")).await.expect(200);
        let ids: Vec<String> = items(&page).iter().map(|execution| text(execution, "id")).collect();
        (ids, page["next_cursor"].as_str().map(str::to_owned))
    };
    let id = |index: usize| text(&runs[index], "id");
    let (first, cursor) = ids("limit=2").await;
    assert_eq!(first, [id(2), id(1)]);
    let (rest, _) = ids(&format!("limit=2&cursor={}", cursor.expect("more"))).await;
    assert_eq!(rest, [id(0)]);
    assert_eq!(ids("status=failed").await.0, [id(1)]);
    let from = NOW.plus(Span::seconds(3));
    assert_eq!(ids(&format!("from={from}")).await.0, [id(2)]);
    assert_eq!(ids(&format!("to={from}")).await.0, [id(1), id(0)]);
    let stranger = api.token("eve", "other", &[Role::Viewer]);
    let path = format!("/api/executions/{}", id(0));
    api.send(Ask::of(Method::GET, &path).token(&stranger)).await.problem(404, "not_found");
}

#[actix_web::test]
async fn an_execution_is_cancelled_once_and_retried_when_it_failed() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(manual("one")).await;
    let first = run(&api, &task).await;
    assert_eq!(post(&api, &first, "cancel").await.expect(202)["status"], json!("running"));
    post(&api, &first, "retry").await.problem(409, "wrong_status");
    api.node.end(id_of(&first), escapement_domain::command::AttemptOutcome::Cancelled);
    assert_eq!(show(&api, &first).await["status"], json!("cancelled"));
    post(&api, &first, "cancel").await.problem(409, "wrong_status");
    let again = post(&api, &first, "retry").await.expect(202);
    assert_eq!(
        (&again["id"], &again["status"], &again["attempt"]),
        (&first["id"], &json!("running"), &json!(2))
    );
    api.node.fail(id_of(&first));
    assert_eq!(post(&api, &first, "retry").await.expect(202)["attempt"], json!(3));
    api.node.succeed(id_of(&first));
    post(&api, &first, "retry").await.problem(409, "wrong_status");
    let unknown = json!({ "id": "0190d1c2-0000-7000-8000-000000000000" });
    post(&api, &unknown, "cancel").await.problem(404, "not_found");
    post(&api, &unknown, "retry").await.problem(404, "not_found");
}

#[actix_web::test]
async fn what_failed_for_good_is_listed_and_tried_again_by_the_same_filter() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(with(manual("one"), json!({ "overlap": "allow" }))).await;
    let other = api.create(with(manual("two"), json!({ "overlap": "allow" }))).await;
    let mut dead = Vec::new();
    for (task, good) in [(&task, false), (&other, false), (&task, true), (&task, false), (&task, false)] {
        api.node.advance(1_000);
        let execution = run(&api, task).await;
        if good {
            api.node.succeed(id_of(&execution))
        } else {
            api.node.fail(id_of(&execution))
        }
        if !good {
            dead.push(text(&execution, "id"));
        }
    }
    api.node.advance(1_000);
    let late = run(&api, &task).await;
    api.node.end(id_of(&late), escapement_domain::command::AttemptOutcome::TimedOut);
    dead.push(text(&late, "id"));
    dead.reverse();
    let page = async |query: &str| {
        let page = api.get(&format!("/api/dead-letters/?{query}")).await.expect(200);
        let ids: Vec<String> = items(&page).iter().map(|execution| text(execution, "id")).collect();
        (ids, page["next_cursor"].as_str().map(str::to_owned), page)
    };
    let (all, _, list) = page("").await;
    assert_eq!(all, dead);
    assert!(text(&items(&list)[0], "reason").contains("retry.max_attempts"), "{list}");
    let (first, cursor, _) = page("limit=3").await;
    let (rest, end, _) = page(&format!("limit=3&cursor={}", cursor.expect("more"))).await;
    assert_eq!(([first, rest].concat(), end), (dead.clone(), None), "across statuses, in order");
    let of_task = format!("task_id={}", text(&task, "id"));
    assert_eq!(page(&of_task).await.0.len(), 4);
    let retry =
        async |query: &str| api.ask(Ask::of(Method::POST, &format!("/api/dead-letters/retry?{query}"))).await;
    let told = retry(&format!("{of_task}&limit=3")).await.expect(200);
    assert_eq!(told["retried"], json!([dead[0], dead[1], dead[2]]));
    assert!(told["refused"] == json!([]) && told["next_cursor"].is_string(), "{told}");
    assert_eq!(page("").await.0, [dead[3].clone(), dead[4].clone()], "they are none any more");
    api.ask(Ask::of(Method::DELETE, &format!("/api/scheduled-tasks/{}", text(&other, "id"))))
        .await
        .expect(204);
    let told = retry("").await.expect(200);
    assert_eq!(told["retried"], json!([dead[4]]));
    assert_eq!(told["refused"][0]["execution_id"], json!(dead[3]), "its task is gone: {told}");
    assert_eq!(told["next_cursor"], Value::Null);
    let viewer = api.token("eve", "acme", &[Role::Viewer]);
    api.send(Ask::of(Method::POST, "/api/dead-letters/retry").token(&viewer)).await.problem(403, "forbidden");
    assert_eq!(retry("status=lost").await.expect(200)["refused"], json!([]), "none of them was lost");
    retry("status=succeeded").await.problem(400, "invalid_parameter");
}

#[actix_web::test]
async fn what_attempts_wrote_is_told_in_order() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(manual("one")).await;
    let execution = run(&api, &task).await;
    api.node.fail(id_of(&execution));
    post(&api, &execution, "retry").await.expect(202);
    api.node.outputs.lines.lock().insert(2, vec!["a", "b", "c"]);
    let lines = async |query: &str| {
        let page =
            api.get(&format!("/api/executions/{}/logs?{query}", text(&execution, "id"))).await.expect(200);
        let lines: Vec<String> = items(&page).iter().map(|line| text(line, "text")).collect();
        (lines, page["next_cursor"].as_str().map(str::to_owned))
    };
    let (all, _) = lines("").await;
    assert_eq!(all[1..], ["a", "b", "c"]);
    assert!(all[0].contains("what attempt 1 wrote is on node 1, which does not answer"), "{all:?}");
    let (first, cursor) = lines("attempt=2&limit=2").await;
    assert_eq!(first, ["a", "b"]);
    assert_eq!(
        lines(&format!("attempt=2&limit=2&cursor={}", cursor.expect("more"))).await,
        (vec!["c".into()], None)
    );
    let (start, cursor) = lines("limit=1").await;
    assert!(start[0].contains("does not answer"));
    assert_eq!(lines(&format!("limit=9&cursor={}", cursor.expect("more"))).await.0, ["a", "b", "c"]);
}

#[actix_web::test]
async fn dead_letters_that_are_retried_again_under_the_key_are_the_same_ones() {
    let api = Api::start();
    api.node.worker(Programs::Any);
    let task = api.create(with(manual("one"), json!({ "overlap": "allow" }))).await;
    let mut dead = Vec::new();
    for _ in 0..3 {
        api.node.advance(1_000);
        let execution = run(&api, &task).await;
        api.node.fail(id_of(&execution));
        dead.push(execution);
    }
    let retry = async |query: &str| {
        let path = format!("/api/dead-letters/retry?{query}");
        api.ask(Ask::of(Method::POST, &path).header("Idempotency-Key", "k")).await
    };
    let first = retry("limit=2").await.expect(200);
    assert_eq!(first["retried"], json!([dead[2]["id"], dead[1]["id"]]));
    api.node.succeed(id_of(&dead[2]));
    api.node.fail(id_of(&dead[1]));
    assert_eq!(retry("limit=2").await.expect(200), first, "the same ones, and the same place to go on");
    for (execution, attempts) in dead.iter().zip([1, 2, 2]) {
        assert_eq!(show(&api, execution).await["attempt"], attempts, "nothing was made again");
    }
    retry("limit=3").await.problem(422, "idempotency_key_reused");
}

/// Whoever lost an answer asks again under the same key, and the execution may have ended meanwhile.
#[actix_web::test]
async fn a_change_repeated_under_its_key_gets_its_first_answer_after_the_end_too() {
    let api = Api::start();
    let task = api.create(manual("one")).await;
    let waiting = run(&api, &task).await;
    let path = format!("/api/executions/{}", text(&waiting, "id"));
    let keyed = async |method: Method, path: &str, key: &str, body: Option<Value>| {
        let ask = Ask::of(method, path).header("Idempotency-Key", key);
        api.ask(match &body {
            Some(body) => ask.json(body),
            None => ask,
        })
        .await
    };
    let change = async |key: &str, priority: u8| {
        keyed(Method::PATCH, &path, key, Some(json!({ "priority": priority }))).await
    };
    let cancel_path = format!("{path}/cancel");
    let cancel = async |key: &str| keyed(Method::POST, &cancel_path, key, None).await;
    change("p", 9).await.expect(200);
    cancel("c").await.expect(202);
    assert_eq!(show(&api, &waiting).await["status"], "cancelled");
    change("p", 9).await.expect(200);
    cancel("c").await.expect(202);
    change("p", 8).await.problem(422, "idempotency_key_reused");
    change("another", 9).await.problem(409, "wrong_status");
    cancel("another").await.problem(409, "wrong_status");
}

#[actix_web::test]
async fn counts_and_workers_tell_what_runs() {
    let api = Api::start();
    api.node.worker(Programs::Listed(vec!["/usr/bin/true".into()]));
    let task = api.create(with(manual("one"), json!({ "overlap": "queue_all" }))).await;
    let running = run(&api, &task).await;
    run(&api, &task).await;
    let counts = api.get("/api/executions/status").await.expect(200);
    assert_eq!(
        (&counts["running"], &counts["queue_depth"], &counts["workers"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(counts["counts"]["succeeded"], json!(0));
    let workers = api.get("/api/workers").await.expect(200);
    let worker = &items(&workers)[0];
    assert_eq!(
        (&worker["node"], &worker["state"], &worker["slots"]),
        (&json!(1), &json!("ready"), &json!(8))
    );
    assert_eq!(worker["holds"], json!([{ "execution_id": running["id"], "task_id": task["id"] }]));
    assert_eq!(worker["offers"]["programs"], json!(["/usr/bin/true"]));
}

#[actix_web::test]
async fn a_program_that_nobody_runs_is_refused() {
    let api = Api::start();
    let process = with(manual("one"), json!({ "action": { "type": "process", "program": "/usr/bin/env" } }));
    api.create(process.clone()).await;
    api.node.worker(Programs::Listed(vec!["/usr/bin/true".into()]));
    let reply = api.post("/api/scheduled-tasks", &process).await;
    assert_eq!(reply.problem(422, "invalid"), ["/action/program"]);
    assert!(reply.text.contains("execution.process_allow"), "{}", reply.text);
}

#[actix_web::test]
async fn the_event_log_is_listed_by_tenant_task_and_sequence() {
    let api = Api::start();
    let one = api.create(manual("one")).await;
    api.create(manual("two")).await;
    let path = format!("/api/scheduled-tasks/{}/pause", text(&one, "id"));
    api.ask(Ask::of(Method::POST, &path)).await.expect(200);
    let events = async |query: &str| api.get(&format!("/api/audit/events?{query}")).await.expect(200);
    let all = events("").await;
    let sequences: Vec<u64> =
        items(&all).iter().map(|event| event["seq"].as_u64().expect("a number")).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    assert_eq!(items(&all)[1]["previous_hash"], items(&all)[0]["hash"]);
    assert_eq!((&items(&all)[0]["tenant"], &items(&all)[0]["actor"]), (&json!("acme"), &json!("ada")));
    let of_one = events(&format!("task={}", text(&one, "id"))).await;
    let kinds: Vec<String> = items(&of_one).iter().map(|event| text(event, "type")).collect();
    assert_eq!(kinds, ["TaskCreated", "TaskPaused"]);
    let created = items(&of_one)[0]["seq"].as_u64().expect("a number");
    let later = events(&format!("task={}&after={created}", text(&one, "id"))).await;
    assert_eq!(items(&later).len(), 1);
    let first = events("limit=1").await;
    let second = events(&format!("limit=1&cursor={}", text(&first, "next_cursor"))).await;
    assert_eq!(items(&second)[0]["seq"], json!(2));
    assert_eq!(items(&events("tenant=$cluster").await)[0]["type"], json!("TenantAdded"));
    api.get("/api/audit/events?tenant=nobody").await.problem(404, "not_found");
    let admin = api.token("eve", "other", &[Role::Admin]);
    let other = Ask::of(Method::GET, "/api/audit/events?tenant=acme").token(&admin);
    api.send(other).await.problem(403, "forbidden");
}

#[actix_web::test]
async fn the_event_log_is_told_as_it_is_stored_to_whoever_may_audit_it() {
    let api = Api::start();
    api.create(manual("one")).await;
    let chains = api.get("/api/audit/chains").await.expect(200);
    let names: Vec<String> = items(&chains).iter().map(|chain| text(chain, "tenant")).collect();
    assert_eq!(
        (names, &chains["all_tenants"]),
        (vec!["$cluster".to_owned(), "acme".to_owned()], &json!(true))
    );
    let events = api.get("/api/audit/events?limit=1000").await.expect(200);
    let last = items(&events).last().expect("an event").clone();
    assert_eq!((&items(&chains)[1]["seq"], &items(&chains)[1]["hash"]), (&last["seq"], &last["hash"]));
    let admin = api.token("eve", "acme", &[Role::Admin]);
    let as_admin = async |path: &str| api.send(Ask::of(Method::GET, path).token(&admin)).await;
    let own = as_admin("/api/audit/chains").await.expect(200);
    assert_eq!((items(&own).len(), &own["all_tenants"]), (1, &json!(false)));
    assert_eq!(own["state_hash"], Value::Null);
    let state = api.get("/api/audit/chains?state=true").await.expect(200)["state_hash"].clone();
    assert_eq!(state, json!(api.node.machine.read(Replica::state_hash).to_string()));
    let refused = ["chains?tenant=$cluster", "chains?state=true", "blocks?tenant=other"];
    for path in refused.map(|path| format!("/api/audit/{path}")) {
        as_admin(&path).await.problem(403, "forbidden");
    }
    api.get("/api/audit/chains?tenant=nobody").await.problem(404, "not_found");
    api.get("/api/audit/blocks?from=0").await.problem(400, "invalid_parameter");
    let operator = api.token("op", "acme", &[Role::Operator]);
    api.send(Ask::of(Method::GET, "/api/audit/blocks").token(&operator)).await.problem(403, "forbidden");
}
