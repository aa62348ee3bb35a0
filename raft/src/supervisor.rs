//! Watches one group's core for as long as it runs.
//!
//! openraft's core can panic and its metrics still say that all is well. So the core is asked a
//! question at intervals, and the end of its metrics is taken for its end. Invariant: whatever kills
//! the core becomes a [`Failure`] with a word for the operator, and the rest of the group stops with
//! it. Absent on purpose: restarting a core. Its process must end, and come back from its disk.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::change::{finishing, is_half_made};
use crate::consensus::{Consensus, LogId};
use crate::failure::{Failure, Latch};
use crate::group::Raft;
use crate::machine::Progress;
use crate::options::Options;
use crate::runtime::{self, Instant};
use crate::status::{self, Leadership};
use crate::transport::Transport;

/// A core that answers nothing for so many probes is dead.
const SILENT_PROBES: u32 = 120;

/// See the module.
pub(crate) struct Supervisor {
    pub(crate) raft: Raft,
    pub(crate) options: Arc<Options>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) latch: Latch,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) stop: CancellationToken,
}

impl Supervisor {
    /// Runs until the group stops, and stops it when the core dies.
    pub(crate) async fn run(self) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            _ = self.latch.failed() => {}
            () = self.watch() => {}
            () = self.probe() => {}
        }
        self.transport.leave(self.options.group);
        if let Err(error) = self.raft.shutdown().await {
            let reason = format!("it did not end in order: {error}");
            self.latch.fail(Failure::Core { reason });
        }
        self.leadership.send_modify(|leadership| leadership.leading = false);
    }

    /// Passes on who leads and who belongs to the group, until the core ends.
    async fn watch(&self) {
        let mut metrics = self.raft.server_metrics();
        loop {
            let now = metrics.borrow_watched().clone();
            let members = now.membership_config.nodes().map(|(id, member)| (*id, member.clone())).collect();
            self.transport.learn(self.options.group, &members);
            let leadership = status::leadership(&now);
            self.leadership.send_if_modified(|held| std::mem::replace(held, leadership) != leadership);
            if metrics.changed().await.is_err() {
                self.core_ended("its metrics ended");
                return;
            }
        }
    }

    /// Asks the core whether it lives, and for a snapshot when much was applied since the last.
    async fn probe(&self) {
        let mut silent = 0;
        let mut half_made = None;
        loop {
            tokio::time::sleep(self.options.probe).await;
            self.finish_change(&mut half_made).await;
            match timeout(self.options.probe, self.raft.is_initialized()).await {
                Ok(Ok(_)) => silent = 0,
                Ok(Err(fatal)) => {
                    self.core_died(&fatal);
                    return;
                }
                Err(_) => silent += 1,
            }
            if silent >= SILENT_PROBES {
                self.core_ended("it answers nothing");
                return;
            }
            if self.progress.unsaved_bytes() > self.options.snapshot_bytes {
                // A core that cannot be reached is noticed by the next probe.
                let _ = self.raft.trigger().snapshot().await;
            }
        }
    }

    /// Finishes a change of the membership whose leader died between its halves, or gave up waiting. Left as it is, it
    /// would keep asking the voters of before for their votes.
    async fn finish_change(&self, seen: &mut Option<(LogId, Instant)>) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let half_made = metrics.membership_config.log_id().filter(|_| is_half_made(&metrics));
        let Some(entry) = half_made.filter(|_| metrics.state.is_leader()) else {
            *seen = None;
            return;
        };
        let (known, since) = *seen.get_or_insert_with(|| (entry, runtime::now()));
        if known != entry {
            *seen = None;
            return;
        }
        let of_earlier_leader = entry.leader_id.term < metrics.current_term;
        if of_earlier_leader || runtime::now() - since > self.options.change_timeout {
            tracing::info!(index = entry.index, "a change of the members was left half made and is finished");
            let finished = self.raft.change_membership(finishing(), false);
            // Without a majority it is tried again.
            let _ = timeout(self.options.probe, finished).await;
        }
    }

    fn core_died(&self, fatal: &Fatal<Consensus>) {
        let failure = match fatal {
            Fatal::StorageError(error) => Failure::Log { reason: error.to_string() },
            Fatal::Panicked => Failure::Core { reason: "it panicked".to_owned() },
            Fatal::Stopped => Failure::Core { reason: "it stopped".to_owned() },
        };
        self.latch.fail(failure);
    }

    fn core_ended(&self, reason: &str) {
        self.latch.fail(Failure::Core { reason: reason.to_owned() });
    }
}
