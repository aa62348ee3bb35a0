//! What a client that calls without HTTP may rely on.

use escapement_actors::intent::{Draft, Intent};
use escapement_domain::answer::Rejection;
use escapement_domain::command::{Idempotency, Programs};
use escapement_domain::execution::state::Status;
use escapement_domain::identifier::TaskId;
use escapement_domain::task::action::{Action, Operation};
use escapement_domain::task::definition::Definition;
use escapement_domain::task::trigger::{IfPast, Trigger};
use escapement_domain::timestamp::Timestamp;

use super::testing::{TestNode, Way, caller};
use super::validation::Checked;
use super::*;
use crate::json;
use crate::security::Role;

/// A task that does nothing, by hand only.
fn noop(service: &Service) -> Checked {
    let text = r#"{"name":"n","trigger":{"type":"manual"},"action":{"type":"builtin","operation":"noop"}}"#;
    let node = json::parse(text.as_bytes()).expect("JSON");
    let ada = caller("ada", "acme", &[Role::Editor]);
    let checked = service.check_new(&ada, node, "").expect("sound");
    let Definition { action: Action::Builtin { operation: Operation::Noop, .. }, .. } = checked.definition
    else {
        panic!("a no-op")
    };
    checked
}

#[actix_web::test]
async fn a_client_without_http_creates_runs_and_reads() {
    let node = TestNode::start();
    node.worker(Programs::Any);
    let ada = caller("ada", "acme", &[Role::Editor]);
    let task = node.service.create_task(&ada, noop(&node.service)).await.expect("created");
    let run = node.service.run_task(&ada, task.id).await.expect("started");
    node.succeed(run.id);
    let ended = node.service.execution(&ada, run.id).await.expect("there");
    assert_eq!(ended.status, Status::Succeeded);
    let seen = node.service.task(&ada, task.id).await.expect("there");
    assert_eq!(seen.last_execution.map(|last| last.id), Some(run.id));
}

#[actix_web::test]
async fn a_read_waits_for_a_leader_for_a_while() {
    let node = std::rc::Rc::new(TestNode::start());
    let ada = caller("ada", "acme", &[Role::Editor]);
    let task = node.service.create_task(&ada, noop(&node.service)).await.expect("created");
    node.way_is(Way::Closed);
    let (later, service) = (node.clone(), node.service.clone());
    let elected = actix_web::rt::spawn(async move {
        tokio::task::yield_now().await;
        later.way_is(Way::Open);
    });
    let seen = service.task(&ada, task.id).await.expect("a leader was elected in time");
    elected.await.expect("elected");
    assert_eq!(seen.id, task.id);
    node.way_is(Way::Closed);
    let refused = node.service.task(&ada, task.id).await.expect_err("nobody leads");
    assert!(matches!(refused, ServiceError::NoLeader), "{refused}");
}

#[actix_web::test]
async fn an_execution_of_a_deleted_task_takes_an_operator() {
    let node = TestNode::start();
    node.worker(Programs::Any);
    let ada = caller("ada", "acme", &[Role::Editor]);
    let task = node.service.create_task(&ada, noop(&node.service)).await.expect("created");
    let run = node.service.run_task(&ada, task.id).await.expect("started");
    node.service.delete_task(&ada, task.id, None).await.expect("deleted");
    let refused = node.service.cancel_execution(&ada, run.id).await.expect_err("refused");
    assert!(matches!(refused, ServiceError::Denied(_)), "{refused}");
    let op = caller("op", "acme", &[Role::Operator]);
    let cancelling = node.service.cancel_execution(&op, run.id).await.expect("told to stop");
    assert_eq!(cancelling.status, Status::Running);
}

#[actix_web::test]
async fn a_delete_that_is_repeated_under_its_key_was_done() {
    let node = TestNode::start();
    let mut ada = caller("ada", "acme", &[Role::Editor]);
    let task = node.service.create_task(&ada, noop(&node.service)).await.expect("created");
    let digest = fingerprint("ada", &["DELETE", "the task"]);
    ada.idempotency = Some(Idempotency { key: "k".into(), digest });
    node.service.delete_task(&ada, task.id, None).await.expect("deleted");
    node.service.delete_task(&ada, task.id, None).await.expect("deleted before");
    ada.idempotency = None;
    let refused = node.service.delete_task(&ada, task.id, None).await.expect_err("gone");
    assert!(matches!(refused, ServiceError::NoSuchTask), "{refused}");
}

/// One of the tasks has no instant to come by the leader's clock, which only the leader sees.
#[actix_web::test]
async fn a_bulk_that_is_repeated_under_its_key_keeps_its_answers_though_the_leader_refuses_a_task() {
    let node = TestNode::start();
    let mut ada = caller("ada", "acme", &[Role::Editor]);
    let digest = fingerprint("ada", &["POST", "the bulk"]);
    ada.idempotency = Some(Idempotency { key: "k".into(), digest });
    let bulk = || {
        let mut tasks: Vec<Checked> = (0..3).map(|_| noop(&node.service)).collect();
        tasks[1].definition.trigger = Trigger::Once { at: Timestamp(0), if_past: IfPast::Refuse };
        tasks.into_iter().map(Ok).collect()
    };
    let names = |outcomes: Vec<BulkOutcome>| -> Vec<Option<TaskId>> {
        let name = |outcome| match outcome {
            BulkOutcome::Created(task) => Some(task),
            BulkOutcome::Invalid(_) | BulkOutcome::Failed(_) => None,
        };
        outcomes.into_iter().map(name).collect()
    };
    let first = names(node.service.create_tasks(&ada, bulk()).await.expect("tried"));
    assert_eq!(first.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    let again = names(node.service.create_tasks(&ada, bulk()).await.expect("tried"));
    assert_eq!(again, first);
    // Its first task has passed, too: what is left is not what was created, and nobody is told of another's task.
    let mut fewer: Vec<BulkItem> = bulk();
    let Ok(task) = &mut fewer[0] else { panic!("it is sound") };
    task.definition.trigger = Trigger::Once { at: Timestamp(0), if_past: IfPast::Refuse };
    let count = || node.machine.read(|replica| replica.tasks().len());
    let before = count();
    let refused = node.service.create_tasks(&ada, fewer).await.expect_err("it is not what it was");
    assert!(matches!(refused, ServiceError::Rejected(Rejection::KeyReused)), "{refused}");
    assert_eq!(count(), before, "nothing is created twice");
}

/// The first try was held up between its parts and its commit; its repetition was refused meanwhile.
#[actix_web::test]
async fn a_bulk_that_was_refused_under_its_key_is_not_created_when_an_earlier_try_of_it_comes() {
    let node = TestNode::start();
    let mut ada = caller("ada", "acme", &[Role::Editor]);
    let digest = fingerprint("ada", &["POST", "the bulk"]);
    let bulk = node.service.fresh_command();
    let tasks = vec![Draft { task: TaskId(7), definition: noop(&node.service).definition, paused: false }];
    let staged = node.service.carry_out(&ada, Intent::StageTasks { bulk, part: 0, tasks }).await;
    assert!(staged.is_ok());
    ada.idempotency = Some(Idempotency { key: "k".into(), digest });
    let passed = || {
        let mut tasks = vec![noop(&node.service), noop(&node.service)];
        tasks[1].definition.trigger = Trigger::Once { at: Timestamp(0), if_past: IfPast::Refuse };
        tasks
    };
    for _ in 0..2 {
        let refused = node.service.create_tasks_atomically(&ada, passed()).await.expect_err("it has passed");
        let ServiceError::Invalid { faults } = refused else { panic!("{refused}") };
        assert!(faults[0].pointer.starts_with("/1/"), "{faults:?}");
    }
    let late = node.service.carry_out(&ada, Intent::CommitStaged { bulk, parts: 1 }).await;
    assert!(matches!(late, Err(ServiceError::Invalid { .. })));
    assert_eq!(node.machine.read(|replica| replica.tasks().len()), 0);
}

#[actix_web::test]
async fn a_create_that_was_refused_under_its_key_is_refused_to_whoever_comes_later() {
    let node = TestNode::start();
    let mut ada = caller("ada", "acme", &[Role::Editor]);
    let digest = fingerprint("ada", &["POST", "the task"]);
    ada.idempotency = Some(Idempotency { key: "k".into(), digest });
    let mut passed = noop(&node.service);
    passed.definition.trigger = Trigger::Once { at: Timestamp(0), if_past: IfPast::Refuse };
    let refused = node.service.create_task(&ada, passed).await.expect_err("it has passed");
    assert!(matches!(refused, ServiceError::Invalid { .. }), "{refused}");
    // As it was when its time had not passed.
    let late = node.service.create_task(&ada, noop(&node.service)).await.expect_err("it was refused");
    assert!(matches!(late, ServiceError::Invalid { .. }), "{late}");
    // Mended, it is another request, and it may have the same key.
    let digest = fingerprint("ada", &["POST", "the mended task"]);
    ada.idempotency = Some(Idempotency { key: "k".into(), digest });
    node.service.create_task(&ada, noop(&node.service)).await.expect("created");
}
