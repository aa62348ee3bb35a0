//! What workers outside the cluster ask: work from a queue, a longer lease, and to be heard.
//!
//! A worker that finds a queue empty waits here, on the node that it called, and costs a connection. The lease itself is a
//! command; how long it holds is known to the leader.

use std::sync::Arc;
use std::time::Duration;

use escapement_actors::intent::{Heard, Heartbeat, Intent};
use escapement_actors::queue_watch::Ticket;
use escapement_domain::answer::{Accepted, Rejection};
use escapement_domain::command::AttemptOutcome;
use escapement_domain::execution::failure::{Failure, FailureClass};
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::task::action::Action;
use escapement_domain::task::inputs;
use escapement_domain::timestamp::{Span, Timestamp};
use futures::future::try_join_all;

use super::Service;
use super::caller::{Caller, Consistency};
use super::failure::ServiceError;
use super::history::{ExecutionRow, HistoryError};
use crate::security::Permission;

/// What a worker asks of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The queue.
    pub queue: Arc<str>,
    /// What the worker calls itself.
    pub worker: Arc<str>,
    /// At most so many executions.
    pub most: u32,
    /// How long the lease holds from each sign of life.
    pub lease: Span,
    /// How long it waits if there is nothing.
    pub wait: Span,
}

/// An execution that a worker outside the cluster has now.
#[derive(Clone, Debug)]
pub struct LeasedExecution {
    /// The execution.
    pub row: Arc<ExecutionRow>,
    /// JSON text of what the task hands to its worker.
    pub payload: Option<String>,
    /// The fencing token.
    pub token: u64,
    /// How long the lease holds from now on, unless the worker shows that it lives; never beyond the attempt's time-out.
    pub holds: Span,
    /// When it ends, by the leader's clock; of what may be told again under its key, by this node's.
    pub until: Timestamp,
}

/// What a worker says of an attempt that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressReport {
    /// How much is done, from 0 to 100.
    pub percent: Option<u8>,
    /// A sentence for people.
    pub message: Option<Arc<str>>,
}

/// The answer to a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseExtension {
    /// How long the lease holds from when the sign of life was sent; never beyond the attempt's time-out.
    pub holds: Span,
    /// When that is, by this node's clock.
    pub until: Timestamp,
    /// Whether the attempt is to stop.
    pub cancel: bool,
}

impl Service {
    /// Leases executions from a queue; waits for the first of them, and returns none when none came in time.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn lease(
        &self,
        caller: &Caller,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedExecution>, ServiceError> {
        caller.may(Permission::Work)?;
        // What it leased could not be told here.
        if !self.parts.read_models.complete() {
            return Err(HistoryError::Incomplete.into());
        }
        let clock = self.clock();
        let deadline = clock.monotonic() + Duration::from(request.wait);
        let mut woken_by: Option<Ticket> = None;
        loop {
            let asked = clock.monotonic();
            // Before the leader is asked: what comes in between must not be missed.
            let waits = request.wait > Span::ZERO;
            let join = || self.parts.queues.join(caller.tenant(), &request.queue, &request.worker);
            let ticket = waits.then(join);
            let left = deadline.saturating_sub(asked).as_millis();
            let intent = Intent::Lease {
                queue: request.queue.clone(),
                worker: request.worker.clone(),
                most: request.most,
                lease: request.lease,
                wait: Span(u64::try_from(left).unwrap_or(u64::MAX)),
            };
            let carried = self.carry_out(caller, intent).await?;
            if let Some(ticket) = &mut woken_by {
                ticket.served();
            }
            let Accepted::Leased(leased) = carried.accepted else {
                return Err(ServiceError::broken("a lease was answered with something else"));
            };
            if !leased.is_empty() {
                let told = leased
                    .into_iter()
                    .map(|attempt| self.leased(caller, carried.index, attempt, request.lease, asked));
                return Ok(try_join_all(told).await?.into_iter().flatten().collect());
            }
            let left = deadline.saturating_sub(clock.monotonic());
            let Some(mut ticket) = ticket.filter(|_| !left.is_zero()) else { return Ok(Vec::new()) };
            let mut leadership = self.parts.log.leadership();
            let log_ended = async move { while leadership.changed().await.is_ok() {} };
            tokio::select! {
                () = ticket.woken() => woken_by = Some(ticket),
                () = tokio::time::sleep(left) => return Ok(Vec::new()),
                // This node stops; another one answers.
                () = log_ended => return Ok(Vec::new()),
            }
        }
    }

    /// What a worker gets to see of something that it leased; `None` when another command has ended it meanwhile.
    async fn leased(
        &self,
        caller: &Caller,
        index: u64,
        (id, token): (ExecutionId, u64),
        lease: Span,
        asked: Duration,
    ) -> Result<Option<LeasedExecution>, ServiceError> {
        let row = self.recorded_execution(caller, index, id).await?;
        let held = self.parts.machine.read(|replica| {
            let open = replica.execution(id)?;
            let grant = open.grant().filter(|grant| grant.token == token)?;
            let lease = lease.min(open.rules.timeout);
            Some((open.definition.clone(), replica.cause_of(open), lease, grant.since))
        });
        let Some((definition, cause, lease, since)) = held else { return Ok(None) };
        let Some((holds, until)) = self.left_of(caller, (id, token), lease, since, asked).await? else {
            return Ok(None);
        };
        let payload = match inputs::action_of(definition.open_definition()?, cause.as_deref()) {
            Ok(Action::Queue { payload, .. }) => payload,
            Ok(_) => None,
            Err(error) => {
                let failure = Failure { class: FailureClass::Inputs, ..Failure::new(error.to_string()) };
                self.end_unstarted(caller, row.task, (id, token), failure).await?;
                return Ok(None);
            }
        };
        Ok(Some(LeasedExecution { row, payload, token, holds, until }))
    }

    /// How long a lease holds from now on, and until when; `None` if it has ended.
    ///
    /// What was granted just now holds since it was asked for at the latest, whatever this node's clock says. What may be told
    /// again under its key is known to the leader: whoever asks again lives, and so it is a sign of life.
    async fn left_of(
        &self,
        caller: &Caller,
        (execution, token): (ExecutionId, u64),
        lease: Span,
        since: Timestamp,
        asked: Duration,
    ) -> Result<Option<(Span, Timestamp)>, ServiceError> {
        if caller.idempotency.is_none() {
            let took = self.clock().monotonic().saturating_sub(asked);
            let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            return Ok(Some((Span(lease.0.saturating_sub(took)), since.plus(lease))));
        }
        match self.heartbeat(caller, execution, token).await {
            Ok(extension) => Ok(Some((extension.holds.min(lease), extension.until))),
            Err(ServiceError::Rejected(Rejection::StaleLease) | ServiceError::NoSuchExecution) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends an attempt of which its worker is not told.
    async fn end_unstarted(
        &self,
        caller: &Caller,
        task: TaskId,
        (execution, token): (ExecutionId, u64),
        failure: Failure,
    ) -> Result<(), ServiceError> {
        let outcome = AttemptOutcome::Failed(failure);
        let intent = Intent::CompleteAttempt { task, execution, token, outcome };
        match self.carry_out_under(caller, None, intent).await {
            // It ended in another way meanwhile.
            Ok(_) | Err(ServiceError::Rejected(Rejection::StaleLease)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Extends the lease of an attempt.
    ///
    /// # Errors
    /// [`Rejection::StaleLease`] when the attempt has ended or is in other hands.
    pub async fn heartbeat(
        &self,
        caller: &Caller,
        execution: ExecutionId,
        token: u64,
    ) -> Result<LeaseExtension, ServiceError> {
        caller.may(Permission::Work)?;
        let now = self.now();
        let heartbeat = Heartbeat { tenant: caller.tenant().into(), execution, token };
        match self.parts.leader.heartbeat(heartbeat).await? {
            Heard::Until { lease_millis, cancel } => {
                let holds = Span(lease_millis);
                Ok(LeaseExtension { holds, until: now.plus(holds), cancel })
            }
            Heard::Stale => Err(Rejection::StaleLease.into()),
            Heard::NoSuchExecution => Err(self.not_held(caller, execution).await),
        }
    }

    /// Notes how far an attempt is.
    ///
    /// # Errors
    /// [`Rejection::StaleLease`] when the attempt has ended or is in other hands.
    pub async fn report_progress(
        &self,
        caller: &Caller,
        execution: ExecutionId,
        token: u64,
        report: ProgressReport,
    ) -> Result<Arc<ExecutionRow>, ServiceError> {
        caller.may(Permission::Work)?;
        let task = self.held_task(caller, execution).await?;
        let ProgressReport { percent, message } = report;
        let intent = Intent::ReportProgress { task, execution, token, percent, message, of_node: false };
        self.tell_of(caller, execution, intent).await
    }

    /// Ends an attempt.
    ///
    /// # Errors
    /// [`Rejection::StaleLease`] when the attempt has ended before or is in other hands.
    pub async fn complete_attempt(
        &self,
        caller: &Caller,
        execution: ExecutionId,
        token: u64,
        outcome: AttemptOutcome,
    ) -> Result<Arc<ExecutionRow>, ServiceError> {
        caller.may(Permission::Work)?;
        let task = self.held_task(caller, execution).await?;
        self.tell_of(caller, execution, Intent::CompleteAttempt { task, execution, token, outcome }).await
    }

    async fn tell_of(
        &self,
        caller: &Caller,
        execution: ExecutionId,
        intent: Intent,
    ) -> Result<Arc<ExecutionRow>, ServiceError> {
        let carried = self.carry_out(caller, intent).await?;
        self.recorded_execution(caller, carried.index, execution).await
    }

    /// The task of an execution that somebody has. Of one that has ended, the read models know it: a repeated completion under
    /// its key still finds its first answer.
    async fn held_task(&self, caller: &Caller, execution: ExecutionId) -> Result<TaskId, ServiceError> {
        if let Some(task) = self.open_task_of(caller, execution) {
            return Ok(task);
        }
        self.settle_history(Consistency::Linearizable).await?;
        match self.open_task_of(caller, execution) {
            Some(task) => Ok(task),
            None => Ok(self.find_execution(caller, execution)?.task),
        }
    }

    /// Why nobody has an execution: there is none, or it has ended.
    async fn not_held(&self, caller: &Caller, execution: ExecutionId) -> ServiceError {
        match self.settle_history(Consistency::Linearizable).await {
            Ok(_) => match self.find_execution(caller, execution) {
                Ok(_) => Rejection::StaleLease.into(),
                Err(error) => error,
            },
            Err(error) => error,
        }
    }
}
