//! What a node offers to its clients, without HTTP.
//!
//! A [`Service`] answers from the replicated state and the read models of its node, and sends what must go through the
//! log to whoever leads. HTTP handlers are thin over it, and simulated clients call it directly. Who may do what is asked
//! here, once, of every call; another tenant's things do not exist.
//!
//! Invariants: a change is answered only when this node has applied it, so that whoever asks here next sees it; a read is
//! linearizable unless its caller says otherwise. Absent on purpose: HTTP, wire formats, rules.

pub mod audit;
mod backfills;
mod breakers;
mod bulk;
mod calendars;
pub mod callbacks;
pub mod caller;
pub mod cluster;
mod consistency;
pub mod dead_letters;
mod events;
pub mod executions;
mod explanation;
pub mod failure;
pub mod fires;
pub mod following;
mod forecast;
mod gates;
pub mod group;
pub mod history;
pub mod leasing;
mod listing;
mod naming;
mod occurrences;
mod publications;
mod queues;
pub mod runs;
mod submitting;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upcoming;
pub mod validation;
pub mod view;
mod waiting;
mod workers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::machine::Machine;
use escapement_actors::ports::{Clock, Entropy, Leader, Log};
use escapement_actors::queue_watch::QueueWatch;
use escapement_domain::timestamp::Timestamp;

pub use self::backfills::BackfillView;
pub use self::breakers::BreakerView;
pub use self::bulk::{BulkItem, BulkOutcome};
pub use self::calendars::{CalendarPage, CalendarView};
pub use self::callbacks::CallbackDesk;
pub use self::caller::{Caller, Consistency, fingerprint};
pub use self::cluster::Cluster;
pub use self::explanation::{Explained, Explanation};
pub use self::failure::ServiceError;
pub use self::forecast::{ForecastQuery, Load, TenantLoad};
pub use self::gates::{Claimant, GateKind, GateView};
pub use self::history::{Outputs, ReadModels};
pub use self::listing::{TaskFilter, TaskPage};
pub use self::publications::Published;
pub use self::queues::QueueView;
pub use self::upcoming::Upcoming;
pub use self::view::{TaskState, TaskView};
pub use self::waiting::Wait;
pub use self::workers::{NodeWork, OutsideWorkerView, WorkerState, WorkerView};

/// How long the question whether this node can serve waits for a majority.
const READY_WAIT: Duration = Duration::from_secs(1);

/// What a service is made of.
#[derive(Clone)]
pub struct ServiceParts {
    /// The replicated state.
    pub machine: Arc<Machine>,
    /// Those who wait for work in a queue here.
    pub queues: QueueWatch,
    /// The log of this node.
    pub log: Arc<dyn Log>,
    /// The leader, wherever it is.
    pub leader: Arc<dyn Leader>,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// Where fresh identifiers come from.
    pub entropy: Arc<dyn Entropy>,
    /// History.
    pub read_models: Arc<dyn ReadModels>,
    /// What attempts wrote, on whichever node.
    pub outputs: Arc<dyn Outputs>,
    /// The attempts whose targets report later, on whichever node.
    pub callbacks: Arc<dyn CallbackDesk>,
    /// The group of nodes.
    pub cluster: Arc<dyn Cluster>,
}

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub struct Service {
    parts: Arc<ServiceParts>,
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Service")
    }
}

impl Service {
    /// Puts a service together.
    #[must_use]
    pub fn new(parts: ServiceParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The wall clock of this node.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// The clock of this node.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.parts.clock
    }

    /// Where this node's random bits come from.
    #[must_use]
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.parts.entropy
    }

    /// Whether this node can serve: a majority answers within a moment, and the read models have caught up with the
    /// state. That a leader is known proves nothing: one that is cut off goes on believing in itself.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub async fn ready(&self) -> Result<(), &'static str> {
        if self.parts.log.leadership().borrow().leader.is_none() {
            return Err("no leader is known");
        }
        if !self.parts.read_models.complete() {
            return Err("the read models are still being completed");
        }
        match tokio::time::timeout(READY_WAIT, self.parts.log.read_barrier()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err("no leader with a majority answers"),
        }
    }
}
