//! Whatever is changed in the stored log, the first record that is wrong is named.

use escapement_domain::record::ChainHead;

use super::super::block::{Walk, begin, frame};
use super::super::keys;
use super::*;

/// A log of many blocks.
fn long_log() -> (World, Arc<FakeStorage>) {
    folded(|world| {
        world.join(8);
        world.create("acme", 1, &world::definition());
        for _ in 0..700 {
            world.fire(ACME, 1, 3);
            world.complete_all();
        }
    })
}

/// Tampers with the blocks of the first tenant and verifies.
#[track_caller]
fn check(tamper: impl FnOnce(&mut Vec<(Vec<u8>, Vec<u8>)>), expected: (u64, FaultKind)) {
    let (world, storage) = long_log();
    let head = world.head(ACME);
    storage.tamper(Tree::EventBlocks, |pairs| {
        let (from, to) = (keys::scope(ACME), keys::end_of(keys::scope(ACME)));
        let mut blocks: Vec<_> =
            pairs.range(from..to).map(|(key, block)| (key.clone(), block.clone())).collect();
        pairs.retain(|key, _| blocks.iter().all(|(other, _)| key != other));
        assert!(blocks.len() > 3, "several blocks: {}", blocks.len());
        tamper(&mut blocks);
        pairs.extend(blocks);
    });
    let log = EventLog::open(storage).expect("the ends are intact");
    let fault = log.verify(ACME, Some(head)).expect_err("tampered");
    assert_eq!((fault.sequence, fault.kind), expected);
}

fn first_of(block: &(Vec<u8>, Vec<u8>)) -> u64 {
    keys::first_of_block(&block.0).expect("a block").1
}

/// Writes a block again with its records changed by `change`, hashes as they were.
fn rewrite(block: &mut (Vec<u8>, Vec<u8>), change: impl Fn(&mut Vec<escapement_domain::record::Record>)) {
    let walk = Walk::new(ACME, first_of(block), &block.1).expect("a block");
    let mut bytes = begin(walk.previous());
    let mut records: Vec<_> = walk.map(|record| record.expect("intact")).collect();
    change(&mut records);
    records.iter().for_each(|record| bytes.extend_from_slice(&frame(record)));
    block.1 = bytes;
}

#[test]
fn an_intact_log_verifies_to_the_head_of_the_state() {
    let (world, storage) = long_log();
    let log = EventLog::open(storage).expect("intact");
    assert_eq!(log.verify(ACME, Some(world.head(ACME))), Ok(world.head(ACME)));
    assert_eq!(
        log.verify(TenantId::CLUSTER, Some(world.head(TenantId::CLUSTER))),
        Ok(log.head(TenantId::CLUSTER))
    );
}

#[test]
fn a_changed_body_is_named() {
    let change = |blocks: &mut Vec<(Vec<u8>, Vec<u8>)>| {
        rewrite(&mut blocks[1], |records| {
            let mut body = records[5].body.to_vec();
            *body.last_mut().expect("a body") ^= 1;
            records[5].body = body.into();
        });
    };
    let (_, storage) = long_log();
    let first = second_block(&storage);
    check(change, (first + 5, FaultKind::Changed));
}

#[test]
fn a_changed_header_is_named() {
    let change =
        |blocks: &mut Vec<(Vec<u8>, Vec<u8>)>| rewrite(&mut blocks[1], |records| records[7].header.at.0 += 1);
    let (_, storage) = long_log();
    check(change, (second_block(&storage) + 7, FaultKind::Changed));
}

#[test]
fn a_changed_hash_is_named() {
    let change =
        |blocks: &mut Vec<(Vec<u8>, Vec<u8>)>| rewrite(&mut blocks[1], |records| records[2].hash.0[0] ^= 1);
    let (_, storage) = long_log();
    check(change, (second_block(&storage) + 2, FaultKind::Changed));
}

#[test]
fn a_record_that_was_cut_out_is_named() {
    let change =
        |blocks: &mut Vec<(Vec<u8>, Vec<u8>)>| rewrite(&mut blocks[1], |records| drop(records.remove(9)));
    let (_, storage) = long_log();
    let missing = second_block(&storage) + 9;
    check(change, (missing, FaultKind::OutOfOrder { found: missing + 1 }));
}

#[test]
fn a_removed_block_is_named() {
    let (_, storage) = long_log();
    check(|blocks| drop(blocks.remove(1)), (second_block(&storage), FaultKind::Missing));
}

#[test]
fn swapped_blocks_are_named() {
    let swap = |blocks: &mut Vec<(Vec<u8>, Vec<u8>)>| {
        let first = blocks[0].1.clone();
        blocks[0].1 = std::mem::replace(&mut blocks[1].1, first);
    };
    let (_, storage) = long_log();
    check(swap, (1, FaultKind::OutOfOrder { found: second_block(&storage) }));
}

#[test]
fn a_removed_end_is_named() {
    let (world, storage) = long_log();
    let log = EventLog::open(storage.clone()).expect("intact");
    let blocks = dump(&*storage, Tree::EventBlocks).expect("memory");
    let last =
        blocks.iter().filter_map(|(key, _)| keys::first_of_block(key)).rfind(|(tenant, _)| *tenant == ACME);
    let (_, first) = last.expect("blocks");
    drop(log);
    check(|blocks| drop(blocks.pop()), (first, FaultKind::Missing));
    assert!(world.head(ACME).sequence >= first);
}

#[test]
fn a_history_written_anew_is_told_from_the_states() {
    let (world, storage) = long_log();
    let log = EventLog::open(storage).expect("intact");
    let expected = ChainHead { hash: escapement_domain::record::Hash([7; 32]), ..world.head(ACME) };
    let fault = log.verify(ACME, Some(expected)).expect_err("another history");
    assert!(matches!(fault.kind, FaultKind::OtherHistory { .. }), "{fault}");
}

#[test]
fn a_read_never_returns_what_was_changed() {
    let (_, storage) = long_log();
    let first = second_block(&storage);
    storage.tamper(Tree::EventBlocks, |pairs| {
        let block = pairs.get_mut(&keys::block(ACME, first)).expect("there");
        let at = block.len() - 40;
        block[at] ^= 1;
    });
    let log = EventLog::open(storage).expect("the ends are intact");
    let mut records = log.walk_from(ACME, first);
    assert!(records.any(|record| record.is_err()), "the walk stops at it");
}

fn second_block(storage: &FakeStorage) -> u64 {
    let blocks = dump(storage, Tree::EventBlocks).expect("memory");
    let mut firsts =
        blocks.iter().filter_map(|(key, _)| keys::first_of_block(key)).filter(|(tenant, _)| *tenant == ACME);
    firsts.nth(1).expect("several blocks").1
}
