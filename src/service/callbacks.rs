//! What targets say of attempts that they report later: with the lease token of the attempt, and nothing else.
//!
//! Whoever has the token is the target: it is good for one attempt of one execution, and the node that waits for the attempt
//! knows it. What a target says is heard there, whichever node it was said to; the end of an attempt is answered when it is
//! in the log. Invariant: a token that is not good changes nothing and is not told why.

use std::sync::Arc;

use escapement_actors::intent::Intent;
use escapement_domain::answer::Rejection;
use escapement_domain::command::AttemptOutcome;
use escapement_domain::identifier::ExecutionId;
use futures::future::BoxFuture;

use super::Service;
use super::caller::{Caller, Consistency};
use super::consistency::PATIENCE;
use super::failure::ServiceError;
use super::history::{ExecutionRow, Outcome};
use super::leasing::{LeaseExtension, ProgressReport};
use crate::executor::{LeaseToken, Said, Told};
use crate::security::Principal;

/// Who a target is in the audit log.
const SUBJECT: &str = "callback";

/// What became of something that a target said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was heard.
    Told {
        /// By whom, and what the target is told.
        told: Told,
        /// The index that the node which heard it had applied.
        applied: u64,
    },
    /// Nobody waits for it any more, or ever did.
    Stale,
    /// The node that would know does not answer.
    Nobody,
}

/// The attempts whose targets report later, on whichever node.
pub trait CallbackDesk: Send + Sync + 'static {
    /// Tells the node that waits what a target says.
    fn say(&self, execution: ExecutionId, token: LeaseToken, said: Said) -> BoxFuture<'static, Heard>;
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
        let (told, _) = self.hear(execution, token, Said::Alive).await?;
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
        let (told, _) = self.hear(execution, token, Said::Alive).await?;
        let caller = target(&told, correlation_id);
        let ProgressReport { percent, message } = report;
        let (task, token) = (told.task, token.fencing);
        let intent = Intent::ReportProgress { task, execution, token, percent, message, of_node: true };
        let carried = self.carry_out(&caller, intent).await?;
        Ok((self.recorded_execution(&caller, carried.index, execution).await?, caller))
    }

    /// Ends an attempt, and waits until the end is in the log.
    ///
    /// # Errors
    /// [`Rejection::StaleLease`] also when the attempt ended otherwise in this moment.
    pub async fn target_completes(
        &self,
        correlation_id: Arc<str>,
        execution: ExecutionId,
        token: LeaseToken,
        outcome: AttemptOutcome,
    ) -> Result<(Arc<ExecutionRow>, Caller), ServiceError> {
        let (told, applied) = self.hear(execution, token, Said::Ended(outcome)).await?;
        let caller = target(&told, correlation_id);
        self.await_applied(applied).await?;
        let index = self.await_end(execution, token).await?;
        let row = self.recorded_execution(&caller, index, execution).await?;
        let attempt = row.attempts.iter().find(|attempt| attempt.token == token.fencing);
        // One that was told to stop is cancelled, whatever it says.
        match attempt.and_then(|attempt| attempt.outcome) {
            Some(Outcome::Succeeded | Outcome::Failed | Outcome::Cancelled) => Ok((row, caller)),
            _ => Err(Rejection::StaleLease.into()),
        }
    }

    async fn hear(
        &self,
        execution: ExecutionId,
        token: LeaseToken,
        said: Said,
    ) -> Result<(Told, u64), ServiceError> {
        match self.parts.callbacks.say(execution, token, said).await {
            Heard::Told { told, applied } => Ok((told, applied)),
            Heard::Stale => Err(Rejection::StaleLease.into()),
            Heard::Nobody => {
                self.settle_read(Consistency::Linearizable).await?;
                // The node may have heard it, and may still answer.
                if self.is_held(execution, token) {
                    Err(ServiceError::Unknown)
                } else {
                    Err(Rejection::StaleLease.into())
                }
            }
        }
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
fn target(told: &Told, correlation_id: Arc<str>) -> Caller {
    let principal = Principal { subject: SUBJECT.into(), tenant: told.tenant.to_string(), roles: Vec::new() };
    Caller { principal, correlation_id, idempotency: None, consistency: Consistency::Linearizable }
}
