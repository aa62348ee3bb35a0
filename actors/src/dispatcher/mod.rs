//! This node as a worker: it joins, keeps its lease, starts what it is granted, and reports what ended.
//!
//! The state says what this node's incarnation is to run; the dispatcher brings that about, from the records of applied
//! entries and, whenever there may be a gap, from the state itself. An attempt is started only under a lease that
//! is fresh on the monotonic clock, and killed a margin before the lease ends. A lease that ended takes its incarnation
//! with it: what was killed is never reported, and the node joins again under another one.
//!
//! Invariants: no attempt of this node outlives the lease under which it runs; an attempt is started at most once; a
//! report keeps its number and its content until it is answered. Absent on purpose: deciding what runs where, and
//! making an attempt again.

mod actor;
mod attempts;
mod draining;
mod lease;
mod orders;
mod outbox;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use escapement_domain::command::Offers;
use escapement_domain::identifier::{Incarnation, NodeId};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use self::actor::{DispatcherActor, Look};
use self::draining::Drain;
use crate::keeper::Kept;
use crate::machine::Machine;
use crate::ports::{Clock, Entropy, Executors, Leader, Observer, OutputStore};

/// What a dispatcher needs.
#[derive(Clone)]
pub struct DispatcherParts {
    /// This node.
    pub node: NodeId,
    /// Attempts at once.
    pub slots: u32,
    /// What this node can carry out.
    pub offers: Offers,
    /// The leader, wherever it is.
    pub leader: Arc<dyn Leader>,
    /// The replicated state on this node.
    pub machine: Arc<Machine>,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub entropy: Arc<dyn Entropy>,
    /// Who carries attempts out.
    pub executors: Arc<Executors>,
    /// Where their output goes.
    pub outputs: Arc<dyn OutputStore>,
    /// Hears what the dispatcher does.
    pub observer: Arc<dyn Observer>,
    /// How often the lease is renewed, such as a third of [`LEASE`](crate::worker::LEASE).
    pub renew_every: Duration,
    /// How long before the end of the lease attempts are killed, such as a sixth of it.
    pub margin: Duration,
}

/// How a dispatcher stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatcherStatus {
    /// Its present incarnation.
    pub incarnation: Incarnation,
    /// Whether its lease is fresh.
    pub fresh: bool,
    /// Attempts that run.
    pub running: usize,
    /// Ends that the log has not answered yet.
    pub unreported: usize,
    /// Whether it takes nothing new.
    pub draining: bool,
}

/// The dispatcher of this node. Cheap to clone; used from any thread.
#[derive(Clone)]
pub struct Dispatcher {
    kept: Kept<DispatcherActor>,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Dispatcher")
    }
}

impl Dispatcher {
    /// Starts the dispatcher in the `LocalSet` around the caller; it joins as soon as a leader answers.
    #[must_use]
    pub fn start(parts: DispatcherParts) -> Self {
        Self {
            kept: Kept::start("dispatcher", move |lifeline| DispatcherActor::new(parts.clone(), lifeline)),
        }
    }

    /// Takes nothing new; what runs may end until `deadline` from now, the rest is stopped and handed back. Resolves when
    /// everything is reported, or when no leader took the reports for a lease's time after the deadline.
    pub fn drain(&self, deadline: Duration) -> BoxFuture<'static, ()> {
        let (done, drained) = oneshot::channel();
        self.kept.address().do_send(Drain { deadline, done });
        // A dispatcher that died has killed what it ran; there is nothing left to wait for.
        async move { drained.await.unwrap_or_default() }.boxed()
    }

    /// How it stands; `None` while it is being built again.
    pub fn status(&self) -> BoxFuture<'static, Option<DispatcherStatus>> {
        let asked = self.kept.address().send(Look);
        async move { asked.await.ok() }.boxed()
    }
}
