//! The one place that remembers why this node must stop.
//!
//! Invariant: the first reason wins and is never taken back; nothing on this disk is trusted after
//! it. Whoever holds a [`Failure`] has the word to put before an operator. Absent on purpose:
//! retrying. A write that failed may have left anything behind, and a second attempt that succeeds
//! would prove nothing about the first.

use std::sync::Arc;

use tokio::sync::watch;

/// Why a node stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The log could not be written, synced or read. Replace the disk, or free space and restart.
    #[error("log storage failed: {reason}")]
    Log {
        /// What the disk or the log said.
        reason: String,
    },
    /// A snapshot could not be written, or one that must be read is damaged.
    #[error("snapshot failed: {reason}")]
    Snapshot {
        /// Which one, and what is wrong.
        reason: String,
    },
    /// The application broke its contract, could not be restored, or could not sync what it derived.
    #[error("state machine failed: {reason}")]
    Application {
        /// What happened.
        reason: String,
    },
    /// The consensus core ended or panicked.
    #[error("consensus core died: {reason}")]
    Core {
        /// What it said last.
        reason: String,
    },
}

impl Failure {
    /// The failure as an error of I/O, for callers that know no other.
    #[must_use]
    pub fn to_io(&self) -> std::io::Error {
        std::io::Error::other(self.clone())
    }
}

/// Shared by everything that can fail.
#[derive(Debug, Clone)]
pub(crate) struct Latch(Arc<watch::Sender<Option<Failure>>>);

impl Latch {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::channel(None).0))
    }

    /// Remembers the reason if it is the first one.
    pub(crate) fn fail(&self, failure: Failure) {
        let first = self.0.send_if_modified(|held| {
            let first = held.is_none();
            if first {
                *held = Some(failure.clone());
            }
            first
        });
        if first {
            tracing::error!(%failure, "this node can no longer be trusted and stops");
        }
    }

    pub(crate) fn get(&self) -> Option<Failure> {
        self.0.borrow().clone()
    }

    /// Resolves with the reason once there is one; never before.
    pub(crate) async fn failed(&self) -> Failure {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(failure) = receiver.borrow_and_update().clone() {
                return failure;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_wins() {
        let latch = Latch::new();
        latch.fail(Failure::Core { reason: "first".into() });
        latch.fail(Failure::Core { reason: "second".into() });
        assert_eq!(latch.failed().await, Failure::Core { reason: "first".into() });
    }
}
