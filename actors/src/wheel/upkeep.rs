//! What the leader proposes besides fires: work that was left over, answers to forget, bulks that nobody committed,
//! breakers that have been open for long enough, queues at which nobody waits any more.
//!
//! Absent on purpose: when to look; whoever calls decides that.

use escapement_domain::command::Request;
use escapement_domain::limits::{
    ATTENDANCES_PER_COMMAND_MAX, COMMAND_WINDOW, IDEMPOTENCY_WINDOW, STAGE_LIFETIME,
};
use escapement_domain::replica::Replica;
use escapement_domain::timestamp::{Span, Timestamp};

use super::breakers::Breakers;

/// How often answers are forgotten.
const WINDOW_PERIOD: Span = Span::minutes(1);

/// When what was done last.
#[derive(Debug)]
pub(super) struct Upkeep {
    window_at: Timestamp,
    pub(super) breakers: Breakers,
}

impl Upkeep {
    pub(super) fn new(replica: &Replica, now: Timestamp) -> Self {
        Self { window_at: now.plus(WINDOW_PERIOD), breakers: Breakers::of(replica) }
    }

    /// The most urgent proposal, if there is any.
    pub(super) fn wanted(&mut self, replica: &Replica, now: Timestamp) -> Option<Request> {
        if replica.left_over() {
            return Some(Request::Continue);
        }
        let due = self.breakers.due(replica, now);
        if !due.is_empty() {
            return Some(Request::BreakersDue(due));
        }
        let attended = replica.queue().attended();
        let over = attended.take_while(|(.., until)| *until <= now).take(ATTENDANCES_PER_COMMAND_MAX);
        let over: Vec<_> = over.map(|(tenant, queue, until)| (tenant, queue.clone(), until)).collect();
        if !over.is_empty() {
            return Some(Request::AttendanceOver(over));
        }
        if let Some((bulk, _)) = replica.staged().find(|(_, staged_at)| staged_at.plus(STAGE_LIFETIME) <= now)
        {
            return Some(Request::AbandonStaged { bulk });
        }
        if self.window_at > now {
            return None;
        }
        self.window_at = now.plus(WINDOW_PERIOD);
        let (commands, keys) = (now.minus(COMMAND_WINDOW), now.minus(IDEMPOTENCY_WINDOW));
        let something = replica.window().oldest().is_some_and(|oldest| oldest < commands);
        something.then_some(Request::AdvanceWindow { commands, keys })
    }

    /// When something is over that nothing else tells of.
    pub(super) fn next(&self, replica: &Replica) -> Option<Timestamp> {
        let attendance = replica.queue().attended().next().map(|(.., until)| until);
        self.breakers.next().into_iter().chain(attendance).min()
    }
}
