//! What a command does to tasks: create, change, run by hand, fire.

use std::sync::Arc;

use super::apply::{Step, within};
use crate::answer::{Accepted, Rejection};
use crate::command::{Due, NewTask, Request};
use crate::event::Event;
use crate::execution::decide as execution_rules;
use crate::execution::state::{CancelCause, Occurrence, Status};
use crate::identifier::{ExecutionId, TaskId, TenantId};
use crate::limits::{CREATES_PER_COMMAND_MAX, FIRES_PER_COMMAND_MAX, TASKS_MAX};
use crate::task::decide as task_rules;
use crate::task::state::{Phase, Task};

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
                let current = self.own_task(*task)?;
                same_version(current, *expected_version)?;
                task_rules::nothing_overdue(current, self.at)?;
                let version = current.version.saturating_add(1);
                let event = Event::TaskUpdated {
                    slot: current.slot,
                    task: *task,
                    version,
                    rules: rules.clone(),
                    definition: definition.clone(),
                    next: next.filter(|next| *next > current.settled),
                };
                (vec![event], Accepted::Task { task: *task, version })
            }
            Request::PauseTask { task } => {
                let current = self.own_task(*task)?;
                let (slot, version) = (current.slot, current.version);
                let events = match current.phase {
                    Phase::Paused => Vec::new(),
                    Phase::Finished => return Err(Rejection::WrongPhase { phase: "finished".into() }),
                    Phase::Active => {
                        task_rules::nothing_overdue(current, self.at)?;
                        vec![Event::TaskPaused { slot, task: *task }]
                    }
                };
                (events, Accepted::Task { task: *task, version })
            }
            Request::ResumeTask { task } => {
                let current = self.own_task(*task)?;
                let (slot, version) = (current.slot, current.version);
                let events = match current.phase {
                    Phase::Active => Vec::new(),
                    Phase::Finished => return Err(Rejection::WrongPhase { phase: "finished".into() }),
                    Phase::Paused => vec![Event::TaskResumed { slot, task: *task }],
                };
                (events, Accepted::Task { task: *task, version })
            }
            Request::DeleteTask { task, expected_version } => {
                let current = self.own_task(*task)?;
                same_version(current, *expected_version)?;
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
            _ => return Ok(Accepted::Done),
        };
        for event in events {
            self.record(self.tenant, event);
        }
        Ok(answer)
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
        let (mut fired, mut passed_over, mut ignored) = (0, 0, 0);
        for item in items {
            let decided = self.replica.tasks.get(item.slot).map(|task| {
                let events = task_rules::fire(task, &self.replica.executions, item, self.at);
                (task.tenant, events)
            });
            let Some((tenant, events)) = decided.filter(|(_, events)| !events.is_empty()) else {
                ignored += 1;
                continue;
            };
            for event in events {
                match event {
                    Event::TaskScheduled { .. } => fired += 1,
                    Event::TaskSkipped { .. } => passed_over += 1,
                    Event::TaskMissed { count, .. } => passed_over += count,
                    _ => {}
                }
                self.record(tenant, event);
            }
        }
        Ok(Accepted::Settled { fired, passed_over, ignored })
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
