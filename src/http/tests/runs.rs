//! Runs of chains: told with their steps, cancelled and retried as wholes.

use actix_web::http::Method;
use escapement_domain::command::Programs;
use escapement_domain::identifier::ExecutionId;
use serde_json::{Value, json};

use super::{Api, Ask, items, manual, text, with};
use crate::security::Role;

/// A task that runs after others.
fn after(name: &str, tasks: &[&Value], condition: &str) -> Value {
    let tasks: Vec<String> = tasks.iter().map(|task| text(task, "id")).collect();
    with(manual(name), json!({ "trigger": { "type": "after", "tasks": tasks, "condition": condition } }))
}

/// `build`, after which `test` runs, after which `deploy` runs, and `alarm` if it fails.
async fn chain(api: &Api) -> [Value; 4] {
    api.node.worker(Programs::Any);
    let build = api.create(manual("build")).await;
    let test = api.create(after("test", &[&build], "all_succeeded")).await;
    let deploy = api.create(after("deploy", &[&test], "all_succeeded")).await;
    let alarm = api.create(after("alarm", &[&test], "any_failed")).await;
    [build, test, deploy, alarm]
}

async fn begin(api: &Api, task: &Value) -> String {
    let path = format!("/api/scheduled-tasks/{}/run", text(task, "id"));
    text(&api.ask(Ask::of(Method::POST, &path)).await.expect(202), "id")
}

async fn run(api: &Api, id: &str) -> Value {
    api.get(&format!("/api/runs/{id}")).await.expect(200)
}

async fn post(api: &Api, id: &str, what: &str) -> super::Reply {
    api.ask(Ask::of(Method::POST, &format!("/api/runs/{id}/{what}"))).await
}

/// The execution of a step that was reached.
fn execution(run: &Value, step: usize) -> ExecutionId {
    text(&run["steps"][step], "execution_id").parse().expect("a UUID")
}

fn told(run: &Value) -> Vec<(String, Value)> {
    let steps = run["steps"].as_array().expect("a list").iter();
    steps.map(|step| (text(step, "task_name"), step["status"].clone())).collect()
}

fn expected(steps: [(&str, Option<&str>); 4]) -> Vec<(String, Value)> {
    steps.into_iter().map(|(name, status)| (name.to_owned(), json!(status))).collect()
}

#[actix_web::test]
async fn a_run_is_told_with_its_steps_in_order_and_those_not_reached() {
    let api = Api::start();
    let [build, test, deploy, _] = chain(&api).await;
    let id = begin(&api, &build).await;
    api.node.succeed(id.parse().expect("a UUID"));
    let now = run(&api, &id).await;
    assert_eq!((&now["id"], &now["task_id"], &now["status"]), (&json!(id), &build["id"], &json!("running")));
    let mut steps = expected([
        ("build", Some("succeeded")),
        ("test", Some("running")),
        ("deploy", None),
        ("alarm", None),
    ]);
    assert_eq!(told(&now)[..2], steps[..2]);
    steps.sort_by_key(|(name, _)| name.clone());
    let mut found = told(&now);
    found.sort_by_key(|(name, _)| name.clone());
    assert_eq!(found, steps);
    assert_eq!(now["steps"][1]["after"], json!([build["id"]]));
    assert_eq!((&now["finished_at"], &now["steps"][2]["execution_id"]), (&Value::Null, &Value::Null));

    let second = api.get(&format!("/api/executions/{}", execution(&now, 1))).await.expect(200);
    assert_eq!((&second["run_id"], &second["trigger"]), (&json!(id), &json!("after")));
    let first = api.get(&format!("/api/executions/{id}")).await.expect(200);
    assert_eq!(first["run_id"], json!(id));
    assert_eq!(second["correlation_id"], first["correlation_id"]);
    let listed = api.get(&format!("/api/executions/?run_id={id}")).await.expect(200);
    let ids: Vec<&Value> = items(&listed).iter().map(|item| &item["task_id"]).collect();
    assert_eq!(ids.len(), 2, "{listed}");
    assert!(ids.contains(&&test["id"]) && ids.contains(&&build["id"]));

    let explained =
        api.get(&format!("/api/scheduled-tasks/{}/explain", text(&deploy, "id"))).await.expect(200);
    assert_eq!(explained["schedule"], "after test has succeeded");
    assert_eq!(explained["waits_for"][0]["reason"], "after", "{explained}");
}

#[actix_web::test]
async fn a_run_goes_on_from_its_failed_step() {
    let api = Api::start();
    let [build, ..] = chain(&api).await;
    let id = begin(&api, &build).await;
    api.node.succeed(id.parse().expect("a UUID"));
    let second = execution(&run(&api, &id).await, 1);
    api.node.fail(second);
    let failed = run(&api, &id).await;
    let step = |run: &Value, name: &str| {
        let mut steps = run["steps"].as_array().expect("a list").iter();
        steps.find(|step| step["task_name"] == name).expect("a step").clone()
    };
    let reason = text(&step(&failed, "deploy"), "reason");
    assert!(reason.starts_with("its condition cannot be met:") && reason.ends_with("failed"), "{reason}");
    assert_eq!(post(&api, &id, "retry").await.expect(409)["code"], "run_open");
    let alarm: ExecutionId = text(&step(&failed, "alarm"), "execution_id").parse().expect("a UUID");
    api.node.succeed(alarm);
    let ended = run(&api, &id).await;
    assert_eq!(ended["status"], "failed");
    assert_ne!(ended["finished_at"], Value::Null);
    assert_eq!(post(&api, &id, "cancel").await.expect(409)["code"], "run_ended");

    let reply = post(&api, &id, "retry").await;
    assert_eq!(reply.expect(202)["status"], "running");
    assert_eq!(reply.header("location"), Some(format!("/api/runs/{id}").as_str()));
    api.node.succeed(second);
    let third = step(&run(&api, &id).await, "deploy");
    assert_eq!(third["status"], "running", "what was skipped is decided anew");
    api.node.succeed(text(&third, "execution_id").parse().expect("a UUID"));
    let ended = run(&api, &id).await;
    assert_eq!(ended["status"], "succeeded");
    assert_eq!(text(&step(&ended, "alarm"), "execution_id"), alarm.to_string(), "what succeeded stays");
    assert_eq!(post(&api, &id, "retry").await.expect(409)["code"], "nothing_to_retry");
}

#[actix_web::test]
async fn an_execution_that_is_retried_takes_its_run_up() {
    let api = Api::start();
    let [build, ..] = chain(&api).await;
    let id = begin(&api, &build).await;
    api.node.fail(id.parse().expect("a UUID"));
    assert_eq!(run(&api, &id).await["status"], "failed");
    api.ask(Ask::of(Method::POST, &format!("/api/executions/{id}/retry"))).await.expect(202);
    api.node.succeed(id.parse().expect("a UUID"));
    let now = run(&api, &id).await;
    assert_eq!((&now["status"], &now["steps"][1]["status"]), (&json!("running"), &json!("running")));
}

#[actix_web::test]
async fn a_cancelled_run_is_told_as_such_and_followed_by_nothing() {
    let api = Api::start();
    let [build, ..] = chain(&api).await;
    let id = begin(&api, &build).await;
    assert_eq!(post(&api, &id, "cancel").await.expect(202)["status"], "running");
    api.node.succeed(id.parse().expect("a UUID"));
    let ended = run(&api, &id).await;
    assert_eq!((&ended["status"], &ended["steps"][1]["status"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(post(&api, &id, "retry").await.expect(202)["status"], "running");
}

#[actix_web::test]
async fn a_run_is_seen_and_changed_only_by_those_who_may() {
    let api = Api::start();
    let [build, ..] = chain(&api).await;
    let id = begin(&api, &build).await;
    let path = format!("/api/runs/{id}/cancel");
    let viewer = api.token("vic", "acme", &[Role::Viewer]);
    api.send(Ask::of(Method::GET, &format!("/api/runs/{id}")).token(&viewer)).await.expect(200);
    api.send(Ask::of(Method::POST, &path).token(&viewer)).await.expect(403);
    let stranger = api.token("sue", "other", &[Role::Admin]);
    api.send(Ask::of(Method::POST, &path).token(&stranger)).await.expect(404);
    api.node.succeed(id.parse().expect("a UUID"));
    let step = execution(&run(&api, &id).await, 1);
    api.get(&format!("/api/runs/{step}")).await.expect(404);
}

#[actix_web::test]
async fn chains_that_cannot_be_are_refused_with_the_tasks() {
    let api = Api::start();
    let [build, test, ..] = chain(&api).await;
    let path = format!("/api/scheduled-tasks/{}", text(&build, "id"));
    let cycle =
        api.ask(Ask::of(Method::PUT, &path).json(&after("build", &[&test], "all_done"))).await.expect(422);
    assert_eq!(
        (&cycle["code"], &cycle["errors"][0]["pointer"]),
        (&json!("invalid"), &json!("/trigger/tasks/0"))
    );
    let way = [&build, &test, &build].map(|task| text(task, "id")).join(" → ");
    assert!(text(&cycle, "detail").contains(&way), "{cycle}");
    let gone = json!({ "id": "0195a0c0-0000-7000-8000-000000000001" });
    let missing = api.post("/api/scheduled-tasks/", &after("lost", &[&gone], "all_done")).await.expect(422);
    assert!(text(&missing, "detail").contains(&text(&gone, "id")), "{missing}");
    assert_eq!(missing["errors"][0]["pointer"], "/trigger/tasks/0");
    let awaited = api.ask(Ask::of(Method::DELETE, &path)).await.expect(409);
    assert_eq!(awaited["code"], "task_awaited");
    assert!(text(&awaited, "detail").contains(&text(&test, "id")), "{awaited}");
}
