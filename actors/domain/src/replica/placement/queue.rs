//! The queue: every tenant's part of it, and for each kind of worker whose turn it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::breakers::Breaker;
use super::gates::{Gate, Stock, StoredStock};
use super::party::{Party, level_of, takes_a_slot};
use super::shares::{LEVELS, Passed, Rounds, Share};
use super::worker::{Condition, Workers};
use crate::command::Offers;
use crate::execution::state::Execution;
use crate::identifier::{ExecutionId, TenantId};
use crate::task::rules::Requirement;
use crate::timestamp::Timestamp;

/// Executions that wait for a worker, and what they wait for.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub(super) parties: BTreeMap<TenantId, Party>,
    lanes: BTreeMap<Requirement, Lane>,
    rounds: Rounds,
    waiting: [usize; LEVELS],
    length: usize,
    /// What the workers offer that take something new.
    staff: Vec<Offers>,
    /// Queues at which workers outside were heard to wait for what gates hold up, and until when that counts.
    pub(super) attended: BTreeMap<(TenantId, Arc<str>), Timestamp>,
    /// The same, by when that ends.
    pub(super) attendance_ends: BTreeSet<(Timestamp, TenantId, Arc<str>)>,
    /// Queues of workers outside of which something may go, with its level.
    pub(super) going: BTreeSet<(TenantId, Arc<str>, u8)>,
    /// Those of which gates hold something up, and that nobody attends.
    pub(super) held_up: BTreeSet<(TenantId, Arc<str>, u8)>,
}

/// Whose turn it is for one kind of worker.
#[derive(Clone, Debug, Default)]
struct Lane {
    /// By level: the tenants of which something may go.
    levels: [BTreeSet<(Share, TenantId)>; LEVELS],
    length: usize,
    staffed: bool,
}

/// What a snapshot holds of the queue: the rest follows from the executions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    rounds: Rounds,
    /// By tenant and level: the place in the round.
    since: Vec<((TenantId, u8), u64)>,
    gates: Vec<((TenantId, Gate), StoredStock)>,
    breakers: Vec<((TenantId, Arc<str>), Breaker)>,
    paused: Vec<(TenantId, Arc<str>)>,
    /// By tenant and queue of workers outside the cluster.
    passed: Vec<((TenantId, Arc<str>), Passed)>,
    attended: Vec<((TenantId, Arc<str>), Timestamp)>,
}

impl Queue {
    /// Puts an execution into its place.
    pub(in crate::replica) fn push(&mut self, execution: &Execution) {
        let (tenant, level) = (execution.tenant, level_of(execution));
        let party = self.parties.entry(tenant).or_default();
        if party.push(execution) {
            party.shares[usize::from(level)].since = self.rounds.last();
        }
        self.length += 1;
        self.waiting[usize::from(level)] += 1;
        // What workers outside take is read from its tenant's part alone.
        if takes_a_slot(execution) {
            let lane = match self.lanes.get_mut(&execution.rules.requirement) {
                Some(lane) => lane,
                None => {
                    let staffed = self.staff.iter().any(|offers| offers.meet(&execution.rules.requirement));
                    let lane = Lane { staffed, ..Lane::default() };
                    self.lanes.entry(execution.rules.requirement.clone()).or_insert(lane)
                }
            };
            lane.length += 1;
        }
        self.seat(tenant);
    }

    /// Takes an execution out, if it is there.
    pub(in crate::replica) fn remove(&mut self, execution: &Execution) {
        let tenant = execution.tenant;
        if !self.parties.get_mut(&tenant).is_some_and(|party| party.remove(execution)) {
            return;
        }
        self.length -= 1;
        self.waiting[usize::from(level_of(execution))] -= 1;
        self.seat(tenant);
        if let Some(lane) = self.lanes.get_mut(&execution.rules.requirement) {
            lane.length -= 1;
            if lane.length == 0 {
                self.lanes.remove(&execution.rules.requirement);
            }
        }
    }

    /// Notes that an execution runs, as it did before a snapshot.
    fn hold(&mut self, execution: &Execution) {
        self.parties.entry(execution.tenant).or_default().hold(execution);
    }

    /// Notes that an execution was granted.
    pub(in crate::replica) fn grant(&mut self, execution: &Execution) {
        let (tenant, level) = (execution.tenant, level_of(execution));
        let party = self.parties.entry(tenant).or_default();
        party.hold(execution);
        party.granted(execution);
        if takes_a_slot(execution) {
            self.rounds.passed.granted(level, &self.waiting);
            party.shares[usize::from(level)].since = self.rounds.last();
        } else {
            party.taken(execution);
        }
        self.move_seats(tenant, level);
        self.seat(tenant);
    }

    /// Takes back what an execution had that runs no more.
    pub(in crate::replica) fn release(&mut self, execution: &Execution) {
        let tenant = execution.tenant;
        let Some(party) = self.parties.get_mut(&tenant) else { return };
        party.release(execution);
        self.move_seats(tenant, level_of(execution));
        self.seat(tenant);
    }

    /// Lets something of a tenant change, and seats it by what may go then.
    pub(super) fn change<T>(&mut self, tenant: TenantId, change: impl FnOnce(&mut Party) -> T) -> T {
        let changed = change(self.parties.entry(tenant).or_default());
        self.seat(tenant);
        changed
    }

    /// Moves a tenant among the others at a level, now that it runs more or less there.
    fn move_seats(&mut self, tenant: TenantId, level: u8) {
        let Some(party) = self.parties.get_mut(&tenant) else { return };
        let share = party.share(level);
        for (requirement, seat) in party.seats_at(level) {
            if let Some(lane) = self.lanes.get_mut(requirement) {
                let level = &mut lane.levels[usize::from(level)];
                level.remove(&(*seat, tenant));
                level.insert((share, tenant));
            }
            *seat = share;
        }
    }

    /// Seats a tenant in the lanes of which something may go, and nowhere else.
    fn seat(&mut self, tenant: TenantId) {
        let Some(party) = self.parties.get_mut(&tenant) else { return };
        let (lanes, attended) = (&mut self.lanes, &self.attended);
        party.settle(|requirement| match requirement {
            Requirement::Queue(queue) => attended.contains_key(&(tenant, queue.clone())),
            other => lanes.get(other).is_some_and(|lane| lane.staffed),
        });
        while let Some(key) = party.changed.pop_first() {
            if let Requirement::Queue(queue) = &key.1 {
                let unattended = !attended.contains_key(&(tenant, queue.clone()));
                let place = (tenant, queue.clone(), key.0);
                keep(&mut self.going, &place, party.may_go(&key));
                keep(&mut self.held_up, &place, unattended && party.is_held_up(&key));
                continue;
            }
            let share = party.may_go(&key).then(|| party.share(key.0));
            let seat = party.seats.get(&key).copied();
            if share == seat {
                continue;
            }
            if let Some(lane) = lanes.get_mut(&key.1) {
                let level = &mut lane.levels[usize::from(key.0)];
                if let Some(seat) = seat {
                    level.remove(&(seat, tenant));
                }
                if let Some(share) = share {
                    level.insert((share, tenant));
                }
            }
            match share {
                Some(share) => drop(party.seats.insert(key, share)),
                None => drop(party.seats.remove(&key)),
            }
        }
        if party.is_idle() {
            self.parties.remove(&tenant);
        }
    }

    /// Hears which workers there are.
    pub(in crate::replica) fn staff(&mut self, workers: &Workers) {
        let ready = workers.values().filter(|worker| worker.condition == Condition::Ready);
        self.staff = ready.map(|worker| worker.offers.clone()).collect();
        for (requirement, lane) in &mut self.lanes {
            lane.staffed = self.staff.iter().any(|offers| offers.meet(requirement));
        }
        let tenants: Vec<TenantId> = self.parties.keys().copied().collect();
        for tenant in tenants {
            self.change(tenant, Party::touch_all);
        }
    }

    /// What goes next, and what `free` says of a worker for it.
    pub(super) fn next<W: Copy>(&self, free: impl Fn(&Requirement) -> Option<W>) -> Option<(ExecutionId, W)> {
        let occupied =
            self.lanes.iter().filter(|(_, lane)| lane.levels.iter().any(|level| !level.is_empty()));
        let open: Vec<(&Requirement, &Lane, W)> = occupied
            .filter_map(|(requirement, lane)| Some((requirement, lane, free(requirement)?)))
            .collect();
        let level = self
            .rounds
            .passed
            .level(|level| open.iter().any(|(_, lane, _)| !lane.levels[level].is_empty()))?;
        let firsts = || {
            open.iter().filter_map(|(requirement, lane, worker)| {
                lane.levels[level].first().map(|(share, tenant)| (*share, *tenant, *requirement, *worker))
            })
        };
        let (_, tenant, ..) = firsts().min_by_key(|(share, tenant, ..)| (*share, *tenant))?;
        let (party, below_highest) = (self.parties.get(&tenant)?, u8::try_from(level).ok()?);
        firsts()
            .filter(|(_, other, ..)| *other == tenant)
            .filter_map(|(_, _, requirement, worker)| {
                let (turn, execution) = party.first_of(&(below_highest, requirement.clone()))?;
                Some((turn, execution, worker))
            })
            .min_by_key(|(turn, ..)| *turn)
            .map(|(_, execution, worker)| (execution, worker))
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn is_staffed(&self, requirement: &Requirement) -> bool {
        self.lanes.get(requirement).is_some_and(|lane| lane.staffed)
    }

    /// What a snapshot holds of it.
    pub(in crate::replica) fn keep(&self) -> Kept {
        let mut kept = Kept {
            rounds: self.rounds.clone(),
            since: Vec::new(),
            gates: Vec::new(),
            breakers: Vec::new(),
            paused: Vec::new(),
            passed: Vec::new(),
            attended: self.attended.iter().map(|(queue, until)| (queue.clone(), *until)).collect(),
        };
        for (tenant, party) in &self.parties {
            for (level, (share, waiting)) in (0_u8..).zip(party.shares.iter().zip(party.waiting)) {
                if share.running > 0 || waiting > 0 {
                    kept.since.push(((*tenant, level), share.since));
                }
            }
            let gates = party.gates.iter().map(|(gate, stock)| ((*tenant, gate.clone()), stock.keep()));
            kept.gates.extend(gates);
            let breakers =
                party.breakers.iter().map(|(target, known)| ((*tenant, target.clone()), known.clone()));
            kept.breakers.extend(breakers);
            kept.paused.extend(party.paused.iter().map(|queue| (*tenant, queue.clone())));
            let passed =
                party.passed.iter().map(|(queue, passed)| ((*tenant, queue.clone()), passed.clone()));
            kept.passed.extend(passed);
        }
        kept
    }

    /// Makes the queue again from what a snapshot holds.
    pub(in crate::replica) fn restore<'a>(
        kept: Kept,
        workers: &Workers,
        executions: impl Iterator<Item = &'a Execution>,
    ) -> Self {
        let ends = kept.attended.iter().map(|((tenant, queue), until)| (*until, *tenant, queue.clone()));
        let attendance_ends = ends.collect();
        let attended = kept.attended.into_iter().collect();
        let mut queue = Self { attended, attendance_ends, ..Self::default() };
        queue.staff(workers);
        for ((tenant, gate), stored) in &kept.gates {
            let party = queue.parties.entry(*tenant).or_default();
            party.gates.insert(gate.clone(), Stock::restore(stored));
        }
        for ((tenant, target), breaker) in kept.breakers {
            queue.parties.entry(tenant).or_default().breakers.insert(target, breaker);
        }
        for (tenant, paused) in kept.paused {
            queue.parties.entry(tenant).or_default().paused.insert(paused);
        }
        for execution in executions {
            match execution.stage {
                crate::execution::state::Stage::Queued => queue.push(execution),
                crate::execution::state::Stage::Running(_) => queue.hold(execution),
                _ => {}
            }
        }
        queue.rounds = kept.rounds;
        for ((tenant, level), since) in kept.since {
            if let Some(party) = queue.parties.get_mut(&tenant) {
                party.shares[usize::from(level)].since = since;
            }
        }
        for ((tenant, name), passed) in kept.passed {
            queue.parties.entry(tenant).or_default().passed.insert(name, passed);
        }
        let tenants: Vec<TenantId> = queue.parties.keys().copied().collect();
        for tenant in tenants {
            queue.change(tenant, Party::touch_all);
        }
        queue
    }
}

/// Has something in a set, or not.
fn keep<T: Clone + Ord>(set: &mut BTreeSet<T>, item: &T, kept: bool) {
    if !kept {
        set.remove(item);
    } else if !set.contains(item) {
        set.insert(item.clone());
    }
}
