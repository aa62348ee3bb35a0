//! How each task stands from record to record: its definition, whether it is paused, what is open of it, what was decided by hand.
//!
//! Kept here once more, by a reading of the records that shares nothing with the state that is judged.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::command::Change;
use escapement_domain::event::Event;
use escapement_domain::execution::state::{CancelCause, Occurrence};
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::task::definition::{Definition, Overlap};
use escapement_domain::task::rules::Rules;
use escapement_domain::timestamp::Timestamp;

/// An execution that has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// Its place among all that were opened.
    pub(super) turn: usize,
    /// Whether it waits for an earlier one of its task.
    pub(super) held: bool,
    /// Whether it was to begin only when nothing else of its task is under way.
    pub(super) alone: bool,
    /// Whether it is a backfill's, which has a concurrency of its own.
    pub(super) backfill: bool,
    /// Why it was told to stop, if it was.
    pub(super) stopping: Option<CancelCause>,
}

/// A task at one moment.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) definition: Definition,
    pub(super) rules: Rules,
    pub(super) created_at: Timestamp,
    pub(super) paused: bool,
    /// How often it was fired, but for runs by hand and backfills.
    pub(super) runs: u32,
    /// What was decided by hand of its occurrences, by their instants.
    pub(super) by_hand: BTreeMap<Timestamp, Change>,
    /// Of those that were moved, the ones that ran already.
    ran: BTreeSet<Timestamp>,
    pub(super) open: BTreeMap<ExecutionId, Open>,
}

impl Standing {
    /// What is open and counts when another occurrence comes.
    pub(super) fn rivals(&self) -> impl Iterator<Item = &Open> {
        self.open.values().filter(|open| !open.backfill)
    }

    /// Whether it has run as often as it may.
    pub(super) fn is_exhausted(&self) -> bool {
        self.rules.max_runs.is_some_and(|most| self.runs >= most)
    }

    /// With the last run that it may have, nothing that was moved runs any more. Where one ran already, nothing else runs.
    fn let_moved_fall_away(&mut self) {
        if self.is_exhausted() {
            self.by_hand.retain(|at, change| matches!(change, Change::Skip) || self.ran.contains(at));
        }
    }
}

/// How all tasks stand.
#[derive(Default)]
pub(super) struct Standings {
    tasks: BTreeMap<(TenantId, TaskId), Standing>,
    opened: usize,
}

impl Standings {
    /// The task of a record, if there is one.
    pub(super) fn of(&self, record: &Record) -> Option<&Standing> {
        self.tasks.get(&(record.header.tenant, record.event.task()?))
    }

    /// Reads the next record.
    pub(super) fn follow(&mut self, record: &Record) {
        let Some(task) = record.event.task() else { return };
        let key = (record.header.tenant, task);
        match &record.event {
            Event::TaskCreated { definition, paused, created_at, .. } => {
                let Ok(definition) = definition.open_definition() else { return };
                let rules = Rules::of(&definition);
                let (runs, by_hand, open) = (0, BTreeMap::new(), BTreeMap::new());
                let (created_at, paused) = (*created_at, *paused);
                let ran = BTreeSet::new();
                let created = Standing { definition, rules, created_at, paused, runs, by_hand, ran, open };
                self.tasks.insert(key, created);
            }
            Event::TaskDeleted { .. } => drop(self.tasks.remove(&key)),
            event => {
                self.opened += 1;
                if let Some(standing) = self.tasks.get_mut(&key) {
                    standing.change(event, self.opened);
                }
            }
        }
    }
}

impl Standing {
    fn change(&mut self, event: &Event, turn: usize) {
        match event {
            Event::TaskUpdated { definition, .. } => {
                if let Ok(definition) = definition.open_definition() {
                    self.rules = Rules::of(&definition);
                    self.definition = definition;
                }
                self.let_moved_fall_away();
            }
            Event::TaskPaused { .. } => self.paused = true,
            Event::TaskResumed { .. } => self.paused = false,
            Event::TaskOccurrenceChanged { at, change: Change::Restore, .. } => {
                self.by_hand.remove(at);
            }
            Event::TaskOccurrenceChanged { at, change, .. } => {
                self.by_hand.insert(*at, *change);
                self.ran.remove(at);
            }
            Event::TaskScheduled { execution, occurrence, held, .. } => {
                let backfill = matches!(occurrence, Occurrence::Backfill { .. });
                let alone = !backfill && self.rules.overlap != Overlap::Allow;
                self.open.insert(*execution, Open { turn, held: *held, alone, backfill, stopping: None });
                if let Occurrence::Moved(at) = occurrence {
                    self.ran.insert(*at);
                }
                if !backfill && !matches!(occurrence, Occurrence::Manual(_)) {
                    self.runs += 1;
                    self.let_moved_fall_away();
                }
            }
            // Another attempt by hand waits for nobody.
            Event::TaskReopened { execution, occurrence, .. } => {
                let backfill = matches!(occurrence, Occurrence::Backfill { .. });
                self.open
                    .insert(*execution, Open { turn, held: false, alone: false, backfill, stopping: None });
            }
            Event::TaskReleased { execution, .. } => {
                if let Some(open) = self.open.get_mut(execution) {
                    open.held = false;
                    open.alone &= self.rules.overlap != Overlap::Allow;
                }
            }
            Event::TaskCancelRequested { execution, cause, .. } => {
                if let Some(open) = self.open.get_mut(execution) {
                    open.stopping = Some(*cause);
                }
            }
            Event::TaskCompleted { execution, .. }
            | Event::TaskFailed { execution, .. }
            | Event::TaskTimedOut { execution, .. }
            | Event::TaskCancelled { execution, .. }
            | Event::TaskLost { execution, .. } => drop(self.open.remove(execution)),
            _ => {}
        }
    }
}
