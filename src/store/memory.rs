//! A storage in memory, for tests and for nodes that need nothing to last.
//!
//! Everything is "on the disk" as soon as it is written: `sync` has nothing to do. The simulation has its own, which
//! forgets what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use escapement_actors::ports::{Storage, Tree, Write};
use futures::future::BoxFuture;
use parking_lot::RwLock;

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// An ordered map of byte strings in memory, cut into trees.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    trees: RwLock<BTreeMap<Tree, Pairs>>,
}

impl MemoryStorage {
    /// Makes an empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Storage for MemoryStorage {
    fn write(&self, batch: Vec<Write>) -> io::Result<()> {
        let mut trees = self.trees.write();
        for Write { tree, key, value } in batch {
            let pairs = trees.entry(tree).or_default();
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }

    fn get(&self, tree: Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.trees.read().get(&tree).and_then(|pairs| pairs.get(key)).cloned())
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let trees = self.trees.read();
        let Some(pairs) = trees.get(&tree) else { return Ok(Vec::new()) };
        if from >= to {
            return Ok(Vec::new());
        }
        let range = pairs.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(if reverse {
            range.rev().take(limit).map(owned).collect()
        } else {
            range.take(limit).map(owned).collect()
        })
    }

    fn clear(&self, tree: Tree) -> io::Result<()> {
        self.trees.write().remove(&tree);
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::conformance;
    use super::*;

    #[test]
    fn memory_conforms() {
        conformance(|| Arc::new(MemoryStorage::new()));
    }
}
