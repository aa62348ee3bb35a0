//! How far this node must have come before it answers.

use std::time::Duration;

use escapement_actors::intent::SubmitError;
use escapement_domain::planted::{self, Bug};

use super::Service;
use super::caller::Consistency;
use super::failure::ServiceError;
use super::history::HistoryError;

/// How long a call waits for a leader, or for this node to catch up.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before the leader is looked for again.
const PAUSE: Duration = Duration::from_millis(50);

impl Service {
    /// Waits until this node may answer a read from its state; returns the index from which it will.
    ///
    /// # Errors
    /// [`ServiceError::NoLeader`] when nobody could say in time how far that is.
    pub(super) async fn settle_read(&self, consistency: Consistency) -> Result<u64, ServiceError> {
        match consistency {
            Consistency::Local => Ok(self.parts.machine.applied()),
            Consistency::Linearizable if planted::has(Bug::StaleRead) => Ok(self.parts.machine.applied()),
            Consistency::Linearizable => self.barrier().await,
        }
    }

    /// As [`Service::settle_read`], and until the read models are there too.
    ///
    /// # Errors
    /// [`HistoryError::Incomplete`] at once when history is still being fetched: another node has it now.
    pub(super) async fn settle_history(&self, consistency: Consistency) -> Result<u64, ServiceError> {
        if !self.parts.read_models.complete() {
            return Err(HistoryError::Incomplete.into());
        }
        let index = self.settle_read(consistency).await?;
        if consistency == Consistency::Linearizable {
            self.await_folded(index).await?;
        }
        Ok(index)
    }

    /// Waits until everything that was acknowledged anywhere before the call is applied here.
    pub(super) async fn barrier(&self) -> Result<u64, ServiceError> {
        let clock = &self.parts.clock;
        let deadline = clock.monotonic() + PATIENCE;
        let mut leadership = self.parts.log.leadership();
        loop {
            leadership.mark_unchanged();
            let left = deadline.saturating_sub(clock.monotonic());
            match tokio::time::timeout(left, self.parts.log.read_barrier()).await {
                Ok(Ok(index)) => {
                    self.await_applied(index).await?;
                    return Ok(index);
                }
                Ok(Err(SubmitError::Stopped { reason })) => return Err(ServiceError::Stopped { reason }),
                Ok(Err(SubmitError::Busy)) => return Err(ServiceError::Busy),
                // Reading has no outcome to be unsure of: it is asked again.
                Ok(Err(_)) => {}
                Err(_) => return Err(ServiceError::NoLeader),
            }
            if clock.monotonic() >= deadline {
                return Err(ServiceError::NoLeader);
            }
            // A change of leadership is heard at once; so is the end of the log.
            if let Ok(Err(_)) = tokio::time::timeout(PAUSE, leadership.changed()).await {
                return Err(ServiceError::Stopped { reason: "its log ended".into() });
            }
        }
    }

    /// Waits until this node has applied the entry at `index`.
    pub(super) async fn await_applied(&self, index: u64) -> Result<(), ServiceError> {
        let mut applied = self.parts.machine.watch_applied();
        match tokio::time::timeout(PATIENCE, applied.wait_for(|applied| *applied >= index)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ServiceError::Behind),
        }
    }

    /// Waits until the read models have folded the entry at `index`.
    pub(super) async fn await_folded(&self, index: u64) -> Result<(), ServiceError> {
        match tokio::time::timeout(PATIENCE, self.parts.read_models.wait_folded(index)).await {
            Ok(folded) => Ok(folded?),
            Err(_) => Err(ServiceError::Behind),
        }
    }
}
