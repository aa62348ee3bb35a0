//! Commands have ids: repeated, they return their first outcome; too old, they are refused.

use super::*;
use crate::command::Idempotency;
use crate::limits::CREATES_PER_COMMAND_MAX;
use crate::replica::placement::Gate;
use crate::schedule::calendar::{Calendar, CalendarMode};

fn keyed(mut command: Command, id: u128, key: &str, digest: u8) -> Command {
    if let Origin::Client(client) = &mut command.origin {
        client.command = CommandId(id);
        client.idempotency = Some(Idempotency { key: key.into(), digest: [digest; 32] });
    }
    command
}

#[test]
fn a_repeated_command_returns_its_first_outcome_and_changes_nothing() {
    let mut world = World::new();
    let create = world.client_command("acme", Request::CreateTasks(vec![new_task(1, &definition(), None)]));
    let first = world.apply(&create);
    let records = world.records.len();
    assert_eq!(world.apply(&create), first);
    assert_eq!(world.records.len(), records);
    assert_eq!(first.index, 1);
}

#[test]
fn a_refusal_is_a_first_outcome_too() {
    let mut world = World::new();
    let run = world.client_command("acme", Request::RunTask { task: TaskId(1) });
    assert_eq!(world.apply(&run).outcome, Err(Rejection::NoSuchTask));
    world.create(1, &definition(), None);
    assert_eq!(world.apply(&run).outcome, Err(Rejection::NoSuchTask));
}

#[test]
fn a_command_older_than_the_window_is_refused_as_expired() {
    let mut world = World::new();
    let old = world.client_command("acme", Request::CreateTasks(vec![new_task(1, &definition(), None)]));
    world.apply(&old);
    world.now += 1_000_000;
    let (commands, keys) = (Timestamp(1_500_000), Timestamp(1_500_000));
    world.scheduler(Request::AdvanceWindow { commands, keys }).expect("advances");
    assert_eq!(world.apply(&old).outcome, Err(Rejection::Expired { floor: Timestamp(1_500_000) }));
    assert_eq!(world.replica.tasks().len(), 1);
}

/// The client's clock is ahead of the leader's: what was forgotten must be refused by the same measure.
#[test]
fn a_command_from_a_clock_that_is_ahead_is_not_carried_out_again_when_it_was_forgotten() {
    let mut world = World::new();
    let mut ahead =
        world.client_command("acme", Request::CreateTasks(vec![new_task(1, &definition(), None)]));
    if let Origin::Client(client) = &mut ahead.origin {
        client.issued_at = Timestamp(world.now + 60_000);
    }
    let first = world.apply(&ahead);
    world.client(Request::DeleteTask { task: TaskId(1), expected_version: None }).expect("deleted");
    world.now += 1_000_000;
    let floor = Timestamp(1_030_000);
    world.scheduler(Request::AdvanceWindow { commands: floor, keys: floor }).expect("advances");
    assert_eq!(world.apply(&ahead), first, "it is remembered as long as it is not too old to be told apart");
    let floor = Timestamp(1_060_001);
    world.scheduler(Request::AdvanceWindow { commands: floor, keys: floor }).expect("advances");
    assert_eq!(world.apply(&ahead).outcome, Err(Rejection::Expired { floor }));
    assert_eq!(world.replica.tasks().len(), 0);
}

#[test]
fn an_idempotency_key_returns_the_first_answer_under_another_command_id() {
    let mut world = World::new();
    let create = world.client_command("acme", Request::CreateTasks(vec![new_task(1, &definition(), None)]));
    let first = world.apply(&keyed(create, 901, "k", 1));
    let again = world.client_command("acme", Request::CreateTasks(vec![new_task(2, &definition(), None)]));
    assert_eq!(world.apply(&keyed(again.clone(), 902, "k", 1)), first);
    assert_eq!(world.apply(&keyed(again.clone(), 903, "k", 2)).outcome, Err(Rejection::KeyReused));
    let mut rival = keyed(again, 904, "k", 2);
    if let Origin::Client(client) = &mut rival.origin {
        client.tenant = "rival".into();
    }
    assert!(world.apply(&rival).outcome.is_ok(), "keys of tenants are apart");
}

#[test]
fn nothing_expires_by_itself() {
    let mut world = World::new();
    let create = world.client_command("acme", Request::CreateTasks(vec![new_task(1, &definition(), None)]));
    let first = world.apply(&create);
    world.now += 1_000_000_000;
    world.create(2, &definition(), None);
    assert_eq!(world.apply(&create), first);
}

#[test]
fn bytes_that_are_no_command_are_a_refusal() {
    let error = Command::decode(&[7, 7, 7]).expect_err("not a command");
    let answer = Replica::refuse_unreadable(3, &error);
    assert!(matches!(answer.outcome, Err(Rejection::Unreadable { .. })));
}

#[test]
fn a_bulk_is_created_as_a_whole_or_not_at_all() {
    let mut world = World::new();
    let bulk = CommandId(77);
    let part = |part: u32, ids: std::ops::Range<u128>| Request::StageTasks {
        bulk,
        part,
        tasks: ids.map(|id| new_task(id, &definition(), None)).collect(),
    };
    world.client(part(0, 1..400)).expect("staged");
    let incomplete = world.client(Request::CommitStaged { bulk, parts: 2 });
    assert_eq!(incomplete, Err(Rejection::Incomplete { found: 1, expected: 2 }));
    assert_eq!(world.replica.tasks().len(), 0);
    world.client(part(1, 400..801)).expect("staged");
    world.client(Request::CommitStaged { bulk, parts: 2 }).expect("committed");
    assert!(world.replica.left_over());
    while world.replica.left_over() {
        world.scheduler(Request::Continue).expect("continues");
    }
    assert_eq!(world.replica.tasks().len(), 800);
}

#[test]
fn another_tenant_adds_nothing_to_a_bulk() {
    let mut world = World::new();
    let bulk = CommandId(79);
    let stage = |part, id| Request::StageTasks { bulk, part, tasks: vec![new_task(id, &definition(), None)] };
    world.client(stage(0, 1)).expect("staged");
    let rival = world.client_command("rival", stage(1, 2));
    assert_eq!(world.apply(&rival).outcome, Err(Rejection::Outdated));
    world.client(Request::CommitStaged { bulk, parts: 1 }).expect("committed");
    assert_eq!(world.replica.tasks().len(), 1);
}

#[test]
fn a_bulk_that_meets_an_existing_task_creates_nothing() {
    let mut world = World::new();
    world.create(5, &definition(), None);
    let bulk = CommandId(78);
    let tasks = (1..10).map(|id| new_task(id, &definition(), None)).collect();
    world.client(Request::StageTasks { bulk, part: 0, tasks }).expect("staged");
    assert_eq!(world.client(Request::CommitStaged { bulk, parts: 1 }), Err(Rejection::TaskExists));
    world.scheduler(Request::AbandonStaged { bulk }).expect("forgotten");
    assert_eq!(world.replica.tasks().len(), 1);
    assert_eq!(world.replica.staged().count(), 0);
}

/// More tasks than one command creates: what they name must not go before the last of them is there, and none of them falls
/// away when there is less of it meanwhile.
#[test]
fn what_a_committed_bulk_names_stays_until_it_is_created() {
    let mut world = World::new();
    let gate = Gate::Pool("staging".into());
    let calendar = Calendar {
        description: String::new(),
        mode: CalendarMode::Exclude,
        timezone: None,
        days: Vec::new(),
        windows: Vec::new(),
    };
    world.client(Request::PutGate { gate: gate.clone(), capacity: 4 }).expect("put");
    world.client(Request::PutCalendar { name: "quiet".into(), calendar }).expect("put");
    let demanding = Definition {
        resources: [("staging".into(), 4)].into(),
        calendars: vec!["quiet".into()],
        ..definition()
    };
    let (bulk, count) = (CommandId(80), 2 * CREATES_PER_COMMAND_MAX as u128);
    for part in 0..2_u32 {
        let first = u128::from(part) * count / 2;
        // The first part, which the commit creates at once, names nothing.
        let what = if part == 0 { definition() } else { demanding.clone() };
        let tasks = (first..first + count / 2).map(|id| new_task(id + 1, &what, None)).collect();
        world.client(Request::StageTasks { bulk, part, tasks }).expect("staged");
    }
    world.client(Request::CommitStaged { bulk, parts: 2 }).expect("committed");
    let promised = count as u64 / 2;
    assert_eq!(
        world.client(Request::DeleteCalendar { name: "quiet".into() }),
        Err(Rejection::CalendarInUse { name: "quiet".into(), tasks: promised })
    );
    assert_eq!(
        world.client(Request::DeleteGate { gate: gate.clone() }),
        Err(Rejection::PoolInUse { name: "staging".into(), tasks: promised })
    );
    world.client(Request::PutGate { gate, capacity: 2 }).expect("lowered");
    while world.replica.left_over() {
        world.scheduler(Request::Continue).expect("goes on");
    }
    assert_eq!(world.replica.tasks_of(world.tenant(), None).count() as u128, count);
    let created = world.records.iter().filter(|record| record.event.name() == "TaskCreated");
    assert!(
        created.map(|record| &*record.header.correlation_id).all(|id| id == "request"),
        "each goes back to it"
    );
}

fn refuse() -> Request {
    Request::Refuse { pointer: "/trigger".into(), detail: "no instant of it is to come".into() }
}

/// A first try was held up in a node, and its repetition is refused before it comes.
#[test]
fn what_was_refused_under_a_key_is_not_carried_out_when_an_earlier_try_of_it_comes() {
    let mut world = World::new();
    let create = world.client_command("acme", Request::CreateTasks(vec![new_task(1, &definition(), None)]));
    let refused = world.client_command("acme", refuse());
    let first = world.apply(&keyed(refused, 901, "k", 1));
    assert!(matches!(first.outcome, Err(Rejection::Unschedulable { .. })), "{first:?}");
    assert_eq!(world.apply(&keyed(create.clone(), 902, "k", 1)), first);
    assert_eq!(world.replica.tasks().len(), 0);
    assert_eq!(restored(&world.replica).window(), world.replica.window());
    // Mended, it is another request, and it may have the same key.
    let mended = world.apply(&keyed(create.clone(), 903, "k", 2));
    assert!(mended.outcome.is_ok(), "{mended:?}");
    assert_eq!(world.apply(&keyed(create.clone(), 904, "k", 2)), mended);
    assert_eq!(world.apply(&keyed(create, 905, "k", 1)).outcome, Err(Rejection::KeyReused));
}

#[test]
fn a_refusal_that_comes_after_an_earlier_try_gets_its_answer() {
    let mut world = World::new();
    let create = world.client_command("acme", Request::CreateTasks(vec![new_task(1, &definition(), None)]));
    let first = world.apply(&keyed(create, 901, "k", 1));
    let refused = world.client_command("acme", refuse());
    assert_eq!(world.apply(&keyed(refused, 902, "k", 1)), first);
}

#[test]
fn whatever_was_refused_under_a_key_stays_refused_but_for_what_there_was_no_room_for() {
    let mut world = World::new();
    let run = world.client_command("acme", Request::RunTask { task: TaskId(1) });
    let refused = world.apply(&keyed(run.clone(), 901, "k", 1));
    assert_eq!(refused.outcome, Err(Rejection::NoSuchTask));
    let many = (1..=CREATES_PER_COMMAND_MAX + 1).map(|id| new_task(id as u128, &definition(), None));
    let many = world.client_command("acme", Request::CreateTasks(many.collect()));
    let full = world.apply(&keyed(many, 902, "full", 1));
    assert!(matches!(full.outcome, Err(Rejection::TooMany { .. })), "{full:?}");
    world.create(1, &definition(), None);
    assert_eq!(world.apply(&keyed(run.clone(), 903, "k", 1)), refused);
    assert!(world.apply(&keyed(run, 904, "full", 1)).outcome.is_ok());
}
