//! What breaks: nodes crash, freeze and are cut off, clocks jump, workers are drained, leaders are moved.
//!
//! Mostly a minority is broken at a time; now and then more. Every span in which something was broken is noted, so that
//! lateness is judged only where there was no reason for it.

use escapement_domain::identifier::Incarnation;

use super::worker::Worker;
use super::{Happening, World};
use crate::profile::{Profile, RECOVERY_MS};

impl World {
    /// Something breaks.
    pub(super) fn fault(&mut self) {
        if self.healed.is_some() {
            return;
        }
        let gap = self.settings.fault_gap_ms;
        let after = self.chance.between(gap / 3, gap * 5 / 3);
        self.later(after, Happening::Fault);
        let broken = self.nodes.iter().filter(|node| !node.is_connected(self.now)).count();
        let spare = (broken + 1) * 2 < self.nodes.len() || self.chance.per_mille(120);
        let place = match self.leader {
            Some(leader) if self.chance.per_mille(400) => leader,
            _ => self.chance.index(self.nodes.len()),
        };
        let spare = spare && self.sane_without(place);
        if self.chance.per_mille(self.settings.clock_share) {
            self.jump(place);
        } else if !self.nodes[place].is_connected(self.now) || !spare {
            self.disturb(1_000);
            self.nodes[place].pace = self.chance.pick(&[20, 100, 500]);
        } else {
            match self.chance.below(9) {
                0..=2 => self.crash(place),
                3 | 4 => self.freeze(place),
                5 | 6 => self.cut(place),
                7 => self.drain(place),
                _ => self.move_leader(),
            }
        }
    }

    /// Whether most clocks that are left are right when a node goes: what a majority of wrong clocks does is not judged.
    fn sane_without(&self, place: usize) -> bool {
        let rest = || {
            (0..self.nodes.len()).filter(|other| *other != place && self.nodes[*other].is_connected(self.now))
        };
        let wrong = rest().filter(|other| self.is_wrong(*other)).count();
        wrong * 2 < rest().count() || wrong == 0
    }

    fn is_wrong(&self, place: usize) -> bool {
        let true_now = self.epoch + self.now.cast_signed();
        (self.nodes[place].clock.wall(self.now).0 - true_now).abs() > 250
    }

    fn disturb(&mut self, span: u64) {
        self.disturbances.push((self.now, self.now + span + RECOVERY_MS));
    }

    fn crash(&mut self, place: usize) {
        let back = self.chance.pick(&[200, 1_500, 6_000, 16_000]);
        self.disturb(back);
        self.counts.crashes += 1;
        let now = self.now;
        let node = &mut self.nodes[place];
        node.up = false;
        node.leader = None;
        node.pending.clear();
        node.worker.die(now, &mut self.attempts);
        self.note(6, place as u64, || format!("node {place} crashes for {back} ms"));
        self.later(back, Happening::Restart(place));
    }

    /// A node comes back from its last snapshot.
    pub(super) fn restart(&mut self, place: usize) {
        if self.nodes[place].up {
            return;
        }
        self.counts.restores += 1;
        let incarnation = Incarnation(self.chance.bits());
        let node = &mut self.nodes[place];
        let restored = node.restore(&self.ledger, self.planted);
        node.up = true;
        node.cut = false;
        node.frozen_until = 0;
        node.worker = Worker::new(node.id, incarnation);
        self.note(7, place as u64, || format!("node {place} restarts"));
        if let Err(difference) = restored {
            self.violate("agreement", format!("node {place} after its restart: {difference}"));
        }
    }

    fn freeze(&mut self, place: usize) {
        let span = self.chance.pick(&[300, 2_000, 7_000, 12_000]);
        self.disturb(span);
        self.counts.freezes += 1;
        self.nodes[place].frozen_until = self.now + span;
        self.note(8, place as u64, || format!("node {place} freezes for {span} ms"));
        self.later(span, Happening::Thaw(place));
    }

    fn cut(&mut self, place: usize) {
        let span = self.chance.pick(&[500, 3_000, 9_000, 20_000]);
        self.disturb(span);
        self.counts.cuts += 1;
        self.nodes[place].cut = true;
        self.note(9, place as u64, || format!("node {place} is cut off for {span} ms"));
        self.later(span, Happening::Rejoin(place));
    }

    /// A node reaches the others again.
    pub(super) fn rejoin(&mut self, place: usize) {
        self.nodes[place].cut = false;
        self.note(10, place as u64, || format!("node {place} is connected"));
    }

    /// A clock jumps: of a node, as long as most are right, or of a client.
    fn jump(&mut self, place: usize) {
        let wild = self.settings.profile == Profile::Clock;
        let reach = self.chance.pick(if wild {
            &[900, 1_500, 20_000, 3_600_000]
        } else {
            &[300, 900, 5_000, 60_000]
        });
        let by = self.chance.around(reach);
        if self.chance.per_mille(300) {
            let client = self.chance.index(self.clients.len());
            self.clients[client].clock.jump(by);
            self.note(15, client as u64, || format!("the clock of client {client} jumps by {by} ms"));
            return;
        }
        let wrong = (0..self.nodes.len())
            .filter(|other| self.is_wrong(*other) || !self.nodes[*other].is_connected(self.now))
            .count();
        // Who cannot be told from a majority of wrong clocks cannot be helped; that is not judged here.
        if (wrong + 1) * 2 >= self.nodes.len() {
            return;
        }
        self.nodes[place].clock.jump(by);
        let span = self.chance.between(2_000, 20_000);
        self.disturb(span);
        self.counts.jumps += 1;
        self.note(16, place as u64, || format!("the clock of node {place} jumps by {by} ms for {span} ms"));
        self.later(span, Happening::SetClock(place));
    }

    /// A clock is set right.
    pub(super) fn set_clock(&mut self, place: usize) {
        self.disturb(0);
        self.nodes[place].clock.set_right(&mut self.chance);
        self.note(17, place as u64, || format!("the clock of node {place} is set right"));
    }

    fn drain(&mut self, place: usize) {
        self.counts.drains += 1;
        self.nodes[place].worker.draining = true;
        self.note(18, place as u64, || format!("node {place} is drained"));
    }

    fn move_leader(&mut self) {
        if let Some(leader) = self.leader {
            self.step_down(leader);
        }
    }
}
