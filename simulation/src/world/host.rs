//! One machine: a disk, a clock, and the process of a node on it.
//!
//! The node is put together by the function that the program calls; its disk, clock, network, chance and executors are
//! the world's. Invariant: a disk belongs to one number, and no process outlives a crash. Absent on purpose: when
//! anything breaks, and who mends it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use escapement::executor::Callbacks;
use escapement::node::assembly::{Node, Parts, Surroundings};
use escapement::service::Service;
use escapement_actors::machine::Machine;
use escapement_actors::ports::{Executors, Leadership, Observer};
use escapement_actors::projection::Projections;
use escapement_domain::command::{Offers, Programs};
use escapement_domain::identifier::NodeId;
use escapement_raft::{Address, Formation, Local, MemoryDisk, Options};
use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::World;
use super::clock::MachineClock;
use super::process::Process;
use super::storage::ReadModelDisk;
use crate::definitions::RARE_PROGRAM;

/// The cluster's name.
const CLUSTER: &str = "simulated";
/// How long a sync of a disk takes that is well.
pub(super) const QUICK_SYNC: Duration = Duration::from_micros(300);
/// How long a node that stops in good order lets its attempts go on.
const PATIENCE: Duration = Duration::from_secs(6);

/// How long a follower at most hears nothing before it stands for election, in ms.
pub(super) fn election_ms() -> u64 {
    u64::try_from(Options::new(CLUSTER).election_max.as_millis()).unwrap_or(u64::MAX)
}

/// What somebody asks of a running node.
pub(super) enum Call {
    /// Does something with its service.
    Serve(Box<dyn FnOnce(Service) -> LocalBoxFuture<'static, ()>>),
    /// Stops in good order.
    Stop,
}

/// One machine.
pub(super) struct Host {
    pub(super) id: NodeId,
    /// The identity of its disk.
    disk: u128,
    pub(super) log: MemoryDisk,
    pub(super) read_models: ReadModelDisk,
    pub(super) clock: Arc<MachineClock>,
    formation: Formation,
    slots: u32,
    /// Whether it lacks a program that others run.
    lacks_program: bool,
    options: Options,
    pub(super) running: Option<Running>,
    /// When it is started again; never by itself if absent.
    pub(super) restart_at: Option<u64>,
    /// Whether its disk was made to fail since its node was started, so that the node may stop by itself.
    pub(super) excused: bool,
    full: bool,
    /// Since when it has run on although a sync of its disk failed.
    runs_on_since: Option<u64>,
    /// Until when its disk takes up syncs that are slow.
    pub(super) stalled_until: u64,
    /// Until when such a sync may be under way.
    pub(super) slow_until: u64,
    /// Whether a bit of its disk was flipped.
    pub(super) damaged: bool,
    /// Whether its disk cannot be used any more: it must be replaced.
    pub(super) lost: bool,
    /// Whether it was ever said to be a member.
    pub(super) was_added: bool,
    /// Whether it is no member any more.
    pub(super) retired: bool,
}

/// A node that runs.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) door: mpsc::UnboundedSender<Call>,
    pub(super) inside: Rc<RefCell<Inside>>,
    pub(super) frozen_since: Option<u64>,
}

/// What is known of the inside of a process.
#[derive(Default)]
pub(super) struct Inside {
    /// There as soon as the node has started.
    pub(super) ready: Option<Ready>,
    /// Why it ended by itself.
    pub(super) ended: Option<String>,
}

/// The parts of a node that the world looks at.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) machine: Arc<Machine>,
    pub(super) projections: Projections,
}

/// Where a node listens.
pub(super) fn address(id: NodeId) -> Address {
    Address { api: format!("api-{id}"), peer: format!("node-{id}") }
}

impl World {
    /// Whether a member lacks the program: where all do, what needs it waits for ever, and by right.
    fn someone_lacks_program(&self) -> bool {
        self.hosts.borrow().values().any(|host| !host.retired && host.lacks_program)
    }
}

impl Host {
    /// A machine with an empty disk.
    pub(super) fn new(world: &World, id: NodeId, formation: Formation) -> Self {
        let nature = &world.nature;
        let (snapshot_entries, log_entries_kept) =
            nature.draw(|chance| (chance.pick(&[60, 250, 1_000]), chance.pick(&[10, 100, 500])));
        let (disk, slots) = nature.draw(|chance| (chance.bits(), chance.pick(&[2, 6, 20])));
        let log = MemoryDisk::new();
        world.planted.plant_in_disk(&log);
        let mut options = Options { snapshot_entries, log_entries_kept, ..Options::new(CLUSTER) };
        world.planted.plant_in_options(&mut options);
        let this = Self {
            id,
            disk,
            log,
            read_models: ReadModelDisk::default(),
            clock: Arc::new(MachineClock::new(nature)),
            was_added: matches!(formation, Formation::Together(_)),
            formation,
            slots,
            lacks_program: id.0.is_multiple_of(3) && !world.someone_lacks_program(),
            options,
            running: None,
            restart_at: None,
            excused: false,
            full: false,
            runs_on_since: None,
            stalled_until: 0,
            slow_until: 0,
            damaged: false,
            lost: false,
            retired: false,
        };
        this.set_sync(QUICK_SYNC);
        this
    }

    /// The machines that form the cluster together.
    pub(super) fn together(count: u64) -> Formation {
        let members: BTreeMap<u64, Address> = (1..=count).map(|id| (id, address(NodeId(id)))).collect();
        Formation::Together(members)
    }

    /// How long a sync of its disk takes.
    pub(super) fn set_sync(&self, duration: Duration) {
        self.log.set_sync(duration);
        self.read_models.set_sync(duration);
    }

    /// Refuses every write while its disk is full.
    pub(super) fn set_full(&mut self, full: bool) {
        self.excused |= full;
        self.full = full;
        self.log.set_full(full);
        self.read_models.set_full(full);
    }

    /// What the world looks at, if the node has started.
    pub(super) fn ready(&self) -> Option<Ready> {
        self.running.as_ref().and_then(|running| running.inside.borrow().ready.clone())
    }

    /// Whether it runs and is not frozen.
    pub(super) fn is_awake(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.frozen_since.is_none())
    }

    /// Whether its disk is whole, quick, and takes what is written.
    pub(super) fn has_a_good_disk(&self, now: u64) -> bool {
        !self.full && !self.excused && !self.damaged && self.slow_until <= now
    }

    /// Whether a sync of its disk failed since its last crash.
    pub(super) fn sync_failed(&self) -> bool {
        self.log.sync_failed() || self.read_models.sync_failed()
    }

    /// For how long it has run on, awake, although a sync of its disk failed, in ms.
    pub(super) fn runs_on_for(&mut self, now: u64) -> u64 {
        if !self.sync_failed() || !self.is_awake() {
            self.runs_on_since = None;
        } else if self.runs_on_since.is_none() {
            self.runs_on_since = Some(now);
        }
        self.runs_on_since.map_or(0, |since| now - since)
    }

    /// Whether it is such a member.
    pub(super) fn is_member_awake(&self) -> bool {
        self.is_awake() && !self.retired
    }

    /// Starts the node on this machine.
    pub(super) fn start(&mut self, world: &Rc<World>) {
        let (door, calls) = mpsc::unbounded_channel();
        let inside = Rc::<RefCell<Inside>>::default();
        let machine = Arc::<Machine>::default();
        world.listen_to(self.id, &machine);
        world.target.set_dying(self.id, false);
        let start = Start {
            world: world.clone(),
            machine,
            id: self.id,
            local: Local { cluster: CLUSTER.into(), node: self.id.0, disk: self.disk },
            log: self.log.clone(),
            read_models: self.read_models.clone(),
            clock: self.clock.clone(),
            formation: self.formation.clone(),
            slots: self.slots,
            lacks_program: self.lacks_program,
            options: self.options.clone(),
        };
        let process = Process::start(run(start, calls, inside.clone()));
        self.restart_at = None;
        self.excused = self.full;
        self.running = Some(Running { process, door, inside, frozen_since: None });
    }
}

/// What a process is started with.
struct Start {
    world: Rc<World>,
    machine: Arc<Machine>,
    id: NodeId,
    local: Local,
    log: MemoryDisk,
    read_models: ReadModelDisk,
    clock: Arc<MachineClock>,
    formation: Formation,
    slots: u32,
    lacks_program: bool,
    options: Options,
}

impl Start {
    fn parts(self) -> Parts {
        let executor = self.world.target.called_by(self.id);
        let transport = self.world.network.connect(self.local, address(self.id).peer);
        let programs = if self.lacks_program { Vec::new() } else { vec![RARE_PROGRAM.into()] };
        let entropy = Arc::new(self.world.nature.clone());
        let api = format!("http://{}", address(self.id).api);
        let callbacks = Callbacks::new(self.id, &api, self.clock.clone(), entropy.clone());
        let executors = Executors { http: executor.clone(), process: executor.clone(), builtin: executor };
        Parts {
            node: self.id,
            machine: self.machine,
            raft: self.options,
            disk: self.log.into(),
            transport: Arc::new(transport),
            formation: self.formation,
            storage: Arc::new(self.read_models.open()),
            log_runtime: None,
            surroundings: Surroundings {
                clock: self.clock,
                entropy,
                callbacks,
                executors: Box::new(move |_| Ok(executors)),
                slots: self.slots,
                offers: Offers { http: true, builtin: true, programs: Programs::Listed(programs) },
                observer: Arc::new(Elections { node: self.id, world: self.world.elections.clone() }),
            },
        }
    }
}

/// The main task of a node's process.
async fn run(start: Start, mut calls: mpsc::UnboundedReceiver<Call>, inside: Rc<RefCell<Inside>>) {
    let machine = start.machine.clone();
    let node = match Node::start(start.parts()).await {
        Ok(node) => node,
        Err(error) => {
            inside.borrow_mut().ended = Some(format!("it does not start: {error}"));
            return;
        }
    };
    let ready = Ready { machine, projections: node.projections.clone() };
    inside.borrow_mut().ready = Some(ready);
    let ended = loop {
        tokio::select! {
            biased;
            reason = node.failed() => break reason,
            call = calls.recv() => match call {
                Some(Call::Serve(serve)) => drop(tokio::task::spawn_local(serve(node.service.clone()))),
                Some(Call::Stop) | None => {
                    node.stop(PATIENCE).await;
                    break String::new();
                }
            },
        }
    };
    inside.borrow_mut().ended = Some(ended);
}

/// Every leader of every term, as the nodes believed.
#[derive(Clone, Default)]
pub(super) struct Leaders(Arc<Mutex<Vec<(u64, NodeId)>>>);

impl Leaders {
    /// How often the leadership began.
    pub(super) fn count(&self) -> u64 {
        self.0.lock().len() as u64
    }

    /// How often it went from one node to another.
    pub(super) fn changes(&self) -> u64 {
        let mut leaders = self.0.lock().clone();
        leaders.sort_unstable();
        leaders.windows(2).filter(|pair| pair[0].1 != pair[1].1).count() as u64
    }

    /// Who began last.
    pub(super) fn last(&self) -> Option<NodeId> {
        self.0.lock().iter().max_by_key(|(term, _)| *term).map(|(_, node)| *node)
    }
}

/// Hears who leads.
struct Elections {
    node: NodeId,
    world: Leaders,
}

impl Observer for Elections {
    fn leadership(&self, leadership: Leadership) {
        if leadership.leading {
            let mut leaders = self.world.0.lock();
            let began = (leadership.term, self.node);
            if !leaders.contains(&began) {
                leaders.push(began);
            }
        }
    }
}
