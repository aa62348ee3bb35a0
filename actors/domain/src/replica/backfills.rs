//! Backfills: instants of the past that are run, in order, so many at once. What is left of each is in the state, and the
//! end of one execution grants the next.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Replica;
use super::apply::{Step, within};
use crate::answer::{Accepted, Rejection};
use crate::event::Event;
use crate::execution::decide as execution_rules;
use crate::execution::state::{CancelCause, Execution, Occurrence};
use crate::identifier::{CommandId, TaskId, TenantId};
use crate::limits::{BACKFILL_CONCURRENCY_MAX, BACKFILL_INSTANTS_MAX, BACKFILLS_PER_TASK_MAX};
use crate::record::Record;
use crate::task::decide as task_rules;
use crate::timestamp::Timestamp;

/// One backfill that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Whose it is.
    pub tenant: TenantId,
    /// The task that is run.
    pub task: TaskId,
    /// Where the task is kept.
    pub slot: u32,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// Its first and its last instant.
    pub range: (Timestamp, Timestamp),
    /// How many instants it has.
    pub total: u32,
    /// How many run at once.
    pub concurrency: u32,
    /// How many of its executions are open.
    pub open: u32,
    /// Instants that are not run yet, oldest first.
    pub left: VecDeque<Timestamp>,
    /// The request that all of its executions go back to.
    pub correlation_id: Arc<str>,
}

impl Replica {
    /// The backfills of a task that have not ended, oldest first.
    pub fn backfills_of(&self, task: TaskId) -> impl Iterator<Item = (CommandId, &Backfill)> {
        let of_task = move |(_, backfill): &(&CommandId, &Backfill)| backfill.task == task;
        self.backfills.iter().filter(of_task).map(|(id, backfill)| (*id, backfill))
    }

    pub(super) fn evolve_backfill(&mut self, record: &Record) {
        match &record.event {
            Event::BackfillStarted { slot, task, backfill, instants, concurrency } => {
                let (Some(first), Some(last)) = (instants.first(), instants.last()) else { return };
                let started = Backfill {
                    tenant: record.header.tenant,
                    task: *task,
                    slot: *slot,
                    started_at: record.header.at,
                    range: (*first, *last),
                    total: u32::try_from(instants.len()).unwrap_or(u32::MAX),
                    concurrency: *concurrency,
                    open: 0,
                    left: instants.iter().copied().collect(),
                    correlation_id: record.header.correlation_id.clone(),
                };
                self.backfills.insert(*backfill, started);
            }
            Event::BackfillEnded { backfill, .. } => drop(self.backfills.remove(backfill)),
            _ => {}
        }
    }

    /// An execution was opened: if it is of a backfill, its instant is no longer left.
    pub(super) fn backfill_began(&mut self, occurrence: Occurrence) {
        let Occurrence::Backfill { backfill, instant } = occurrence else { return };
        let Some(backfill) = self.backfills.get_mut(&backfill) else { return };
        backfill.open += 1;
        // One that is made again by hand is not among those that are left.
        if backfill.left.front() == Some(&instant) {
            backfill.left.pop_front();
        }
    }

    /// An execution ended.
    pub(super) fn backfill_went_on(&mut self, occurrence: Occurrence) {
        let Occurrence::Backfill { backfill, .. } = occurrence else { return };
        if let Some(backfill) = self.backfills.get_mut(&backfill) {
            backfill.open = backfill.open.saturating_sub(1);
        }
    }
}

impl Step<'_> {
    pub(super) fn start_backfill(
        &mut self,
        task: TaskId,
        instants: &[Timestamp],
        concurrency: u32,
    ) -> Result<Accepted, Rejection> {
        within("instants in one backfill", instants.len(), BACKFILL_INSTANTS_MAX)?;
        within("executions of a backfill at once", concurrency as usize, BACKFILL_CONCURRENCY_MAX as usize)?;
        let slot = self.own_task(task)?.slot;
        let backfill = self.client.map(|client| client.command).ok_or(Rejection::NoSuchTask)?;
        let running = self.replica.backfills_of(task).count();
        within("backfills of one task at a time", running + 1, BACKFILLS_PER_TASK_MAX)?;
        let total = u32::try_from(instants.len()).unwrap_or(u32::MAX);
        let ordered = instants.is_sorted_by(|one, next| one < next);
        let past = instants.last().is_some_and(|last| *last <= self.at);
        if !ordered || !past || concurrency == 0 {
            return Err(Rejection::Unreadable {
                detail: "a backfill is of instants of the past, in order".into(),
            });
        }
        let instants = instants.to_vec();
        self.record(self.tenant, Event::BackfillStarted { slot, task, backfill, instants, concurrency });
        self.continue_backfill(backfill);
        Ok(Accepted::Backfill { backfill, total })
    }

    pub(super) fn cancel_backfill(
        &mut self,
        task: TaskId,
        backfill: CommandId,
    ) -> Result<Accepted, Rejection> {
        self.own_task(task)?;
        let running = self.replica.backfills.get(&backfill).filter(|running| running.task == task);
        let left_out = running.ok_or(Rejection::NoSuchBackfill)?.left.len();
        let left_out = u32::try_from(left_out).unwrap_or(u32::MAX);
        let of_backfill = |open: &&Arc<Execution>| match open.occurrence {
            Occurrence::Backfill { backfill: other, .. } => other == backfill,
            _ => false,
        };
        let stopped: Vec<Event> = self
            .own_task(task)?
            .open
            .iter()
            .filter_map(|id| self.replica.executions.get(id))
            .filter(of_backfill)
            .filter_map(|open| execution_rules::stop(open, CancelCause::Requested))
            .collect();
        self.record(self.tenant, Event::BackfillEnded { task, backfill, left_out });
        for event in stopped {
            self.record(self.tenant, event);
        }
        Ok(Accepted::Done)
    }

    /// Runs the next instants of a backfill up to its concurrency, and ends it when none is left.
    pub(super) fn continue_backfill(&mut self, id: CommandId) {
        while let Some(backfill) = self.replica.backfills.get(&id) {
            let (tenant, task) = (backfill.tenant, backfill.task);
            let event = match backfill.left.front() {
                Some(instant) if backfill.open < backfill.concurrency => {
                    let Some(current) = self.replica.tasks.get(backfill.slot) else { return };
                    task_rules::backfill(current, id, *instant)
                }
                None if backfill.open == 0 => Event::BackfillEnded { task, backfill: id, left_out: 0 },
                Some(_) | None => return,
            };
            self.record(tenant, event);
        }
    }
}
