//! Carries a committed command out: recalls, decides, records, grants.

use std::sync::Arc;

use super::Replica;
use super::placement::next_grant;
use super::window::Recalled;
use crate::answer::{Accepted, Answer, Rejection};
use crate::command::{Client, Command, Origin, Request};
use crate::event::Event;
use crate::execution::state::{Holder, Occurrence};
use crate::identifier::TenantId;
use crate::limits::{EXECUTIONS_CHOSEN_MAX, GRANTS_PER_COMMAND_MAX, TENANTS_MAX};
use crate::record::{Record, RecordHeader, StreamLink};
use crate::timestamp::{Stamp, Timestamp};

impl Replica {
    /// Applies one committed command of the entry at `index` and appends its records to those of the entry.
    ///
    /// Everything that a command can ask for has an answer; bytes that are no command are refused with
    /// [`Rejection::Unreadable`] by [`Replica::refuse_unreadable`].
    pub fn apply(&mut self, index: u64, command: &Command, records: &mut Vec<Record>) -> Answer {
        match &command.origin {
            Origin::Scheduler => {
                let mut step = Step::new(self, index, command, None, records);
                let outcome = step.carry_out(&command.request);
                step.follow();
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
                let mut step = Step::new(self, index, command, Some(client), records);
                let outcome =
                    step.admit(&client.tenant, known).and_then(|()| step.carry_out(&command.request));
                // What can go now may be of another tenant, even.
                step.by_itself(Step::follow);
                step.by_itself(Step::grant);
                let answer = Answer { index, outcome };
                // Not the last word: the proposer settles what is due and asks again under the same id.
                if !matches!(answer.outcome, Err(Rejection::Overdue { .. })) {
                    step.remember(client, &answer);
                }
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
    /// When it is carried out: never before what was logged.
    pub(super) at: Timestamp,
    /// When the leader stamped it, and for when it computed instants.
    pub(super) stamped: Timestamp,
    ahead_ms: i32,
    pub(super) client: Option<&'a Client>,
    pub(super) tenant: TenantId,
    records: &'a mut Vec<Record>,
}

impl<'a> Step<'a> {
    fn new(
        replica: &'a mut Replica,
        index: u64,
        command: &Command,
        client: Option<&'a Client>,
        records: &'a mut Vec<Record>,
    ) -> Self {
        let Stamp { at: stamped, ahead_ms } = command.stamp;
        let at = replica.logged.max(stamped);
        Self { replica, index, at, stamped, ahead_ms, client, tenant: TenantId::CLUSTER, records }
    }

    /// Chains an event to its tenant's records and lets it change the state.
    pub(super) fn record(&mut self, tenant: TenantId, event: Event) {
        let Some(head) = self.replica.tenants.get(tenant.0 as usize).map(|tenant| tenant.head) else {
            return;
        };
        let stream = event.task().map(|task| {
            let stream = self.replica.task(tenant, task).map(|task| task.stream).unwrap_or_default();
            StreamLink { position: stream.length + 1, previous: stream.last }
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
            ahead_ms: self.ahead_ms,
            actor,
            correlation_id,
            command: self.client.map(|client| client.command),
            stream,
        };
        let record = Record::chain(header, event, head.hash);
        self.replica.evolve(&record);
        self.records.push(record);
    }

    /// Does what is the scheduler's doing, whoever's command brought it about: what is recorded has no author, and goes back to
    /// the request that its execution goes back to.
    pub(super) fn by_itself(&mut self, work: impl FnOnce(&mut Self)) {
        let client = self.client.take();
        work(self);
        self.client = client;
    }

    /// What the scheduler does goes back to the request that its execution goes back to.
    fn correlation_of(&self, event: &Event) -> Arc<str> {
        let backfill = match event {
            Event::TaskScheduled { occurrence: Occurrence::Backfill { backfill, .. }, .. } => Some(backfill),
            Event::BackfillEnded { backfill, .. } => Some(backfill),
            _ => None,
        };
        if let Some(backfill) = backfill.and_then(|backfill| self.replica.backfills.get(backfill)) {
            return backfill.correlation_id.clone();
        }
        let of_chain = || self.replica.chains.correlation_of(event);
        if let Some(correlation_id) = self.replica.bulk_behind(event).or_else(of_chain) {
            return correlation_id;
        }
        if let Some(publication) =
            super::publications::behind(event).and_then(|id| self.replica.publications.get(id))
        {
            return publication.correlation_id.clone();
        }
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
            issued_at: client.issued_at,
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
            | Request::RunTask { .. }
            | Request::ChangeOccurrence { .. } => self.change_task(request),
            Request::CancelExecution { execution } => self.cancel(*execution),
            Request::RetryExecution(reopening) => self.reopen(reopening),
            Request::Fire(items) => self.fire(items),
            Request::WaitsOver(waits) => self.waits_over(waits),
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
                self.continue_events();
                Ok(Accepted::Done)
            }
            Request::StageTasks { bulk, part, tasks } => self.stage(*bulk, *part, tasks),
            Request::CommitStaged { bulk, parts } => self.commit_staged(*bulk, *parts),
            Request::AbandonStaged { bulk } => self.abandon_staged(*bulk),
            Request::FireMoved(items) => self.fire_moved(items),
            Request::MissMoved(items) => self.miss_moved(items),
            Request::Backfill { task, instants, concurrency } => {
                self.start_backfill(*task, instants, *concurrency)
            }
            Request::PublishEvent { name, payload } => self.publish(name, payload),
            Request::CancelBackfill { task, backfill } => self.cancel_backfill(*task, *backfill),
            Request::PutCalendar { name, calendar } => self.put_calendar(name, calendar),
            Request::DeleteCalendar { name } => self.delete_calendar(name),
            Request::PutGate { gate, capacity } => self.put_gate(gate, *capacity),
            Request::DeleteGate { gate } => self.delete_gate(gate),
            Request::PauseQueue { queue, paused } => self.pause_queue(queue, *paused),
            Request::SetPriority { execution, priority } => self.set_priority(*execution, *priority),
            Request::SetBreaker { target, open } => self.set_breaker(target, *open),
            Request::BreakersDue(due) => self.breakers_due(due),
            Request::Replan(items) => self.replan(items),
            Request::AdoptZoneData { version } => {
                if *version != self.replica.zone_data {
                    self.record(TenantId::CLUSTER, Event::ZoneDataAdopted { version: version.clone() });
                }
                Ok(Accepted::Done)
            }
            Request::CancelRun { run } => self.cancel_run(*run),
            Request::RetryRun(recalled) => self.retry_run(recalled),
            Request::ChooseExecutions(choice) => {
                within("executions in one choice", choice.executions.len(), EXECUTIONS_CHOSEN_MAX)?;
                Ok(Accepted::Chosen(choice.clone()))
            }
            Request::DrainNode { node, drained } => self.drain_node(*node, *drained),
            Request::Refuse { pointer, detail } => {
                Err(Rejection::Unschedulable { pointer: pointer.clone(), detail: detail.clone() })
            }
            Request::Lease { .. }
            | Request::CompleteAttempt { .. }
            | Request::ReportProgress { .. }
            | Request::EndLeases(_)
            | Request::AttendanceOver(_) => self.change_lease(request),
        }
    }

    pub(super) fn owner(&self) -> Arc<str> {
        self.client.map(|client| client.subject.clone()).unwrap_or_default()
    }

    /// Grants what can be granted, up to the bound.
    fn grant(&mut self) {
        for _ in 0..GRANTS_PER_COMMAND_MAX {
            let Some((execution, node, incarnation)) = next_grant(&self.replica.queue, &self.replica.workers)
            else {
                break;
            };
            let Some(open) = self.replica.executions.get(&execution) else { break };
            let attempt = open.attempts.saturating_add(1);
            let (tenant, task) = (open.tenant, open.task);
            let holder = Holder::Node { node, incarnation };
            self.record(tenant, Event::TaskStarted { task, execution, attempt, holder });
        }
    }
}

pub(super) fn within(what: &'static str, found: usize, limit: usize) -> Result<(), Rejection> {
    if found <= limit { Ok(()) } else { Err(Rejection::TooMany { what: what.into(), limit: limit as u64 }) }
}
