//! The state is a fold of its records, and a snapshot is the state.

use super::*;

fn busy_world() -> World {
    let mut world = World::with_worker(4);
    let retry = Retry { max_attempts: 3, ..Retry::DEFAULT };
    for id in 1..200 {
        let definition = Definition { retry, overlap: Overlap::QueueAll, ..definition() };
        world.create(id, &definition, Some(1_000_100));
    }
    world.now = 1_000_100;
    for id in 1..150 {
        world.fire(TaskId(id), 1_000_100, Some(1_001_100));
    }
    let running: Vec<_> = world.open().into_iter().filter(|open| open.grant().is_some()).collect();
    for (open, outcome) in running.iter().zip([failed(), AttemptOutcome::Succeeded(None), failed()]) {
        world.report(open.id, outcome).expect("heard");
    }
    world.client(Request::PauseTask { task: TaskId(100) }).expect("paused");
    world.client(Request::DeleteTask { task: TaskId(3), expected_version: None }).expect("deleted");
    world
}

#[test]
fn a_fold_over_the_records_gives_the_same_state() {
    let world = busy_world();
    let mut folded = Replica::default();
    world.records.iter().for_each(|record| folded.evolve(record));
    assert_eq!(folded.state_hash(), world.replica.state_hash());
}

#[test]
fn a_snapshot_restores_the_same_state_and_goes_on_the_same() {
    let mut world = busy_world();
    let mut bytes = Vec::new();
    world.replica.freeze().write_to(&mut bytes).expect("memory");
    let mut restored = Replica::restore(&mut bytes.as_slice()).expect("readable");
    assert_eq!(restored.state_hash(), world.replica.state_hash());
    let command = world.client_command("acme", Request::RunTask { task: TaskId(7) });
    let mut records = Vec::new();
    let index = world.index + 1;
    let expected = world.apply(&command);
    assert_eq!(restored.apply(index, &command, &mut records), expected);
    assert_eq!(restored.state_hash(), world.replica.state_hash());
}

#[test]
fn a_damaged_snapshot_is_an_error_and_never_a_state() {
    let world = busy_world();
    let mut bytes = Vec::new();
    world.replica.freeze().write_to(&mut bytes).expect("memory");
    bytes.truncate(bytes.len() / 2);
    assert!(Replica::restore(&mut bytes.as_slice()).is_err());
}

#[test]
fn records_are_numbered_without_gaps_and_chained_for_each_tenant() {
    let world = busy_world();
    for tenant in 0..2 {
        let mut head = crate::record::ChainHead::default();
        for record in world.records.iter().filter(|record| record.header.tenant == TenantId(tenant)) {
            assert_eq!(record.header.sequence, head.sequence + 1);
            assert_eq!(record.previous_hash, head.hash);
            let reread = Record::reread(record.header.clone(), record.body.clone(), record.previous_hash);
            assert_eq!(reread.as_ref(), Ok(record));
            head = crate::record::ChainHead { sequence: record.header.sequence, hash: record.hash };
        }
        assert_eq!(world.replica.tenants()[tenant as usize].head, head);
    }
}

#[test]
fn a_tasks_stream_is_threaded_through_the_log() {
    let world = busy_world();
    let stream = world.task(TaskId(1)).stream;
    let mut sequence = stream.last;
    let mut position = stream.length;
    while sequence > 0 {
        let record = world
            .records
            .iter()
            .find(|record| record.header.tenant == world.tenant() && record.header.sequence == sequence)
            .expect("there");
        assert_eq!(record.event.task(), Some(TaskId(1)));
        let link = record.header.stream.expect("in a stream");
        assert_eq!(link.position, position);
        (sequence, position) = (link.previous, position - 1);
    }
    assert_eq!(position, 0);
}

#[test]
fn a_snapshot_of_another_version_is_refused_by_name() {
    let mut bytes = Vec::new();
    World::with_worker(1).replica.freeze().write_to(&mut bytes).expect("written");
    bytes[8] = crate::codec::VERSION - 1;
    let refused = Replica::restore(&mut bytes.as_slice()).expect_err("not of this program").to_string();
    let (found, own) = (crate::codec::VERSION - 1, crate::codec::VERSION);
    let told = format!("the snapshot header has format version {found}; this program reads version {own}");
    assert_eq!(refused, format!("the snapshot cannot be used: {told}"));
}
