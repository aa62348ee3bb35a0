//! What the actors do, and what becomes of executions, told to the metrics.

use std::sync::Arc;
use std::time::Duration;

use escapement_actors::intent::SubmitError;
use escapement_actors::machine::Machine;
use escapement_actors::ports::{Leadership, Observer};
use escapement_domain::event::Event;
use escapement_domain::identifier::NodeId;
use escapement_domain::record::Record;
use escapement_domain::timestamp::Span;
use parking_lot::Mutex;

use crate::telemetry::{Metrics, Outcome};

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

    fn fired(&self, fired: u32, lateness: &[Span]) {
        self.metrics.fires.inc_by(fired.into());
        lateness.iter().for_each(|late| self.metrics.late((*late).into()));
    }

    fn committed(&self, latency: Duration) {
        self.metrics.committed(latency);
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

    fn attempt_over(&self) {
        self.metrics.attempts_running.dec();
    }
}

/// Counts executions that end, for as long as the state lives: on the node that leads, so that a sum over the nodes counts each
/// once.
pub(super) async fn count_outcomes(machine: Arc<Machine>, metrics: Metrics) {
    let ((), mut entries) = machine.subscribe(|_, _| ());
    drop(machine);
    while let Some(applied) = entries.recv().await {
        if metrics.is_leader.get() == 1 {
            applied.records.iter().filter_map(outcome).for_each(|outcome| metrics.execution_ended(outcome));
        }
    }
}

/// How an execution ended, if the record says that one did.
fn outcome(record: &Record) -> Option<Outcome> {
    Some(match record.event {
        Event::TaskCompleted { .. } => Outcome::Succeeded,
        Event::TaskFailed { .. } => Outcome::Failed,
        Event::TaskTimedOut { .. } => Outcome::TimedOut,
        Event::TaskCancelled { .. } => Outcome::Cancelled,
        Event::TaskLost { .. } => Outcome::Lost,
        Event::TaskSkipped { .. } => Outcome::Skipped,
        _ => return None,
    })
}
