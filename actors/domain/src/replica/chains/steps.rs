//! What a command does to runs of chains: begins and skips what is due, cancels, takes up again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Chains;
use crate::answer::{Accepted, Rejection};
use crate::command::{RecalledRun, RecalledStep, Reopening};
use crate::event::{Chaining, EndedStep, Event};
use crate::execution::decide as execution_rules;
use crate::execution::state::{CancelCause, Execution, Occurrence, Status};
use crate::identifier::{ExecutionId, TaskId, TenantId};
use crate::limits::{CHAIN_TASKS_MAX, STEPS_PER_COMMAND_MAX};
use crate::replica::apply::{Step, within};
use crate::task::decide as task_rules;
use crate::task::rules::Rules;

impl Step<'_> {
    /// Refuses to let a task run after others that are not there, after itself, or in too long a chain.
    pub(in crate::replica) fn may_follow(
        &self,
        tenant: TenantId,
        task: TaskId,
        rules: &Rules,
    ) -> Result<(), Rejection> {
        let Some(after) = &rules.after else { return Ok(()) };
        let missing = |awaited: &&TaskId| self.replica.task(tenant, **awaited).is_none() && **awaited != task;
        let tasks: Vec<TaskId> = after.tasks.iter().filter(missing).copied().collect();
        if !tasks.is_empty() {
            return Err(Rejection::MissingTasks { tasks });
        }
        self.replica.chains.graph.check(tenant, task, after)
    }

    /// Refuses to let a task go that others run after, or will.
    pub(in crate::replica) fn is_not_awaited(&self, task: TaskId) -> Result<(), Rejection> {
        let mut tasks: Vec<TaskId> = self.replica.chains.graph.successors(self.tenant, task).collect();
        tasks.extend(self.replica.promised_after(self.tenant, task));
        if tasks.is_empty() { Ok(()) } else { Err(Rejection::TaskAwaited { tasks }) }
    }

    /// Begins or skips the steps that are due, up to the bound.
    pub(in crate::replica) fn follow(&mut self) {
        for _ in 0..STEPS_PER_COMMAND_MAX {
            let Some(((occurrence, task), due)) = self.replica.chains.due.first_key_value() else { return };
            let (tenant, occurrence, unmet) = (due.tenant, *occurrence, due.unmet.clone());
            let Some(current) = self.replica.task(tenant, *task) else { return };
            for event in task_rules::follow(current, &self.replica.executions, occurrence, unmet, self.at) {
                self.record(tenant, event);
            }
        }
    }

    pub(in crate::replica) fn cancel_run(&mut self, id: ExecutionId) -> Result<Accepted, Rejection> {
        let first = self.replica.executions.get(&id).filter(|open| open.tenant == self.tenant);
        let first = first.filter(|open| open.run() == id).cloned();
        let run = self.replica.chains.runs.get(&id).filter(|run| run.tenant == self.tenant);
        let task = match (run, &first) {
            (Some(run), _) => run.begun_by,
            (None, Some(first)) => first.task,
            (None, None) => return Err(Rejection::NoSuchRun),
        };
        let mut open: Vec<Arc<Execution>> = run
            .into_iter()
            .flat_map(|run| &run.open)
            .filter_map(|open| self.replica.executions.get(open).cloned())
            .collect();
        open.extend(first.filter(|first| open.iter().all(|other| other.id != first.id)));
        self.record(self.tenant, Event::Chain(Chaining::RunCancelled { task, run: id }));
        for open in open {
            if let Some(event) = execution_rules::stop(&open, CancelCause::Requested) {
                self.record(self.tenant, event);
                self.go_on_after(&open);
            }
        }
        Ok(Accepted::Done)
    }

    /// Takes up a run that ended: what failed first on each way is reopened, what came after it is decided anew.
    pub(in crate::replica) fn retry_run(&mut self, recalled: &RecalledRun) -> Result<Accepted, Rejection> {
        within("steps of one run", recalled.steps.len(), CHAIN_TASKS_MAX)?;
        let id = recalled.run;
        if self.replica.chains.runs.contains_key(&id) || self.replica.executions.contains_key(&id) {
            return Err(Rejection::RunOpen);
        }
        self.still_holds(recalled)?;
        let retried = |status: Status| status.is_failure() || status == Status::Cancelled;
        let ended = recalled.steps.iter().map(|step| &step.ended).filter(|ended| retried(ended.status));
        let unsuccessful: Vec<&Reopening> = ended.collect();
        if unsuccessful.is_empty() && !recalled.cancelled {
            return Err(Rejection::NothingToRetry);
        }
        let graph = &self.replica.chains.graph;
        let behind = graph.followers(self.tenant, unsuccessful.iter().map(|ended| ended.task));
        let first = unsuccessful.into_iter().filter(|ended| !behind.contains(&ended.task));
        let first: Vec<&Reopening> =
            first.filter(|ended| self.replica.task(self.tenant, ended.task).is_some()).collect();
        if first.is_empty() && !recalled.cancelled {
            return Err(Rejection::NoSuchTask);
        }
        self.take_up(id, Some(recalled), &first);
        Ok(Accepted::Done)
    }

    /// Reopens an execution that belongs to the run of a chain, and takes the run up with it. Says whether there is one.
    pub(in crate::replica) fn reopen_in_run(&mut self, reopening: &Reopening) -> Result<bool, Rejection> {
        let id = reopening.occurrence.run_of(reopening.execution);
        let present = match (self.replica.chains.runs.get(&id), &reopening.run) {
            (Some(run), _) => run.steps.get(&reopening.task).map(|step| step.execution),
            (None, Some(recalled)) => {
                within("steps of one run", recalled.steps.len(), CHAIN_TASKS_MAX)?;
                if recalled.run != id {
                    return Err(Rejection::Outdated);
                }
                self.still_holds(recalled)?;
                let mut steps = recalled.steps.iter().map(|step| &step.ended);
                steps.find(|ended| ended.task == reopening.task).map(|ended| ended.execution)
            }
            (None, None) => {
                let graph = &self.replica.chains.graph;
                let alone = id == reopening.execution && !graph.is_awaited(self.tenant, reopening.task);
                return if alone { Ok(false) } else { Err(Rejection::Outdated) };
            }
        };
        let follows = matches!(reopening.occurrence, Occurrence::After { .. });
        match present {
            Some(execution) if execution != reopening.execution => Err(Rejection::Superseded { execution }),
            // The run was taken up from before this step, and decides it anew.
            None if follows && self.replica.chains.runs.contains_key(&id) => Err(Rejection::RunOpen),
            _ => {
                self.take_up(id, reopening.run.as_deref(), &[reopening]);
                Ok(true)
            }
        }
    }

    /// Refuses what the read models said of a run if it was taken up since, or cannot be.
    fn still_holds(&self, recalled: &RecalledRun) -> Result<(), Rejection> {
        let of_run = |step: &RecalledStep| {
            let ended = &step.ended;
            ended.status.is_final()
                && ended.occurrence.run_of(ended.execution) == recalled.run
                && ExecutionId::of(ended.task, ended.occurrence, ended.scheduled_at) == ended.execution
        };
        if !recalled.steps.iter().all(of_run) {
            return Err(Rejection::NoSuchRun);
        }
        let since = |id| self.replica.reopened.get(id).is_some_and(|(index, _)| *index > recalled.as_of);
        let ends = recalled.steps.iter().map(|step| &step.ended.execution);
        if since(&recalled.run) || ends.into_iter().any(since) { Err(Rejection::Outdated) } else { Ok(()) }
    }

    fn take_up(&mut self, id: ExecutionId, recalled: Option<&RecalledRun>, first: &[&Reopening]) {
        let chains = &self.replica.chains;
        let Some(knowledge) = Knowledge::of(chains, id, recalled) else { return };
        let reopened: BTreeSet<TaskId> = first.iter().map(|ended| ended.task).collect();
        let behind = chains.graph.followers(self.tenant, reopened.iter().copied());
        let anew = |task: &TaskId| {
            let ended = knowledge.ends.get(task).copied().flatten();
            ended.is_some_and(|status| status != Status::Succeeded) && !reopened.contains(task)
        };
        let event = Event::Chain(Chaining::RunTakenUp {
            task: knowledge.begun_by,
            run: id,
            round: knowledge.round.saturating_add(1),
            correlation_id: knowledge.correlation_id.clone(),
            recalled: knowledge.recalled.clone(),
            dropped: behind.into_iter().filter(anew).collect(),
            reopened: first.iter().map(|ended| (ended.task, ended.execution)).collect(),
        });
        self.record(self.tenant, event);
        for ended in first {
            self.record_reopened(ended);
        }
    }
}

/// What is known of a run that is taken up: by the state, or else by the read models.
struct Knowledge {
    begun_by: TaskId,
    round: u32,
    correlation_id: Arc<str>,
    ends: BTreeMap<TaskId, Option<Status>>,
    recalled: Vec<EndedStep>,
}

impl Knowledge {
    fn of(chains: &Chains, id: ExecutionId, recalled: Option<&RecalledRun>) -> Option<Self> {
        if let Some(run) = chains.runs.get(&id) {
            let ends = run.steps.iter().map(|(task, step)| (*task, step.end.as_ref().map(|end| end.status)));
            return Some(Self {
                begun_by: run.begun_by,
                round: run.round,
                correlation_id: run.correlation_id.clone(),
                ends: ends.collect(),
                recalled: Vec::new(),
            });
        }
        let recalled = recalled?;
        let told = |step: &RecalledStep| EndedStep {
            task: step.ended.task,
            execution: step.ended.execution,
            status: step.ended.status,
            result: step.result.clone(),
        };
        Some(Self {
            begun_by: recalled.task,
            round: recalled.round,
            correlation_id: recalled.correlation_id.clone(),
            ends: recalled.steps.iter().map(|step| (step.ended.task, Some(step.ended.status))).collect(),
            recalled: recalled.steps.iter().map(told).collect(),
        })
    }
}

impl Chains {
    /// The request that a step goes back to, before it is in its run.
    pub(in crate::replica) fn correlation_of(&self, event: &Event) -> Option<Arc<str>> {
        let (task, occurrence) = match event {
            Event::TaskScheduled { task, occurrence, .. } | Event::TaskSkipped { task, occurrence, .. } => {
                (*task, *occurrence)
            }
            _ => return None,
        };
        match occurrence {
            Occurrence::After { .. } | Occurrence::Joined { .. } => {
                self.due.get(&(occurrence, task)).map(|due| due.correlation_id.clone())
            }
            _ => None,
        }
    }
}
