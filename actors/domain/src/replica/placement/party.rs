//! One tenant's part of the queue: what it has waiting, its gates, breakers and paused queues, and how it stands.
//!
//! Invariant: what may go is known at any time and follows from the state alone. Whatever changes it is settled at once by
//! looking at the tenant's tracks with demands, of which there are few, never at what waits in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::breakers::{Breaker, BreakerState};
use super::gates::{Gate, Stock};
use super::shares::{LEVELS, Passed, Share};
use super::tracks::{Door, Side, Track, TrackKey};
use crate::execution::state::Execution;
use crate::identifier::{ExecutionId, TaskId};
use crate::limits::PRIORITY_MAX;
use crate::task::rules::Requirement;

/// A lane of a tenant: a level, and what a worker must offer.
pub(super) type LaneKey = (u8, Requirement);

/// What one tenant has waiting and running.
#[derive(Clone, Debug, Default)]
pub(super) struct Party {
    pub(super) gates: BTreeMap<Gate, Stock>,
    pub(super) breakers: BTreeMap<Arc<str>, Breaker>,
    pub(super) paused: BTreeSet<Arc<str>>,
    /// What was passed over in queues of workers outside the cluster; of no queue in which nothing waits.
    pub(super) passed: BTreeMap<Arc<str>, Passed>,
    pub(super) shares: [Share; LEVELS],
    pub(super) waiting: [usize; LEVELS],
    pub(super) tracks: BTreeMap<TrackKey, Track>,
    /// What runs of each task.
    running: BTreeMap<TaskId, u32>,
    /// What runs of each queue: workers outside the cluster are known by what they have.
    leased: BTreeMap<Arc<str>, u32>,
    /// What waits behind doors.
    behind: BTreeMap<Door, BTreeSet<(TrackKey, Side)>>,
    /// Where it sits among other tenants: the lanes of which something may go, and under which share.
    pub(super) seats: BTreeMap<LaneKey, Share>,
    /// How many tracks have demands.
    demanding: usize,
    /// Lanes of which something may go since, or no more.
    pub(super) changed: BTreeSet<LaneKey>,
    unsettled: bool,
}

/// How far below the highest priority an execution is.
pub(super) fn level_of(execution: &Execution) -> u8 {
    PRIORITY_MAX.saturating_sub(execution.priority)
}

impl Party {
    /// Whether nothing is known of the tenant.
    pub(super) fn is_idle(&self) -> bool {
        self.tracks.is_empty()
            && self.gates.is_empty()
            && self.breakers.is_empty()
            && self.paused.is_empty()
            && self.running.is_empty()
    }

    /// The gates that an execution must pass, in order, as far as there are any.
    pub(super) fn demands(&self, execution: &Execution) -> Vec<(Gate, u32)> {
        if self.gates.is_empty() {
            return Vec::new();
        }
        let mut demands = Vec::new();
        if let Some(claims) = &execution.rules.claims {
            let pools = claims.resources.iter().map(|(name, share)| (Gate::Pool(name.clone()), *share));
            let labels = claims.labels.iter().map(|label| (Gate::Label(label.clone()), 1));
            demands.extend(pools.chain(labels));
        }
        if let Requirement::Queue(queue) = &execution.rules.requirement {
            demands.push((Gate::Queue(queue.clone()), 1));
        }
        demands.retain(|(gate, _)| self.gates.contains_key(gate));
        demands
    }

    pub(super) fn place_of(&self, execution: &Execution) -> (TrackKey, Side) {
        let requirement = execution.rules.requirement.clone();
        let key = TrackKey { level: level_of(execution), requirement, demands: self.demands(execution) };
        let side = execution.rules.claims.as_ref().map_or_else(Side::default, |claims| Side {
            task: claims.max_concurrent.map(|most| (execution.task, most)),
            target: claims.guard.as_ref().map(|guard| guard.target.clone()),
        });
        (key, side)
    }

    /// Puts an execution into its place; says whether it is the only one of the tenant at its level.
    pub(super) fn push(&mut self, execution: &Execution) -> bool {
        let (key, side) = self.place_of(execution);
        let level = usize::from(key.level);
        self.waiting[level] += 1;
        if !self.tracks.get(&key).is_some_and(|track| track.knows(&side)) {
            self.add(&key, &side);
        }
        if let Some(track) = self.tracks.get_mut(&key) {
            let went = track.may_go();
            let another = track.push(&side, execution.turn, execution.id);
            // Another first of what may go, as before, concerns nobody unless it stands in a line.
            if another && (!went || !key.demands.is_empty()) {
                self.touch(key);
            }
        }
        self.waiting[level] == 1 && self.shares[level].running == 0
    }

    fn add(&mut self, key: &TrackKey, side: &Side) {
        let admitted = self.admits(side);
        for door in side.doors() {
            self.behind.entry(door).or_default().insert((key.clone(), side.clone()));
        }
        if !self.tracks.contains_key(key) && !key.demands.is_empty() {
            self.demanding += 1;
        }
        self.tracks.entry(key.clone()).or_default().add(side.clone(), admitted);
    }

    /// Takes an execution out; says whether it waited.
    pub(super) fn remove(&mut self, execution: &Execution) -> bool {
        let (key, side) = self.place_of(execution);
        let Some(track) = self.tracks.get_mut(&key) else { return false };
        let before = track.head();
        let Some(side_ended) = track.remove(&side, execution.turn) else { return false };
        let (another, track_ended) = (track.head() != before, track.length == 0);
        let another = another && (!track.may_go() || !key.demands.is_empty());
        self.waiting[usize::from(key.level)] -= 1;
        if track_ended {
            self.tracks.remove(&key);
            self.demanding -= usize::from(!key.demands.is_empty());
        }
        if side_ended {
            for door in side.doors() {
                if let Some(behind) = self.behind.get_mut(&door) {
                    behind.remove(&(key.clone(), side.clone()));
                    if behind.is_empty() {
                        self.behind.remove(&door);
                    }
                }
            }
        }
        if track_ended {
            self.forget_if_empty(&key.requirement);
        }
        if another {
            self.touch(key);
        }
        true
    }

    /// Notes that an execution runs.
    pub(super) fn hold(&mut self, execution: &Execution) {
        if takes_a_slot(execution) {
            self.shares[usize::from(level_of(execution))].running += 1;
        }
        self.change_running(execution, 1);
        self.take(execution);
    }

    fn take(&mut self, execution: &Execution) {
        for (gate, amount) in self.held_by(execution) {
            if let Some(stock) = self.gates.get_mut(&gate) {
                stock.take(execution.id, amount);
                self.unsettled = true;
            }
        }
    }

    /// Notes that an execution runs no more, and gives back what it had.
    pub(super) fn release(&mut self, execution: &Execution) {
        if takes_a_slot(execution) {
            let share = &mut self.shares[usize::from(level_of(execution))];
            share.running = share.running.saturating_sub(1);
        }
        self.change_running(execution, -1);
        for (gate, _) in self.held_by(execution) {
            if let Some(stock) = self.gates.get_mut(&gate) {
                stock.give_back(execution.id);
                self.unsettled = true;
            }
        }
        let Some(target) = target_of(execution) else { return };
        if let Some(breaker) = self.breakers.get_mut(&target)
            && breaker.state == (BreakerState::HalfOpen { probe: Some(execution.id) })
        {
            breaker.state = BreakerState::HalfOpen { probe: None };
            self.knock(&Door::Target(target));
        }
    }

    /// Everything that an execution takes up while it runs.
    fn held_by(&self, execution: &Execution) -> Vec<(Gate, u32)> {
        let mut held = self.demands(execution);
        if self.gates.contains_key(&Gate::Tenant) {
            held.push((Gate::Tenant, 1));
        }
        held
    }

    fn change_running(&mut self, execution: &Execution, by: i32) {
        count(&mut self.running, &execution.task, by);
        self.knock(&Door::Task(execution.task));
        if let Requirement::Queue(queue) = &execution.rules.requirement {
            let before = self.leased.contains_key(queue);
            count(&mut self.leased, queue, by);
            self.unsettled |= self.leased.contains_key(queue) != before;
        }
    }

    /// Notes what a grant means for those that wait at the same gates, and for a target that is tried.
    pub(super) fn granted(&mut self, execution: &Execution) {
        for (gate, _) in self.demands(execution) {
            let stands = |(key, track): &(&TrackKey, &Track)| {
                track.in_line && key.demands.iter().any(|(other, _)| *other == gate)
            };
            let eldest = self.tracks.iter().filter(stands).filter_map(|(_, track)| track.head()).min();
            if let Some(stock) = self.gates.get_mut(&gate) {
                let passed_by = eldest.is_some_and(|eldest| eldest < execution.turn);
                stock.passed = if passed_by { (stock.passed + 1).min(super::PASSED_MAX) } else { 0 };
            }
        }
        let Some(target) = target_of(execution) else { return };
        if let Some(breaker) = self.breakers.get_mut(&target)
            && breaker.state == (BreakerState::HalfOpen { probe: None })
        {
            breaker.state = BreakerState::HalfOpen { probe: Some(execution.id) };
            self.knock(&Door::Target(target));
        }
    }

    fn admits(&self, side: &Side) -> bool {
        side.task.is_none_or(|(task, most)| self.running.get(&task).copied().unwrap_or(0) < most)
            && side.target.as_ref().is_none_or(|target| self.target_admits(target))
    }

    pub(super) fn target_admits(&self, target: &Arc<str>) -> bool {
        self.breakers.get(target).is_none_or(Breaker::admits)
    }

    pub(super) fn task_admits(&self, task: TaskId, most: u32) -> bool {
        self.running.get(&task).copied().unwrap_or(0) < most
    }

    /// Looks again at what waits behind a door.
    pub(super) fn knock(&mut self, door: &Door) {
        let Some(behind) = self.behind.get(door) else { return };
        for (key, side) in behind.clone() {
            let admitted = self.admits(&side);
            if self.tracks.get_mut(&key).is_some_and(|track| track.admit(&side, admitted)) {
                self.touch(key);
            }
        }
    }

    /// Notes that a track has another first.
    fn touch(&mut self, key: TrackKey) {
        self.unsettled |= !key.demands.is_empty();
        self.changed.insert((key.level, key.requirement));
    }

    /// Has the lines of all gates made anew.
    pub(super) fn unsettle(&mut self) {
        self.unsettled = true;
    }

    /// Looks at every lane again.
    pub(super) fn touch_all(&mut self) {
        self.unsettled = true;
        let lanes = self.tracks.keys().map(|key| (key.level, key.requirement.clone()));
        self.changed.extend(lanes);
        self.changed.extend(self.seats.keys().cloned());
    }

    /// Its seats at a level, with the share under which it sits there.
    pub(super) fn seats_at(&mut self, level: u8) -> impl Iterator<Item = (&Requirement, &mut Share)> {
        let seats = self.seats.range_mut((level, Requirement::Builtin)..);
        seats.take_while(move |((other, _), _)| *other == level).map(|((_, lane), share)| (lane, share))
    }

    /// Says which tracks may pass their gates. `staffed` says whether a node could carry such an attempt out, or a worker outside
    /// was heard to wait for it: what nobody could is not in line, unless a worker outside has something of its queue.
    pub(super) fn settle(&mut self, staffed: impl Fn(&Requirement) -> bool) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        if self.gates.contains_key(&Gate::Tenant) {
            self.touch_all();
            self.unsettled = false;
        }
        if self.demanding == 0 {
            return;
        }
        self.line_up(staffed);
        let mut firsts: BTreeMap<&Gate, (u8, u64, u32)> = BTreeMap::new();
        for (key, track) in self.tracks.iter().filter(|(_, track)| track.in_line) {
            let Some(turn) = track.head() else { continue };
            // One place in all of its lines: who is first at one gate and behind another at the next would keep both idle.
            let by_age = |(gate, _): &(Gate, u32)| self.gates.get(gate).is_some_and(Stock::eldest_first);
            let by_age = key.demands.iter().any(by_age);
            for (gate, amount) in &key.demands {
                let place = (if by_age { 0 } else { key.level }, turn, *amount);
                firsts.entry(gate).and_modify(|first| *first = place.min(*first)).or_insert(place);
            }
        }
        let blocked: Vec<Option<Gate>> = self
            .tracks
            .iter()
            .map(|(key, track)| {
                let closed = |(gate, amount): &&(Gate, u32)| {
                    let first = firsts.get(gate).filter(|(_, turn, _)| Some(*turn) != track.head());
                    let kept = first.map_or(0, |(_, _, amount)| u64::from(*amount));
                    !self.gates.get(gate).is_some_and(|stock| stock.has(u64::from(*amount) + kept))
                };
                key.demands.iter().find(closed).map(|(gate, _)| gate.clone())
            })
            .collect();
        for ((key, track), blocked) in self.tracks.iter_mut().zip(blocked) {
            if track.blocked != blocked {
                track.blocked = blocked;
                self.changed.insert((key.level, key.requirement.clone()));
            }
        }
    }

    /// Says which tracks with demands have a place in the lines of their gates.
    fn line_up(&mut self, staffed: impl Fn(&Requirement) -> bool) {
        let (leased, paused, gates) = (&self.leased, &self.paused, &self.gates);
        for (key, track) in self.tracks.iter_mut().filter(|(key, _)| !key.demands.is_empty()) {
            let someone = match &key.requirement {
                Requirement::Queue(queue) if paused.contains(queue) => false,
                Requirement::Queue(queue) if leased.contains_key(queue) => true,
                requirement => staffed(requirement),
            };
            let possible =
                |(gate, amount): &(Gate, u32)| gates.get(gate).is_none_or(|stock| *amount <= stock.capacity);
            track.in_line = someone && key.demands.iter().all(possible);
        }
    }

    pub(super) fn is_paused(&self, requirement: &Requirement) -> bool {
        matches!(requirement, Requirement::Queue(queue) if self.paused.contains(queue))
    }

    /// Whether more is asked of a gate than there is.
    pub(super) fn is_impossible(&self, (gate, amount): &(Gate, u32)) -> bool {
        self.gates.get(gate).is_some_and(|stock| *amount > stock.capacity)
    }

    /// Whether the tenant runs as much as it may.
    pub(super) fn is_full(&self) -> bool {
        self.gates.get(&Gate::Tenant).is_some_and(|stock| !stock.has(1))
    }

    /// Whether something of a lane may go.
    pub(super) fn may_go(&self, lane: &LaneKey) -> bool {
        !self.is_full() && !self.is_paused(&lane.1) && self.tracks_of(lane).any(|(_, track)| track.may_go())
    }

    /// Whether something of a lane waits that nothing but gates holds up, which will let it pass some day.
    pub(super) fn is_held_up(&self, lane: &LaneKey) -> bool {
        let held_up = |(key, track): (&TrackKey, &Track)| {
            let impossible = key.demands.iter().any(|demand| self.is_impossible(demand));
            track.blocked.is_some() && track.head().is_some() && !impossible
        };
        !self.is_paused(&lane.1) && self.tracks_of(lane).any(held_up)
    }

    /// What of a lane goes first, with its turn.
    pub(super) fn first_of(&self, lane: &LaneKey) -> Option<(u64, ExecutionId)> {
        let going = self.tracks_of(lane).filter(|(_, track)| track.may_go());
        let (_, first) = going.min_by_key(|(_, track)| track.head())?;
        Some((first.head()?, first.first()?))
    }

    /// How many executions of a lane wait in tracks of which something may go.
    pub(super) fn going_in(&self, lane: &LaneKey) -> usize {
        if !self.may_go(lane) {
            return 0;
        }
        self.tracks_of(lane).filter(|(_, track)| track.may_go()).map(|(_, track)| track.length).sum()
    }

    /// How many executions of a lane wait, whether they may go or not.
    pub(super) fn waiting_in(&self, lane: &LaneKey) -> usize {
        self.tracks_of(lane).map(|(_, track)| track.length).sum()
    }

    fn tracks_of<'a>(&'a self, lane: &'a LaneKey) -> impl Iterator<Item = (&'a TrackKey, &'a Track)> {
        let from = TrackKey { level: lane.0, requirement: lane.1.clone(), demands: Vec::new() };
        self.tracks.range(from..).take_while(|(key, _)| key.level == lane.0 && key.requirement == lane.1)
    }

    /// The share under which it sits at a level.
    pub(super) fn share(&self, level: u8) -> Share {
        self.shares[usize::from(level)]
    }
}

/// Counts what there is of something, and forgets what there is none of.
fn count<K: Clone + Ord>(counts: &mut BTreeMap<K, u32>, of: &K, by: i32) {
    let now = counts.get(of).copied().unwrap_or(0).saturating_add_signed(by);
    if now == 0 {
        counts.remove(of);
    } else {
        counts.insert(of.clone(), now);
    }
}

/// Whether an execution takes a slot of a node while it runs: what workers outside the cluster have costs the others nothing.
pub(super) fn takes_a_slot(execution: &Execution) -> bool {
    !matches!(execution.rules.requirement, Requirement::Queue(_))
}

/// The target of an execution, if a breaker stands before it.
pub(super) fn target_of(execution: &Execution) -> Option<Arc<str>> {
    let guard = execution.rules.claims.as_ref()?.guard.as_ref()?;
    Some(guard.target.clone())
}
