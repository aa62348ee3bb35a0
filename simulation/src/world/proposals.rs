//! From a proposal to the log, and from workers to whoever leads.
//!
//! Consensus is assumed: what is committed is committed in one order. Which proposals are, and when, is not: those of a
//! deposed leader, and now and then any other, come late, twice, out of order or never, as it happens when outcomes are
//! unknown and proposals are repeated. A loss of a worker is the exception: it rests on leases of its own term and is
//! never repeated by or for another one, so it is committed in its term or not at all.

use escapement_domain::command::{AttemptResult, Command, Offers, Origin, Programs, Report, Request};
use escapement_domain::identifier::NodeId;
use escapement_domain::replica::placement::Condition;

use super::leader::WorkerKey;
use super::worker::Message;
use super::{Happening, World};
use crate::definitions::RARE_PROGRAM;
use crate::plants::Plant;

/// A proposal that finds no majority is given up after so many looks.
const LOOKS_MAX: u32 = 60;

/// A command on its way to the log.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    bytes: Vec<u8>,
    from: usize,
    term: u64,
    bound: bool,
    looks: u32,
}

impl World {
    pub(super) fn propose_as_scheduler(&mut self, place: usize, request: Request, bound: bool) {
        if !self.may_stamp(place) {
            return;
        }
        let node = &self.nodes[place];
        let at = node.clock.wall(self.now).max(node.replica.logged());
        self.propose(place, &Command { at, origin: Origin::Scheduler, request }, bound);
    }

    /// A node that believes it leads proposes.
    pub(super) fn propose(&mut self, place: usize, command: &Command, bound: bool) {
        let Some(term) = self.nodes[place].leader.as_ref().map(|leader| leader.term) else { return };
        let proposal = Proposal { bytes: command.encode(), from: place, term, bound, looks: 0 };
        let stale = term != self.term;
        let settings = self.settings;
        let broken = self.healed.is_none();
        if broken && self.chance.per_mille(if stale { 500 } else { settings.drop_share }) {
            self.counts.dropped += 1;
            self.disturbances.push((self.now, self.now + 2_000));
            return;
        }
        let late = broken && self.chance.per_mille(if stale { 700 } else { settings.late_share });
        let delay = if late { self.chance.between(100, 5_000) } else { self.chance.between(2, 15) };
        if late {
            self.disturbances.push((self.now, self.now + 2_000));
        }
        if broken && self.chance.per_mille(settings.duplicate_share) {
            let again = delay + self.chance.pick(&[1, 300, 3_000, 30_000]);
            self.counts.duplicates += 1;
            self.later(again, Happening::Commit(proposal.clone()));
        }
        self.later(delay, Happening::Commit(proposal));
    }

    /// A proposal reaches a majority, or does not.
    pub(super) fn commit(&mut self, mut proposal: Proposal) {
        let stale = proposal.term != self.term;
        if proposal.bound && stale {
            self.counts.dropped += 1;
            return;
        }
        let node = &self.nodes[proposal.from];
        let waits = !self.quorum() || (!stale && !node.is_connected(self.now));
        if waits {
            proposal.looks += 1;
            if proposal.looks < LOOKS_MAX {
                self.later(150, Happening::Commit(proposal));
            }
            return;
        }
        self.counts.stale += u64::from(stale);
        let mark = self.ledger.commit(proposal.bytes, self.now);
        let ledger = &self.ledger;
        self.trace.note(self.now, &[4, mark], || {
            let index = ledger.end();
            let command = ledger.entry(index).and_then(|bytes| Command::decode(bytes).ok());
            format!("entry {index} from node {} in term {}: {command:?}", proposal.from, proposal.term)
        });
    }

    /// A worker's message goes to a node that it takes for the leader.
    pub(super) fn send(&mut self, from: usize, message: Message) {
        let broken = self.healed.is_none();
        if broken && self.chance.per_mille(self.settings.loss_share) {
            self.counts.lost += 1;
            return;
        }
        // Whoever believes that they lead ask themselves.
        let own = self.nodes[from].leader.is_some().then_some(from);
        let Some(to) = own.or_else(|| self.believed_leader()) else { return };
        let slow = broken && self.chance.per_mille(self.settings.late_share);
        let delay = if slow { self.chance.between(200, 4_000) } else { self.chance.between(1, 20) };
        if from == to || !(self.nodes[from].cut || self.nodes[to].cut) {
            self.later(delay, Happening::Hear(to, message));
        }
    }

    /// A node that somebody takes for the leader: mostly the leader, now and then one that was.
    pub(super) fn believed_leader(&mut self) -> Option<usize> {
        let believers: Vec<usize> =
            (0..self.nodes.len()).filter(|place| self.nodes[*place].leader.is_some()).collect();
        if !believers.is_empty() && self.chance.per_mille(150) {
            return Some(self.chance.pick(&believers));
        }
        self.leader
    }

    /// A node hears a worker.
    pub(super) fn hear(&mut self, place: usize, message: Message) {
        let node = &self.nodes[place];
        if !node.up || node.leader.as_ref().is_none_or(|leader| !leader.ready) {
            return;
        }
        if node.frozen_until > self.now {
            // It lies in the mailbox until the node goes on.
            let after = node.frozen_until - self.now + self.chance.between(0, 30);
            self.later(after, Happening::Hear(place, message));
            return;
        }
        match message {
            Message::Renew { key, draining, monotonic, sent } => {
                self.hear_renewal(place, key, draining, monotonic, sent);
            }
            Message::Report(report) => {
                let report = if self.has(Plant::FencingIgnored) { self.forge(place, report) } else { report };
                self.propose_as_scheduler(place, Request::Report(report), false);
            }
        }
    }

    fn hear_renewal(&mut self, place: usize, key: WorkerKey, draining: bool, monotonic: u64, sent: u64) {
        let now = self.now;
        let node = &mut self.nodes[place];
        let Some(known) = node.replica.workers().get(&key).map(|worker| worker.condition) else {
            let (node, incarnation) = key;
            let programs =
                if node.0 == 2 { Programs::Any } else { Programs::Listed(vec!["/bin/true".into()]) };
            let programs = if node.0 == 1 { Programs::Listed(vec![RARE_PROGRAM.into()]) } else { programs };
            let offers = Offers { http: true, builtin: true, programs };
            let slots = u32::try_from(1 + node.0 * 2).unwrap_or(1);
            let join = Request::JoinWorker { node, incarnation, slots, offers };
            self.propose_as_scheduler(place, join, false);
            return;
        };
        // Only who still leads may renew: another leader may have granted the rest of this lease to time.
        let confirmed =
            node.is_connected(now) && node.leader.as_ref().is_some_and(|leader| leader.term == self.term);
        if !confirmed && !self.planted.has(Plant::DeposedDispatches) {
            return;
        }
        let own = node.clock.monotonic(now);
        let renewed = node.leader.as_mut().is_some_and(|leader| leader.renew(key, &node.replica, own));
        if renewed && draining && known == Condition::Ready {
            let drain = Request::DrainWorker { node: key.0, incarnation: key.1 };
            self.propose_as_scheduler(place, drain, false);
        }
        let lost = self.healed.is_none() && self.chance.per_mille(self.settings.loss_share);
        if renewed && !lost {
            let back = self.chance.between(1, 20);
            let to = self.place_of(key.0);
            if to == place || !(self.nodes[to].cut || self.nodes[place].cut) {
                self.later(back, Happening::Renewed(to, key, monotonic, sent));
            }
        }
    }

    pub(super) fn renewed(&mut self, place: usize, key: WorkerKey, monotonic: u64, sent: u64) {
        let node = &mut self.nodes[place];
        if node.up && node.worker.key == key {
            node.worker.renewed(monotonic, sent, &mut self.attempts);
            self.trace
                .note(self.now, &[5, place as u64, sent], || format!("the lease of node {place} is renewed"));
        }
    }

    pub(super) fn place_of(&self, node: NodeId) -> usize {
        usize::try_from(node.0).unwrap_or(1).saturating_sub(1)
    }

    /// Puts results under the tokens that are valid now: a planted bug.
    fn forge(&self, place: usize, mut report: Report) -> Report {
        let forged = |result: AttemptResult| {
            let open = self.nodes[place].replica.execution(result.execution);
            let token = open.and_then(|open| open.grant()).map_or(result.token, |grant| grant.token);
            AttemptResult { token, ..result }
        };
        report.results = report.results.into_iter().map(forged).collect();
        report
    }
}
