//! Turns many concurrent proposals into few log entries.
//!
//! Invariants: proposals enter the log in the order in which they were queued; a proposal that is alone
//! is not delayed; the entries on their way are bounded, and it is while they are on their way that
//! later proposals gather into the next entry; the queue is bounded in number and in bytes. Absent on
//! purpose: retries. Whoever proposes knows whether the same command may come twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::impls::OneshotResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::{mpsc, oneshot};

use crate::consensus::{Commands, Consensus};
use crate::failure::Latch;
use crate::group::Raft;
use crate::limits::ENTRY_COMMANDS_MAX;
use crate::member::NodeId;
use crate::options::Options;
use crate::runtime::{self, Instant};

/// A command that a majority has on disk and this node has applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The index of its entry. Commands of one entry share it.
    pub index: u64,
    /// The term of its entry.
    pub term: u64,
    /// What the application answered.
    pub answer: Bytes,
}

/// Why a proposal has no outcome to report.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Not committed. Propose at `leader`, or anywhere after an election if it is `None`.
    #[error("this node does not lead (leader: {leader:?})")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// May yet commit, or may have. Propose the *same* command again, never a new one.
    #[error("no answer within {} ms; the command may still commit", waited.as_millis())]
    Unknown {
        /// How long was waited.
        waited: Duration,
    },
    /// Too many proposals wait. Not committed; back off and propose again.
    #[error("too many proposals wait")]
    Busy,
    /// Larger than an entry may be. Not committed; do not propose it again.
    #[error("a command of {bytes} bytes is larger than the {limit} of an entry")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest.
        limit: usize,
    },
    /// This replica can no longer trust itself and must stop. Propose elsewhere: the outcome here is
    /// unknown.
    #[error("this replica failed and must stop")]
    Storage(#[source] std::io::Error),
    /// This replica is being shut down. Not committed; propose elsewhere.
    #[error("this node is stopping")]
    Stopped,
}

struct Pending {
    command: Bytes,
    since: Instant,
    reply: oneshot::Sender<Result<Committed, ProposeError>>,
}

/// The queue's handle.
pub(crate) struct Proposer {
    queue: mpsc::Sender<Pending>,
    queued_bytes: Arc<AtomicUsize>,
    options: Arc<Options>,
    latch: Latch,
}

impl Proposer {
    pub(crate) fn start(raft: Raft, options: Arc<Options>, latch: Latch) -> Self {
        let (queue, pending) = mpsc::channel(options.queue_commands);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            raft,
            options: options.clone(),
            latch: latch.clone(),
            queued_bytes: queued_bytes.clone(),
            carried: None,
        };
        runtime::spawn(worker.run(pending));
        Self { queue, queued_bytes, options, latch }
    }

    pub(crate) async fn propose(&self, command: Bytes) -> Result<Committed, ProposeError> {
        let (bytes, limit) = (command.len(), self.options.entry_bytes);
        if bytes > limit {
            return Err(ProposeError::TooLarge { bytes, limit });
        }
        if let Some(failure) = self.latch.get() {
            return Err(ProposeError::Storage(failure.to_io()));
        }
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.options.queue_bytes {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(ProposeError::Busy);
        }
        let (reply, answer) = oneshot::channel();
        let pending = Pending { command, since: runtime::now(), reply };
        if let Err(error) = self.queue.try_send(pending) {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => ProposeError::Busy,
                mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
            });
        }
        let waited = self.options.propose_timeout;
        match tokio::time::timeout(waited, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Unknown { waited }),
        }
    }
}

/// One entry on its way.
struct Entry {
    callers: Vec<Pending>,
    outcome: Outcome,
}

enum Outcome {
    Done(ClientWriteResult<Consensus>),
    /// The core dropped it; it may or may not have been written.
    Dropped,
    /// The core refused to take it.
    Refused(Fatal<Consensus>),
}

struct Worker {
    raft: Raft,
    options: Arc<Options>,
    latch: Latch,
    queued_bytes: Arc<AtomicUsize>,
    /// The proposal that did not fit the entry before.
    carried: Option<Pending>,
}

impl Worker {
    async fn run(mut self, mut queue: mpsc::Receiver<Pending>) {
        let mut flying = FuturesUnordered::new();
        loop {
            let room = flying.len() < self.options.entries_in_flight;
            tokio::select! {
                biased;
                Some(entry) = flying.next() => self.answer(entry),
                first = self.first(&mut queue), if room => {
                    let Some(first) = first else { break };
                    if !flying.is_empty() {
                        // Whoever is about to propose gets to share this entry; its answer is due
                        // after those on their way in any case.
                        tokio::task::yield_now().await;
                    }
                    let callers = self.gather(first, &mut queue);
                    flying.push(self.submit(callers).await);
                }
            }
        }
        while let Some(entry) = flying.next().await {
            self.answer(entry);
        }
    }

    async fn first(&mut self, queue: &mut mpsc::Receiver<Pending>) -> Option<Pending> {
        match self.carried.take() {
            Some(carried) => Some(carried),
            None => queue.recv().await,
        }
    }

    /// Takes whatever waits and fits one entry. Whoever gave up already is left out.
    fn gather(&mut self, first: Pending, queue: &mut mpsc::Receiver<Pending>) -> Vec<Pending> {
        let (mut callers, mut bytes, mut next) = (Vec::new(), 0, Some(first));
        while let Some(pending) = next {
            let length = pending.command.len();
            if !callers.is_empty() && bytes + length > self.options.entry_bytes {
                self.carried = Some(pending);
                break;
            }
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            if !pending.reply.is_closed() {
                bytes += length;
                callers.push(pending);
            }
            next = if callers.len() < ENTRY_COMMANDS_MAX { queue.try_recv().ok() } else { None };
        }
        callers
    }

    /// Hands one entry to the core, in order; the future resolves with its outcome.
    async fn submit(&self, callers: Vec<Pending>) -> impl Future<Output = Entry> + use<> {
        let commands = Commands(callers.iter().map(|caller| caller.command.clone()).collect());
        let (responder, outcome) = OneshotResponder::new_pair();
        let submitted = match commands.0.is_empty() {
            true => Ok(()),
            false => self.raft.client_write_ff(commands, Some(responder)).await,
        };
        async move {
            let outcome = match submitted {
                Err(fatal) => Outcome::Refused(fatal),
                Ok(()) => outcome.await.map_or(Outcome::Dropped, Outcome::Done),
            };
            Entry { callers, outcome }
        }
    }

    fn answer(&self, entry: Entry) {
        let Entry { callers, outcome } = entry;
        // A caller that gave up has no ear for its answer.
        match outcome {
            Outcome::Done(Ok(written)) => {
                let (index, term) = (written.log_id.index, written.log_id.leader_id.term);
                for (caller, answer) in callers.into_iter().zip(written.data.0) {
                    drop(caller.reply.send(Ok(Committed { index, term, answer })));
                }
            }
            Outcome::Done(Err(error)) => {
                for caller in callers {
                    let refusal = self.refusal(&error, caller.since);
                    drop(caller.reply.send(Err(refusal)));
                }
            }
            Outcome::Dropped => {
                for caller in callers {
                    let unknown = self.unknown(caller.since);
                    drop(caller.reply.send(Err(unknown)));
                }
            }
            Outcome::Refused(fatal) => {
                for caller in callers {
                    drop(caller.reply.send(Err(self.stopped(&fatal))));
                }
            }
        }
    }

    fn refusal(&self, error: &ClientWriteError<Consensus>, since: Instant) -> ProposeError {
        match error {
            ClientWriteError::ForwardToLeader(forward) => {
                ProposeError::NotLeader { leader: forward.leader_id }
            }
            // The others do not occur for commands; whatever they mean, the outcome is not known.
            ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_) => self.unknown(since),
        }
    }

    fn unknown(&self, since: Instant) -> ProposeError {
        match self.latch.get() {
            Some(failure) => ProposeError::Storage(failure.to_io()),
            None => ProposeError::Unknown { waited: runtime::now().saturating_duration_since(since) },
        }
    }

    fn stopped(&self, fatal: &Fatal<Consensus>) -> ProposeError {
        match (self.latch.get(), fatal) {
            (Some(failure), _) => ProposeError::Storage(failure.to_io()),
            (None, Fatal::Stopped) => ProposeError::Stopped,
            (None, fatal) => ProposeError::Storage(std::io::Error::other(fatal.to_string())),
        }
    }
}
