//! Runs of chains as wholes: how they stand, and what clients ask of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use escapement_actors::intent::Intent;
use escapement_domain::answer::Rejection;
use escapement_domain::command::{RecalledRun, RecalledStep};
use escapement_domain::execution::state::{Occurrence, Status};
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::replica::Replica;
use escapement_domain::replica::chains::{End, tasks_document};
use escapement_domain::task::rules::After;
use escapement_domain::task::trigger::AfterCondition;
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::{Caller, Consistency};
use super::executions::reopening;
use super::failure::ServiceError;
use super::history::{ExecutionQuery, ExecutionRow};
use crate::security::Permission;

/// Executions of a run that one look at the read models takes.
const PAGE: usize = 1_000;
/// Executions of a task among which the last end is looked for that another one followed.
const ENDS_LOOKED_AT: usize = 100;

/// A run of a chain at one moment.
#[derive(Clone, Debug)]
pub struct RunView {
    /// Its name: that of the execution that began it.
    pub id: ExecutionId,
    /// The task that began it.
    pub task: TaskId,
    /// How it stands as a whole.
    pub status: RunStatus,
    /// When its first execution was queued.
    pub started_at: Option<Timestamp>,
    /// When its last execution ended, if nothing of it is open.
    pub finished_at: Option<Timestamp>,
    /// Its tasks, each after those that it waits for.
    pub steps: Vec<StepView>,
}

/// One task of a run.
#[derive(Clone, Debug)]
pub struct StepView {
    /// The task.
    pub task: TaskId,
    /// What it is called, unless it is gone.
    pub name: Option<String>,
    /// Its last execution in the run; none if it was not reached.
    pub row: Option<Arc<ExecutionRow>>,
    /// The tasks that it waits for.
    pub after: Vec<TaskId>,
}

/// How a run stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// Something of it is open or yet to be decided.
    Running,
    /// It ended, and nothing of it failed or was cancelled.
    Succeeded,
    /// It ended, and something of it failed for good.
    Failed,
    /// It was cancelled, or something of it was.
    Cancelled,
    /// It never began: its first execution was skipped.
    Skipped,
}

impl RunStatus {
    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// The rows of a run: the one that began it, and the last of each task.
struct Rows {
    first: Arc<ExecutionRow>,
    last: BTreeMap<TaskId, Arc<ExecutionRow>>,
}

impl Service {
    /// Returns a run.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn run_of_chain(&self, caller: &Caller, id: ExecutionId) -> Result<RunView, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_history(caller.consistency).await?;
        let first = self.first_of_run(caller, id)?;
        self.run_view(first)
    }

    /// Tells what is open of a run to stop; nothing follows in it any more.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn cancel_run(&self, caller: &Caller, id: ExecutionId) -> Result<RunView, ServiceError> {
        self.settle_history(caller.consistency).await?;
        let first = self.first_of_run(caller, id)?;
        self.may_operate(caller, first.task)?;
        let carried = self.carry_out(caller, Intent::CancelRun { run: id }).await?;
        let first = self.recorded_execution(caller, carried.index, id).await?;
        self.run_view(first)
    }

    /// Takes a run up again from what failed in it, or was cancelled.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn retry_run(&self, caller: &Caller, id: ExecutionId) -> Result<RunView, ServiceError> {
        let as_of = self.settle_history(Consistency::Linearizable).await?;
        let first = self.first_of_run(caller, id)?;
        self.may_operate(caller, first.task)?;
        let rows = self.rows_of_run(first)?;
        // Repeated under its key, a retry gets its first answer whatever became of the run since.
        if caller.idempotency.is_none() {
            if self.is_open(&rows) {
                return Err(ServiceError::Rejected(Rejection::RunOpen));
            }
            if !matches!(self.status_of(&rows), RunStatus::Failed | RunStatus::Cancelled) {
                return Err(ServiceError::Rejected(Rejection::NothingToRetry));
            }
        }
        let mut recalled = self.recalled(&rows, as_of)?;
        // A first step that is made again takes its inputs from what made it; the others take theirs from the run.
        let is_first =
            |step: &&mut RecalledStep| step.ended.execution == id && step.ended.status != Status::Succeeded;
        if let Some(step) = recalled.steps.iter_mut().find(is_first) {
            step.ended.cause = self.cause_of(&rows.first)?;
        }
        let carried = self.carry_out(caller, Intent::RetryRun(Box::new(recalled))).await?;
        let first = self.recorded_execution(caller, carried.index, id).await?;
        self.run_view(first)
    }

    /// The run that goes on with an execution that is retried; none if nothing follows others with it.
    pub(super) fn recalled_run_of(
        &self,
        tenant: TenantId,
        row: &ExecutionRow,
        as_of: u64,
    ) -> Result<Option<RecalledRun>, ServiceError> {
        let awaited = |replica: &Replica| replica.chains().graph().is_awaited(tenant, row.task);
        if !row.follows() && !self.parts.machine.read(awaited) {
            return Ok(None);
        }
        let Some(first) = self.parts.read_models.execution(tenant, row.run())? else { return Ok(None) };
        self.recalled(&self.rows_of_run(first)?, as_of).map(Some)
    }

    /// The ends of tasks of several chains after which an execution ran: the last of each before it.
    pub(super) fn joined_ends(&self, row: &ExecutionRow) -> Result<Option<String>, ServiceError> {
        let after = |replica: &Replica| replica.chains().graph().after(row.tenant, row.task).cloned();
        let Some(after) = self.parts.machine.read(after) else { return Ok(None) };
        let only_failures = after.condition == AfterCondition::AnyFailed;
        let mut ends = Vec::new();
        for task in &after.tasks {
            let query = ExecutionQuery {
                task: Some(*task),
                to: Some(Timestamp(row.scheduled_at.0 + 1)),
                ..ExecutionQuery::newest(ENDS_LOOKED_AT)
            };
            let page = self.parts.read_models.executions(row.tenant, &query)?;
            let before = page.items.into_iter().filter_map(|row| Some((row.finished_at?, row)));
            let before = before.filter(|(at, ended)| {
                *at <= row.scheduled_at && (!only_failures || ended.status.is_failure())
            });
            ends.extend(before.max_by_key(|(at, _)| *at).map(|(at, ended)| (at, *task, ended)));
        }
        if only_failures {
            ends.sort_by_key(|(at, _, _)| std::cmp::Reverse(*at));
            ends.truncate(1);
        }
        let end = |ended: &ExecutionRow| End {
            execution: ended.id,
            status: ended.status,
            result: ended.result.clone(),
        };
        let ends: BTreeMap<TaskId, End> =
            ends.into_iter().map(|(_, task, ended)| (task, end(&ended))).collect();
        Ok(Some(tasks_document(ends.iter().map(|(task, end)| (*task, end)))))
    }

    /// The execution that began a run of the caller's tenant.
    fn first_of_run(&self, caller: &Caller, id: ExecutionId) -> Result<Arc<ExecutionRow>, ServiceError> {
        let first = self.find_execution(caller, id).ok().filter(|row| !row.follows());
        first.ok_or(ServiceError::NoSuchRun)
    }

    fn rows_of_run(&self, first: Arc<ExecutionRow>) -> Result<Rows, ServiceError> {
        let mut last: BTreeMap<TaskId, Arc<ExecutionRow>> = BTreeMap::new();
        let mut query = ExecutionQuery { run: Some(first.id), ..ExecutionQuery::newest(PAGE) };
        loop {
            let page = self.parts.read_models.executions(first.tenant, &query)?;
            for row in page.items {
                // Newest first, and of a later round before those of an earlier one.
                match last.get(&row.task) {
                    Some(known) if round(known) >= round(&row) => {}
                    _ => drop(last.insert(row.task, row)),
                }
            }
            match page.next {
                Some(next) => query.before = Some(next),
                None => return Ok(Rows { first, last }),
            }
        }
    }

    fn is_open(&self, rows: &Rows) -> bool {
        let known = |replica: &Replica| replica.chains().run(rows.first.id).is_some();
        rows.last.values().any(|row| !row.status.is_final()) || self.parts.machine.read(known)
    }

    fn status_of(&self, rows: &Rows) -> RunStatus {
        let some = |is: fn(Status) -> bool| rows.last.values().any(|row| is(row.status));
        if self.is_open(rows) {
            RunStatus::Running
        } else if some(Status::is_failure) {
            RunStatus::Failed
        } else if rows.first.run_cancelled || some(|status| status == Status::Cancelled) {
            RunStatus::Cancelled
        } else if rows.first.status == Status::Skipped {
            RunStatus::Skipped
        } else {
            RunStatus::Succeeded
        }
    }

    fn run_view(&self, first: Arc<ExecutionRow>) -> Result<RunView, ServiceError> {
        let rows = self.rows_of_run(first)?;
        let (tenant, begun_by) = (rows.first.tenant, rows.first.task);
        let mut links: BTreeMap<TaskId, Option<Arc<After>>> = self.parts.machine.read(|replica| {
            let graph = replica.chains().graph();
            let members = graph.members(tenant, begun_by).into_iter().chain(rows.last.keys().copied());
            members.map(|task| (task, graph.after(tenant, task).cloned())).collect()
        });
        // A step by hand follows nothing in the run that it begins.
        links.insert(begun_by, None);
        let status = self.status_of(&rows);
        let tenant_name = self.parts.machine.read(|replica| replica.tenant_name(tenant).cloned());
        let step = |task: TaskId| StepView {
            task,
            name: tenant_name.as_deref().and_then(|tenant| self.task_name(tenant, task)),
            row: rows.last.get(&task).cloned(),
            after: links.get(&task).cloned().flatten().map_or_else(Vec::new, |after| after.tasks.clone()),
        };
        let finished = rows.last.values().filter_map(|row| row.finished_at).max();
        Ok(RunView {
            id: rows.first.id,
            task: begun_by,
            status,
            started_at: rows.first.fired_at,
            finished_at: finished.filter(|_| status != RunStatus::Running),
            steps: in_order(&links).into_iter().map(step).collect(),
        })
    }

    /// What a task of a tenant is called, unless it is gone.
    pub(super) fn task_name(&self, tenant: &str, task: TaskId) -> Option<String> {
        Some(self.find_task(tenant, task)?.definition.open_definition().ok()?.name)
    }

    fn recalled(&self, rows: &Rows, as_of: u64) -> Result<RecalledRun, ServiceError> {
        let first = &rows.first;
        let wanted = self.wanted_results(rows)?;
        let step = |row: &Arc<ExecutionRow>| RecalledStep {
            ended: reopening(row, as_of),
            result: row.result.clone().filter(|_| wanted.contains(&row.task)),
        };
        Ok(RecalledRun {
            run: first.id,
            task: first.task,
            round: rows.last.values().map(|row| round(row)).max().unwrap_or(0),
            cancelled: first.run_cancelled,
            correlation_id: first.correlation().into(),
            steps: rows.last.values().map(step).collect(),
            as_of,
        })
    }

    /// The tasks of whose results a step takes values that did not succeed.
    fn wanted_results(&self, rows: &Rows) -> Result<BTreeSet<TaskId>, ServiceError> {
        let (tenant, begun_by) = (rows.first.tenant, rows.first.task);
        let succeeded =
            |task: &TaskId| rows.last.get(task).is_some_and(|row| row.status == Status::Succeeded);
        let following = self.parts.machine.read(|replica| {
            let members = replica.chains().graph().members(tenant, begun_by);
            let left = members.iter().filter(|task| !succeeded(task));
            left.filter_map(|task| replica.task(tenant, *task).cloned()).collect::<Vec<_>>()
        });
        let mut wanted = BTreeSet::new();
        for task in following {
            if !task.definition.open_definition()?.inputs.is_empty() {
                wanted.extend(task.rules.after.iter().flat_map(|after| after.tasks.iter().copied()));
            }
        }
        Ok(wanted)
    }
}

/// In which round of its run an execution was decided.
fn round(row: &ExecutionRow) -> u32 {
    match row.occurrence {
        Occurrence::After { round, .. } => round,
        _ => 0,
    }
}

/// Tasks, each after those that it waits for.
fn in_order(links: &BTreeMap<TaskId, Option<Arc<After>>>) -> Vec<TaskId> {
    let mut ordered: Vec<TaskId> = Vec::with_capacity(links.len());
    while ordered.len() < links.len() {
        let before = ordered.len();
        let ready = |after: &Option<Arc<After>>| {
            let awaited = after.iter().flat_map(|after| &after.tasks);
            awaited.filter(|task| links.contains_key(task)).all(|task| ordered.contains(task))
        };
        let left = links.iter().filter(|(task, _)| !ordered.contains(task));
        let next: Vec<TaskId> = left.filter(|(_, after)| ready(after)).map(|(task, _)| *task).collect();
        ordered.extend(next);
        if ordered.len() == before {
            // The graph has no cycle; if it had, the rest would be told all the same.
            let left: Vec<TaskId> = links.keys().filter(|task| !ordered.contains(task)).copied().collect();
            ordered.extend(left);
        }
    }
    ordered
}
