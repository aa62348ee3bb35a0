//! The life of each task as the records tell it: definitions, instants that were settled, pauses, its end.
//!
//! Only what the log says and when it said it; what should have been is worked out by the invariants.

use std::collections::BTreeMap;

use escapement_domain::command::Change;
use escapement_domain::event::Event;
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::plan::Timetable;
use escapement_domain::timestamp::Timestamp;

use crate::evidence::Evidence;

/// What became of instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// An execution.
    Fired,
    /// Skipped or missed, with a reason.
    PassedOver,
    /// An execution at the time to which its occurrence was moved: no instant of the schedule.
    Moved,
}

/// Instants that were settled together.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    /// Under which definition: its place.
    pub(super) segment: usize,
    /// The first of them.
    pub(super) first: Timestamp,
    /// The last of them.
    pub(super) last: Timestamp,
    /// How many.
    pub(super) count: u32,
    /// What was said to follow.
    pub(super) next: Option<Timestamp>,
    /// When, in ms of the world.
    pub(super) at: u64,
    /// When, by the record.
    pub(super) stamp: Timestamp,
    /// When the task last changed before that, in ms of the world.
    pub(super) changed: u64,
    /// What became of them.
    pub(super) fate: Fate,
}

/// A definition while it was the task's.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// From when, in ms of the world.
    pub(super) from: u64,
    /// The definition.
    pub(super) definition: Definition,
    /// The first instant under it.
    pub(super) next: Option<Timestamp>,
    /// The instant from which its instants were counted, by the record.
    pub(super) stamp: Timestamp,
}

/// A moment at which everything that had come must be settled: a definition was replaced, or the task was paused or deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// What happened.
    pub(super) what: &'static str,
    /// Under which definition: its place.
    pub(super) segment: usize,
    /// How many of [`Life::settled`] came before.
    pub(super) settled: usize,
    /// When, by the record.
    pub(super) stamp: Timestamp,
    /// The first time to which an occurrence was moved that had not run.
    pub(super) moved: Option<Timestamp>,
}

/// The life of one task.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// Its definitions.
    pub(super) segments: Vec<Segment>,
    /// What was settled.
    pub(super) settled: Vec<Settled>,
    /// When its definition or phase changed, in ms of the world, and whether it was paused from then on.
    pub(super) phases: Vec<(u64, bool)>,
    /// When everything that had come must be settled.
    pub(super) ends: Vec<End>,
    /// When it was created, by its proposer's clock.
    pub(super) created_at: Timestamp,
    /// When it was deleted.
    pub(super) deleted: Option<u64>,
    /// Whether any of its executions was told to stop.
    pub(super) cancelled: bool,
    /// Occurrences that were moved and have not run: where to, by their instants.
    pub(super) moved: BTreeMap<Timestamp, Timestamp>,
    /// How often it was fired by events or after others, by the place of the definition that did.
    pub(super) heard: BTreeMap<usize, u32>,
    /// How often it was fired, but for runs by hand and backfills.
    runs: u32,
}

impl Life {
    /// The timetable of a segment.
    #[must_use]
    pub(super) fn timetable(&self, task: TaskId, segment: usize) -> Option<Timetable> {
        let segment = self.segments.get(segment)?;
        Timetable::compile(&segment.definition, task, self.created_at, Vec::new()).ok()
    }

    /// Whether it was paused at a time of the world.
    #[must_use]
    pub(super) fn paused_at(&self, time: u64) -> bool {
        self.phases.iter().rev().find(|(at, _)| *at <= time).is_some_and(|(_, paused)| *paused)
    }

    fn settle(
        &mut self,
        first: Timestamp,
        last: Timestamp,
        count: u32,
        next: Option<Timestamp>,
        (record, at): (&Record, u64),
        fate: Fate,
    ) {
        self.runs += u32::from(fate != Fate::PassedOver);
        self.let_moved_fall_away();
        let changed = self.phases.last().map_or(0, |(at, _)| *at);
        let segment = self.segments.len().saturating_sub(1);
        let stamp = record.header.at;
        self.settled.push(Settled { segment, first, last, count, next, at, stamp, changed, fate });
    }
}

impl Life {
    fn end(&mut self, record: &Record) {
        let what = record.event.name();
        let segment = self.segments.len().saturating_sub(1);
        let (settled, moved) = (self.settled.len(), self.moved.values().min().copied());
        self.ends.push(End { what, segment, settled, stamp: record.header.at, moved });
    }

    /// With the last run that it may have, nothing that was moved runs any more.
    fn let_moved_fall_away(&mut self) {
        let most = self.segments.last().and_then(|segment| segment.definition.max_runs);
        if most.is_some_and(|most| self.runs >= most) {
            self.moved.clear();
        }
    }
}

/// The lives of all tasks.
pub(super) type Lives = BTreeMap<(TenantId, TaskId), Life>;

/// Reads the lives of all tasks from the records.
#[must_use]
pub(super) fn lives(evidence: &Evidence) -> Lives {
    let mut lives = Lives::new();
    for record in &evidence.records {
        let Some(task) = record.event.task() else { continue };
        let life = lives.entry((record.header.tenant, task)).or_default();
        tell(life, record, evidence.committed_at(record));
    }
    lives
}

fn tell(life: &mut Life, record: &Record, at: u64) {
    let event = &record.event;
    match event {
        Event::TaskUpdated { .. } | Event::TaskPaused { .. } | Event::TaskDeleted { .. } => life.end(record),
        _ => {}
    }
    match event {
        Event::TaskCreated { definition, next, .. } | Event::TaskUpdated { definition, next, .. } => {
            let (paused, stamp) = match event {
                Event::TaskCreated { paused, created_at, .. } => {
                    life.created_at = *created_at;
                    (*paused, *created_at)
                }
                _ => (life.phases.last().is_some_and(|(_, paused)| *paused), record.header.at),
            };
            if let Ok(definition) = definition.open_definition() {
                life.segments.push(Segment { from: at, definition, next: *next, stamp });
            }
            life.phases.push((at, paused));
            life.let_moved_fall_away();
        }
        Event::TaskPaused { .. } => life.phases.push((at, true)),
        Event::TaskResumed { .. } => life.phases.push((at, false)),
        Event::TaskDeleted { .. } => life.deleted = Some(at),
        Event::TaskScheduled { occurrence: Occurrence::Scheduled(instant), next, .. } => {
            life.settle(*instant, *instant, 1, *next, (record, at), Fate::Fired);
        }
        Event::TaskScheduled {
            occurrence: Occurrence::Event(_) | Occurrence::After { .. } | Occurrence::Joined { .. },
            ..
        } => {
            *life.heard.entry(life.segments.len().saturating_sub(1)).or_default() += 1;
            life.runs += 1;
            life.let_moved_fall_away();
        }
        Event::TaskSkipped { occurrence: Occurrence::Scheduled(instant), next, .. } => {
            life.settle(*instant, *instant, 1, *next, (record, at), Fate::PassedOver);
        }
        Event::TaskMissed { first, last, count, next, .. }
        | Event::TaskSuppressed { first, last, count, next, .. } => {
            life.settle(*first, *last, *count, *next, (record, at), Fate::PassedOver);
        }
        Event::TaskMoved { at: instant, next, .. } => {
            life.settle(*instant, *instant, 1, *next, (record, at), Fate::PassedOver);
        }
        Event::TaskScheduled { occurrence: Occurrence::Moved(instant), scheduled_at, next, .. } => {
            life.moved.remove(instant);
            life.settle(*scheduled_at, *scheduled_at, 0, *next, (record, at), Fate::Moved);
        }
        Event::TaskSkipped { occurrence: Occurrence::Moved(instant), .. } => {
            life.moved.remove(instant);
        }
        Event::TaskOccurrenceChanged { at: instant, change: Change::Move { to }, .. } => {
            life.moved.insert(*instant, *to);
        }
        Event::TaskOccurrenceChanged { at: instant, .. } => drop(life.moved.remove(instant)),
        Event::TaskCancelRequested { .. } | Event::TaskCancelled { .. } => life.cancelled = true,
        _ => {}
    }
}
