//! The leader's view of the workers: who holds a lease, whose lease ran out, and whose clock is off.
//!
//! A worker is a node and one start of its dispatcher. Its lease is renewed outside the log; joining, draining and
//! losing it are commands. The table of leases is in memory: a new leader grants every worker of the state a full lease
//! from the moment it leads, and a renewal is answered only after the log has confirmed that this node still leads, so
//! that no worker trusts a lease of a leader that was deposed before the renewal was sent. Workers outside the cluster
//! have a lease for each attempt, which is kept in the same way.
//!
//! Invariant: a worker that was told it is lost is never told otherwise by the same leader. Absent on purpose: who gets
//! which attempt (that is the replicated state's), and the worker's own side (that is
//! [`dispatcher`](crate::dispatcher)).

mod actor;
pub mod clocks;
mod outside;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use escapement_domain::identifier::{Incarnation, NodeId};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use self::actor::{Beat, LeaseActor, Remaining, Renew};
use self::clocks::ClockWatch;
use crate::intent::{Heard, Heartbeat, Renewal, Renewed, SubmitError};
use crate::keeper::Kept;
use crate::machine::Machine;
use crate::ports::{Clock, Log};

/// How long a lease holds.
pub const LEASE: Duration = Duration::from_secs(3);

/// What the lease table needs.
#[derive(Clone)]
pub struct LeasesParts {
    /// The log of this node.
    pub log: Arc<dyn Log>,
    /// The replicated state.
    pub machine: Arc<Machine>,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// What is known of everybody's clocks.
    pub clocks: Arc<ClockWatch>,
    /// How long a lease holds, such as [`LEASE`].
    pub lease: Duration,
}

/// The lease table of this node; it answers while the node leads.
#[derive(Clone, Debug)]
pub struct Leases {
    kept: Kept<LeaseActor>,
}

impl Leases {
    /// Starts the table in the `LocalSet` around the caller.
    #[must_use]
    pub fn start(parts: LeasesParts) -> Self {
        Self { kept: Kept::start("leases", move |lifeline| LeaseActor::new(parts.clone(), lifeline)) }
    }

    /// Renews a worker's lease, and lets it join first if it is new. Can be called from any thread.
    ///
    /// # Errors
    /// [`SubmitError`], which says what the worker should do; a renewal that is repeated does no harm.
    pub fn renew(&self, renewal: Renewal) -> BoxFuture<'static, Result<Renewed, SubmitError>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.kept.address().try_send(Renew { renewal, reply });
        async move {
            match sent {
                Ok(()) => answer.await.unwrap_or(Err(SubmitError::Unknown)),
                Err(_) => Err(SubmitError::Busy),
            }
        }
        .boxed()
    }

    /// Extends the lease of a worker outside the cluster. Can be called from any thread.
    ///
    /// # Errors
    /// [`SubmitError`], which says what the worker should do; a sign of life that is repeated does no harm.
    pub fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'static, Result<Heard, SubmitError>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.kept.address().try_send(Beat { heartbeat, reply });
        async move {
            match sent {
                Ok(()) => answer.await.unwrap_or(Err(SubmitError::Unknown)),
                Err(_) => Err(SubmitError::Busy),
            }
        }
        .boxed()
    }

    /// How long each worker's lease still holds; empty when this node does not lead.
    pub fn remaining(&self) -> BoxFuture<'static, BTreeMap<(NodeId, Incarnation), Duration>> {
        let asked = self.kept.address().send(Remaining);
        async move { asked.await.unwrap_or_default() }.boxed()
    }
}
