//! Tasks in numbered slots, kept in chunks that copies share.
//!
//! A copy of all slots clones one pointer a chunk; the first write after it copies that one chunk. A slot that is given
//! back is taken again, lowest first, so that every replica puts a task into the same slot.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::task::state::Task;

/// Tasks of one chunk.
pub const CHUNK: usize = 128;

/// Tasks by slot.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    chunks: Vec<Arc<Chunk>>,
    free: BTreeSet<u32>,
    length: u32,
    occupied: usize,
}

/// The tasks of consecutive slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk(pub Vec<Option<Task>>);

impl Slots {
    /// The slot that the next task is put into.
    #[must_use]
    pub fn vacant(&self) -> u32 {
        self.free.first().copied().unwrap_or(self.length)
    }

    /// How many tasks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.occupied
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// The task in a slot.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<&Task> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.0.get(slot % CHUNK)?.as_ref()
    }

    /// The task in a slot, to change it.
    #[must_use]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Task> {
        let slot = slot as usize;
        Arc::make_mut(self.chunks.get_mut(slot / CHUNK)?).0.get_mut(slot % CHUNK)?.as_mut()
    }

    /// Puts a task into a slot, in place of what was there.
    pub fn put(&mut self, slot: u32, task: Task) {
        while self.length <= slot {
            self.free.insert(self.length);
            if (self.length as usize).is_multiple_of(CHUNK) {
                self.chunks.push(Arc::new(Chunk(Vec::with_capacity(CHUNK))));
            }
            let chunk = self.length as usize / CHUNK;
            Arc::make_mut(&mut self.chunks[chunk]).0.push(None);
            self.length += 1;
        }
        self.free.remove(&slot);
        let place = &mut Arc::make_mut(&mut self.chunks[slot as usize / CHUNK]).0[slot as usize % CHUNK];
        if place.replace(task).is_none() {
            self.occupied += 1;
        }
    }

    /// Takes the task out of a slot.
    pub fn take(&mut self, slot: u32) -> Option<Task> {
        let index = slot as usize;
        let task = Arc::make_mut(self.chunks.get_mut(index / CHUNK)?).0.get_mut(index % CHUNK)?.take()?;
        self.free.insert(slot);
        self.occupied -= 1;
        Some(task)
    }

    /// How many slots there are, empty ones included.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.length
    }

    /// Every task, by slot.
    pub fn iter(&self) -> impl Iterator<Item = &Task> {
        self.chunks.iter().flat_map(|chunk| chunk.0.iter().flatten())
    }

    /// The chunks, in order.
    #[must_use]
    pub fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// Puts the slots together again from their chunks.
    #[must_use]
    pub fn from_chunks(chunks: Vec<Chunk>) -> Self {
        let mut slots = Self::default();
        for chunk in chunks {
            for place in &chunk.0 {
                match place {
                    Some(_) => slots.occupied += 1,
                    None => drop(slots.free.insert(slots.length)),
                }
                slots.length += 1;
            }
            slots.chunks.push(Arc::new(chunk));
        }
        slots
    }
}
