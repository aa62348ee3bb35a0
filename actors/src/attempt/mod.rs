//! One running attempt: an actor that lives as long as the work does.
//!
//! It runs the executor, is the backstop for an executor that ends neither at its time-out nor when it is told to, and
//! tells its dispatcher how it ended. It hangs on a [`Leash`]: when that is dropped, the attempt is killed and says nothing.
//! Invariant: whoever holds the leash hears exactly one end, even if the executor panics. Absent on purpose: starting
//! the work again, leases, and the log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::ports::{AttemptEnd, AttemptOrder, Executor, Finished, OutputSink};

/// How long after its time-out an executor may still take to end by itself.
pub const TIMEOUT_GRACE: Duration = Duration::from_secs(15);
/// How long after it was told to stop an executor may still take to end by itself.
pub const CANCEL_GRACE: Duration = Duration::from_secs(30);

/// What an attempt needs.
pub struct AttemptParts {
    /// What to do.
    pub order: AttemptOrder,
    /// Who does it.
    pub executor: Arc<dyn Executor>,
    /// Takes what it writes.
    pub output: Arc<dyn OutputSink>,
    /// Called once with the end; `None` when the attempt died without one.
    pub ended: Box<dyn FnOnce(Option<Finished>)>,
}

impl fmt::Debug for AttemptParts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AttemptParts").field("order", &self.order).finish_non_exhaustive()
    }
}

/// Holds a running attempt: dropping it kills the attempt at once.
pub struct Leash {
    address: Addr<AttemptActor>,
    _hold: oneshot::Sender<()>,
}

impl fmt::Debug for Leash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Leash")
    }
}

impl Leash {
    /// Tells the attempt to stop: first politely, and after [`CANCEL_GRACE`] not.
    pub fn cancel(&self) {
        // Full means that it was told often enough, closed that it has ended.
        let _ = self.address.try_send(Cancel);
    }
}

/// Starts an attempt in the `LocalSet` around the caller.
#[must_use]
pub fn start(parts: AttemptParts) -> Leash {
    let (hold, held) = oneshot::channel();
    let AttemptParts { order, executor, output, ended } = parts;
    let actor = AttemptActor {
        work: Some((order, executor, output, held)),
        cancel: CancellationToken::new(),
        end: EndGuard(Some(ended)),
    };
    Leash { address: actor.start(), _hold: hold }
}

/// Stop.
struct Cancel;

impl Message for Cancel {
    type Result = ();
}

/// Says how it ended, or that it died.
struct EndGuard(Option<Box<dyn FnOnce(Option<Finished>)>>);

impl EndGuard {
    fn say(&mut self, finished: Finished) {
        if let Some(ended) = self.0.take() {
            ended(Some(finished));
        }
    }

    fn keep_silent(&mut self) {
        self.0 = None;
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            ended(None);
        }
    }
}

type Work = (AttemptOrder, Arc<dyn Executor>, Arc<dyn OutputSink>, oneshot::Receiver<()>);

/// See the [module](self).
struct AttemptActor {
    work: Option<Work>,
    cancel: CancellationToken,
    end: EndGuard,
}

impl AttemptActor {
    fn end(&mut self, finished: impl Into<Finished>, ctx: &mut Context<Self>) {
        self.end.say(finished.into());
        // The executor's future is dropped with the context, which kills whatever still runs.
        ctx.terminate();
    }
}

impl Actor for AttemptActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some((order, executor, output, held)) = self.work.take() else { return };
        ctx.spawn(wrap_future(held).map(|_, actor: &mut Self, ctx| {
            actor.end.keep_silent();
            actor.cancel.cancel();
            ctx.terminate();
        }));
        let limit = Duration::from(order.timeout) + TIMEOUT_GRACE;
        ctx.run_later(limit, |actor, ctx| actor.end(AttemptEnd::TimedOut, ctx));
        let run = executor.run(order, output, self.cancel.clone());
        ctx.spawn(wrap_future(run).map(|finished, actor: &mut Self, ctx| actor.end(finished, ctx)));
    }
}

impl Handler<Cancel> for AttemptActor {
    type Result = ();

    fn handle(&mut self, _: Cancel, ctx: &mut Self::Context) {
        if !self.cancel.is_cancelled() {
            self.cancel.cancel();
            ctx.run_later(CANCEL_GRACE, |actor, ctx| actor.end(AttemptEnd::Cancelled, ctx));
        }
    }
}
