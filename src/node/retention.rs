//! How long a node keeps what it can do without: finished executions, and what attempts wrote. The event log keeps the rest.
//!
//! Each node removes its own, step by step, so that nobody waits long.

use std::time::Duration;

use escapement_actors::ports::Clock;
use escapement_actors::projection::{Projections, Pruned};
use escapement_domain::timestamp::Span;

use super::clock::SystemClock;
use crate::config::ExecutionConfig;

/// Rows that one step removes.
const PRUNED_AT_ONCE: usize = 1_000;
/// The shortest and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60 * 60));
/// How often it is looked in the time for which something is kept.
const LOOKS: u32 = 10;

/// How long a node keeps what it can do without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    executions: Duration,
    output: Duration,
}

impl Retention {
    /// What the configuration says.
    pub(super) fn of(config: &ExecutionConfig) -> Self {
        Self { executions: config.keep_executions, output: config.keep_output }
    }

    /// Removes what is older, for as long as the node runs.
    pub(super) async fn keep_up(self, projections: Projections) {
        let (shortest, longest) = PAUSES;
        let pause = (self.executions.min(self.output) / LOOKS).clamp(shortest, longest);
        loop {
            tokio::time::sleep(pause).await;
            match self.enforce(&projections, &SystemClock).await {
                Ok(pruned) if pruned != Pruned::default() => {
                    tracing::debug!(?pruned, "what is old was removed")
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "what is old was not removed"),
            }
        }
    }

    /// Removes what is older now, and says how much that was.
    pub(super) async fn enforce(
        self,
        projections: &Projections,
        clock: &dyn Clock,
    ) -> Result<Pruned, String> {
        let span = |kept: Duration| Span(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX));
        let (now, mut all) = (clock.now(), Pruned::default());
        loop {
            let pruned = projections
                .prune(now, span(self.executions), span(self.output), PRUNED_AT_ONCE)
                .map_err(|error| error.to_string())?;
            all.executions += pruned.executions;
            all.output += pruned.output;
            if pruned.executions < PRUNED_AT_ONCE && pruned.output < PRUNED_AT_ONCE {
                return Ok(all);
            }
            tokio::task::yield_now().await;
        }
    }
}
