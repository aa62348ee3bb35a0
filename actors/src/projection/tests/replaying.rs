//! The state made again from the event log is the state.

use escapement_domain::identifier::TaskId;
use escapement_domain::replica::Replica;
use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_has_the_hash_of_the_live_state(numbers in proptest::collection::vec(any::<u8>(), 10..120)) {
        let (world, storage) = folded(|world| world.play(&numbers));
        let log = EventLog::open(storage).expect("opens");
        let replayed = replay(&log, None).expect("intact");
        assert_eq!(replayed.replica.state_hash(), world.machine.read(Replica::state_hash));
    }
}

#[test]
fn a_replay_ends_where_it_is_told() {
    let mut hashes = Vec::new();
    let (mut world, storage) = folded(|world| {
        world.join(2);
        world.create("acme", 1, &world::definition());
        for _ in 0..20 {
            world.fire(ACME, 1, 5);
            world.complete_all();
            hashes.push((world.machine.applied(), world.now, world.machine.read(Replica::state_hash)));
            world.now += 100;
        }
    });
    let log = EventLog::open(storage).expect("opens");
    for (index, at, hash) in hashes {
        let by_index = replay(&log, Some(Until::LogIndex(index))).expect("intact");
        assert_eq!(by_index.replica.state_hash(), hash);
        let instant = escapement_domain::timestamp::Timestamp(at);
        assert_eq!(replay(&log, Some(Until::Instant(instant))).expect("intact").replica.state_hash(), hash);
    }
    let paused = world
        .records()
        .iter()
        .find(|record| record.event.task() == Some(TaskId(1)))
        .map(|record| record.header.clone());
    let header = paused.expect("created");
    let until = Until::Record { tenant: header.tenant, sequence: header.sequence };
    let replayed = replay(&log, Some(until)).expect("intact");
    assert!(replayed.replica.task(ACME, TaskId(1)).is_some());
    assert_eq!(replayed.log_index, header.log_index);
}

#[test]
fn a_replay_of_a_damaged_log_is_no_state() {
    let (_, storage) = folded(|world| world.play(&(0..=100).collect::<Vec<u8>>()));
    storage.tamper(Tree::EventBlocks, |pairs| {
        let block = pairs.values_mut().next().expect("a block");
        let middle = block.len() / 2;
        block[middle] ^= 1;
    });
    let log = EventLog::open(storage).expect("the ends are intact");
    assert!(replay(&log, None).is_err());
}
