//! What one tenant has waiting, apart by what must be free for it.
//!
//! A track is all that waits with the same priority, requirement and demands: if its first cannot pass the gates, none of
//! it can. Within it, what waits for a place of its own task or for its target is apart again, so that it holds up nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::gates::Gate;
use crate::identifier::{ExecutionId, TaskId};
use crate::task::rules::Requirement;

/// What all of a track has in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TrackKey {
    /// How far below the highest priority.
    pub(super) level: u8,
    /// What a worker must offer.
    pub(super) requirement: Requirement,
    /// Shares of gates, in order.
    pub(super) demands: Vec<(Gate, u32)>,
}

/// What a part of a track waits for beside that.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Side {
    /// A place among so many executions of its task.
    pub(super) task: Option<(TaskId, u32)>,
    /// A target that is called.
    pub(super) target: Option<Arc<str>>,
}

/// What opens for a side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Door {
    Task(TaskId),
    Target(Arc<str>),
}

impl Side {
    pub(super) fn doors(&self) -> impl Iterator<Item = Door> {
        let task = self.task.map(|(task, _)| Door::Task(task));
        task.into_iter().chain(self.target.clone().map(Door::Target))
    }
}

/// All that waits for the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    sides: BTreeMap<Side, Waiting>,
    /// The first of each side that is admitted, by turn.
    heads: BTreeSet<(u64, Side)>,
    /// The gate that its first cannot pass.
    pub(super) blocked: Option<Gate>,
    /// Whether it could go if it were not for gates: only then it has a place in their lines.
    pub(super) in_line: bool,
    pub(super) length: usize,
}

#[derive(Clone, Debug, Default)]
struct Waiting {
    turns: BTreeMap<u64, ExecutionId>,
    admitted: bool,
}

impl Track {
    /// The turn of its first that is admitted.
    pub(super) fn head(&self) -> Option<u64> {
        self.heads.first().map(|(turn, _)| *turn)
    }

    /// Its first that is admitted.
    pub(super) fn first(&self) -> Option<ExecutionId> {
        let (turn, side) = self.heads.first()?;
        self.sides.get(side)?.turns.get(turn).copied()
    }

    /// Whether its first may go.
    pub(super) fn may_go(&self) -> bool {
        self.blocked.is_none() && !self.heads.is_empty()
    }

    pub(super) fn knows(&self, side: &Side) -> bool {
        self.sides.contains_key(side)
    }

    /// Makes a side.
    pub(super) fn add(&mut self, side: Side, admitted: bool) {
        self.sides.insert(side, Waiting { turns: BTreeMap::new(), admitted });
    }

    /// Puts an execution into a side that is known; says whether the track has another first.
    pub(super) fn push(&mut self, side: &Side, turn: u64, id: ExecutionId) -> bool {
        let before = self.head();
        let Some(waiting) = self.sides.get_mut(side) else { return false };
        let first = waiting.turns.first_key_value().map(|(turn, _)| *turn);
        if waiting.turns.insert(turn, id).is_none() {
            self.length += 1;
        }
        if waiting.admitted && first.is_none_or(|first| turn < first) {
            if let Some(first) = first {
                self.heads.remove(&(first, side.clone()));
            }
            self.heads.insert((turn, side.clone()));
        }
        self.head() != before
    }

    /// Takes an execution out; says whether it was there, and whether nothing is left of its side.
    pub(super) fn remove(&mut self, side: &Side, turn: u64) -> Option<bool> {
        let waiting = self.sides.get_mut(side)?;
        let first = waiting.turns.first_key_value().map(|(turn, _)| *turn);
        waiting.turns.remove(&turn)?;
        self.length -= 1;
        let next = waiting.turns.first_key_value().map(|(turn, _)| *turn);
        if waiting.admitted && first == Some(turn) {
            self.heads.remove(&(turn, side.clone()));
            if let Some(next) = next {
                self.heads.insert((next, side.clone()));
            }
        }
        let nothing_left = waiting.turns.is_empty();
        if nothing_left {
            self.sides.remove(side);
        }
        Some(nothing_left)
    }

    /// Says whether a side is admitted from now on; whether that gives the track another first.
    pub(super) fn admit(&mut self, side: &Side, admitted: bool) -> bool {
        let before = self.head();
        let Some(waiting) = self.sides.get_mut(side) else { return false };
        waiting.admitted = admitted;
        if let Some((turn, _)) = waiting.turns.first_key_value() {
            let head = (*turn, side.clone());
            if admitted {
                self.heads.insert(head)
            } else {
                self.heads.remove(&head)
            };
        }
        self.head() != before
    }

    /// How many of it call a target.
    pub(super) fn waiting_for_target(&self, target: &str) -> usize {
        let sides = self.sides.iter().filter(|(side, _)| side.target.as_deref() == Some(target));
        sides.map(|(_, waiting)| waiting.turns.len()).sum()
    }

    /// Everything in it, by side and turn.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, ExecutionId)> {
        self.sides.values().flat_map(|waiting| waiting.turns.iter().map(|(turn, id)| (*turn, *id)))
    }
}
