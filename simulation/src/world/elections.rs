//! Who leads, and who still believes that they do.
//!
//! A majority that is connected elects one of its own when there is no leader that it reaches. The one before hears of it
//! late, and until then goes on as if nothing had happened.

use escapement_domain::timestamp::Timestamp;

use super::leader::Leader;
use super::{Happening, World};
use crate::plants::Plant;
use crate::profile::{CLOCK_TOLERANCE_MS, RECOVERY_MS};

impl World {
    /// Whether the leader of the present term is there.
    fn has_leader(&self) -> bool {
        self.leader.is_some_and(|place| {
            let node = &self.nodes[place];
            let leads = node.leader.as_ref().is_some_and(|leader| leader.term == self.term);
            leads && node.is_connected(self.now)
        })
    }

    /// Looks whether an election is due, and holds it.
    pub(super) fn elect(&mut self) {
        let after = self.chance.between(150, 400);
        self.later(after, Happening::Elect);
        if self.has_leader() || !self.quorum() || self.chance.per_mille(400) {
            return;
        }
        let able: Vec<usize> = (0..self.nodes.len())
            .filter(|place| self.nodes[*place].is_connected(self.now))
            .filter(|place| {
                let wall = self.nodes[*place].clock.wall(self.now);
                (wall.0 - self.median().0).abs() <= CLOCK_TOLERANCE_MS || self.has(Plant::WildClock)
            })
            .collect();
        if able.is_empty() {
            return;
        }
        let chosen = self.chance.pick(&able);
        self.term += 1;
        self.counts.elections += 1;
        if let Some(before) = self.leader.filter(|before| *before != chosen) {
            let (after, term) = (self.chance.between(0, 3_000), self.term);
            self.later(after, Happening::Depose(before, term));
        }
        let (now, barrier) = (self.now, self.ledger.end());
        let node = &mut self.nodes[chosen];
        node.leader = Some(Leader::new(self.term, barrier, node.clock.wall(now), node.clock.monotonic(now)));
        self.leader = Some(chosen);
        self.disturbances.push((self.now, self.now + 2_500));
        let term = self.term;
        self.note(1, chosen as u64, || format!("node {chosen} leads term {term}"));
    }

    /// A node hears that a later term began than its own.
    pub(super) fn depose(&mut self, place: usize, term: u64) {
        let node = &mut self.nodes[place];
        let older = node.leader.as_ref().is_some_and(|leader| leader.term < term);
        if older && (node.cut || !node.is_awake(self.now)) {
            self.later(300, Happening::Depose(place, term));
        } else if older {
            node.leader = None;
            self.note(2, place as u64, || format!("node {place} hears that term {term} began"));
        }
    }

    /// The leader lets another one lead.
    pub(super) fn step_down(&mut self, place: usize) {
        let term = self.nodes[place].leader.as_ref().map(|leader| leader.term);
        self.nodes[place].leader = None;
        if term == Some(self.term) {
            self.leader = None;
        }
        self.disturbances.push((self.now, self.now + RECOVERY_MS));
        self.note(3, place as u64, || format!("node {place} steps down"));
    }

    /// The median of the clocks that a connected node hears.
    pub(super) fn median(&self) -> Timestamp {
        let connected = self.nodes.iter().filter(|node| node.is_connected(self.now));
        let mut walls: Vec<Timestamp> = connected.map(|node| node.clock.wall(self.now)).collect();
        walls.sort_unstable();
        walls.get(walls.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }

    /// Whether a leader may stamp. One whose clock is off steps down instead.
    pub(super) fn may_stamp(&mut self, place: usize) -> bool {
        let (now, median) = (self.now, self.median());
        let node = &self.nodes[place];
        let (wall, monotonic) = (node.clock.wall(now), node.clock.monotonic(now));
        let Some(leader) = &node.leader else { return false };
        // Who is cut off hears no peers, and holds its clock against itself only.
        let peers = if node.cut { wall } else { median };
        if !leader.clock_is_off(wall, monotonic, peers) || self.has(Plant::WildClock) {
            return true;
        }
        self.counts.wild_leaders += 1;
        self.step_down(place);
        false
    }

    /// What a node does if it believes that it leads.
    pub(super) fn lead(&mut self, place: usize) {
        if !self.may_stamp(place) {
            return;
        }
        let (now, planted) = (self.now, self.planted);
        let node = &mut self.nodes[place];
        let (wall, monotonic) = (node.clock.wall(now), node.clock.monotonic(now));
        let Some(leader) = &mut node.leader else { return };
        if !leader.ready {
            if node.applied < leader.barrier || node.cut || leader.term != self.term {
                return;
            }
            leader.begin(&node.replica, wall, monotonic);
        }
        let wanted = leader.tick(&node.replica, wall, monotonic, planted);
        for wanted in wanted {
            self.propose_as_scheduler(place, wanted.request, wanted.bound);
        }
    }
}
