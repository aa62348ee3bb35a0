//! What a command does to executions: cancel, retry by hand, retry when it is time, hear how attempts ended.

use super::apply::{Step, within};
use crate::answer::{Accepted, Rejection};
use crate::command::{Reopening, Report};
use crate::event::Event;
use crate::execution::decide as execution_rules;
use crate::execution::state::{CancelCause, Execution, Occurrence, Status};
use crate::execution::waits::Wait;
use crate::identifier::{ExecutionId, TenantId};
use crate::limits::{RESULTS_PER_COMMAND_MAX, WAITS_PER_COMMAND_MAX};
use crate::task::decide as task_rules;

impl Step<'_> {
    pub(super) fn cancel(&mut self, execution: ExecutionId) -> Result<Accepted, Rejection> {
        let open = self.replica.executions.get(&execution).filter(|open| open.tenant == self.tenant);
        let open = open.ok_or(Rejection::NoSuchExecution)?.clone();
        if let Some(event) = execution_rules::stop(&open, CancelCause::Requested) {
            self.record(self.tenant, event);
            self.go_on_after(&open);
        }
        let status = self.replica.executions.get(&execution).map_or(Status::Cancelled, |open| open.status());
        Ok(Accepted::Execution { execution, status })
    }

    pub(super) fn reopen(&mut self, reopening: &Reopening) -> Result<Accepted, Rejection> {
        self.own_task(reopening.task)?;
        let id = reopening.execution;
        if let Some(open) = self.replica.executions.get(&id) {
            return Err(Rejection::WrongStatus { status: open.status() });
        }
        if ExecutionId::of(reopening.task, reopening.occurrence, reopening.scheduled_at) != id {
            return Err(Rejection::NoSuchExecution);
        }
        if matches!(reopening.status, Status::Succeeded) || !reopening.status.is_final() {
            return Err(Rejection::WrongStatus { status: reopening.status });
        }
        if self.replica.reopened.get(&id).is_some_and(|(index, _)| *index > reopening.as_of) {
            return Err(Rejection::Outdated);
        }
        if !self.reopen_in_run(reopening)? {
            self.record_reopened(reopening);
        }
        Ok(Accepted::Execution { execution: id, status: Status::Queued })
    }

    /// Gives an ended execution of a task that exists another attempt.
    pub(super) fn record_reopened(&mut self, reopening: &Reopening) {
        let Ok(task) = self.own_task(reopening.task) else { return };
        let event = Event::TaskReopened {
            slot: task.slot,
            task: task.id,
            execution: reopening.execution,
            occurrence: reopening.occurrence,
            scheduled_at: reopening.scheduled_at,
            task_version: task.version,
            attempts: reopening.attempts,
            status: reopening.status,
            retry_items: reopening.retry_items.clone(),
            cause: reopening.cause.clone(),
        };
        self.record(self.tenant, event);
    }

    pub(super) fn waits_over(&mut self, waits: &[(ExecutionId, Wait)]) -> Result<Accepted, Rejection> {
        within("waits in one command", waits.len(), WAITS_PER_COMMAND_MAX)?;
        for (execution, wait) in waits {
            let Some(open) = self.replica.executions.get(execution).cloned() else { continue };
            if let Some(event) = execution_rules::wait_over(&open, *wait, self.at) {
                self.record(open.tenant, event);
                self.go_on_after(&open);
            }
        }
        Ok(Accepted::Done)
    }

    pub(super) fn report(&mut self, report: &Report) -> Result<Accepted, Rejection> {
        within("results in one report", report.results.len(), RESULTS_PER_COMMAND_MAX)?;
        let key = (report.node, report.incarnation);
        let known = self.replica.workers.get(&key).map(|worker| worker.reports);
        if known.is_some_and(|heard| report.sequence <= heard) {
            return Ok(Accepted::Done);
        }
        for result in &report.results {
            match self.replica.executions.get(&result.execution).cloned() {
                Some(open) => {
                    let event = execution_rules::report(&open, result, self.at);
                    self.conclude(&open, event);
                    self.go_on_after(&open);
                }
                None => {
                    let (execution, token) = (result.execution, result.token);
                    let event = Event::TaskResultRefused { execution, token, current: None };
                    self.record(result.tenant, event);
                }
            }
        }
        if known.is_some() {
            let (node, incarnation, sequence) = (report.node, report.incarnation, report.sequence);
            self.record(TenantId::CLUSTER, Event::WorkerReported { node, incarnation, sequence });
            Ok(Accepted::Done)
        } else {
            Err(Rejection::UnknownWorker)
        }
    }

    /// Lets what waited for an execution go on, if it ended: the next one of its task, or the next instant of its backfill.
    pub(super) fn go_on_after(&mut self, ended: &Execution) {
        if self.replica.executions.contains_key(&ended.id) {
            return;
        }
        self.by_itself(|step| step.let_go_on(ended));
    }

    fn let_go_on(&mut self, ended: &Execution) {
        if self.replica.tasks.get(ended.slot).is_some_and(|task| task.id == ended.task) {
            self.pause_if_failing(ended.slot);
        }
        if let Occurrence::Backfill { backfill, .. } = ended.occurrence {
            self.continue_backfill(backfill);
            return;
        }
        let current = self.replica.tasks.get(ended.slot).filter(|current| current.id == ended.task);
        let released =
            current.and_then(|current| task_rules::release(current, &self.replica.executions, ended.id));
        if let Some(event) = released {
            self.record(ended.tenant, event);
        }
    }
}
