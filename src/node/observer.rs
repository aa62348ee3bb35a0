//! What the actors do, told to the metrics.

use std::time::Duration;

use escapement_actors::intent::SubmitError;
use escapement_actors::ports::{AttemptEnd, Leadership, Observer};
use escapement_domain::identifier::NodeId;
use escapement_domain::timestamp::Span;
use parking_lot::Mutex;

use crate::telemetry::Metrics;

/// Keeps the metrics of the actors.
pub(super) struct MetricsObserver {
    metrics: Metrics,
    leader: Mutex<Option<NodeId>>,
}

impl MetricsObserver {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, leader: Mutex::new(None) }
    }
}

impl Observer for MetricsObserver {
    fn leadership(&self, leadership: Leadership) {
        self.metrics.term.set(leadership.term);
        self.metrics.is_leader.set(i64::from(leadership.leading));
        let mut leader = self.leader.lock();
        if leadership.leader.is_some() && *leader != leadership.leader {
            *leader = leadership.leader;
            self.metrics.leader_changes.inc();
        }
    }

    fn fired(&self, lateness: &[Span]) {
        lateness.iter().for_each(|late| self.metrics.fired((*late).into()));
    }

    fn proposal_failed(&self, error: &SubmitError) {
        tracing::debug!(%error, "a proposal of the wheel had no answer; the state says what is still due");
    }

    fn timers(&self, count: usize) {
        self.metrics.wheel_timers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn attempt_started(&self) {
        self.metrics.attempts_running.inc();
    }

    fn attempt_ended(&self, _end: &AttemptEnd, _took: Duration) {
        self.metrics.attempts_running.dec();
    }

    fn attempt_killed(&self) {
        self.metrics.attempts_running.dec();
    }
}
