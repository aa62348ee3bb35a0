//! What a command does to tasks: create, change, run by hand, fire.

use std::sync::Arc;

use super::apply::{Step, within};
use crate::answer::{Accepted, Rejection};
use crate::command::{Due, NewTask, Replanned, Request};
use crate::event::{Event, PauseCause};
use crate::execution::decide as execution_rules;
use crate::execution::state::{CancelCause, Occurrence, Status};
use crate::identifier::{ExecutionId, TaskId, TenantId};
use crate::limits::{CREATES_PER_COMMAND_MAX, FIRES_PER_COMMAND_MAX, REPLANS_PER_COMMAND_MAX, TASKS_MAX};
use crate::task::decide::{self as task_rules, OpenExecutions};
use crate::task::rules::Rules;
use crate::task::sealed::Sealed;
use crate::task::state::{Phase, Task};
use crate::timestamp::Timestamp;

impl Step<'_> {
    pub(super) fn create(&mut self, tasks: &[NewTask]) -> Result<Accepted, Rejection> {
        within("tasks in one command", tasks.len(), CREATES_PER_COMMAND_MAX)?;
        let (tenant, owner) = (self.tenant, self.owner());
        let answers = tasks.iter().map(|task| self.create_one(tenant, &owner, task)).collect();
        Ok(Accepted::Tasks(answers))
    }

    pub(super) fn create_one(
        &mut self,
        tenant: TenantId,
        owner: &Arc<str>,
        new: &NewTask,
    ) -> Result<TaskId, Rejection> {
        self.may_have(tenant, new.task, &new.rules)?;
        self.create_promised(tenant, owner, new)
    }

    /// Refuses rules that name what is not there, or not enough of it.
    fn may_have(&self, tenant: TenantId, task: TaskId, rules: &Rules) -> Result<(), Rejection> {
        self.calendars_exist(tenant, &rules.calendars)?;
        self.pools_suffice(tenant, rules)?;
        self.may_follow(tenant, task, rules)
    }

    /// As [`Step::create_one`], for a task that was promised: what it names sufficed then, and may have changed since as it may
    /// for one that exists.
    pub(super) fn create_promised(
        &mut self,
        tenant: TenantId,
        owner: &Arc<str>,
        new: &NewTask,
    ) -> Result<TaskId, Rejection> {
        if self.replica.task(tenant, new.task).is_some() {
            return Err(Rejection::TaskExists);
        }
        if self.replica.tasks.len() >= TASKS_MAX {
            return Err(Rejection::TooMany { what: "tasks".into(), limit: TASKS_MAX as u64 });
        }
        let event = Event::TaskCreated {
            slot: self.replica.tasks.vacant(),
            task: new.task,
            owner: owner.clone(),
            rules: new.rules.clone(),
            definition: new.definition.clone(),
            created_at: new.created_at,
            next: new.next,
            paused: new.paused,
        };
        self.record(tenant, event);
        Ok(new.task)
    }

    pub(super) fn own_task(&self, task: TaskId) -> Result<&Task, Rejection> {
        self.replica.task(self.tenant, task).ok_or(Rejection::NoSuchTask)
    }

    pub(super) fn change_task(&mut self, request: &Request) -> Result<Accepted, Rejection> {
        let (events, answer) = match request {
            Request::UpdateTask { task, expected_version, rules, definition, next } => {
                return self.update(*task, *expected_version, (rules, definition, *next));
            }
            Request::PauseTask { task } => {
                let current = self.own_task(*task)?;
                let (slot, version) = (current.slot, current.version);
                let events = match current.phase() {
                    Phase::Paused => Vec::new(),
                    Phase::Finished => return Err(Rejection::WrongPhase { phase: "finished".into() }),
                    Phase::Active => {
                        task_rules::nothing_overdue(current, self.at)?;
                        vec![Event::TaskPaused { slot, task: *task, cause: PauseCause::Requested }]
                    }
                };
                (events, Accepted::Task { task: *task, version })
            }
            Request::ResumeTask { task } => {
                let current = self.own_task(*task)?;
                let (slot, version) = (current.slot, current.version);
                let events = match current.phase() {
                    Phase::Active => Vec::new(),
                    Phase::Finished => return Err(Rejection::WrongPhase { phase: "finished".into() }),
                    Phase::Paused => vec![Event::TaskResumed { slot, task: *task }],
                };
                (events, Accepted::Task { task: *task, version })
            }
            Request::DeleteTask { task, expected_version } => {
                let current = self.own_task(*task)?;
                same_version(current, *expected_version)?;
                self.is_not_awaited(*task)?;
                task_rules::nothing_overdue(current, self.at)?;
                let mut events: Vec<Event> = current
                    .open
                    .iter()
                    .filter_map(|id| self.replica.executions.get(id))
                    .filter_map(|open| execution_rules::stop(open, CancelCause::TaskDeleted))
                    .collect();
                events.push(Event::TaskDeleted { slot: current.slot, task: *task });
                (events, Accepted::Done)
            }
            Request::RunTask { task } => return self.run(*task),
            Request::ChangeOccurrence { task, at, change } => {
                let current = self.own_task(*task)?;
                let (event, version) =
                    (task_rules::change_occurrence(current, *at, *change, self.at)?, current.version);
                (vec![event], Accepted::Task { task: *task, version })
            }
            _ => return Ok(Accepted::Done),
        };
        for event in events {
            self.record(self.tenant, event);
        }
        Ok(answer)
    }

    fn update(
        &mut self,
        task: TaskId,
        expected_version: Option<u32>,
        (rules, definition, next): (&Rules, &Sealed, Option<Timestamp>),
    ) -> Result<Accepted, Rejection> {
        let current = self.own_task(task)?;
        same_version(current, expected_version)?;
        self.may_have(self.tenant, task, rules)?;
        task_rules::nothing_overdue(current, self.at)?;
        task_rules::still_to_come(current, next, self.stamped)?;
        let version = current.version.saturating_add(1);
        let event = Event::TaskUpdated {
            slot: current.slot,
            task,
            version,
            rules: Box::new(rules.clone()),
            definition: definition.clone(),
            next: next.filter(|next| *next > current.settled),
        };
        self.record(self.tenant, event);
        self.by_itself(|step| step.release_by_change(task));
        Ok(Accepted::Task { task, version })
    }

    fn release_by_change(&mut self, task: TaskId) {
        let Ok(current) = self.own_task(task) else { return };
        for event in task_rules::release_by_change(current, &self.replica.executions) {
            self.record(self.tenant, event);
        }
    }

    fn run(&mut self, task: TaskId) -> Result<Accepted, Rejection> {
        let current = self.own_task(task)?;
        let command = self.client.map(|client| client.command).ok_or(Rejection::NoSuchTask)?;
        let occurrence = Occurrence::Manual(command);
        let execution = ExecutionId::of(task, occurrence, self.at);
        let events = task_rules::run(current, &self.replica.executions, occurrence, self.at)?;
        for event in events {
            self.record(self.tenant, event);
        }
        let status = self.replica.executions.get(&execution).map_or(Status::Skipped, |open| open.status());
        Ok(Accepted::Execution { execution, status })
    }

    pub(super) fn fire(&mut self, items: &[Due]) -> Result<Accepted, Rejection> {
        within("fires in one command", items.len(), FIRES_PER_COMMAND_MAX)?;
        let mut settled = Settled::default();
        for item in items {
            let decided = self.replica.tasks.get(item.slot).map(|task| {
                let revision = self.replica.revision(task);
                (task.tenant, task_rules::fire(task, revision, &self.replica.executions, item, self.at))
            });
            self.record_occurrence(item.slot, decided, &mut settled);
        }
        Ok(settled.answer())
    }

    pub(super) fn fire_moved(&mut self, items: &[(u32, Timestamp)]) -> Result<Accepted, Rejection> {
        self.settle_moved(items, task_rules::fire_moved)
    }

    pub(super) fn miss_moved(&mut self, items: &[(u32, Timestamp)]) -> Result<Accepted, Rejection> {
        self.settle_moved(items, |task, _, at, now| task_rules::miss_moved(task, at, now))
    }

    fn settle_moved(
        &mut self,
        items: &[(u32, Timestamp)],
        decide: impl Fn(&Task, &OpenExecutions, Timestamp, Timestamp) -> Vec<Event>,
    ) -> Result<Accepted, Rejection> {
        within("fires in one command", items.len(), FIRES_PER_COMMAND_MAX)?;
        let mut settled = Settled::default();
        for (slot, at) in items {
            let task = self.replica.tasks.get(*slot);
            let decided =
                task.map(|task| (task.tenant, decide(task, &self.replica.executions, *at, self.at)));
            self.record_occurrence(*slot, decided, &mut settled);
        }
        Ok(settled.answer())
    }

    fn record_occurrence(
        &mut self,
        slot: u32,
        decided: Option<(TenantId, Vec<Event>)>,
        settled: &mut Settled,
    ) {
        let Some((tenant, events)) = decided.filter(|(_, events)| !events.is_empty()) else {
            settled.ignored += 1;
            return;
        };
        for event in events {
            settled.count(&event);
            self.record(tenant, event);
        }
        self.pause_if_failing(slot);
    }

    /// Pauses a task of which too many executions in a row have failed for good.
    pub(super) fn pause_if_failing(&mut self, slot: u32) {
        let Some(task) = self.replica.tasks.get(slot) else { return };
        let tenant = task.tenant;
        if let Some(event) = task_rules::pause_if_failing(task, self.at) {
            self.record(tenant, event);
        }
    }

    pub(super) fn replan(&mut self, items: &[Replanned]) -> Result<Accepted, Rejection> {
        within("tasks planned anew in one command", items.len(), REPLANS_PER_COMMAND_MAX)?;
        for item in items {
            let Some(task) = self.replica.tasks.get(item.slot) else { continue };
            let tenant = task.tenant;
            if let Some(event) = task_rules::replan(task, self.replica.revision(task), item, self.at) {
                self.record(tenant, event);
            }
        }
        Ok(Accepted::Done)
    }
}

/// What a command settled, for its answer.
#[derive(Default)]
struct Settled {
    fired: u32,
    passed_over: u32,
    ignored: u32,
}

impl Settled {
    fn count(&mut self, event: &Event) {
        match event {
            Event::TaskScheduled { .. } => self.fired += 1,
            Event::TaskSkipped { .. } | Event::TaskMoved { .. } => self.passed_over += 1,
            Event::TaskMissed { count, .. } | Event::TaskSuppressed { count, .. } => {
                self.passed_over = self.passed_over.saturating_add(*count);
            }
            _ => {}
        }
    }

    fn answer(&self) -> Accepted {
        Accepted::Settled { fired: self.fired, passed_over: self.passed_over, ignored: self.ignored }
    }
}

fn same_version(task: &Task, expected: Option<u32>) -> Result<(), Rejection> {
    match expected {
        Some(expected) if expected != task.version => {
            Err(Rejection::VersionMismatch { current: task.version })
        }
        _ => Ok(()),
    }
}
