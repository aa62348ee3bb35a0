//! What targets say of attempts that they report later: with the lease token of the attempt, and nothing else.
//!
//! Whoever has the token is the target: it is good for one attempt of one execution, and the node that waits for the attempt
//! knows it. What a target says is heard there, whichever node it was said to; the end of an attempt is answered when it is
//! in the log. Invariant: a token that is not good changes nothing and is not told why; that an end came too late, under one
//! that was good, is recorded, also when the node that waited is gone.

use std::sync::Arc;

use escapement_actors::intent::Intent;
use escapement_domain::answer::Rejection;
use escapement_domain::command::AttemptOutcome;
use escapement_domain::execution::failure::FailureClass;
use escapement_domain::execution::state::Execution;
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use futures::future::BoxFuture;

use super::Service;
use super::caller::{Caller, Consistency};
use super::consistency::PATIENCE;
use super::failure::ServiceError;
use super::history::{ExecutionRow, Outcome};
use super::leasing::{LeaseExtension, ProgressReport};
use crate::executor::{Hearing, LeaseToken, Said, Told};
use crate::security::Principal;

/// Who a target is in the audit log.
const SUBJECT: &str = "callback";

/// The attempts whose targets report later, on whichever node.
pub trait CallbackDesk: Send + Sync + 'static {
    /// Tells the node that a token names what a target says. Returns what it made of that, and the index that it had applied;
    /// none if it does not answer.
    fn say(
        &self,
        execution: ExecutionId,
        token: LeaseToken,
        said: Said,
    ) -> BoxFuture<'static, Option<(Hearing, u64)>>;

    /// Whether a token was once good for an attempt of an execution, as far as this node can tell by itself.
    fn was_good(&self, execution: ExecutionId, token: LeaseToken) -> bool;
}

impl Service {
    /// Hears that a target is at work.
    ///
    /// # Errors
    /// [`Rejection::StaleLease`] when the attempt has ended, or the token is not its.
    pub async fn target_lives(
        &self,
        execution: ExecutionId,
        token: LeaseToken,
    ) -> Result<LeaseExtension, ServiceError> {
        let now = self.now();
        let told = self.hear_alive(execution, token).await?;
        Ok(LeaseExtension { holds: told.holds, until: now.plus(told.holds), cancel: told.cancel })
    }

    /// Notes how far a target is; a sign of life, too.
    ///
    /// # Errors
    /// As [`Service::target_lives`].
    pub async fn target_progresses(
        &self,
        correlation_id: Arc<str>,
        execution: ExecutionId,
        token: LeaseToken,
        report: ProgressReport,
    ) -> Result<(Arc<ExecutionRow>, Caller), ServiceError> {
        let told = self.hear_alive(execution, token).await?;
        let caller = target(told.tenant, correlation_id);
        let ProgressReport { percent, message } = report;
        let (task, token) = (told.task, token.fencing);
        let intent = Intent::ReportProgress { task, execution, token, percent, message, of_node: true };
        let carried = self.carry_out(&caller, intent).await?;
        Ok((self.recorded_execution(&caller, carried.index, execution).await?, caller))
    }

    /// Ends an attempt, and waits until the end is in the log. Said once more, it is answered as the first time.
    ///
    /// # Errors
    /// [`Rejection::StaleLease`] also when the attempt ended otherwise in this moment. What a target says too late is in the
    /// log as refused.
    pub async fn target_completes(
        &self,
        correlation_id: Arc<str>,
        execution: ExecutionId,
        token: LeaseToken,
        outcome: AttemptOutcome,
    ) -> Result<(Arc<ExecutionRow>, Caller), ServiceError> {
        let timed_out = matches!(&outcome, AttemptOutcome::Failed(of) if of.class == FailureClass::TimedOut);
        let (hearing, applied) = self.hear(execution, token, Said::Ended(outcome.clone())).await?;
        let caller = match hearing {
            Hearing::Told(told) => target(told.tenant, correlation_id),
            Hearing::TooLate { tenant, task } => {
                // Of a node's attempt nobody outside ends anything: it is refused, and that is in the log.
                let token = token.fencing;
                let intent = Intent::CompleteAttempt { task, execution, token, outcome };
                self.carry_out(&target(tenant, correlation_id), intent).await?;
                return Err(Rejection::StaleLease.into());
            }
            Hearing::Unknown => return Err(Rejection::StaleLease.into()),
        };
        self.await_applied(applied).await?;
        let index = self.await_end(execution, token).await?;
        let row = self.recorded_execution(&caller, index, execution).await?;
        let attempt = row.attempts.iter().find(|attempt| attempt.token == token.fencing);
        // One that was told to stop is cancelled, whatever it says.
        match attempt.and_then(|attempt| attempt.outcome) {
            Some(Outcome::Succeeded | Outcome::Failed | Outcome::Cancelled) => Ok((row, caller)),
            Some(Outcome::TimedOut) if timed_out => Ok((row, caller)),
            _ => Err(Rejection::StaleLease.into()),
        }
    }

    async fn hear_alive(&self, execution: ExecutionId, token: LeaseToken) -> Result<Told, ServiceError> {
        match self.hear(execution, token, Said::Alive).await? {
            (Hearing::Told(told), _) => Ok(told),
            _ => Err(Rejection::StaleLease.into()),
        }
    }

    async fn hear(
        &self,
        execution: ExecutionId,
        token: LeaseToken,
        said: Said,
    ) -> Result<(Hearing, u64), ServiceError> {
        let answer = self.parts.callbacks.say(execution, token, said).await;
        let (silent, was_good) = (answer.is_none(), self.parts.callbacks.was_good(execution, token));
        match answer {
            // A node that was started again has forgotten what it waited for.
            Some((Hearing::Unknown, _)) if was_good => {}
            Some(answer) => return Ok(answer),
            None => {}
        }
        self.settle_read(Consistency::Linearizable).await?;
        // The node may have heard it, and may still answer.
        if silent && self.is_held(execution, token) {
            return Err(ServiceError::Unknown);
        }
        let whose = if was_good { self.whose(execution).await? } else { None };
        Ok((whose.map_or(Hearing::Unknown, |(tenant, task)| Hearing::TooLate { tenant, task }), 0))
    }

    /// The tenant and the task of an execution, whoever's it is.
    async fn whose(&self, execution: ExecutionId) -> Result<Option<(Arc<str>, TaskId)>, ServiceError> {
        let (open, tenants) = self.parts.machine.read(|replica| {
            let open = replica.execution(execution);
            let of_tenant =
                |open: &Arc<Execution>| Some((replica.tenant_name(open.tenant)?.clone(), open.task));
            let names: Vec<Arc<str>> = replica.tenants().iter().map(|tenant| tenant.name.clone()).collect();
            (open.and_then(of_tenant), names)
        });
        if open.is_some() {
            return Ok(open);
        }
        self.settle_history(Consistency::Linearizable).await?;
        for (number, name) in (0..).map(TenantId).zip(tenants) {
            if let Some(row) = self.parts.read_models.execution(number, execution)? {
                return Ok(Some((name, row.task)));
            }
        }
        Ok(None)
    }

    /// Waits until an attempt is over in the state of this node, which has known it; returns the index at which it is.
    async fn await_end(&self, execution: ExecutionId, token: LeaseToken) -> Result<u64, ServiceError> {
        let mut applied = self.parts.machine.watch_applied();
        let ended = async {
            loop {
                let index = *applied.borrow_and_update();
                if !self.is_held(execution, token) {
                    return Ok(index);
                }
                let ended = |_| ServiceError::Stopped { reason: "its log ended".into() };
                applied.changed().await.map_err(ended)?;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap_or(Err(ServiceError::Unknown))
    }

    /// Whether the node that a token names has the attempt that it names.
    fn is_held(&self, execution: ExecutionId, token: LeaseToken) -> bool {
        self.parts.machine.read(|replica| {
            let grant = replica.execution(execution).and_then(|open| open.grant());
            grant.is_some_and(|grant| {
                grant.token == token.fencing && grant.of_node().is_some_and(|(node, _)| node == token.node)
            })
        })
    }
}

/// A target as the caller of what it reports.
fn target(tenant: Arc<str>, correlation_id: Arc<str>) -> Caller {
    let principal = Principal { subject: SUBJECT.into(), tenant: tenant.to_string(), roles: Vec::new() };
    Caller { principal, correlation_id, idempotency: None, consistency: Consistency::Linearizable }
}
