//! The disk under a node's read models and event log, behind the actors' port.
//!
//! Invariants are the port's: a batch is there as a whole or not at all, and nothing is safe before a sync returned.
//! A crash keeps some of the batches that were not synced, in their order. Values lie sealed with a checksum, as in the
//! program's own storage, so that a flipped bit is found by whoever reads it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use escapement::store::{open_record, seal_record};
use escapement_actors::ports::{Storage, Tree, Write};
use futures::future::BoxFuture;
use parking_lot::Mutex;

type Pairs = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// A disk; clones are the same disk. It outlives the node that uses it.
#[derive(Clone, Default)]
pub(super) struct ReadModelDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What a crash leaves.
    durable: Pairs,
    /// What the node sees: the durable part and what was written since.
    live: Pairs,
    /// Batches that are not synced yet.
    unsynced: Vec<Vec<Write>>,
    /// Counts crashes: a node of an earlier life reads and writes nothing.
    life: u64,
    sync: Duration,
    failing: bool,
    failed: bool,
    full: bool,
}

impl ReadModelDisk {
    /// The disk as a node of this life uses it.
    pub(super) fn open(&self) -> OpenDisk {
        OpenDisk { disk: self.clone(), life: self.0.lock().life }
    }

    /// Loses what was not synced, but for the first `kept` batches.
    pub(super) fn crash(&self, kept: usize) {
        let mut state = self.0.lock();
        state.life += 1;
        (state.failing, state.failed) = (false, false);
        let unsynced = std::mem::take(&mut state.unsynced);
        unsynced.into_iter().take(kept).for_each(|batch| put(&mut state.durable, batch));
        state.live = state.durable.clone();
    }

    /// Batches that were written and not synced yet.
    pub(super) fn unsynced(&self) -> usize {
        self.0.lock().unsynced.len()
    }

    /// How long a sync takes from now on.
    pub(super) fn set_sync(&self, duration: Duration) {
        self.0.lock().sync = duration;
    }

    /// Makes every sync fail until the next crash.
    pub(super) fn fail_syncs(&self) {
        self.0.lock().failing = true;
    }

    /// Whether a sync failed since the last crash.
    pub(super) fn sync_failed(&self) -> bool {
        self.0.lock().failed
    }

    /// Refuses every write while it is full.
    pub(super) fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// Flips one bit of one value of a tree. Says whether there was one.
    pub(super) fn flip_bit(&self, tree: Tree, which: u64, bit: u64) -> bool {
        let mut state = self.0.lock();
        let keys: Vec<_> = state.durable.keys().filter(|(of, _)| *of == tree).cloned().collect();
        let Some(key) = keys.get(usize::try_from(which).unwrap_or(0) % keys.len().max(1)) else {
            return false;
        };
        let flip = |value: &mut Vec<u8>| {
            let bit = usize::try_from(bit).unwrap_or(0) % (value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
        };
        state.durable.get_mut(key).map(flip);
        // The same block of the disk: whoever reads it now sees the same.
        let damaged = state.durable.get(key).cloned();
        if let (Some(live), Some(damaged)) = (state.live.get_mut(key), damaged) {
            *live = damaged;
        }
        true
    }

    /// Another disk with the same contents, for whoever wants to look at them.
    pub(super) fn copy(&self) -> Self {
        let live = self.0.lock().live.clone();
        Self(Arc::new(Mutex::new(State { durable: live.clone(), live, ..State::default() })))
    }
}

fn put(pairs: &mut Pairs, batch: Vec<Write>) {
    for Write { tree, key, value } in batch {
        match value {
            Some(value) => {
                let sealed = seal_record(tree, &key, &value);
                pairs.insert((tree, key), sealed);
            }
            None => drop(pairs.remove(&(tree, key))),
        }
    }
}

/// A disk in the hands of one start of a node.
pub(super) struct OpenDisk {
    disk: ReadModelDisk,
    life: u64,
}

impl OpenDisk {
    fn state(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.disk.0.lock();
        if state.life == self.life { Ok(state) } else { Err(io::Error::other("the disk is gone")) }
    }
}

impl Storage for OpenDisk {
    fn write(&self, batch: Vec<Write>) -> io::Result<()> {
        let mut state = self.state()?;
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        put(&mut state.live, batch.clone());
        state.unsynced.push(batch);
        Ok(())
    }

    fn get(&self, tree: Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let state = self.state()?;
        let found = state.live.get(&(tree, key.to_vec()));
        found.map(|sealed| open_record(tree, key, sealed).map_err(io::Error::from)).transpose()
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let state = self.state()?;
        let bounds = (Bound::Included((tree, from.to_vec())), Bound::Excluded((tree, to.to_vec())));
        let open = |((_, key), sealed): (&(Tree, Vec<u8>), &Vec<u8>)| {
            Ok((key.clone(), open_record(tree, key, sealed)?))
        };
        let range = state.live.range(bounds);
        if reverse {
            range.rev().take(limit).map(open).collect()
        } else {
            range.take(limit).map(open).collect()
        }
    }

    fn clear(&self, tree: Tree) -> io::Result<()> {
        let keys: Vec<Vec<u8>> =
            self.state()?.live.keys().filter(|(of, _)| *of == tree).map(|(_, key)| key.clone()).collect();
        self.write(keys.into_iter().map(|key| Write { tree, key, value: None }).collect())
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let (disk, life) = (self.disk.clone(), self.life);
        Box::pin(async move {
            let this = Self { disk, life };
            let (covered, duration) = {
                let state = this.state()?;
                (state.unsynced.len(), state.sync)
            };
            if !duration.is_zero() {
                tokio::time::sleep(duration).await;
            }
            let mut state = this.state()?;
            if state.failing {
                state.failed = true;
                return Err(io::Error::other("the disk reported an error"));
            }
            // Another sync may have covered some of these.
            let covered = covered.min(state.unsynced.len());
            let batches: Vec<_> = state.unsynced.drain(..covered).collect();
            batches.into_iter().for_each(|batch| put(&mut state.durable, batch));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_one(key: &[u8]) -> Vec<Write> {
        vec![Write { tree: Tree::Executions, key: key.to_vec(), value: Some(b"value".to_vec()) }]
    }

    #[test]
    fn it_conforms_to_the_port() {
        escapement::store::conformance(|| Arc::new(ReadModelDisk::default().open()));
    }

    #[test]
    fn a_crash_loses_what_was_not_synced_and_ends_the_handles_of_that_life() {
        let disk = ReadModelDisk::default();
        let before = disk.open();
        before.write(put_one(b"synced")).unwrap();
        futures::executor::block_on(before.sync()).unwrap();
        before.write(put_one(b"kept")).unwrap();
        before.write(put_one(b"lost")).unwrap();
        disk.crash(1);
        assert!(before.get(Tree::Executions, b"synced").is_err());
        let after = disk.open();
        let there = |key: &[u8]| after.get(Tree::Executions, key).unwrap().is_some();
        assert!(there(b"synced") && there(b"kept") && !there(b"lost"));
    }

    #[test]
    fn a_flipped_bit_is_found_and_named() {
        let disk = ReadModelDisk::default();
        disk.open().write(put_one(b"key")).unwrap();
        futures::executor::block_on(disk.open().sync()).unwrap();
        assert!(disk.flip_bit(Tree::Executions, 0, 77));
        let error = disk.open().get(Tree::Executions, b"key").unwrap_err();
        assert!(error.to_string().contains("does not match its checksum"), "{error}");
    }
}
