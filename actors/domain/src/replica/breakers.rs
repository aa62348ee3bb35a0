//! What becomes of circuit breakers: as attempts end, when their time has come, and by hand.

use std::sync::Arc;

use super::apply::{Step, within};
use super::placement::BreakerState;
use crate::answer::{Accepted, Rejection};
use crate::event::{Event, GiveUpCause, Placing};
use crate::execution::failure::FailureClass;
use crate::execution::state::Execution;
use crate::identifier::TenantId;
use crate::limits::{BREAKERS_MAX, BREAKERS_PER_COMMAND_MAX};
use crate::timestamp::Timestamp;

/// Whether an event says that a target did what it was asked, or failed; `None` if it says neither.
pub(super) fn answered(event: &Event) -> Option<bool> {
    match event {
        Event::TaskCompleted { .. } => Some(true),
        Event::TaskFailed { ended, .. } | Event::TaskRetry { ended, .. }
            if ended.failure.is_some_and(FailureClass::is_unsent) =>
        {
            None
        }
        Event::TaskRetry { .. } | Event::TaskFailed { .. } => Some(false),
        // What waited too long, or was told to stop since all of its time was over, says nothing of its target.
        Event::TaskTimedOut { cause: GiveUpCause::ExecutionTimeout, .. } => None,
        Event::TaskTimedOut { ended: Some(ended), .. } => ended.failure.map(|_| false),
        _ => None,
    }
}

impl Step<'_> {
    /// Records how an attempt ended, and what that means for its target.
    pub(super) fn conclude(&mut self, open: &Execution, event: Event) {
        let (tenant, answered) = (open.tenant, answered(&event));
        let guard = open.rules.claims.as_ref().and_then(|claims| claims.guard.as_ref());
        let state = guard
            .and_then(|guard| self.replica.queue.breaker(tenant, &guard.target))
            .map(|known| known.state);
        self.record(tenant, event);
        let (Some(guard), Some(answered)) = (guard, answered) else { return };
        let target = guard.target.clone();
        let failures = self.replica.queue.breaker(tenant, &target).map_or(0, |known| known.failures);
        let probed = state == Some(BreakerState::HalfOpen { probe: Some(open.id) });
        let closed = matches!(state, None | Some(BreakerState::Closed));
        let execution = Some(open.id);
        let change = if probed && answered {
            Placing::BreakerClosed { target, execution }
        } else if !answered && (probed || closed && failures >= guard.breaker.failure_threshold) {
            let until = Some(self.at.plus(guard.breaker.open_for));
            Placing::BreakerOpened { target, failures, execution, until }
        } else {
            return;
        };
        // Whoever said how the attempt ended did not do this by hand.
        self.by_itself(|step| step.record(tenant, Event::Placement(change)));
    }

    /// Lets targets be tried whose breakers have been open for long enough.
    pub(super) fn breakers_due(
        &mut self,
        due: &[(TenantId, Arc<str>, Timestamp)],
    ) -> Result<Accepted, Rejection> {
        within("breakers in one command", due.len(), BREAKERS_PER_COMMAND_MAX)?;
        for (tenant, target, until) in due {
            let state = self.replica.queue.breaker(*tenant, target).map(|known| known.state);
            if state == Some(BreakerState::Open { until: Some(*until) }) && *until <= self.at {
                self.record(*tenant, Event::Placement(Placing::BreakerHalfOpened { target: target.clone() }));
            }
        }
        Ok(Accepted::Done)
    }

    /// Opens or closes a breaker by hand. One that was opened by hand stays so.
    pub(super) fn set_breaker(&mut self, target: &Arc<str>, open: bool) -> Result<Accepted, Rejection> {
        let known = self.replica.queue.breaker(self.tenant, target);
        let (state, failures) =
            known.map_or((BreakerState::Closed, 0), |known| (known.state, known.failures));
        let (target, execution) = (target.clone(), None);
        match (state, open) {
            (BreakerState::Open { until: None }, true) => {}
            (BreakerState::Closed, false) if failures == 0 => {}
            (_, true) => {
                let known = self.replica.queue.breakers_of(self.tenant).count();
                if known >= BREAKERS_MAX && self.replica.queue.breaker(self.tenant, &target).is_none() {
                    let limit = BREAKERS_MAX as u64;
                    return Err(Rejection::TooMany { what: "breakers".into(), limit });
                }
                let event =
                    Event::Placement(Placing::BreakerOpened { target, failures, execution, until: None });
                self.record(self.tenant, event);
            }
            (_, false) => {
                self.record(self.tenant, Event::Placement(Placing::BreakerClosed { target, execution }))
            }
        }
        Ok(Accepted::Done)
    }
}
