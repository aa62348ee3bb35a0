//! Carries a committed command out: recalls, decides, records, grants.

use std::sync::Arc;

use super::Replica;
use super::placement::{Condition, next_grant};
use super::window::Recalled;
use crate::answer::{Accepted, Answer, Rejection};
use crate::command::{Client, Command, Due, NewTask, Origin, Reopening, Report, Request};
use crate::event::Event;
use crate::execution::decide as execution_rules;
use crate::execution::state::{CancelCause, Occurrence, Status};
use crate::identifier::{ExecutionId, Incarnation, NodeId, TaskId, TenantId};
use crate::limits::{
    CREATES_PER_COMMAND_MAX, FIRES_PER_COMMAND_MAX, GRANTS_PER_COMMAND_MAX, LOSSES_PER_COMMAND_MAX,
    RESULTS_PER_COMMAND_MAX, RETRIES_PER_COMMAND_MAX, SLOTS_MAX, TASKS_MAX, TENANTS_MAX,
};
use crate::record::{Record, RecordHeader, StreamLink};
use crate::task::decide as task_rules;
use crate::task::state::{Phase, Task};
use crate::timestamp::Timestamp;

impl Replica {
    /// Applies one committed command of the entry at `index` and appends its records to those of the entry.
    ///
    /// Everything that a command can ask for has an answer; bytes that are no command are refused with
    /// [`Rejection::Unreadable`] by [`Replica::refuse_unreadable`].
    pub fn apply(&mut self, index: u64, command: &Command, records: &mut Vec<Record>) -> Answer {
        let at = self.logged.max(command.at);
        match &command.origin {
            Origin::Scheduler => {
                let mut step = Step::new(self, index, at, None, records);
                let outcome = step.carry_out(&command.request);
                step.grant();
                Answer { index, outcome }
            }
            Origin::Client(client) => {
                let known = self.tenant_number(&client.tenant);
                match self.window.recall(client, known) {
                    Some(Recalled::First(answer)) => return (*answer).clone(),
                    Some(Recalled::Refused(rejection)) => return Answer { index, outcome: Err(rejection) },
                    None => {}
                }
                let mut step = Step::new(self, index, at, Some(client), records);
                let outcome = step.admit(&client.tenant, known).and_then(|()| step.carry_out(&command.request));
                step.grant();
                let answer = Answer { index, outcome };
                step.remember(client, &answer);
                answer
            }
        }
    }

    /// The answer to bytes that are not a command of this version: a refusal, on every replica the same.
    #[must_use]
    pub fn refuse_unreadable(index: u64, error: &crate::codec::CodecError) -> Answer {
        Answer { index, outcome: Err(Rejection::Unreadable { detail: error.to_string().into() }) }
    }
}

/// One command while it is carried out.
pub(super) struct Step<'a> {
    pub(super) replica: &'a mut Replica,
    index: u64,
    pub(super) at: Timestamp,
    client: Option<&'a Client>,
    tenant: TenantId,
    records: &'a mut Vec<Record>,
}

impl<'a> Step<'a> {
    fn new(
        replica: &'a mut Replica,
        index: u64,
        at: Timestamp,
        client: Option<&'a Client>,
        records: &'a mut Vec<Record>,
    ) -> Self {
        Self { replica, index, at, client, tenant: TenantId::CLUSTER, records }
    }

    /// Chains an event to its tenant's records and lets it change the state.
    pub(super) fn record(&mut self, tenant: TenantId, event: Event) {
        let Some(head) = self.replica.tenants.get(tenant.0 as usize).map(|tenant| tenant.head) else { return };
        let stream = event.task().and_then(|task| {
            let stream = self.replica.task(tenant, task).map(|task| task.stream).unwrap_or_default();
            Some(StreamLink { position: stream.length + 1, previous: stream.last })
        });
        let (actor, correlation_id) = match self.client {
            Some(client) => (client.subject.clone(), client.correlation_id.clone()),
            None => (Arc::default(), self.correlation_of(&event)),
        };
        let header = RecordHeader {
            tenant,
            sequence: head.sequence + 1,
            log_index: self.index,
            ordinal: u32::try_from(self.records.len()).unwrap_or(u32::MAX),
            at: self.at,
            actor,
            correlation_id,
            command: self.client.map(|client| client.command),
            stream,
        };
        let record = Record::chain(header, event, head.hash);
        self.replica.evolve(&record);
        self.records.push(record);
    }

    /// What the scheduler does goes back to the request that its execution goes back to.
    fn correlation_of(&self, event: &Event) -> Arc<str> {
        event
            .execution()
            .and_then(|execution| self.replica.executions.get(&execution))
            .map(|execution| execution.correlation_id.clone())
            .unwrap_or_default()
    }

    /// Makes the client's tenant known.
    fn admit(&mut self, name: &Arc<str>, known: Option<TenantId>) -> Result<(), Rejection> {
        self.tenant = match known {
            Some(number) => number,
            None => {
                if self.replica.tenants.len() >= TENANTS_MAX {
                    return Err(Rejection::TooMany { what: "tenants".into(), limit: TENANTS_MAX as u64 });
                }
                let number = TenantId(u32::try_from(self.replica.tenants.len()).unwrap_or(u32::MAX));
                self.record(TenantId::CLUSTER, Event::TenantAdded { number, name: name.clone() });
                number
            }
        };
        Ok(())
    }

    fn remember(&mut self, client: &Client, answer: &Answer) {
        let event = Event::CommandAnswered {
            command: client.command,
            idempotency: client.idempotency.clone(),
            answer: Box::new(answer.clone()),
        };
        self.record(self.tenant, event);
    }

    fn carry_out(&mut self, request: &Request) -> Result<Accepted, Rejection> {
        match request {
            Request::CreateTasks(tasks) => self.create(tasks),
            Request::UpdateTask { .. }
            | Request::PauseTask { .. }
            | Request::ResumeTask { .. }
            | Request::DeleteTask { .. }
            | Request::RunTask { .. } => self.change_task(request),
            Request::CancelExecution { execution } => self.cancel(*execution),
            Request::RetryExecution(reopening) => self.reopen(reopening),
            Request::Fire(items) => self.fire(items),
            Request::RetriesDue(due) => self.retries_due(due),
            Request::JoinWorker { .. } | Request::DrainWorker { .. } | Request::LoseWorker { .. } => {
                self.change_worker(request)
            }
            Request::Report(report) => self.report(report),
            Request::AdvanceWindow { commands, keys } => {
                let event = Event::WindowAdvanced { commands: *commands, keys: *keys };
                self.record(TenantId::CLUSTER, event);
                Ok(Accepted::Done)
            }
            Request::Continue => {
                self.continue_bulks();
                self.take_back_lost();
                Ok(Accepted::Done)
            }
            Request::StageTasks { bulk, part, tasks } => self.stage(*bulk, *part, tasks),
            Request::CommitStaged { bulk, parts } => self.commit_staged(*bulk, *parts),
            Request::AbandonStaged { bulk } => self.abandon_staged(*bulk),
        }
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub(super) fn owner(&self) -> Arc<str> {
        self.client.map(|client| client.subject.clone()).unwrap_or_default()
    }

    fn create(&mut self, tasks: &[NewTask]) -> Result<Accepted, Rejection> {
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
            next: new.next,
            paused: new.paused,
        };
        self.record(tenant, event);
        Ok(new.task)
    }

    fn own_task(&self, task: TaskId) -> Result<&Task, Rejection> {
        self.replica.task(self.tenant, task).ok_or(Rejection::NoSuchTask)
    }

    fn change_task(&mut self, request: &Request) -> Result<Accepted, Rejection> {
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

    fn cancel(&mut self, execution: ExecutionId) -> Result<Accepted, Rejection> {
        let open = self.replica.executions.get(&execution).filter(|open| open.tenant == self.tenant);
        let open = open.ok_or(Rejection::NoSuchExecution)?.clone();
        if let Some(event) = execution_rules::stop(&open, CancelCause::Requested) {
            self.record(self.tenant, event);
            self.release_after(open.slot, open.task, open.tenant);
        }
        let status = self.replica.executions.get(&execution).map_or(Status::Cancelled, |open| open.status());
        Ok(Accepted::Execution { execution, status })
    }

    fn reopen(&mut self, reopening: &Reopening) -> Result<Accepted, Rejection> {
        let task = self.own_task(reopening.task)?;
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
        let event = Event::TaskReopened {
            slot: task.slot,
            task: task.id,
            execution: id,
            occurrence: reopening.occurrence,
            scheduled_at: reopening.scheduled_at,
            task_version: task.version,
            attempts: reopening.attempts,
            status: reopening.status,
        };
        self.record(self.tenant, event);
        Ok(Accepted::Execution { execution: id, status: Status::Queued })
    }

    fn fire(&mut self, items: &[Due]) -> Result<Accepted, Rejection> {
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

    fn retries_due(&mut self, due: &[(ExecutionId, u32)]) -> Result<Accepted, Rejection> {
        within("retries in one command", due.len(), RETRIES_PER_COMMAND_MAX)?;
        for (execution, attempts) in due {
            let Some(open) = self.replica.executions.get(execution) else { continue };
            let tenant = open.tenant;
            if let Some(event) = execution_rules::retry_due(open, *attempts, self.at) {
                self.record(tenant, event);
            }
        }
        Ok(Accepted::Done)
    }

    fn change_worker(&mut self, request: &Request) -> Result<Accepted, Rejection> {
        match request {
            Request::JoinWorker { node, incarnation, slots, offers } => {
                if self.replica.workers.contains_key(&(*node, *incarnation)) {
                    return Ok(Accepted::Done);
                }
                within("slots", *slots as usize, SLOTS_MAX as usize)?;
                let earlier: Vec<Incarnation> = self
                    .replica
                    .workers
                    .iter()
                    .filter(|((other, _), worker)| other == node && worker.condition != Condition::Lost)
                    .map(|((_, incarnation), _)| *incarnation)
                    .collect();
                for incarnation in earlier {
                    self.record(TenantId::CLUSTER, Event::WorkerLost { node: *node, incarnation });
                }
                let (node, incarnation) = (*node, *incarnation);
                let event = Event::WorkerJoined { node, incarnation, slots: *slots, offers: offers.clone() };
                self.record(TenantId::CLUSTER, event);
                self.take_back_lost();
            }
            Request::DrainWorker { node, incarnation } => {
                if self.known_worker(*node, *incarnation)? == Condition::Ready {
                    let event = Event::WorkerDraining { node: *node, incarnation: *incarnation };
                    self.record(TenantId::CLUSTER, event);
                }
            }
            Request::LoseWorker { node, incarnation } => {
                self.known_worker(*node, *incarnation)?;
                let event = Event::WorkerLost { node: *node, incarnation: *incarnation };
                self.record(TenantId::CLUSTER, event);
                self.take_back_lost();
            }
            _ => {}
        }
        Ok(Accepted::Done)
    }

    fn known_worker(&self, node: NodeId, incarnation: Incarnation) -> Result<Condition, Rejection> {
        let worker = self.replica.workers.get(&(node, incarnation)).ok_or(Rejection::UnknownWorker)?;
        if worker.condition == Condition::Lost { Err(Rejection::UnknownWorker) } else { Ok(worker.condition) }
    }

    /// Takes back what lost workers held, up to the bound.
    fn take_back_lost(&mut self) {
        let held: Vec<ExecutionId> = self
            .replica
            .workers
            .values()
            .filter(|worker| worker.condition == Condition::Lost)
            .flat_map(|worker| worker.held.iter().copied())
            .take(LOSSES_PER_COMMAND_MAX)
            .collect();
        for id in held {
            let Some(open) = self.replica.executions.get(&id).cloned() else { continue };
            let Some(grant) = open.grant() else { continue };
            self.record(open.tenant, execution_rules::lose(&open, grant));
            self.release_after(open.slot, open.task, open.tenant);
        }
    }

    fn report(&mut self, report: &Report) -> Result<Accepted, Rejection> {
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
                    self.record(open.tenant, event);
                    self.release_after(open.slot, open.task, open.tenant);
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

    /// Lets the next execution of a task go on that waited for an earlier one.
    fn release_after(&mut self, slot: u32, task: TaskId, tenant: TenantId) {
        let released = self
            .replica
            .tasks
            .get(slot)
            .filter(|current| current.id == task)
            .and_then(|current| task_rules::release(current, &self.replica.executions));
        if let Some(event) = released {
            self.record(tenant, event);
        }
    }

    /// Grants what can be granted, up to the bound.
    fn grant(&mut self) {
        for _ in 0..GRANTS_PER_COMMAND_MAX {
            let Some((execution, node, incarnation)) = next_grant(&self.replica.queue, &self.replica.workers) else {
                break;
            };
            let Some(open) = self.replica.executions.get(&execution) else { break };
            let attempt = open.attempts.saturating_add(1);
            let (tenant, task) = (open.tenant, open.task);
            self.record(tenant, Event::TaskStarted { task, execution, attempt, node, incarnation });
        }
    }
}

fn same_version(task: &Task, expected: Option<u32>) -> Result<(), Rejection> {
    match expected {
        Some(expected) if expected != task.version => Err(Rejection::VersionMismatch { current: task.version }),
        _ => Ok(()),
    }
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), Rejection> {
    if found <= limit { Ok(()) } else { Err(Rejection::TooMany { what: what.into(), limit: limit as u64 }) }
}
