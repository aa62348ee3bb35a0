//! What runs after others ran for a reason, once in each round of a run; and what had a reason ran, or was skipped.
//!
//! The conditions are worked out again from the definitions and the ends that the records tell. Steps whose chain changed while
//! their run went on are judged for their number only, and tasks of several chains for nothing: which ends they had counted
//! is not in the records.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::event::{Chaining, Event, SkipReason};
use escapement_domain::execution::state::{Occurrence, Status};
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::task::trigger::{AfterCondition, Trigger};

use super::story::Lives;
use crate::evidence::Evidence;

/// What a task waits for, and since which entry of the log.
struct Link {
    awaited: Option<(Vec<TaskId>, AfterCondition)>,
    since: u64,
}

/// A run as the records tell it.
struct Run {
    tenant: TenantId,
    begun_by: TaskId,
    since: u64,
    cancelled: bool,
    /// How its steps ended; none for one that has not.
    steps: BTreeMap<TaskId, Option<Status>>,
}

#[derive(Default)]
struct Books {
    links: BTreeMap<(TenantId, TaskId), Link>,
    runs: BTreeMap<ExecutionId, Run>,
    executions: BTreeMap<ExecutionId, (TaskId, ExecutionId)>,
    decided: BTreeSet<(ExecutionId, u32, TaskId)>,
    found: Vec<String>,
}

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut books = Books::default();
    evidence.records.iter().for_each(|record| books.read(record));
    books.miss();
    books.found
}

impl Books {
    fn read(&mut self, record: &Record) {
        let (tenant, index) = (record.header.tenant, record.header.log_index);
        match &record.event {
            Event::TaskCreated { task, definition, .. } | Event::TaskUpdated { task, definition, .. } => {
                let trigger = definition.open_definition().ok().map(|definition| definition.trigger);
                let awaited = match trigger {
                    Some(Trigger::After { tasks, condition }) => Some((tasks, condition)),
                    _ => None,
                };
                self.links.insert((tenant, *task), Link { awaited, since: index });
            }
            Event::TaskDeleted { task, .. } => drop(self.links.remove(&(tenant, *task))),
            Event::TaskScheduled { task, execution, occurrence, .. } => {
                self.begin(record, *task, *execution, *occurrence, None);
                self.end(*execution, None);
            }
            Event::TaskSkipped {
                task,
                execution,
                occurrence: occurrence @ Occurrence::After { .. },
                reason,
                ..
            } => {
                self.begin(record, *task, *execution, *occurrence, Some(reason));
                self.end(*execution, Some(Status::Skipped));
            }
            Event::TaskCompleted { execution, .. } => self.end(*execution, Some(Status::Succeeded)),
            Event::TaskFailed { execution, .. } => self.end(*execution, Some(Status::Failed)),
            Event::TaskTimedOut { execution, .. } => self.end(*execution, Some(Status::TimedOut)),
            Event::TaskCancelled { execution, .. } => self.end(*execution, Some(Status::Cancelled)),
            Event::TaskLost { execution, .. } => self.end(*execution, Some(Status::Lost)),
            Event::TaskReopened { execution, .. } => self.end(*execution, None),
            Event::Chain(Chaining::RunCancelled { run, .. }) => {
                if let Some(run) = self.runs.get_mut(run) {
                    run.cancelled = true;
                }
            }
            Event::Chain(Chaining::RunTakenUp { run, dropped, .. }) => {
                if let Some(run) = self.runs.get_mut(run) {
                    run.cancelled = false;
                    run.steps.retain(|task, _| !dropped.contains(task));
                }
            }
            _ => {}
        }
    }

    /// An execution was opened, or skipped for a reason.
    fn begin(
        &mut self,
        record: &Record,
        task: TaskId,
        execution: ExecutionId,
        occurrence: Occurrence,
        skipped: Option<&SkipReason>,
    ) {
        let (tenant, since) = (record.header.tenant, record.header.log_index);
        let id = occurrence.run_of(execution);
        self.executions.insert(execution, (task, id));
        if let Occurrence::After { round, .. } = occurrence {
            if !self.decided.insert((id, round, task)) {
                self.found.push(format!("step {task} was decided twice in round {round} of run {id}"));
            }
            if self.why(tenant, id, task).is_some_and(|why| !why.allows(skipped)) {
                let what = if skipped.is_some() { "was skipped" } else { "ran" };
                self.found.push(format!("step {task} {what} in run {id}, and had no reason to"));
            }
        }
        self.runs.entry(id).or_insert(Run {
            tenant,
            begun_by: task,
            since,
            cancelled: false,
            steps: BTreeMap::new(),
        });
    }

    fn end(&mut self, execution: ExecutionId, status: Option<Status>) {
        let Some((task, run)) = self.executions.get(&execution) else { return };
        if let Some(run) = self.runs.get_mut(run) {
            run.steps.insert(*task, status);
        }
    }

    /// What the ends in a run say of a step of it; none if its chain changed since the run began.
    fn why(&self, tenant: TenantId, id: ExecutionId, task: TaskId) -> Option<Why> {
        let run = self.runs.get(&id)?;
        let (awaited, condition) = self.links.get(&(tenant, task))?.awaited.as_ref()?;
        (self.root(tenant, task, run.since)? == run.begun_by).then_some(())?;
        let ends = || awaited.iter().map(|task| run.steps.get(task).copied().flatten());
        let (ended, open) = (ends().flatten(), ends().any(|end| end.is_none()));
        let (mut others, mut failures) = (0, 0);
        for status in ended {
            others += usize::from(status != Status::Succeeded);
            failures += usize::from(status.is_failure());
        }
        Some(match condition {
            AfterCondition::AllSucceeded if others > 0 => Why::Skip,
            AfterCondition::AnyFailed if failures > 0 => Why::Run,
            _ if open => Why::Wait,
            AfterCondition::AnyFailed => Why::Skip,
            AfterCondition::AllSucceeded | AfterCondition::AllDone => Why::Run,
        })
    }

    /// The task whose runs a task belongs to, unless something on the way to it changed since an entry.
    fn root(&self, tenant: TenantId, task: TaskId, since: u64) -> Option<TaskId> {
        let link = self.links.get(&(tenant, task)).filter(|link| link.since < since)?;
        let Some((awaited, _)) = &link.awaited else { return Some(task) };
        let roots: Option<BTreeSet<TaskId>> =
            awaited.iter().map(|task| self.root(tenant, *task, since)).collect();
        let roots = roots?;
        Some(if roots.len() == 1 { *roots.first()? } else { task })
    }

    /// At the end nothing may be left to be decided.
    fn miss(&mut self) {
        let mut missing = Vec::new();
        for (id, run) in self.runs.iter().filter(|(_, run)| !run.cancelled) {
            let steps = self.links.range((run.tenant, TaskId(0))..=(run.tenant, TaskId(u128::MAX)));
            for ((tenant, task), _) in steps.filter(|((_, task), _)| !run.steps.contains_key(task)) {
                if matches!(self.why(*tenant, *id, *task), Some(Why::Run | Why::Skip)) {
                    missing.push(format!("step {task} of run {id} was never decided"));
                }
            }
        }
        self.found.extend(missing);
    }
}

/// What becomes of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Run,
    Skip,
    Wait,
}

impl Why {
    /// Whether a step may have run, or been skipped for a reason: one that had cause to run may have met a pause or another run.
    fn allows(self, skipped: Option<&SkipReason>) -> bool {
        match skipped {
            None => self == Self::Run,
            Some(SkipReason::Unsuccessful { .. } | SkipReason::NoneFailed) => self == Self::Skip,
            Some(_) => self == Self::Run,
        }
    }
}
