//! What every storage must do, whatever it is made of: called by the tests of each.

use std::sync::Arc;

use escapement_actors::ports::{Storage, Tree, Write};
use futures::executor::block_on;

fn put(tree: Tree, key: &[u8], value: &[u8]) -> Write {
    Write { tree, key: key.to_vec(), value: Some(value.to_vec()) }
}

fn remove(tree: Tree, key: &[u8]) -> Write {
    Write { tree, key: key.to_vec(), value: None }
}

fn keys(storage: &dyn Storage, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Vec<Vec<u8>> {
    let pairs = storage.scan(Tree::Executions, from, to, limit, reverse).expect("scan");
    pairs.into_iter().map(|(key, _)| key).collect()
}

/// Holds a storage to the port's word; `make` returns a new, empty one each time.
///
/// # Panics
/// When the storage does something else.
pub fn conformance(make: impl Fn() -> Arc<dyn Storage>) {
    reads_what_was_written(&*make());
    keeps_trees_apart(&*make());
    scans_half_open_ranges_in_order(&*make());
    a_batch_is_visible_as_a_whole(&make());
    block_on(make().sync()).expect("nothing to sync is no error");
}

fn reads_what_was_written(storage: &dyn Storage) {
    assert_eq!(storage.get(Tree::Executions, b"a").expect("get"), None);
    storage.write(vec![]).expect("an empty batch");
    storage
        .write(vec![put(Tree::Executions, b"a", b"1"), put(Tree::Executions, b"", b"empty key")])
        .expect("write");
    assert_eq!(storage.get(Tree::Executions, b"a").expect("get"), Some(b"1".to_vec()));
    assert_eq!(storage.get(Tree::Executions, b"").expect("get"), Some(b"empty key".to_vec()));

    storage.write(vec![put(Tree::Executions, b"a", b"")]).expect("overwrite");
    assert_eq!(
        storage.get(Tree::Executions, b"a").expect("get"),
        Some(Vec::new()),
        "an empty value is a value"
    );

    let twice = vec![
        put(Tree::Executions, b"b", b"1"),
        remove(Tree::Executions, b"b"),
        put(Tree::Executions, b"b", b"2"),
    ];
    storage.write(twice).expect("write");
    assert_eq!(
        storage.get(Tree::Executions, b"b").expect("get"),
        Some(b"2".to_vec()),
        "the last change of a key counts"
    );

    storage.write(vec![remove(Tree::Executions, b"b"), remove(Tree::Executions, b"never")]).expect("remove");
    assert_eq!(storage.get(Tree::Executions, b"b").expect("get"), None);

    let large = vec![7_u8; 200_000];
    storage.write(vec![put(Tree::EventBlocks, b"large", &large)]).expect("write");
    assert_eq!(storage.get(Tree::EventBlocks, b"large").expect("get"), Some(large));
    block_on(storage.sync()).expect("sync");
}

fn keeps_trees_apart(storage: &dyn Storage) {
    for tree in Tree::ALL {
        storage.write(vec![put(tree, b"key", tree.name().as_bytes())]).expect("write");
    }
    storage.clear(Tree::Output).expect("clear");
    for tree in Tree::ALL {
        let expected = (tree != Tree::Output).then(|| tree.name().as_bytes().to_vec());
        assert_eq!(storage.get(tree, b"key").expect("get"), expected, "{tree:?}");
    }
    storage.write(vec![put(Tree::Output, b"again", b"1")]).expect("a cleared tree takes writes");
    assert_eq!(storage.scan(Tree::Output, b"", b"\xff", 10, false).expect("scan").len(), 1);
}

fn scans_half_open_ranges_in_order(storage: &dyn Storage) {
    let batch = [b"a".as_slice(), b"ab", b"b", b"c", b"\xff"].map(|key| put(Tree::Executions, key, key));
    storage.write(batch.to_vec()).expect("write");
    assert_eq!(
        keys(storage, b"", b"\xff", 10, false),
        [b"a".as_slice(), b"ab", b"b", b"c"],
        "the end is not included"
    );
    assert_eq!(keys(storage, b"ab", b"c", 10, false), [b"ab".as_slice(), b"b"], "the beginning is");
    assert_eq!(keys(storage, b"", b"\xff", 2, false), [b"a".as_slice(), b"ab"]);
    assert_eq!(keys(storage, b"", b"\xff", 2, true), [b"c".as_slice(), b"b"], "backwards from the end");
    assert_eq!(keys(storage, b"", b"\xff", 0, false), [] as [&[u8]; 0]);
    assert_eq!(
        keys(storage, b"c", b"a", 10, false),
        [] as [&[u8]; 0],
        "a range that ends before it begins is empty"
    );
    assert_eq!(keys(storage, b"b", b"b", 10, true), [] as [&[u8]; 0]);
}

fn a_batch_is_visible_as_a_whole(storage: &Arc<dyn Storage>) {
    const ROUNDS: u32 = 200;
    let writer = Arc::clone(storage);
    std::thread::scope(|scope| {
        let writing = std::thread::Builder::new()
            .spawn_scoped(scope, move || {
                for round in 0..ROUNDS {
                    let value = round.to_be_bytes();
                    let batch = vec![
                        put(Tree::Executions, b"first", &value),
                        put(Tree::Executions, b"second", &value),
                        put(Tree::Checkpoints, b"upto", &value),
                    ];
                    writer.write(batch).expect("write");
                }
            })
            .expect("thread");
        let mut seen_last = None;
        while !writing.is_finished() {
            let checkpoint = storage.get(Tree::Checkpoints, b"upto").expect("get");
            let pairs = storage.scan(Tree::Executions, b"first", b"seconds", 10, false).expect("scan");
            let values: Vec<_> = pairs.into_iter().map(|(_, value)| value).collect();
            if let [first, second] = &values[..] {
                assert_eq!(first, second, "a scan sees a batch as a whole");
                assert!(checkpoint.as_ref() <= Some(first), "what a checkpoint covers is there");
            } else {
                assert!(values.is_empty() && checkpoint.is_none(), "half a batch: {values:?}");
            }
            seen_last = checkpoint;
        }
        drop(seen_last);
    });
    let last = (ROUNDS - 1).to_be_bytes().to_vec();
    assert_eq!(storage.get(Tree::Checkpoints, b"upto").expect("get"), Some(last));
}
