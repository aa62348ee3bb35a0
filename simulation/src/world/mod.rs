//! A whole cluster in one thread and in virtual time: real nodes, with everything around them played.
//!
//! Every node is put together by the function that the program calls. Its network, disk, clock, chance and targets are
//! the world's, drawn from one seed; so are the faults, the clients and the operator. A run has three phases: faults and
//! clients together, then healing, after which everything that is due must be settled within a bound, then the tasks are
//! paused and everything must end.
//!
//! Invariant: nothing here depends on anything but the seed and the profile. Absent on purpose: judging, but for what
//! can only be seen while nodes run (see `watch`).

mod clients;
mod clock;
pub(crate) mod crew;
mod faults;
mod host;
mod ledger;
mod meddling;
mod nature;
mod process;
mod quorum;
mod steward;
mod storage;
mod target;
mod watch;
mod weather;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::machine::Machine;
use escapement_domain::identifier::NodeId;
use escapement_domain::record::Hash;
use escapement_raft::MemoryNetwork;
use tokio::runtime::{Builder, RngSeed};
use tokio::task::LocalSet;

use self::host::{Host, Leaders, QUICK_SYNC, election_ms};
use self::ledger::Ledger;
use self::nature::Nature;
use self::target::Target;
use self::weather::{Network, Roughness};
use crate::chance::Chance;
use crate::evidence::{Counts, Evidence, Operation, Violation};
use crate::plants::Planted;
use crate::profile::{Profile, Settings};
use crate::trace::TraceDigest;

/// Instants at which worlds begin: an ordinary day, and the nights when clocks change in Berlin and New York.
const EPOCHS: [i64; 4] = [1_790_000_000_000, 1_806_195_570_000, 1_793_494_770_000, 1_805_007_570_000];
/// Workers outside the cluster.
const CREW: u64 = 3;
/// A run that has gone wrong in so many ways is not continued.
const ENOUGH_VIOLATIONS: usize = 20;

/// One run.
pub struct World {
    nature: Nature,
    settings: Settings,
    planted: Planted,
    weather: Arc<Network>,
    network: MemoryNetwork,
    target: Target,
    elections: Leaders,
    hosts: RefCell<BTreeMap<NodeId, Host>>,
    ledger: RefCell<Ledger>,
    operations: RefCell<Vec<Operation>>,
    disturbances: RefCell<Vec<(u64, u64)>>,
    without_quorum: RefCell<Vec<(u64, u64)>>,
    frozen: RefCell<Vec<(NodeId, u64, u64)>>,
    /// Clocks that are or were wrong, each with when that is forgotten.
    wrong_clocks: RefCell<BTreeMap<NodeId, u64>>,
    /// Whether the operator changes the members right now, and what else is wanted.
    changing: Cell<bool>,
    wanted_change: Cell<Option<(u64, NodeId)>>,
    seen: RefCell<Vec<Violation>>,
    counts: RefCell<Counts>,
    healed: Cell<Option<u64>>,
    quiesced: Cell<Option<u64>>,
    /// Whether the run has ended and only what the nodes hold is looked at.
    over: Cell<bool>,
}

/// Runs a seed to its end; returns what was seen, and the trace.
///
/// # Errors
/// Tokio's, when it cannot make a runtime.
pub fn run(
    seed: u64,
    profile: Profile,
    active_ms: Option<u64>,
    planted: Planted,
    spoken: bool,
) -> std::io::Result<(Evidence, TraceDigest)> {
    let mut chance = Chance::new(seed.wrapping_mul(8) + profile as u64);
    escapement_raft::runtime::seed(u64::try_from(chance.bits() >> 64).unwrap_or(seed));
    planted.plant();
    let order = RngSeed::from_bytes(&chance.bits().to_be_bytes());
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).rng_seed(order).build()?;
    let tasks = LocalSet::new();
    let outcome = tasks.block_on(&runtime, async {
        let world = World::new(chance, profile.settings_for(active_ms), planted, spoken);
        world.clone().live().await;
        let trace = world.nature.trace();
        (world.close(), trace)
    });
    // What still runs is dropped before the next seed begins.
    drop(tasks);
    Ok(outcome)
}

impl World {
    fn new(mut chance: Chance, settings: Settings, planted: Planted, spoken: bool) -> Rc<Self> {
        let epoch = chance.pick(&EPOCHS);
        let count = chance.pick(&[3_u64, 3, 5, 4]);
        let nature = Nature::new(epoch, chance, spoken);
        let weather = Arc::new(Network::new(&nature));
        let world = Rc::new(Self {
            target: Target::new(&nature),
            network: MemoryNetwork::under(weather.clone()),
            weather,
            nature,
            settings,
            planted,
            elections: Leaders::default(),
            hosts: RefCell::default(),
            ledger: RefCell::default(),
            operations: RefCell::default(),
            disturbances: RefCell::new(vec![(0, 5_000)]),
            without_quorum: RefCell::default(),
            frozen: RefCell::default(),
            wrong_clocks: RefCell::default(),
            changing: Cell::new(false),
            wanted_change: Cell::new(None),
            seen: RefCell::default(),
            counts: RefCell::default(),
            healed: Cell::new(None),
            quiesced: Cell::new(None),
            over: Cell::new(false),
        });
        for id in (1..=count).map(NodeId) {
            let mut host = Host::new(&world, id, Host::together(count));
            host.start(&world);
            world.hosts.borrow_mut().insert(id, host);
        }
        world
    }

    async fn live(self: Rc<Self>) {
        tokio::task::spawn_local(steward::supervise(self.clone()));
        tokio::task::spawn_local(steward::operate(self.clone()));
        tokio::task::spawn_local(watch::compare(self.clone()));
        tokio::task::spawn_local(quorum::watch(self.clone()));
        if self.settings.fault_gap_ms > 0 {
            tokio::task::spawn_local(faults::rage(self.clone()));
            tokio::task::spawn_local(faults::insist(self.clone()));
        }
        for number in 0..self.settings.clients {
            tokio::task::spawn_local(clients::live(self.clone(), number));
        }
        tokio::task::spawn_local(meddling::put_back(self.clone()));
        tokio::task::spawn_local(clients::keep_quiet(self.clone(), self.settings.clients));
        for number in 0..CREW {
            tokio::task::spawn_local(crew::work(self.clone(), number));
        }
        self.pause(self.settings.active_ms).await;
        self.heal();
        watch::settle(&self).await;
    }

    /// The faults end, and clients wish for nothing more.
    fn heal(self: &Rc<Self>) {
        self.nature.note(&[30], || "the world heals".into());
        self.healed.set(Some(self.nature.now()));
        self.weather.mend_all();
        self.weather.set(Roughness::FAIR);
        let ids: Vec<NodeId> = self.hosts.borrow().keys().copied().collect();
        for id in ids {
            self.thaw(id);
            self.with_host(id, |host| {
                host.clock.set_right();
                host.set_full(false);
                host.log.mend_snapshot_syncs();
                host.set_sync(QUICK_SYNC);
                if host.restart_at.is_some() {
                    host.restart_at = Some(0);
                }
            });
        }
    }

    /// Waits.
    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Does something later.
    fn later(self: &Rc<Self>, after_ms: u64, work: impl FnOnce(&Rc<Self>) + 'static) {
        let world = self.clone();
        tokio::task::spawn_local(async move {
            world.pause(after_ms).await;
            work(&world);
        });
    }

    /// When the world healed, if it did.
    fn healed(&self) -> Option<u64> {
        self.healed.get()
    }

    fn is_member_awake(&self, id: NodeId) -> bool {
        self.hosts.borrow().get(&id).is_some_and(Host::is_member_awake)
    }

    fn with_host<T>(&self, id: NodeId, work: impl FnOnce(&mut Host) -> T) -> Option<T> {
        self.hosts.borrow_mut().get_mut(&id).map(work)
    }

    /// Who leads, if a member says that it does.
    fn leader(&self) -> Option<NodeId> {
        self.elections.last()
    }

    fn violate(&self, invariant: &'static str, detail: String) {
        self.nature.note(&[99], || format!("VIOLATION {invariant}: {detail}"));
        self.seen.borrow_mut().push(Violation { invariant, detail });
    }

    fn has_seen_enough(&self) -> bool {
        self.seen.borrow().len() >= ENOUGH_VIOLATIONS
    }

    /// Hears what a node applies, from its first entry on.
    fn listen_to(self: &Rc<Self>, id: NodeId, machine: &Arc<Machine>) {
        let ((), mut applied) = machine.subscribe(|_, _| ());
        let world = self.clone();
        tokio::task::spawn_local(async move {
            while let Some(applied) = applied.recv().await {
                world.counts.borrow_mut().restores += u64::from(applied.restored);
                let content = applied
                    .records
                    .iter()
                    .fold(0, |content: u64, record| content.rotate_left(7) ^ first_eight(&record.hash));
                world.nature.note(&[31, id.0, applied.index, content], || told(id, &applied));
                let now = world.nature.now();
                let wrong = world.ledger.borrow_mut().applied(id, &applied, now);
                if let Some(wrong) = wrong {
                    world.violate("agreement", wrong);
                }
            }
        });
    }

    fn close(&self) -> Evidence {
        let now = self.nature.now();
        let mut counts = *self.counts.borrow();
        let messages = self.weather.counts();
        (counts.lost, counts.late) = (messages.lost, messages.late);
        (counts.overtaking, counts.repeated) = (messages.overtaking, messages.repeated);
        let frozen = self.frozen.take();
        let outlasts = |(_, since, until): &&(NodeId, u64, u64)| until - since > election_ms();
        counts.freezes = frozen.iter().filter(outlasts).count() as u64;
        counts.short_freezes = frozen.len() as u64 - counts.freezes;
        (counts.elections, counts.changes) = (self.elections.count(), self.elections.changes());
        counts.world_ms = now;
        let (records, committed, folded) = self.ledger.take().close();
        // What a node itself holds, so that the fold of the records is held against something else.
        let last = {
            let hosts = self.hosts.borrow();
            let members = hosts.values().filter(|host| !host.retired).filter_map(Host::ready);
            let ahead = members.max_by_key(|ready| ready.machine.applied());
            ahead.map_or(folded, |ready| ready.machine.read(Clone::clone))
        };
        counts.entries = committed.len() as u64;
        Evidence {
            settings: self.settings,
            epoch: self.nature.wall().0 - now.cast_signed(),
            healed: self.healed.get().unwrap_or(now),
            quiesced: self.quiesced.get().unwrap_or(now),
            records,
            committed,
            last,
            operations: self.operations.take(),
            attempts: self.target.take(),
            disturbances: self.disturbances.take(),
            without_quorum: self.without_quorum.take(),
            frozen,
            seen: self.seen.take(),
            counts,
        }
    }
}

/// What tells a hash from nearly any other.
fn first_eight(hash: &Hash) -> u64 {
    hash.0.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

fn told(id: NodeId, applied: &escapement_actors::machine::Applied) -> String {
    let names: Vec<&str> = applied.records.iter().map(|record| record.event.name()).collect();
    let restored = if applied.restored { " from a snapshot" } else { "" };
    format!("node {id} has applied {}{restored}: {}", applied.index, names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    /// Thousands of seeds run in one process, with dozens of nodes each.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_a_node_that_died() {
        let all = async {
            escapement_raft::runtime::seed(1);
            let settings = Profile::Calm.settings_for(None);
            let world = World::new(Chance::new(1), settings, Planted::NOTHING, false);
            world.pause(3_000).await;
            let machines: BTreeMap<NodeId, Weak<Machine>> = {
                let hosts = world.hosts.borrow();
                let ready = hosts.values().filter_map(|host| Some((host.id, host.ready()?)));
                ready.map(|(id, ready)| (id, Arc::downgrade(&ready.machine))).collect()
            };
            assert!(machines.len() >= 3);
            machines.keys().for_each(|id| world.crash(*id, 0));
            world.pause(100).await;
            for (id, machine) in machines {
                assert_eq!(machine.strong_count(), 0, "something of node {id} is left");
            }
        };
        LocalSet::new().run_until(all).await;
    }
}
