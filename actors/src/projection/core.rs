//! What the pipeline and its readers share.

use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::event_log::EventLog;
use super::failure::Failure;
use super::models::Models;
use super::output::CapturedOutput;
use crate::machine::Machine;
use crate::ports::{History, Storage};

/// What the pipeline and its readers share.
pub(super) struct Core {
    pub(super) machine: Arc<Machine>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) log: EventLog,
    pub(super) models: RwLock<Models>,
    pub(super) output: Arc<CapturedOutput>,
    pub(super) history: OnceLock<Arc<dyn History>>,
    /// The log index up to which everything is in the models, without a gap.
    pub(super) folded: watch::Sender<u64>,
    /// The log index up to which everything is on the disk.
    pub(super) synced: watch::Sender<u64>,
    /// The log index up to which somebody wants everything on the disk.
    pub(super) wanted: watch::Sender<u64>,
    pub(super) load: watch::Sender<Load>,
    /// Whether the event log has everything that this node knows to exist.
    pub(super) complete: watch::Sender<bool>,
    pub(super) failed: watch::Sender<Option<Arc<Failure>>>,
    pub(super) stopping: CancellationToken,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// The log index of the last entry that was looked at, gap or not.
    pub(super) seen: u64,
    /// Records that are folded and not written.
    pub(super) unflushed: usize,
}

impl fmt::Debug for Core {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Projections").field("load", &*self.load.borrow()).finish_non_exhaustive()
    }
}

impl Core {
    pub(super) fn open(machine: Arc<Machine>, storage: Arc<dyn Storage>) -> Result<Self, Failure> {
        Ok(Self {
            log: EventLog::open(storage.clone())?,
            models: RwLock::new(Models::load(&*storage)?),
            output: CapturedOutput::new(storage.clone()),
            history: OnceLock::new(),
            folded: watch::Sender::new(0),
            synced: watch::Sender::new(0),
            wanted: watch::Sender::new(0),
            load: watch::Sender::default(),
            complete: watch::Sender::new(false),
            failed: watch::Sender::default(),
            stopping: CancellationToken::new(),
            machine,
            storage,
        })
    }

    /// Remembers the first failure.
    pub(super) fn fail(&self, failure: Failure) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                *failed = Some(Arc::new(failure));
            }
            first
        });
    }

    pub(super) fn failure(&self) -> Option<Arc<Failure>> {
        self.failed.borrow().clone()
    }

    /// Resolves when a watched value is as wanted, or with the failure after which it never will be.
    pub(super) async fn until<T>(
        &self,
        watched: &watch::Sender<T>,
        wanted: impl FnMut(&T) -> bool,
    ) -> Result<(), Arc<Failure>> {
        let (mut value, mut failed) = (watched.subscribe(), self.failed.subscribe());
        tokio::select! {
            biased;
            reached = value.wait_for(wanted) => {
                // The sender lives in `self`, so it cannot be gone.
                debug_assert!(reached.is_ok());
                Ok(())
            }
            failure = failed.wait_for(Option::is_some) => {
                Err(failure.ok().and_then(|failure| failure.clone()).unwrap_or_else(|| Arc::new(Failure::Stopped)))
            }
        }
    }
}
