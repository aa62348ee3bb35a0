//! Backfills: the occurrences of a range of the past, run so many at once.

use escapement_actors::intent::Intent;
use escapement_domain::answer::Accepted;
use escapement_domain::identifier::{CommandId, TaskId};
use escapement_domain::replica::backfills::Backfill;
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::validation::BackfillRange;
use crate::security::Permission;

/// A backfill at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillView {
    /// Its name.
    pub id: CommandId,
    /// The task that is run.
    pub task: TaskId,
    /// The first of its instants; of one that has ended, where the range began.
    pub from: Timestamp,
    /// The last of its instants; of one that has ended, where the range ended.
    pub to: Timestamp,
    /// How many instants it has.
    pub total: u32,
    /// How many run at once.
    pub concurrency: u32,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// How many of its executions are open.
    pub open: u32,
    /// How many instants are not run yet.
    pub left: u32,
}

impl Service {
    /// Runs the occurrences of a range of the past.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn backfill(
        &self,
        caller: &Caller,
        task: TaskId,
        range: BackfillRange,
    ) -> Result<BackfillView, ServiceError> {
        let BackfillRange { from, to, concurrency } = range;
        let carried = self.operate(caller, task, Intent::Backfill { task, from, to, concurrency }).await?;
        let Accepted::Backfill { backfill: id, total } = carried.accepted else {
            return Err(ServiceError::broken("a backfill was answered with something else"));
        };
        let running = self.find_backfills(task).into_iter().find(|running| running.id == id);
        // A short one may have ended by now. Its name carries the moment at which it was made.
        let started_at = Timestamp(i64::try_from(id.0 >> 80).unwrap_or(0));
        let ended = BackfillView { id, task, from, to, total, concurrency, started_at, open: 0, left: 0 };
        Ok(running.unwrap_or(ended))
    }

    /// Lists the backfills of a task that have not ended, oldest first.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn backfills(&self, caller: &Caller, task: TaskId) -> Result<Vec<BackfillView>, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        self.find_task(caller.tenant(), task).ok_or(ServiceError::NoSuchTask)?;
        Ok(self.find_backfills(task))
    }

    /// Stops a backfill: what it has left is not run, and what is open of it is cancelled.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn cancel_backfill(
        &self,
        caller: &Caller,
        task: TaskId,
        backfill: CommandId,
    ) -> Result<(), ServiceError> {
        self.operate(caller, task, Intent::CancelBackfill { task, backfill }).await.map(|_| ())
    }

    fn find_backfills(&self, task: TaskId) -> Vec<BackfillView> {
        self.parts.machine.read(|replica| {
            replica.backfills_of(task).map(|(id, backfill)| BackfillView::of(id, backfill)).collect()
        })
    }
}

impl BackfillView {
    fn of(id: CommandId, backfill: &Backfill) -> Self {
        let (from, to) = backfill.range;
        Self {
            id,
            task: backfill.task,
            from,
            to,
            total: backfill.total,
            concurrency: backfill.concurrency,
            started_at: backfill.started_at,
            open: backfill.open,
            left: u32::try_from(backfill.left.len()).unwrap_or(u32::MAX),
        }
    }
}
