//! One node put together: the only wiring there is, for the program and for the simulation alike.
//!
//! Everything that touches the world comes in with [`Parts`]. The actors run in the `LocalSet` around the caller; the log
//! runs on the runtime that the parts name, or beside them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use escapement_actors::dispatcher::{Dispatcher, DispatcherParts};
use escapement_actors::machine::Machine;
use escapement_actors::ports::{Clock, Entropy, Executors, Leadership, Observer, Storage};
use escapement_actors::projection::{OutputCapture, Projections};
use escapement_actors::queue_watch::QueueWatch;
use escapement_actors::task::{Front, FrontParts, IDLE};
use escapement_actors::wheel::{WheelHandle, WheelParts};
use escapement_actors::worker::clocks::ClockWatch;
use escapement_actors::worker::{LEASE, Leases, LeasesParts};
use escapement_domain::command::Offers;
use escapement_domain::identifier::NodeId;
use escapement_domain::schedule::zone_data_version;
use escapement_raft::{Disk, Formation, Group, Options, StartError, Transport, form};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::callbacks::NodeCallbacks;
use super::custody::Custody;
use super::desk::{NodeDesk, PeerDesk};
use super::evidence::Witness;
use super::history::PeerHistory;
use super::leader::{Desk, LeaderFinder};
use super::log::{GroupLog, follow_leadership};
use super::membership::NodeCluster;
use super::outputs::NodeOutputs;
use super::state_machine::StateMachine;
use super::timekeeping::{Timekeeper, step_down_with_a_bad_clock};
use crate::executor::Callbacks;
use crate::service::{Service, ServiceParts};

/// How long before the end of a lease attempts are killed.
const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// What a node is made of.
pub struct Parts {
    /// Its number.
    pub node: NodeId,
    /// Its replicated state, still empty: whoever subscribes before the start misses nothing.
    pub machine: Arc<Machine>,
    /// How the log runs.
    pub raft: Options,
    /// Its disk.
    pub disk: Disk,
    /// The way to its peers.
    pub transport: Arc<dyn Transport>,
    /// How it comes to belong to a cluster.
    pub formation: Formation,
    /// Where its read models are.
    pub storage: Arc<dyn Storage>,
    /// Where the log runs; among the tasks around the caller if absent.
    pub log_runtime: Option<Handle>,
    /// What its actors get.
    pub surroundings: Surroundings,
}

/// What the actors of a node get from outside.
pub struct Surroundings {
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its random numbers.
    pub entropy: Arc<dyn Entropy>,
    /// Who hears of targets that report later; the executors expect what they say.
    pub callbacks: Callbacks,
    /// What carries attempts out; made once the read models are there, which housekeeping needs.
    pub executors: ExecutorsMaker,
    /// Attempts at once.
    pub slots: u32,
    /// What it can carry out.
    pub offers: Offers,
    /// Hears what the actors do.
    pub observer: Arc<dyn Observer>,
}

/// Makes the executors of a node whose read models are there.
pub type ExecutorsMaker = Box<dyn FnOnce(&Projections) -> Result<Executors, String>>;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// The log.
    #[error(transparent)]
    Log(#[from] StartError),
    /// The read models.
    #[error(transparent)]
    Projections(#[from] escapement_actors::projection::Failure),
    /// The executors.
    #[error("the executors cannot be made: {0}")]
    Executors(String),
    /// The runtime of the log ended.
    #[error("the log's runtime ended")]
    Runtime,
}

/// Where the log's tasks run.
struct Threads(Option<Handle>);

impl Threads {
    fn start<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &self.0 {
            Some(runtime) => runtime.spawn(task),
            None => tokio::task::spawn_local(task),
        }
    }
}

/// A running node.
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// The replicated state.
    pub machine: Arc<Machine>,
    /// The replicated log.
    pub group: Group,
    /// The log behind its port.
    pub log: Arc<GroupLog>,
    /// The way to the leader.
    pub leader: LeaderFinder,
    /// The read models.
    pub projections: Projections,
    /// The node's worker.
    pub dispatcher: Dispatcher,
    /// The timer wheel.
    pub wheel: WheelHandle,
    /// What is known of everybody's clocks.
    pub clocks: Arc<ClockWatch>,
    /// The way to the peers.
    pub transport: Arc<dyn Transport>,
    /// What the node offers to clients.
    pub service: Service,
    leadership: watch::Receiver<Leadership>,
    witness: Witness,
    /// Its peers are answered for as long as this is held.
    _peers: Arc<PeerDesk>,
}

impl Node {
    /// Puts a node together and starts it. It serves as soon as it belongs to a cluster that has a leader.
    ///
    /// # Errors
    /// [`AssemblyError`]; nothing is left running.
    pub async fn start(parts: Parts) -> Result<Self, AssemblyError> {
        let Parts { node, machine, raft, disk, transport, formation, storage, log_runtime, surroundings } =
            parts;
        let projections = Projections::start(machine.clone(), storage)?;
        let threads = Threads(log_runtime);
        let custody = Custody {
            node,
            machine: machine.clone(),
            projections: projections.clone(),
            transport: transport.clone(),
            clock: surroundings.clock.clone(),
        };
        let state_machine = Arc::new(StateMachine(custody.clone()));
        let starting = Group::start(raft, disk, state_machine, transport.clone());
        let group = threads.start(starting).await.map_err(|_| AssemblyError::Runtime)??;
        projections.fetch_from(Arc::new(PeerHistory::new(node, group.clone(), transport.clone())));
        let (told, leadership) = watch::channel(Leadership::default());
        threads.start(follow_leadership(group.leadership(), told));
        let (clock, observer) = (surroundings.clock.clone(), surroundings.observer.clone());
        let log = GroupLog::new(group.clone(), machine.clone(), leadership.clone(), clock.clone(), observer);
        let log = Arc::new(log);
        let witness = Witness::new(machine.clone());
        let leader = LeaderFinder::new(node, transport.clone(), leadership.clone(), clock, witness.clone());
        let clocks = ClockWatch::new(node, surroundings.clock.clone());
        let core = Core {
            node,
            machine,
            group,
            log,
            leader,
            projections,
            custody,
            clocks,
            transport,
            leadership,
            witness,
        };
        let running = core.start_actors(surroundings)?;
        let (group, transport) = (running.group.clone(), running.transport.clone());
        threads.start(async move {
            if let Err(error) = form(&group, &*transport, &formation).await {
                tracing::error!(%error, "this node does not come to belong to the cluster");
            }
        });
        Ok(running)
    }

    /// Who leads, as this node sees it.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// Resolves with the reason when the node can no longer be trusted; the process must then end.
    pub async fn failed(&self) -> String {
        tokio::select! {
            failure = self.group.failed() => failure.to_string(),
            failure = self.projections.failed() => failure.to_string(),
            reason = self.witness.diverged() => reason,
        }
    }

    /// Leaves in good order: what runs may end until `patience` is over and is handed back otherwise, the leadership is
    /// handed over, and everything is on the disk.
    pub async fn stop(self, patience: Duration) {
        tokio::select! {
            () = self.dispatcher.drain(patience) => {}
            reason = self.failed() => {
                tracing::error!(reason, "what still runs cannot be handed back any more: others take it up when the lease ends");
            }
        }
        if self.leadership().leading
            && self.group.status().members.len() > 1
            && let Err(error) = self.group.transfer_leadership(None).await
        {
            tracing::warn!(%error, "the leadership was not handed over");
        }
        self.group.shutdown().await;
        if let Err(error) = self.projections.stop().await {
            tracing::error!(%error, "the read models were not synced");
        }
    }
}

/// A node whose log runs and whose actors do not yet.
struct Core {
    node: NodeId,
    machine: Arc<Machine>,
    group: Group,
    log: Arc<GroupLog>,
    leader: LeaderFinder,
    projections: Projections,
    custody: Custody,
    clocks: Arc<ClockWatch>,
    transport: Arc<dyn Transport>,
    leadership: watch::Receiver<Leadership>,
    witness: Witness,
}

impl Core {
    /// Sets up where questions for the leader end: this node's own, and those of its peers.
    fn open_desk(&self, surroundings: &Surroundings) -> Arc<PeerDesk> {
        let Surroundings { clock, observer, callbacks, .. } = surroundings;
        let front = Front::start(FrontParts {
            log: self.log.clone(),
            machine: self.machine.clone(),
            clock: clock.clone(),
            clocks: self.clocks.clone(),
            observer: observer.clone(),
            idle: IDLE,
        });
        let leases = Leases::start(LeasesParts {
            log: self.log.clone(),
            machine: self.machine.clone(),
            clock: clock.clone(),
            clocks: self.clocks.clone(),
            lease: LEASE,
        });
        let desk: Arc<dyn Desk> = Arc::new(NodeDesk { front, leases });
        self.leader.open_desk(desk.clone());
        let peers = Arc::new(PeerDesk {
            desk,
            projections: self.projections.clone(),
            group: self.group.clone(),
            clock: clock.clone(),
            machine: self.machine.clone(),
            callbacks: callbacks.clone(),
        });
        let answering: Weak<PeerDesk> = Arc::downgrade(&peers);
        self.transport.register(answering);
        peers
    }

    fn start_actors(self, surroundings: Surroundings) -> Result<Node, AssemblyError> {
        let peers = self.open_desk(&surroundings);
        let service = self.service(&surroundings);
        let timekeeper = Timekeeper {
            node: self.node,
            group: self.group.clone(),
            transport: self.transport.clone(),
            clock: surroundings.clock.clone(),
            clocks: self.clocks.clone(),
            leadership: self.leadership.clone(),
        };
        let Self {
            node: id,
            machine,
            group,
            log,
            leader,
            projections,
            custody: _,
            clocks,
            transport,
            leadership,
            witness,
        } = self;
        let Surroundings { clock, entropy, callbacks: _, executors, slots, offers, observer } = surroundings;
        let executors = executors(&projections).map_err(AssemblyError::Executors)?;
        let wheel = WheelHandle::start(WheelParts {
            log: log.clone(),
            machine: machine.clone(),
            clock: clock.clone(),
            clocks: clocks.clone(),
            observer: observer.clone(),
            zone_data: zone_data_version().into(),
        });
        let dispatcher = Dispatcher::start(DispatcherParts {
            node: id,
            slots,
            offers,
            leader: Arc::new(leader.clone()),
            machine: machine.clone(),
            clock,
            entropy,
            executors: Arc::new(executors),
            outputs: Arc::new(OutputCapture(projections.output().clone())),
            observer,
            renew_every: LEASE / 3,
            margin: LEASE_MARGIN,
        });
        tokio::task::spawn_local(step_down_with_a_bad_clock(group.clone(), clocks.clone()));
        tokio::task::spawn_local(timekeeper.run());
        Ok(Node {
            id,
            machine,
            group,
            log,
            leader,
            projections,
            dispatcher,
            wheel,
            clocks,
            transport,
            service,
            leadership,
            witness,
            _peers: peers,
        })
    }

    fn service(&self, surroundings: &Surroundings) -> Service {
        Service::new(ServiceParts {
            machine: self.machine.clone(),
            queues: QueueWatch::start(&self.machine),
            log: self.log.clone(),
            leader: Arc::new(self.leader.clone()),
            clock: surroundings.clock.clone(),
            entropy: surroundings.entropy.clone(),
            read_models: Arc::new(self.projections.clone()),
            outputs: Arc::new(NodeOutputs::new(self.node, self.projections.clone(), self.transport.clone())),
            callbacks: Arc::new(NodeCallbacks::new(
                self.node,
                surroundings.callbacks.clone(),
                self.transport.clone(),
            )),
            cluster: Arc::new(NodeCluster { group: self.group.clone(), custody: self.custody.clone() }),
        })
    }
}
