//! The end of a worker that is told to stop: what runs may end until a deadline, the rest is handed back.
//!
//! Invariant: whoever asked for a drain hears of its end, if only because nobody takes the reports. Absent on
//! purpose: refusing grants. What is granted before the log knows of the drain is started like anything else.

use std::time::Duration;

use actix::{Context, Handler, Message};
use escapement_domain::replica::placement::Condition;
use tokio::sync::oneshot;

use super::actor::DispatcherActor;
use crate::ports::AttemptEnd;

/// How long after the deadline of a drain an attempt may take to stop.
const HAND_BACK_GRACE: Duration = Duration::from_secs(5);

/// Take nothing new.
pub(super) struct Drain {
    pub(super) deadline: Duration,
    pub(super) done: oneshot::Sender<()>,
}

impl Message for Drain {
    type Result = ();
}

/// A drain under way.
pub(super) struct Draining {
    /// On the monotonic clock.
    until: Duration,
    /// The deadline has come: nothing runs on, and nothing is started.
    pub(super) stopped: bool,
    done: Vec<oneshot::Sender<()>>,
}

impl DispatcherActor {
    /// Does what the present moment of a drain asks for.
    pub(super) fn go_on_draining(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        let Some(draining) = &mut self.draining else { return };
        if now >= draining.until && !draining.stopped {
            draining.stopped = true;
            for running in self.attempts.running.values_mut() {
                running.handing_back = true;
                running.leash.cancel();
            }
            self.start_pending(ctx);
        }
        let Some(draining) = &self.draining else { return };
        let (patience, until) = (draining.until + HAND_BACK_GRACE, draining.until);
        if now >= patience && !self.attempts.running.is_empty() {
            let wall = self.parts.clock.now();
            for (execution, running) in std::mem::take(&mut self.attempts.running) {
                self.attempts.note_end(execution, running.token);
                self.outbox.push(running.result(execution, Some(AttemptEnd::Cancelled.into()), wall));
            }
            self.report(ctx);
        }
        let hopeless = now >= until + HAND_BACK_GRACE + 3 * self.parts.renew_every;
        if hopeless || self.is_drained() {
            let done =
                self.draining.as_mut().map(|draining| std::mem::take(&mut draining.done)).unwrap_or_default();
            for done in done {
                // Whoever asked may have given up waiting.
                let _ = done.send(());
            }
        }
    }

    /// Whether nothing runs, everything is reported, and nothing more will be granted.
    fn is_drained(&self) -> bool {
        if !self.attempts.running.is_empty() || self.outbox.len() > 0 {
            return false;
        }
        let key = (self.parts.node, self.incarnation);
        self.retiring
            || self.parts.machine.read(|replica| {
                replica.workers().get(&key).map_or(self.lease.safe_until().is_none(), |worker| {
                    worker.condition != Condition::Ready && worker.held.is_empty()
                })
            })
    }
}

impl Handler<Drain> for DispatcherActor {
    type Result = ();

    fn handle(&mut self, Drain { deadline, done }: Drain, ctx: &mut Self::Context) {
        let until = self.now() + deadline;
        match &mut self.draining {
            Some(draining) => {
                draining.until = draining.until.min(until);
                draining.done.push(done);
            }
            None => self.draining = Some(Draining { until, stopped: false, done: vec![done] }),
        }
        self.renew_after(Duration::ZERO, ctx);
        self.go_on_draining(ctx);
    }
}
