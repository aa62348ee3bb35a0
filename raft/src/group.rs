//! One replicated group on one node: starting it, proposing, reading, changing and stopping it.
//!
//! Invariants: a group that runs was opened from storage that is whole; after a [`Failure`] it proposes
//! and promises nothing; when the last handle is dropped it stops. Absent on purpose: what is
//! replicated, and every name of openraft's.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError as Refusal, RaftError};
use openraft::storage::RaftLogStorage;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::barrier::Barrier;
use crate::change::{Change, ChangeError};
use crate::consensus::{self, Consensus, Metrics};
use crate::disk::Disk;
use crate::failure::{Failure, Latch};
use crate::identity::{DataDirectory, Open};
use crate::inbound::Inbound;
use crate::log::LogStore;
use crate::machine::{Machine, Progress};
use crate::member::{Address, GroupId, Member, NodeId};
use crate::memory::MemoryDisk;
use crate::network::Network;
use crate::options::{Options, OptionsError};
use crate::proposer::{Committed, ProposeError, Proposer};
use crate::replicated::Replicated;
use crate::runtime;
use crate::snapshot::{FileSnapshots, SnapshotStore};
use crate::status::{self, Leadership, Status};
use crate::supervisor::Supervisor;
use crate::transport::{Lane, Peer, Transport, TransportError};
use crate::wire::{self, Request, Response};

pub(crate) type Raft = openraft::Raft<Consensus, Machine>;

/// Why a group did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The transport or the directory is another cluster's or node's than the options'.
    #[error("the {what} belongs to {found}, not to {wanted}")]
    Mismatch {
        /// Which of them.
        what: &'static str,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// What is on disk cannot be used; nothing was changed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a group was not made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitializeError {
    /// This node holds a vote or an entry already.
    #[error("this node holds state already")]
    NotPristine,
    /// This node is not among the members.
    #[error("this node is not among the members")]
    NotListed,
    /// This node is stopping.
    #[error("this node is stopping: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Why a linearizable read cannot be served. Nothing happened; it may be asked again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No node can prove that it leads. Ask again after an election, or ask `leader`.
    #[error("no proof of leadership (leader: {leader:?})")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The leader did not answer. Ask again.
    #[error("the leader did not answer")]
    Leader(#[source] TransportError),
    /// The proof is there and this node is not that far yet. Ask again, or elsewhere.
    #[error("entry {index} was not applied within {} ms", waited.as_millis())]
    Behind {
        /// The index that is waited for.
        index: u64,
        /// How long was waited.
        waited: Duration,
    },
    /// This node is stopping. Ask elsewhere.
    #[error("this node is stopping")]
    Stopped,
}

/// A handle of a running group; clones are the same group.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) local: NodeId,
    pub(crate) options: Arc<Options>,
    pub(crate) raft: Raft,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) barrier: Barrier,
    pub(crate) latch: Latch,
    /// The state machine's worker keeps it: the application may hold this group itself.
    pub(crate) replicated: Weak<dyn Replicated>,
    /// Held while a change of the members is made here.
    pub(crate) changing: tokio::sync::Mutex<()>,
    proposer: Proposer,
    leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
    /// Gone when the storage is closed.
    open: Weak<Option<DataDirectory>>,
}

fn opening(error: &std::io::Error) -> Failure {
    Failure::Log { reason: format!("opening: {error}") }
}

/// What a group is started on.
struct Storage<L> {
    log: L,
    snapshots: Arc<dyn SnapshotStore>,
    open: Open,
    latch: Latch,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        self.transport.leave(self.options.group);
    }
}

impl Inner {
    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }
}

impl Group {
    /// Starts a group on a disk: restores the newest snapshot, applies what is known to be committed behind
    /// it, and joins in.
    ///
    /// # Errors
    /// [`StartError`]. A corrupt snapshot or log is named and left as it is.
    pub async fn start(
        options: Options,
        disk: impl Into<Disk>,
        replicated: Arc<dyn Replicated>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        options.validate()?;
        match disk.into() {
            Disk::Directory(directory) => {
                Self::start_in_directory(options, directory, replicated, transport).await
            }
            Disk::Memory(disk) => Self::start_in_memory(options, &disk, replicated, transport).await,
        }
    }

    async fn start_in_directory(
        options: Options,
        directory: DataDirectory,
        replicated: Arc<dyn Replicated>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        if directory.local() != *transport.local() {
            let (found, wanted) = (format!("{:?}", transport.local()), format!("{:?}", directory.local()));
            return Err(StartError::Mismatch { what: "transport", found, wanted });
        }
        let latch = Latch::new();
        let (log, snapshots) = (directory.log(), directory.snapshots());
        let open = Open::new(Some(directory));
        let opened = {
            let (options, latch, open) = (options.clone(), latch.clone(), open.clone());
            runtime::blocking(move || {
                let snapshots = FileSnapshots::open(snapshots)
                    .map_err(|error| Failure::Snapshot { reason: format!("opening the directory: {error}") });
                let log = LogStore::open(&log, &options, latch, open).map_err(|error| opening(&error));
                Ok(snapshots.and_then(|snapshots| log.map(|log| (log, snapshots))))
            })
            .await
            .map_err(|error| Failure::Log { reason: error.to_string() })?
        };
        let (log, snapshots) = opened?;
        let snapshots: Arc<dyn SnapshotStore> = Arc::new(snapshots);
        let storage = Storage { log, snapshots, open, latch };
        Self::start_on(options, storage, replicated, transport).await
    }

    async fn start_in_memory(
        options: Options,
        disk: &MemoryDisk,
        replicated: Arc<dyn Replicated>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        let latch = Latch::new();
        let snapshots: Arc<dyn SnapshotStore> = Arc::new(disk.snapshots.clone());
        let log = disk.log(latch.clone()).map_err(|error| opening(&error))?;
        let storage = Storage { log, snapshots, open: Open::new(None), latch };
        Self::start_on(options, storage, replicated, transport).await
    }

    async fn start_on<L>(
        options: Options,
        storage: Storage<L>,
        replicated: Arc<dyn Replicated>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError>
    where
        L: RaftLogStorage<Consensus>,
    {
        let Storage { log, snapshots, open, latch } = storage;
        let local = transport.local().clone();
        if local.cluster != options.cluster {
            let (found, wanted) = (local.cluster, options.cluster);
            return Err(StartError::Mismatch { what: "data directory", found, wanted });
        }
        let config = Arc::new(consensus::configuration(&options)?);
        let options = Arc::new(options);
        let progress = Progress::new();
        let watched_storage = open.watch();
        let application = Arc::downgrade(&replicated);
        let machine = Machine::new(replicated, snapshots.clone(), progress.clone(), latch.clone(), open);
        let network = Network { local: local.node, options: options.clone(), transport: transport.clone() };
        let raft = Raft::build(local.node, config, network, log, machine).await.map_err(|fatal| {
            latch.fail(Failure::Core { reason: fatal.to_string() });
            latch.get().unwrap_or(Failure::Core { reason: fatal.to_string() })
        })?;
        raft.run();
        let stop = CancellationToken::new();
        let (leadership, watched) = watch::channel(Leadership::default());
        let supervisor = Supervisor {
            raft: raft.clone(),
            options: options.clone(),
            transport: transport.clone(),
            progress: progress.clone(),
            latch: latch.clone(),
            leadership,
            stop: stop.clone(),
        };
        runtime::spawn(supervisor.run());
        let inner = Arc::new(Inner {
            local: local.node,
            proposer: Proposer::start(raft.clone(), options.clone(), latch.clone()),
            barrier: Barrier::start(raft.clone()),
            options: options.clone(),
            raft: raft.clone(),
            transport: transport.clone(),
            progress,
            latch,
            replicated: application,
            changing: tokio::sync::Mutex::default(),
            leadership: watched,
            stop,
            open: watched_storage,
        });
        transport.serve(options.group, Arc::new(Inbound::new(raft, snapshots, &inner)));
        Ok(Self { inner })
    }

    /// This node's number.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.local
    }

    /// The group's number.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.inner.options.group
    }

    /// Proposes a command and waits until a majority has it on disk and this node has applied it.
    ///
    /// The proposals of one caller that awaits each keep their order. Dropping the future does not take
    /// a command back.
    ///
    /// # Errors
    /// [`ProposeError`], which says whether the command may yet commit and what to do.
    pub async fn propose(&self, command: Bytes) -> Result<Committed, ProposeError> {
        self.inner.proposer.propose(command).await
    }

    /// Waits until this node has applied everything that was committed anywhere before the call, and
    /// returns the index that proves it. A read of the applied state is linearizable after it.
    ///
    /// On a follower the leader is asked for the index. Costs one round trip of the leader to a majority,
    /// which concurrent calls share.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        let waited = self.inner.options.request_timeout;
        let index = match timeout(waited, self.read_index()).await {
            Ok(result) => result?,
            Err(_) => return Err(ReadError::NotLeader { leader: None }),
        };
        match timeout(waited, self.wait_applied(index)).await {
            Ok(applied) => applied.map(|()| index),
            Err(_) => Err(ReadError::Behind { index, waited }),
        }
    }

    async fn read_index(&self) -> Result<u64, ReadError> {
        let leader = match self.inner.barrier.index().await {
            Ok(index) => return Ok(index),
            Err(refusal) => refusal.leader.filter(|leader| *leader != self.inner.local),
        };
        let no_proof = ReadError::NotLeader { leader };
        let Some(leader) = leader else { return Err(no_proof) };
        let Some(member) = self.inner.metrics().membership_config.get_node(&leader).cloned() else {
            return Err(no_proof);
        };
        let peer = Peer { node: leader, member };
        let refused = |error: crate::codec::CodecError| {
            let (to, reason) = (format!("node {leader}"), error.to_string());
            ReadError::Leader(TransportError::Refused { to, reason })
        };
        let request = wire::encode(&Request::ReadIndex).map_err(refused)?;
        let options = &self.inner.options;
        let call = self.inner.transport.call(
            &peer,
            Lane::Application,
            options.group,
            request,
            options.request_timeout,
        );
        match wire::decode(&call.await.map_err(ReadError::Leader)?).map_err(refused)? {
            Response::ReadIndex(Ok(index)) => Ok(index),
            Response::ReadIndex(Err(refusal)) => Err(ReadError::NotLeader { leader: refusal.leader }),
            _ => Err(no_proof),
        }
    }

    /// Waits until this node has applied the entry at `index`.
    ///
    /// # Errors
    /// [`ReadError::Stopped`] when it no longer will.
    pub async fn wait_applied(&self, index: u64) -> Result<(), ReadError> {
        let mut applied = self.applied();
        tokio::select! {
            biased;
            reached = applied.wait_for(|applied| *applied >= index) => {
                reached.map(drop).map_err(|_| ReadError::Stopped)
            }
            () = self.inner.stop.cancelled() => Err(ReadError::Stopped),
            _ = self.inner.latch.failed() => Err(ReadError::Stopped),
        }
    }

    /// The index of the last entry applied here; 0 before the first.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.progress.applied()
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// A picture of the group as this node sees it now.
    #[must_use]
    pub fn status(&self) -> Status {
        status::status(&self.inner.metrics(), *self.applied().borrow())
    }

    /// Whether this node holds neither a vote nor an entry.
    pub async fn pristine(&self) -> bool {
        matches!(self.inner.raft.is_initialized().await, Ok(false))
    }

    /// Makes the group, with these voters. To be called on one pristine node; see
    /// [`form`](crate::form) for when that is safe.
    ///
    /// # Errors
    /// [`InitializeError`].
    pub async fn initialize(&self, members: BTreeMap<NodeId, Member>) -> Result<(), InitializeError> {
        match self.inner.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(Refusal::NotAllowed(_))) => Err(InitializeError::NotPristine),
            Err(RaftError::APIError(Refusal::NotInMembers(_))) => Err(InitializeError::NotListed),
            Err(RaftError::Fatal(fatal)) => Err(InitializeError::Stopped { reason: fatal.to_string() }),
        }
    }

    /// Adds a node that receives the log and does not vote. It is asked at its address for its disk.
    /// How far it has come is in the leader's [`status`](Self::status).
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn add_learner(&self, node: NodeId, address: Address) -> Result<(), ChangeError> {
        self.inner.change(Change::AddLearner { node, address }).await
    }

    /// Lets a learner vote that has caught up.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn promote(&self, node: NodeId) -> Result<(), ChangeError> {
        self.inner.change(Change::Promote { node }).await
    }

    /// Removes a node for good. A leader hands over first.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn remove_node(&self, node: NodeId) -> Result<(), ChangeError> {
        self.inner.change(Change::Remove { node }).await
    }

    /// Hands the leadership to a voter, or to the one that is furthest.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), ChangeError> {
        self.inner.change(Change::TransferLeadership { to }).await
    }

    /// Takes a snapshot that covers everything applied before the call, and returns its index.
    ///
    /// # Errors
    /// [`ReadError::Stopped`] when this node stops first.
    pub async fn trigger_snapshot(&self) -> Result<u64, ReadError> {
        const AGAIN: Duration = Duration::from_millis(100);
        let wanted = *self.applied().borrow();
        let covered =
            |metrics: &Metrics| metrics.snapshot.map(|id| id.index).filter(|index| *index >= wanted);
        let mut metrics = self.inner.raft.metrics();
        loop {
            self.inner.raft.trigger().snapshot().await.map_err(|_| ReadError::Stopped)?;
            // One that was being built may not cover all of it, and a trigger meanwhile is ignored.
            let again = runtime::now() + AGAIN;
            while runtime::now() < again {
                if let Some(index) = covered(&metrics.borrow_watched()) {
                    return Ok(index);
                }
                match tokio::time::timeout_at(again, metrics.changed()).await {
                    Ok(Ok(())) | Err(_) => {}
                    Ok(Err(_)) => return Err(ReadError::Stopped),
                }
            }
        }
    }

    /// Stops, and returns when the storage is closed. The other nodes see it as a crash: hand the
    /// leadership over first where that matters.
    pub async fn shutdown(&self) {
        const PAUSE: Duration = Duration::from_millis(1);
        const PATIENCE: u32 = 5_000;
        self.inner.stop.cancel();
        // A core that died already has nothing left to stop; `failed` tells of it.
        let _ = self.inner.raft.shutdown().await;
        for _ in 0..PATIENCE {
            if self.inner.open.strong_count() == 0 {
                return;
            }
            sleep(PAUSE).await;
        }
        tracing::warn!(node = self.inner.local, "the storage is still in use after the core ended");
    }

    /// Resolves with the reason when this node must stop because it can no longer be trusted; never
    /// after an ordinary [`shutdown`](Self::shutdown). The process should then end.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + 'static {
        let latch = self.inner.latch.clone();
        async move { latch.failed().await }
    }
}
