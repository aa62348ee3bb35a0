//! What clients ask of executions.

use std::sync::Arc;

use escapement_actors::intent::Intent;
use escapement_domain::answer::Rejection;
use escapement_domain::command::Reopening;
use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{ExecutionId, TaskId};

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::following::no_answer;
use super::history::{
    AttemptWorker, ExecutionPage, ExecutionQuery, ExecutionRow, HistoryError, OutputCursor, OutputLine,
    OutputQuery,
};
use super::waiting::waiting_for;
use crate::security::Permission;

/// Counts of a tenant's executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionCounts {
    /// How many stand how.
    pub by_status: Vec<(Status, u64)>,
    /// How late half of the last hour's fires were at most, in milliseconds.
    pub lateness_p50_ms: Option<u64>,
    /// How late 99 of 100 of them were at most.
    pub lateness_p99_ms: Option<u64>,
    /// Workers that take something new.
    pub workers: usize,
}

/// What the state says of an execution that has not ended, beside its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// From 0 to 9.
    pub priority: u8,
    /// What it waits for, in a sentence; none if it runs.
    pub waiting_for: Option<String>,
}

/// Which output of an execution is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Only of this attempt.
    pub attempt: Option<u32>,
    /// Where the page before ended.
    pub after: Option<OutputCursor>,
    /// At most so many lines.
    pub limit: usize,
}

/// Some output of an execution.
#[derive(Clone, Debug, Default)]
pub struct LogPage {
    /// The lines, in order.
    pub items: Vec<OutputLine>,
    /// Where the next page begins; none when there is no more for now.
    pub next: Option<OutputCursor>,
}

impl Service {
    /// Lists executions, newest first.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn executions(
        &self,
        caller: &Caller,
        query: &ExecutionQuery,
    ) -> Result<ExecutionPage, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_history(caller.consistency).await?;
        match self.tenant_number(caller.tenant()) {
            Some(tenant) => Ok(self.parts.read_models.executions(tenant, query)?),
            None => Ok(ExecutionPage::default()),
        }
    }

    /// How an execution stands now; none if it has ended.
    #[must_use]
    pub fn standing(&self, id: ExecutionId) -> Option<Standing> {
        self.parts.machine.read(|replica| {
            let open = replica.execution(id)?;
            Some(Standing { priority: open.priority, waiting_for: waiting_for(open, replica) })
        })
    }

    /// Returns an execution.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn execution(
        &self,
        caller: &Caller,
        id: ExecutionId,
    ) -> Result<Arc<ExecutionRow>, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_history(caller.consistency).await?;
        self.find_execution(caller, id)
    }

    pub(super) fn find_execution(
        &self,
        caller: &Caller,
        id: ExecutionId,
    ) -> Result<Arc<ExecutionRow>, ServiceError> {
        let tenant = self.tenant_number(caller.tenant()).ok_or(ServiceError::NoSuchExecution)?;
        self.parts.read_models.execution(tenant, id)?.ok_or(ServiceError::NoSuchExecution)
    }

    /// Reads what an execution's attempts wrote, one attempt after the other.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn execution_logs(
        &self,
        caller: &Caller,
        id: ExecutionId,
        query: LogQuery,
    ) -> Result<LogPage, ServiceError> {
        let row = self.execution(caller, id).await?;
        let begin =
            query.after.map_or(0, |after| if is_behind(after) { after.attempt + 1 } else { after.attempt });
        let wanted = |number: u32| query.attempt.is_none_or(|only| only == number) && number >= begin;
        let mut page = LogPage::default();
        for attempt in row.attempts.iter().filter(|attempt| wanted(attempt.number)) {
            // What a worker outside writes is its own.
            let AttemptWorker::Node(node) = attempt.worker else { continue };
            let output = OutputQuery {
                execution: id,
                attempt: attempt.number,
                node,
                after: query.after.filter(|after| after.attempt == attempt.number),
                limit: query.limit.saturating_sub(page.items.len()),
            };
            if output.limit == 0 {
                // The next page begins with this attempt.
                page.next = Some(behind(attempt.number.saturating_sub(1)));
                break;
            }
            match self.parts.outputs.read(output).await {
                Ok(of_attempt) => {
                    page.items.extend(of_attempt.lines);
                    page.next = of_attempt.next;
                }
                Err(HistoryError::Elsewhere) => page.items.push(no_answer(attempt)),
                Err(error) => return Err(error.into()),
            }
            if page.next.is_some() {
                break;
            }
        }
        Ok(page)
    }

    /// Tells an execution to stop.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn cancel_execution(
        &self,
        caller: &Caller,
        id: ExecutionId,
    ) -> Result<Arc<ExecutionRow>, ServiceError> {
        let task = self.open_task_to_operate(caller, id).await?;
        match self.carry_out(caller, Intent::CancelExecution { execution: id, task }).await {
            Ok(carried) => self.recorded_execution(caller, carried.index, id).await,
            Err(ServiceError::NoSuchExecution) => {
                // It ended in between.
                self.settle_history(caller.consistency).await?;
                let status = self.find_execution(caller, id)?.status;
                Err(ServiceError::Rejected(Rejection::WrongStatus { status }))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives an ended execution another attempt.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn retry_execution(
        &self,
        caller: &Caller,
        id: ExecutionId,
    ) -> Result<Arc<ExecutionRow>, ServiceError> {
        let as_of = self.settle_history(super::Consistency::Linearizable).await?;
        let row = self.find_execution(caller, id)?;
        let tenant = row.tenant;
        self.may_operate(caller, row.task)?;
        let allowed = row.status.is_final() && row.status != Status::Succeeded;
        // Repeated under its key, a retry gets its first answer whatever became of the execution since.
        if !allowed && caller.idempotency.is_none() {
            return Err(ServiceError::Rejected(Rejection::WrongStatus { status: row.status }));
        }
        let reopening = Reopening {
            cause: self.cause_of(&row)?,
            run: self.recalled_run_of(tenant, &row, as_of)?.map(Box::new),
            ..reopening(&row, as_of)
        };
        let carried = self.carry_out(caller, Intent::RetryExecution(Box::new(reopening))).await?;
        self.recorded_execution(caller, carried.index, id).await
    }

    /// The task of an open execution that the caller may stop and hasten; one that ended can be neither.
    pub(super) async fn open_task_to_operate(
        &self,
        caller: &Caller,
        id: ExecutionId,
    ) -> Result<TaskId, ServiceError> {
        let mut open = self.open_task_of(caller, id);
        if open.is_none() {
            // What another node acknowledged may not have come here yet.
            self.settle_history(caller.consistency).await?;
            open = self.open_task_of(caller, id);
        }
        let Some(task) = open else {
            let row = self.find_execution(caller, id)?;
            self.may_operate(caller, row.task)?;
            // Repeated under its key, a request gets its first answer whatever became of the execution since.
            if caller.idempotency.is_some() {
                return Ok(row.task);
            }
            return Err(ServiceError::Rejected(Rejection::WrongStatus { status: row.status }));
        };
        self.may_operate(caller, task)?;
        Ok(task)
    }

    pub(super) fn open_task_of(&self, caller: &Caller, id: ExecutionId) -> Option<TaskId> {
        self.parts.machine.read(|replica| {
            let tenant = replica.tenant_number(caller.tenant())?;
            replica.execution(id).filter(|open| open.tenant == tenant).map(|open| open.task)
        })
    }

    /// What an editor may do with its own tasks takes an operator when the task is gone.
    pub(super) fn may_operate(&self, caller: &Caller, task: TaskId) -> Result<(), ServiceError> {
        let owner = self.find_task(caller.tenant(), task).map(|task| task.owner).unwrap_or_default();
        caller.may(Permission::OperateTask { owner: &owner })
    }

    /// Counts the executions of the caller's tenant.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn execution_counts(&self, caller: &Caller) -> Result<ExecutionCounts, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_history(caller.consistency).await?;
        let statistics = self
            .tenant_number(caller.tenant())
            .map(|tenant| self.parts.read_models.statistics(tenant))
            .unwrap_or_default();
        Ok(ExecutionCounts {
            by_status: Status::ALL.into_iter().map(|status| (status, statistics.count(status))).collect(),
            lateness_p50_ms: statistics.lateness(500).map(|span| span.0),
            lateness_p99_ms: statistics.lateness(990).map(|span| span.0),
            workers: self.workers_ready(),
        })
    }
}

/// The place behind everything that an attempt wrote.
pub(super) fn behind(attempt: u32) -> OutputCursor {
    OutputCursor { attempt, pack: u32::MAX, line: u32::MAX }
}

pub(super) fn is_behind(place: OutputCursor) -> bool {
    place == behind(place.attempt) && place.attempt < u32::MAX
}

/// An execution as the read models know it, up to an index of the log, to get another attempt; without what made it, and
/// without its run.
pub(super) fn reopening(row: &ExecutionRow, as_of: u64) -> Reopening {
    Reopening {
        execution: row.id,
        task: row.task,
        occurrence: row.occurrence,
        scheduled_at: row.scheduled_at,
        status: row.status,
        attempts: row.attempt,
        retry_items: row.retry_items.clone(),
        cause: None,
        as_of,
        run: None,
    }
}
