//! An event meets each task that listens to it exactly once, whoever is asked again and however the work is cut.

use super::*;
use crate::command::Reopening;
use crate::execution::state::Occurrence;
use crate::limits::LISTENERS_PER_COMMAND_MAX;

/// When a build has finished of which this is true.
pub(super) fn on_finished(filter: &[(&str, &str)]) -> Trigger {
    let filter = filter.iter().map(|(pointer, value)| ((*pointer).into(), (*value).into())).collect();
    Trigger::Event { name: "build.finished".into(), filter }
}

fn listener(filter: &[(&str, &str)]) -> Definition {
    Definition { trigger: on_finished(filter), ..definition() }
}

fn event(name: &str, payload: &str) -> Request {
    Request::PublishEvent { name: name.into(), payload: Sealed::in_clear(payload.as_bytes().to_vec()) }
}

fn publish(world: &mut World, payload: &str) -> (CommandId, u32, bool) {
    match world.client(event("build.finished", payload)) {
        Ok(Accepted::Event { event, met, complete, .. }) => (event, met, complete),
        other => panic!("it is published: {other:?}"),
    }
}

/// The tasks that became executions of an event, in order.
fn fired(world: &World, event: CommandId) -> Vec<u128> {
    let of_event = |record: &Record| match &record.event {
        Event::TaskScheduled { task, occurrence: Occurrence::Event(of), .. } if *of == event => Some(task.0),
        _ => None,
    };
    world.records.iter().filter_map(of_event).collect()
}

fn crowd(world: &mut World, many: u128) {
    for first in (1..=many).step_by(500) {
        let tasks = (first..=many.min(first + 499)).map(|id| new_task(id, &listener(&[]), None)).collect();
        world.client(Request::CreateTasks(tasks)).expect("created");
    }
}

fn continue_all(world: &mut World) {
    while world.replica.left_over() {
        world.scheduler(Request::Continue).expect("never refused");
    }
}

fn through_a_snapshot(world: &mut World) {
    let mut bytes = Vec::new();
    world.replica.freeze().write_to(&mut bytes).expect("memory");
    let restored = Replica::restore(&mut bytes.as_slice()).expect("readable");
    assert_eq!(restored.state_hash(), world.replica.state_hash());
    world.replica = restored;
}

#[test]
fn an_event_fires_the_tasks_whose_filter_it_meets() {
    let mut world = World::new();
    world.create(1, &listener(&[("/branch", "\"main\"")]), None);
    world.create(2, &listener(&[("/branch", "\"main\""), ("/failed", "0")]), None);
    world.create(3, &listener(&[]), None);
    world.create(4, &definition(), Some(2_000_000));
    let (id, met, complete) = publish(&mut world, r#"{"branch":"main","failed":0.0}"#);
    assert_eq!((fired(&world, id), met, complete), (vec![1, 2, 3], 3, true));
    let (other, ..) = publish(&mut world, r#"{"branch":"next","failed":0}"#);
    assert_eq!(fired(&world, other), [3]);
    let unheard = world.client(event("build.started", "null"));
    assert!(matches!(unheard, Ok(Accepted::Event { met: 0, complete: true, .. })), "{unheard:?}");
}

#[test]
fn a_repeated_event_gets_its_first_answer() {
    let mut world = World::new();
    world.create(1, &listener(&[]), None);
    let command = world.client_command("acme", event("build.finished", "null"));
    let first = world.apply(&command);
    let again = world.apply(&command);
    assert_eq!(first, again);
    assert_eq!(world.count(|event| matches!(event, Event::TaskScheduled { .. })), 1);
    assert_eq!(world.count(|event| matches!(event, Event::EventPublished { .. })), 1);
}

#[test]
fn an_event_is_for_its_own_tenant() {
    let mut world = World::new();
    world.create(1, &listener(&[]), None);
    let command = world.client_command("zenith", event("build.finished", "null"));
    assert!(matches!(world.apply(&command).outcome, Ok(Accepted::Event { met: 0, .. })));
    assert!(world.open().is_empty());
}

#[test]
fn what_is_too_much_for_one_command_goes_on_from_a_cursor() {
    let mut world = World::new();
    let many = 2 * LISTENERS_PER_COMMAND_MAX as u128 + 1;
    crowd(&mut world, many);
    let (id, met, complete) = publish(&mut world, r#"{"n":1}"#);
    assert_eq!((met as usize, complete), (LISTENERS_PER_COMMAND_MAX, false));
    through_a_snapshot(&mut world);
    // One that is deleted before its turn is not met, one that comes to be is.
    world.client(Request::DeleteTask { task: TaskId(many), expected_version: None }).expect("deleted");
    world.client(Request::PauseTask { task: TaskId(many - 1) }).expect("paused");
    world.create(many + 7, &listener(&[("/n", "1.0")]), None);
    continue_all(&mut world);
    let expected: Vec<u128> = (1..=many - 2).chain([many + 7]).collect();
    assert_eq!(fired(&world, id), expected);
    let author = |record: &&Record| matches!(record.event, Event::TaskScheduled { .. });
    assert!(
        world
            .records
            .iter()
            .filter(author)
            .all(|record| { record.header.actor.is_empty() && &*record.header.correlation_id == "request" })
    );
}

#[test]
fn events_reach_a_task_in_the_order_in_which_they_were_published() {
    let mut world = World::new();
    let many = LISTENERS_PER_COMMAND_MAX as u128 + 1;
    crowd(&mut world, many);
    let (first, _, complete) = publish(&mut world, "1");
    assert!(!complete);
    let (second, met, complete) = publish(&mut world, "2");
    assert_eq!((met, complete), (0, false), "it waits for the one before it");
    continue_all(&mut world);
    let last = TaskId(many);
    let of_last = |record: &Record| match &record.event {
        Event::TaskScheduled { task, occurrence: Occurrence::Event(of), .. } if *task == last => Some(*of),
        _ => None,
    };
    let order: Vec<CommandId> = world.records.iter().filter_map(of_last).collect();
    assert_eq!(order, [first, second]);
}

#[test]
fn the_overlap_policy_decides_what_an_open_execution_means() {
    let mut world = World::new();
    for (id, overlap) in [(1, Overlap::Skip), (2, Overlap::QueueAll), (3, Overlap::CancelRunning)] {
        world.create(id, &Definition { overlap, ..listener(&[]) }, None);
    }
    publish(&mut world, "1");
    let (_, met, _) = publish(&mut world, "2");
    assert_eq!(met, 3, "a skip is recorded, and counts as met");
    assert_eq!(
        world.names(),
        [
            "EventPublished",
            "TaskSkipped",
            "TaskScheduled",
            "TaskCancelled",
            "TaskScheduled",
            "EventHandedOut"
        ]
    );
}

#[test]
fn a_paused_task_is_not_met_and_a_finished_one_neither() {
    let mut world = World::new();
    let paused = world.create(1, &listener(&[]), None);
    let twice = Definition { max_runs: Some(2), ..listener(&[]) };
    let finite = world.create(2, &twice, None);
    world.client(Request::PauseTask { task: paused }).expect("paused");
    for expected in [1, 1, 0] {
        assert_eq!(publish(&mut world, "null").1, expected);
    }
    assert_eq!(world.task(finite).phase(), crate::task::state::Phase::Finished);
    let more = Definition { max_runs: Some(3), ..listener(&[]) };
    world.client(update(finite, &more)).expect("updated");
    world.client(Request::ResumeTask { task: paused }).expect("resumed");
    assert_eq!(publish(&mut world, "null").1, 2);
}

fn update(task: TaskId, definition: &Definition) -> Request {
    Request::UpdateTask {
        task,
        expected_version: None,
        rules: Box::new(Rules::of(definition)),
        definition: Sealed::definition(definition),
        next: None,
    }
}

#[test]
fn a_task_listens_to_what_its_present_definition_says() {
    let mut world = World::new();
    let task = world.create(1, &listener(&[]), None);
    let trigger = Trigger::Event { name: "deploy".into(), filter: std::collections::BTreeMap::new() };
    world.client(update(task, &Definition { trigger, ..definition() })).expect("updated");
    through_a_snapshot(&mut world);
    assert_eq!(publish(&mut world, "null").1, 0);
    assert!(matches!(world.client(event("deploy", "null")), Ok(Accepted::Event { met: 1, .. })));
    world.client(Request::DeleteTask { task, expected_version: None }).expect("deleted");
    assert!(matches!(world.client(event("deploy", "null")), Ok(Accepted::Event { met: 0, .. })));
}

#[test]
fn the_payload_is_there_while_an_execution_is_open_and_no_longer() {
    let mut world = World::with_worker(8);
    let task = world.create(1, &listener(&[]), None);
    publish(&mut world, r#"{"n":1}"#);
    through_a_snapshot(&mut world);
    let open = world.only_open();
    let cause = r#"{"event":{"name":"build.finished","payload":{"n":1},"at":"1970-01-01T00:16:40.000Z"}}"#;
    assert_eq!(world.replica.cause_of(&open).as_deref(), Some(cause));
    world.report(open.id, failed()).expect("heard");
    assert_eq!(world.replica.cause_of(&open), None, "it ended");
    let reopening = Reopening {
        execution: open.id,
        task,
        occurrence: open.occurrence,
        scheduled_at: open.scheduled_at,
        status: Status::Failed,
        attempts: 1,
        retry_items: None,
        cause: Some(Sealed::in_clear(cause.into())),
        as_of: u64::MAX,
        run: None,
    };
    world.client(Request::RetryExecution(Box::new(reopening))).expect("reopened");
    through_a_snapshot(&mut world);
    assert_eq!(world.replica.cause_of(&world.only_open()).as_deref(), Some(cause));
}

#[test]
fn what_is_no_event_is_refused() {
    let mut world = World::new();
    let refused = |request, world: &mut World| world.client(request).expect_err("refused").to_string();
    let name = refused(event(&"x".repeat(257), "null"), &mut world);
    assert!(name.contains("at most 256 bytes of an event's name"), "{name}");
    let payload = refused(event("e", &format!("\"{}\"", "x".repeat(16 * 1024))), &mut world);
    assert!(payload.contains("at most 16384 bytes of an event's payload"), "{payload}");
    assert!(refused(event("e", "{"), &mut world).contains("JSON"));
    assert_eq!(world.count(|event| matches!(event, Event::EventPublished { .. })), 0);
}
