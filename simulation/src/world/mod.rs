//! The world: nodes, one committed log, clients and faults, moved by one agenda in order of (time, sequence).
//!
//! Everything random comes from the one generator of the run, in the order of the agenda; nothing else is asked. So a
//! seed and a profile determine every happening.

mod clients;
mod clock;
mod drafting;
mod elections;
mod faults;
mod leader;
mod ledger;
mod node;
mod proposals;
mod worker;

use std::collections::BTreeMap;

use escapement_domain::answer::Answer;
use escapement_domain::identifier::{Incarnation, NodeId};
use escapement_domain::replica::Replica;

use self::clients::ClientState;
use self::clock::Clock;
use self::leader::WorkerKey;
use self::ledger::Ledger;
use self::node::Node;
use self::proposals::Proposal;
use self::worker::{Message, Moment, Worker};
use crate::chance::Chance;
use crate::evidence::{Attempt, Counts, Evidence, Operation, Violation};
use crate::plants::{Plant, Planted};
use crate::profile::{DRAINED_WITHIN_MS, Profile, SETTLED_WITHIN_MS, Settings};
use crate::trace::{Trace, TraceDigest};

/// Instants at which a world may begin: an ordinary one, and the hours before clocks change in Europe and America.
const EPOCHS: [i64; 4] = [1_780_000_000_000, 1_774_745_940_000, 1_792_889_940_000, 1_772_952_900_000];
/// How often a node looks around, in ms, at least and at most.
const TICK_MS: (u64, u64) = (25, 60);

/// Something that is going to happen.
#[derive(Debug)]
enum Happening {
    Tick(usize),
    Commit(Proposal),
    Elect,
    Depose(usize, u64),
    Fault,
    Restart(usize),
    Thaw(usize),
    Rejoin(usize),
    SetClock(usize),
    Hear(usize, Message),
    Renewed(usize, WorkerKey, u64, u64),
    Turn(usize),
    Arrive(usize, usize),
    Answered(usize, Box<Answer>),
    TimeOut(usize),
    Heal,
    Quiesce,
    Watch,
}

/// A world.
pub struct World {
    now: u64,
    sequence: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    chance: Chance,
    settings: Settings,
    planted: Planted,
    trace: Trace,
    epoch: i64,
    ledger: Ledger,
    nodes: Vec<Node>,
    term: u64,
    leader: Option<usize>,
    clients: Vec<ClientState>,
    operations: Vec<Operation>,
    attempts: Vec<Attempt>,
    disturbances: Vec<(u64, u64)>,
    seen: Vec<Violation>,
    counts: Counts,
    healed: Option<u64>,
    quiesced: Option<u64>,
    over: bool,
}

impl World {
    /// Makes the world of a seed.
    #[must_use]
    pub fn new(seed: u64, profile: Profile, active_ms: Option<u64>, planted: Planted, spoken: bool) -> Self {
        let mut chance = Chance::new(seed.wrapping_mul(4) + profile as u64);
        let epoch = chance.pick(&EPOCHS);
        let mut settings = profile.settings();
        settings.active_ms = active_ms.unwrap_or(settings.active_ms);
        let count = chance.pick(&[3_usize, 3, 5, 4]);
        let nodes = (0..count).map(|place| first_start(place, epoch, &mut chance)).collect();
        let mut world = Self {
            now: 0,
            sequence: 0,
            agenda: BTreeMap::new(),
            chance,
            settings,
            planted,
            trace: Trace::new(spoken),
            epoch,
            ledger: Ledger::default(),
            nodes,
            term: 0,
            leader: None,
            clients: Vec::new(),
            operations: Vec::new(),
            attempts: Vec::new(),
            disturbances: vec![(0, 3_000)],
            seen: Vec::new(),
            counts: Counts::default(),
            healed: None,
            quiesced: None,
            over: false,
        };
        for place in 0..count {
            world.later(place as u64, Happening::Tick(place));
        }
        for client in 0..settings.clients {
            let clock = Clock::new(epoch, &mut world.chance);
            world.clients.push(ClientState::new(clock));
            world.later(800 + client * 37, Happening::Turn(usize::try_from(client).unwrap_or(0)));
        }
        world.later(100, Happening::Elect);
        if settings.fault_gap_ms > 0 {
            world.later(6_000, Happening::Fault);
        }
        world.later(settings.active_ms, Happening::Heal);
        world
    }

    /// Runs it to its end; returns what was seen, and the trace.
    #[must_use]
    pub fn run(mut self) -> (Evidence, TraceDigest) {
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            self.now = at;
            self.happen(happening);
            if self.over || self.seen.len() > 20 {
                break;
            }
        }
        self.counts.world_ms = self.now;
        self.counts.entries = self.ledger.end();
        let digest = self.trace.digest();
        let now = self.now;
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.ended == u64::MAX) {
            attempt.ended = now;
        }
        let closed = self.ledger.close();
        let evidence = Evidence {
            settings: self.settings,
            epoch: self.epoch,
            healed: self.healed.unwrap_or(now),
            quiesced: self.quiesced.unwrap_or(now),
            records: closed.records,
            committed: closed.committed,
            last: closed.state,
            operations: self.operations,
            attempts: self.attempts,
            disturbances: self.disturbances,
            seen: self.seen,
            counts: self.counts,
        };
        (evidence, digest)
    }

    fn later(&mut self, after_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((self.now + after_ms, self.sequence), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick(place) => self.tick(place),
            Happening::Commit(proposal) => self.commit(proposal),
            Happening::Elect => self.elect(),
            Happening::Depose(place, term) => self.depose(place, term),
            Happening::Fault => self.fault(),
            Happening::Restart(place) => self.restart(place),
            Happening::Thaw(place) => self.note(11, place as u64, || format!("node {place} thaws")),
            Happening::Rejoin(place) => self.rejoin(place),
            Happening::SetClock(place) => self.set_clock(place),
            Happening::Hear(place, message) => self.hear(place, message),
            Happening::Renewed(place, key, monotonic, sent) => self.renewed(place, key, monotonic, sent),
            Happening::Turn(client) => self.turn(client),
            Happening::Arrive(operation, place) => self.arrive(operation, place),
            Happening::Answered(operation, answer) => self.answered(operation, *answer),
            Happening::TimeOut(operation) => self.time_out(operation),
            Happening::Heal => self.heal(),
            Happening::Quiesce => self.quiesce(),
            Happening::Watch => self.watch(),
        }
    }

    fn note(&mut self, kind: u64, number: u64, text: impl FnOnce() -> String) {
        self.trace.note(self.now, &[kind, number], text);
    }

    fn violate(&mut self, invariant: &'static str, detail: String) {
        self.trace.note(self.now, &[99], || format!("VIOLATION {invariant}: {detail}"));
        self.seen.push(Violation { invariant, detail });
    }

    /// A node looks around: applies, leads, works.
    fn tick(&mut self, place: usize) {
        let after = self.chance.between(TICK_MS.0, TICK_MS.1);
        self.later(after, Happening::Tick(place));
        if !self.nodes[place].is_awake(self.now) {
            return;
        }
        if !self.nodes[place].cut {
            let applied = self.nodes[place].apply(&self.ledger);
            for (operation, answer) in applied.answers {
                self.reply(operation, answer);
            }
            if let Some(difference) = applied.difference {
                self.violate("agreement", format!("node {}: {difference}", self.nodes[place].id));
            }
        }
        self.lead(place);
        self.work(place);
    }

    fn work(&mut self, place: usize) {
        if self.nodes[place].worker.is_given_up(&self.nodes[place].replica) {
            self.start_anew(place);
        }
        let brief = self.healed.is_some();
        let (now, planted) = (self.now, self.planted);
        let node = &mut self.nodes[place];
        let moment = Moment {
            now,
            monotonic: node.clock.monotonic(now),
            wall: node.clock.wall(now),
            replica: &node.replica,
            brief,
            planted,
        };
        let messages = node.worker.step(&moment, &mut self.attempts, &mut self.chance);
        let leaves = node.worker.draining && node.worker.is_idle() && self.chance.per_mille(30);
        for message in messages {
            self.send(place, message);
        }
        if leaves {
            self.start_anew(place);
        }
    }

    /// A worker that the cluster gave up, or that was drained, starts anew under another incarnation.
    fn start_anew(&mut self, place: usize) {
        let (now, planted) = (self.now, self.planted);
        let node = &mut self.nodes[place];
        let moment = Moment {
            now,
            monotonic: node.clock.monotonic(now),
            wall: node.clock.wall(now),
            replica: &node.replica,
            brief: false,
            planted,
        };
        let last = node.worker.give_up(&moment, &mut self.attempts);
        node.worker = Worker::new(node.id, Incarnation(self.chance.bits()));
        self.note(12, place as u64, || format!("the worker of node {place} starts anew"));
        if let Some(message) = last {
            self.send(place, message);
        }
    }

    /// The faults end, and clients wish for nothing more.
    fn heal(&mut self) {
        self.note(13, 0, || "the world heals".into());
        self.healed = Some(self.now);
        for place in 0..self.nodes.len() {
            self.nodes[place].frozen_until = 0;
            self.nodes[place].pace = 500;
            if !self.nodes[place].up {
                self.restart(place);
            }
            self.rejoin(place);
            self.set_clock(place);
        }
        self.later(SETTLED_WITHIN_MS, Happening::Quiesce);
    }

    /// By now everything that was due must be settled. An operator pauses every task, until all of them are.
    fn quiesce(&mut self) {
        if self.quiesced.is_none() {
            self.note(14, 0, || "the tasks are paused".into());
            self.quiesced = Some(self.now);
            self.judge_settled();
            self.later(500, Happening::Watch);
        }
        if self.pause_some() {
            self.later(700, Happening::Quiesce);
        }
    }

    fn judge_settled(&mut self) {
        let true_now = self.epoch + self.now.cast_signed();
        let late: Vec<String> = self
            .ledger
            .state()
            .tasks()
            .iter()
            .filter_map(|task| Some((task, leader::deadline_of(task)?)))
            .filter(|(_, deadline)| deadline.0 + 3_000 < true_now)
            .map(|(task, deadline)| format!("task {} was due at {deadline} and is not settled", task.id))
            .collect();
        for detail in late {
            self.violate("convergence", detail);
        }
    }

    /// Waits until nothing is open and all nodes agree, and not longer than the bound.
    fn watch(&mut self) {
        let waited = self.now - self.quiesced.unwrap_or(self.now);
        let state = self.ledger.state();
        let active = state.tasks().iter().any(|task| leader::deadline_of(task).is_some());
        let open = state.executions().len();
        let behind = self.nodes.iter().filter(|node| node.applied < self.ledger.end()).count();
        let unfinished = active || open > 0 || !state.queue().is_empty() || state.left_over();
        if !unfinished && behind == 0 && waited > 4_000 {
            self.agree();
            self.over = true;
        } else if waited > DRAINED_WITHIN_MS {
            let detail =
                format!("{open} executions are open, {behind} nodes are behind, tasks active: {active}");
            self.violate("convergence", detail);
            self.over = true;
        } else {
            self.later(250, Happening::Watch);
        }
    }

    fn agree(&mut self) {
        let expected = self.ledger.state().state_hash();
        let hashes: Vec<_> = self.nodes.iter().map(|node| (node.id, node.replica.state_hash())).collect();
        for (id, hash) in hashes.into_iter().filter(|(_, hash)| *hash != expected) {
            self.violate("agreement", format!("node {id} ends with the state {hash}, not {expected}"));
        }
    }

    fn has(&self, plant: Plant) -> bool {
        self.planted.has(plant)
    }

    fn quorum(&self) -> bool {
        self.nodes.iter().filter(|node| node.is_connected(self.now)).count() * 2 > self.nodes.len()
    }
}

fn first_start(place: usize, epoch: i64, chance: &mut Chance) -> Node {
    let id = NodeId(place as u64 + 1);
    Node {
        id,
        clock: Clock::new(epoch, chance),
        up: true,
        frozen_until: 0,
        cut: false,
        replica: Replica::default(),
        applied: 0,
        pace: chance.pick(&[500, 500, 60]),
        snapshot: (0, Vec::new()),
        snapshot_every: chance.between(20, 300),
        leader: None,
        worker: Worker::new(id, Incarnation(chance.bits())),
        pending: BTreeMap::new(),
    }
}
