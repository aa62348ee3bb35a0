//! The times that an open execution waits for: each is an entry on the leader's wheel, and then a command.

use serde::{Deserialize, Serialize};

use super::state::{Execution, Stage};
use crate::timestamp::Timestamp;

/// What an execution waits for. It names the wait among all that the execution ever has, so that one which is over is told
/// from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wait {
    /// The time of the attempt after so many.
    Retry {
        /// Attempts so far.
        attempts: u32,
    },
    /// The end of the time that it may wait for the worker that makes the attempt after so many.
    Queue {
        /// Attempts so far.
        attempts: u32,
    },
    /// The end of the time that it may take in all.
    Whole,
}

impl Execution {
    /// What it waits for, and until when.
    pub fn waits(&self) -> impl Iterator<Item = (Timestamp, Wait)> {
        let attempts = self.attempts;
        let (retry, queued) = match self.stage {
            Stage::Retrying { until } => (Some(until), false),
            Stage::Held | Stage::Queued => (None, true),
            Stage::Running(_) => (None, false),
        };
        let queue = self.rules.queue_timeout.filter(|_| queued).map(|most| self.queued_at.plus(most));
        // What was told to stop is not told again.
        let whole = self.rules.execution_timeout.filter(|_| self.cancelling.is_none());
        let whole = whole.map(|most| self.fired_at.plus(most));
        [
            retry.map(|until| (until, Wait::Retry { attempts })),
            queue.map(|until| (until, Wait::Queue { attempts })),
            whole.map(|until| (until, Wait::Whole)),
        ]
        .into_iter()
        .flatten()
    }
}
