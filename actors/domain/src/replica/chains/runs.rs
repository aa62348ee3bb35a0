//! How ends of executions change runs, and what becomes certain by them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Chains, correlation_of};
use crate::event::{Chaining, EndedStep, SkipReason};
use crate::execution::state::{Execution, Occurrence, Status};
use crate::identifier::{ExecutionId, TaskId, TenantId};
use crate::planted::{self, Bug};
use crate::task::rules::After;
use crate::task::sealed::Sealed;
use crate::task::trigger::AfterCondition;

/// One run of a chain of which something is open, or yet to be decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub(super) tenant: TenantId,
    /// The task whose execution began it.
    pub(super) begun_by: TaskId,
    pub(super) round: u32,
    cancelled: bool,
    /// The request that all of its executions go back to.
    pub(super) correlation_id: Arc<str>,
    /// Its executions that have not ended, as far as they began or were reopened since something of it ended.
    pub(super) open: BTreeSet<ExecutionId>,
    /// What was decided of its tasks.
    pub(super) steps: BTreeMap<TaskId, RunStep>,
    /// The ends after which the execution runs that began it.
    causes: BTreeMap<TaskId, End>,
}

/// One task of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunStep {
    pub(super) execution: ExecutionId,
    pub(super) end: Option<End>,
}

/// How an execution ended that others may follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The execution, or the one that it would have been.
    pub execution: ExecutionId,
    /// How it ended.
    pub status: Status,
    /// JSON text of what it returned.
    pub result: Option<Sealed>,
}

/// A step that is to be begun, or skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DueStep {
    pub(super) tenant: TenantId,
    /// Why it is skipped, if its condition cannot be met.
    pub(super) unmet: Option<SkipReason>,
    /// The request that it goes back to.
    pub(super) correlation_id: Arc<str>,
    /// The ends that it follows, of tasks whose runs it does not belong to.
    causes: BTreeMap<TaskId, End>,
}

/// An end as a chain hears of it.
struct Heard<'a> {
    tenant: TenantId,
    task: TaskId,
    end: &'a End,
    /// The sequence of its record.
    sequence: u64,
    correlation_id: &'a Arc<str>,
}

impl Run {
    fn new(tenant: TenantId, begun_by: TaskId, correlation_id: Arc<str>) -> Self {
        Self {
            tenant,
            begun_by,
            round: 0,
            cancelled: false,
            correlation_id,
            open: BTreeSet::new(),
            steps: BTreeMap::new(),
            causes: BTreeMap::new(),
        }
    }

    /// How a step of it ended, if it did.
    #[must_use]
    pub fn end_of(&self, task: TaskId) -> Option<&End> {
        self.steps.get(&task)?.end.as_ref()
    }

    /// The ends after which the execution runs that began it.
    pub fn causes(&self) -> impl Iterator<Item = (TaskId, &End)> {
        self.causes.iter().map(|(task, end)| (*task, end))
    }

    /// Whether it is certain what a step does: `Some(None)` if it begins, `Some(Some(why))` if it is skipped.
    fn verdict(&self, after: &After) -> Option<Option<SkipReason>> {
        let ends = || after.tasks.iter().map(|task| (*task, self.end_of(*task).map(|end| end.status)));
        let all_ended = ends().all(|(_, status)| status.is_some());
        match after.condition {
            AfterCondition::AllSucceeded => {
                let other = ends().find_map(|(task, status)| {
                    status
                        .filter(|status| *status != Status::Succeeded)
                        .map(|status| SkipReason::Unsuccessful { task, status })
                });
                (other.is_some() || all_ended).then_some(other)
            }
            AfterCondition::AllDone => all_ended.then_some(None),
            AfterCondition::AnyFailed if ends().any(|(_, status)| status.is_some_and(Status::is_failure)) => {
                Some(None)
            }
            AfterCondition::AnyFailed => all_ended.then_some(Some(SkipReason::NoneFailed)),
        }
    }
}

impl End {
    /// JSON text of it.
    pub(super) fn told(&self) -> String {
        let result = self.result.as_ref().and_then(Sealed::text);
        let (execution, status, result) = (self.execution, self.status.name(), result.unwrap_or("null"));
        format!(r#"{{"execution_id":"{execution}","status":"{status}","result":{result}}}"#)
    }
}

impl Chains {
    /// What a task runs after is another: what was counted or certain for it falls away if it waits no more.
    pub(in crate::replica) fn link(&mut self, tenant: TenantId, task: TaskId, after: Option<&Arc<After>>) {
        if after.is_none() && self.graph.after(tenant, task).is_none() {
            return;
        }
        self.graph.link(tenant, task, after);
        match after {
            Some(after) => {
                if let Some(uncounted) = self.uncounted.get_mut(&(tenant, task)) {
                    uncounted.retain(|awaited, _| after.tasks.contains(awaited));
                }
            }
            None => {
                self.uncounted.remove(&(tenant, task));
                let fell: Vec<_> = self.due.keys().filter(|(_, of)| *of == task).copied().collect();
                for key in fell {
                    self.due.remove(&key);
                    self.settle(key.0);
                }
            }
        }
    }

    /// An execution was opened.
    pub(in crate::replica) fn began(&mut self, execution: &Execution) {
        let (id, task, occurrence) = (execution.id, execution.task, execution.occurrence);
        let due = match occurrence {
            Occurrence::After { .. } | Occurrence::Joined { .. } => self.due.remove(&(occurrence, task)),
            _ => None,
        };
        if let (Occurrence::Joined { .. }, Some(due)) = (occurrence, due) {
            let run = Run { causes: due.causes, ..Run::new(execution.tenant, task, due.correlation_id) };
            self.runs.insert(id, run);
        }
        let Some(run) = self.runs.get_mut(&execution.run()) else { return };
        run.open.insert(id);
        run.steps.insert(task, RunStep { execution: id, end: None });
    }

    /// An execution ended, under the record of this sequence.
    pub(in crate::replica) fn ended(
        &mut self,
        open: &Execution,
        status: Status,
        result: Option<&Sealed>,
        sequence: u64,
    ) {
        let (tenant, task, id) = (open.tenant, open.task, open.run());
        let awaited = self.graph.is_awaited(tenant, task);
        if !awaited && !self.runs.contains_key(&id) {
            return;
        }
        let run = self.runs.entry(id).or_insert_with(|| Run::new(tenant, task, correlation_of(open)));
        run.open.remove(&open.id);
        let end = End { execution: open.id, status, result: result.filter(|_| awaited).cloned() };
        run.steps.insert(task, RunStep { execution: open.id, end: Some(end.clone()) });
        self.heard(id, task, &end, sequence);
    }

    /// A step was skipped, under the record of this sequence: an end for those that follow, neither success nor failure.
    pub(in crate::replica) fn skipped(
        &mut self,
        task: TaskId,
        execution: ExecutionId,
        occurrence: Occurrence,
        sequence: u64,
    ) {
        if !matches!(occurrence, Occurrence::After { .. } | Occurrence::Joined { .. }) {
            return;
        }
        self.due.remove(&(occurrence, task));
        let Occurrence::After { run: id, .. } = occurrence else { return };
        let Some(run) = self.runs.get_mut(&id) else { return };
        let end = End { execution, status: Status::Skipped, result: None };
        run.steps.insert(task, RunStep { execution, end: Some(end.clone()) });
        self.heard(id, task, &end, sequence);
    }

    /// Notes what is certain by an end, and lets go of a run of which it was the last.
    fn heard(&mut self, id: ExecutionId, task: TaskId, end: &End, sequence: u64) {
        let Some(run) = self.runs.get(&id) else { return };
        let (tenant, correlation_id) = (run.tenant, run.correlation_id.clone());
        let heard = Heard { tenant, task, end, sequence, correlation_id: &correlation_id };
        let followers: Vec<TaskId> = self.graph.successors(tenant, task).collect();
        for follower in followers {
            if self.graph.joins(tenant, follower) {
                self.count(follower, &heard);
            } else {
                self.look_at(id, follower);
            }
        }
        self.settle(Occurrence::After { run: id, round: 0 });
    }

    /// Notes a step of a run as due if it is not decided and it is certain what it does.
    fn look_at(&mut self, id: ExecutionId, task: TaskId) {
        let Some(run) = self.runs.get(&id) else { return };
        let tenant = run.tenant;
        let forgotten = planted::has(Bug::ForgottenStep) && task.0.is_multiple_of(4);
        let decided = run.cancelled || run.steps.contains_key(&task) || forgotten;
        if decided || !self.graph.is_member(tenant, run.begun_by, task) {
            return;
        }
        let Some(unmet) = self.graph.after(tenant, task).and_then(|after| run.verdict(after)) else { return };
        let correlation_id = run.correlation_id.clone();
        let due = DueStep { tenant, unmet, correlation_id, causes: BTreeMap::new() };
        // What is due already stays as it was decided.
        self.due.entry((Occurrence::After { run: id, round: run.round }, task)).or_insert(due);
    }

    /// Counts an end for a task that waits for several chains.
    fn count(&mut self, task: TaskId, heard: &Heard<'_>) {
        let key = (heard.tenant, task);
        let Some(after) = self.graph.after(heard.tenant, task) else { return };
        let causes = if after.condition == AfterCondition::AnyFailed {
            if !heard.end.status.is_failure() {
                return;
            }
            BTreeMap::from([(heard.task, heard.end.clone())])
        } else {
            let succeeded = after.condition == AfterCondition::AllSucceeded;
            let counted = |end: &End| !succeeded || end.status == Status::Succeeded;
            let uncounted = self.uncounted.entry(key).or_default();
            uncounted.insert(heard.task, heard.end.clone());
            if !after.tasks.iter().all(|task| uncounted.get(task).is_some_and(counted)) {
                return;
            }
            self.uncounted.remove(&key).unwrap_or_default()
        };
        let correlation_id = heard.correlation_id.clone();
        let due = DueStep { tenant: heard.tenant, unmet: None, correlation_id, causes };
        self.due.insert((Occurrence::Joined { end: heard.sequence }, task), due);
    }

    /// Somebody decided about a run. `open` is the execution that began it, if it is open.
    pub(in crate::replica) fn decided(
        &mut self,
        tenant: TenantId,
        chaining: &Chaining,
        open: Option<&Execution>,
    ) {
        match chaining {
            Chaining::RunCancelled { task, run: id } => {
                let fresh = || Run::new(tenant, *task, open.map(correlation_of).unwrap_or_default());
                let run = self.runs.entry(*id).or_insert_with(fresh);
                run.cancelled = true;
                run.open.extend(open.map(|open| open.id));
                self.forget_due(*id);
                self.settle(Occurrence::After { run: *id, round: 0 });
            }
            Chaining::RunTakenUp { task, run: id, round, correlation_id, recalled, dropped, reopened } => {
                let run =
                    self.runs.entry(*id).or_insert_with(|| Run::new(tenant, *task, correlation_id.clone()));
                (run.round, run.cancelled) = (*round, false);
                for EndedStep { task, execution, status, result } in recalled {
                    let (execution, status, result) = (*execution, *status, result.clone());
                    let end = Some(End { execution, status, result });
                    run.steps.insert(*task, RunStep { execution, end });
                }
                run.steps.retain(|task, _| !dropped.contains(task));
                for (task, execution) in reopened {
                    run.steps.insert(*task, RunStep { execution: *execution, end: None });
                }
                self.forget_due(*id);
                for member in self.graph.members(tenant, *task) {
                    self.look_at(*id, member);
                }
                if reopened.is_empty() {
                    self.settle(Occurrence::After { run: *id, round: 0 });
                }
            }
        }
    }

    fn due_of(&self, run: ExecutionId) -> impl Iterator<Item = &(Occurrence, TaskId)> {
        let first = (Occurrence::After { run, round: 0 }, TaskId(0));
        let last = (Occurrence::After { run, round: u32::MAX }, TaskId(u128::MAX));
        self.due.range(first..=last).map(|(key, _)| key)
    }

    fn forget_due(&mut self, run: ExecutionId) {
        let due: Vec<_> = self.due_of(run).copied().collect();
        for key in due {
            self.due.remove(&key);
        }
    }

    /// Lets go of the run of an occurrence if nothing of it is open or yet to be decided.
    fn settle(&mut self, occurrence: Occurrence) {
        let Occurrence::After { run: id, .. } = occurrence else { return };
        let over = self.runs.get(&id).is_some_and(|run| run.open.is_empty());
        if over && self.due_of(id).next().is_none() {
            self.runs.remove(&id);
        }
    }
}
