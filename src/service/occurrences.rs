//! Single occurrences to come that are skipped or moved by hand.

use escapement_actors::intent::Intent;
use escapement_domain::command::Change;
use escapement_domain::identifier::TaskId;
use escapement_domain::task::state::Override;
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use crate::security::Permission;

impl Service {
    /// Skips or moves a coming occurrence of a task, or lets it be as it was.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn change_occurrence(
        &self,
        caller: &Caller,
        id: TaskId,
        at: Timestamp,
        change: Change,
    ) -> Result<(), ServiceError> {
        self.operate(caller, id, Intent::ChangeOccurrence { task: id, at, change }).await.map(|_| ())
    }

    /// Lists the occurrences of a task that are skipped or moved, by their instants.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn changed_occurrences(
        &self,
        caller: &Caller,
        id: TaskId,
    ) -> Result<Vec<(Timestamp, Override)>, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        let task = self.find_task(caller.tenant(), id).ok_or(ServiceError::NoSuchTask)?;
        Ok(task.overrides.into_iter().collect())
    }
}
