//! Sends what a client wants to whoever leads, under a command id of its own.

use escapement_actors::intent::{Intent, Submission};
use escapement_domain::answer::Accepted;
use escapement_domain::command::{Client, Idempotency};
use escapement_domain::identifier::{CommandId, TaskId};

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::validation::Fault;

/// What came of a change, and where it is in the log.
pub(super) struct Carried {
    pub(super) index: u64,
    pub(super) accepted: Accepted,
}

impl Service {
    /// Carries a change out under the caller's own key, and waits until this node has applied it.
    ///
    /// # Errors
    /// [`ServiceError`]: refused, or without an answer.
    pub(super) async fn carry_out(&self, caller: &Caller, intent: Intent) -> Result<Carried, ServiceError> {
        match self.carry_out_under(caller, caller.idempotency.clone(), intent).await {
            Err(ServiceError::Invalid { faults }) => self.refuse(caller, faults).await,
            carried => carried,
        }
    }

    /// Refuses what was asked for before it is in the log. Who is refused takes it that nothing was carried out, and an earlier try
    /// under the caller's own key may be on its way, held up in another node even: so the refusal is put into the log under the
    /// key, and whichever comes first is the answer to both.
    pub(super) async fn refuse(&self, caller: &Caller, faults: Vec<Fault>) -> Result<Carried, ServiceError> {
        let (Some(key), Some(first)) = (&caller.idempotency, faults.first()) else {
            return Err(ServiceError::Invalid { faults });
        };
        let (pointer, detail) = (first.pointer.as_str().into(), first.detail.as_str().into());
        let refusal = Intent::Refuse { pointer, detail };
        match self.carry_out_under(caller, Some(key.clone()), refusal).await {
            // The log tells of the first fault, and here all of them are known.
            Err(ServiceError::Invalid { .. }) => Err(ServiceError::Invalid { faults }),
            earlier => earlier,
        }
    }

    /// As [`Service::carry_out`], under another key or none.
    pub(super) async fn carry_out_under(
        &self,
        caller: &Caller,
        idempotency: Option<Idempotency>,
        intent: Intent,
    ) -> Result<Carried, ServiceError> {
        let client = Client {
            command: self.fresh_command(),
            issued_at: self.now(),
            idempotency,
            tenant: caller.principal.tenant.as_str().into(),
            subject: caller.principal.subject.as_str().into(),
            correlation_id: caller.correlation_id.clone(),
        };
        let answer = self.parts.leader.submit(Submission { client, intent }).await?;
        let accepted = answer.outcome?;
        self.await_applied(answer.index).await?;
        Ok(Carried { index: answer.index, accepted })
    }

    pub(super) fn fresh_command(&self) -> CommandId {
        CommandId::from_parts(self.unix_millis(), self.entropy().bits())
    }

    pub(super) fn fresh_task(&self) -> TaskId {
        TaskId::from_parts(self.unix_millis(), self.entropy().bits())
    }

    pub(super) fn unix_millis(&self) -> u64 {
        u64::try_from(self.now().0).unwrap_or(0)
    }
}
