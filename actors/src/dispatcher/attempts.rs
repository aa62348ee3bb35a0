//! The attempts of this incarnation: what waits for a fresh lease, what runs, and what ended but is still in the state.
//!
//! Invariant: a fencing token is started at most once. Absent on purpose: starting, and the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use escapement_domain::command::{AttemptOutcome, AttemptResult};
use escapement_domain::execution::failure::{Failure, FailureClass};
use escapement_domain::identifier::{ExecutionId, TenantId};
use escapement_domain::timestamp::Timestamp;

use crate::attempt::Leash;
use crate::ports::{AttemptEnd, Finished, Observer};

use super::outbox::outcome_of;

/// An attempt that runs.
pub(super) struct Running {
    pub(super) tenant: TenantId,
    pub(super) token: u64,
    pub(super) started_at: Timestamp,
    pub(super) leash: Leash,
    pub(super) _presence: Presence,
    /// Told to stop because somebody asked for it.
    pub(super) cancelled: bool,
    /// Told to stop because this node stops.
    pub(super) handing_back: bool,
}

impl Running {
    /// What to report of an attempt that ended now.
    pub(super) fn result(
        &self,
        execution: ExecutionId,
        finished: Option<Finished>,
        now: Timestamp,
    ) -> AttemptResult {
        let usage = finished.as_ref().and_then(|finished| finished.usage);
        let outcome = match finished.map(|finished| finished.end) {
            Some(AttemptEnd::Cancelled) if self.handing_back && !self.cancelled => AttemptOutcome::HandedBack,
            Some(end) => outcome_of(end),
            None => AttemptOutcome::Failed(Failure {
                class: FailureClass::Died,
                ..Failure::new("the attempt died on its worker")
            }),
        };
        AttemptResult {
            execution,
            tenant: self.tenant,
            token: self.token,
            started_at: self.started_at,
            finished_at: now,
            outcome,
            usage,
        }
    }
}

/// Tells the observer that an attempt runs, and that it does no more: whatever makes an end of it, this goes with it.
pub(super) struct Presence(Arc<dyn Observer>);

impl Presence {
    /// An attempt runs from now on.
    pub(super) fn begin(observer: &Arc<dyn Observer>) -> Self {
        observer.attempt_started();
        Self(observer.clone())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.attempt_over();
    }
}

/// The attempts of one incarnation.
#[derive(Default)]
pub(super) struct Attempts {
    /// Granted, and not started: the lease was not fresh.
    pub(super) pending: BTreeSet<ExecutionId>,
    /// They run.
    pub(super) running: BTreeMap<ExecutionId, Running>,
    /// They ended, and the state on this node does not say so yet.
    ended: BTreeMap<ExecutionId, u64>,
}

impl Attempts {
    /// Whether an attempt was started before.
    pub(super) fn knows(&self, execution: ExecutionId, token: u64) -> bool {
        self.running.get(&execution).is_some_and(|running| running.token == token)
            || self.ended.get(&execution) == Some(&token)
    }

    /// Notes that an attempt is over, until the state says so.
    pub(super) fn note_end(&mut self, execution: ExecutionId, token: u64) {
        self.ended.insert(execution, token);
    }

    /// Whether an execution has an attempt here, running or ended.
    pub(super) fn holds(&self, execution: ExecutionId) -> bool {
        self.running.contains_key(&execution) || self.ended.contains_key(&execution)
    }

    /// Kills the attempt of an execution, and forgets its end, unless the state grants it under `token`.
    pub(super) fn drop_unless(&mut self, execution: ExecutionId, token: Option<u64>) {
        if self.running.get(&execution).is_some_and(|running| Some(running.token) != token) {
            self.running.remove(&execution);
        }
        if self.ended.get(&execution).is_some_and(|ended| Some(*ended) != token) {
            self.ended.remove(&execution);
        }
    }

    /// As [`Attempts::drop_unless`], for every execution.
    pub(super) fn drop_unless_granted(&mut self, token_of: impl Fn(ExecutionId) -> Option<u64>) {
        self.running.retain(|execution, running| token_of(*execution) == Some(running.token));
        self.ended.retain(|execution, token| token_of(*execution) == Some(*token));
    }

    /// Drops everything, which kills what runs; says how many were killed.
    pub(super) fn kill_all(&mut self) -> usize {
        let killed = self.running.len();
        *self = Self::default();
        killed
    }
}
