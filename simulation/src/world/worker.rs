//! One start of one node's dispatcher: it starts what its replica says was granted to it, and reports how it ended.
//!
//! It starts only under a fresh lease, and kills what it has before the lease ends by its own monotonic clock. Reports go
//! out one at a time and are repeated until the replica says that they were heard.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::command::{AttemptOutcome, AttemptResult, Report};
use escapement_domain::execution::state::Execution;
use escapement_domain::identifier::{ExecutionId, Incarnation, NodeId, TenantId};
use escapement_domain::replica::Replica;
use escapement_domain::replica::placement::Condition;
use escapement_domain::timestamp::Timestamp;

use super::leader::WorkerKey;
use crate::chance::Chance;
use crate::definitions::{FAILS, TAKES, labelled};
use crate::evidence::{Attempt, Ended};
use crate::plants::{Plant, Planted};
use crate::profile::{FRESH_MS, KILL_MS, LEASE_TAKEN_MS};

/// How often a lease is renewed, in ms.
const RENEW_MS: u64 = 1_000;
/// After how long an unheard report goes out again, in ms.
const REPORT_MS: u64 = 800;

/// What a worker says to the leader.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// Renew my lease; sent at this time of its monotonic clock and of the world.
    Renew {
        /// Whose.
        key: WorkerKey,
        /// Whether it takes nothing new.
        draining: bool,
        /// By its monotonic clock.
        monotonic: u64,
        /// In ms of the world.
        sent: u64,
    },
    /// These attempts ended.
    Report(Report),
}

/// What a worker sees when it takes a step.
pub(super) struct Moment<'a> {
    /// Ms of the world, which no clock of the cluster shows.
    pub(super) now: u64,
    /// The node's monotonic clock.
    pub(super) monotonic: u64,
    /// The node's wall clock.
    pub(super) wall: Timestamp,
    /// The node's replica.
    pub(super) replica: &'a Replica,
    /// Whether attempts are short now.
    pub(super) brief: bool,
    /// The planted bug.
    pub(super) planted: Planted,
}

#[derive(Debug)]
struct Running {
    attempt: usize,
    tenant: TenantId,
    ends: u64,
    outcome: AttemptOutcome,
    started_at: Timestamp,
}

/// One start of one node's dispatcher.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its node and start.
    pub(super) key: WorkerKey,
    /// Whether it takes nothing new.
    pub(super) draining: bool,
    joined: bool,
    lease_until: u64,
    leased: u64,
    running: BTreeMap<(ExecutionId, u64), Running>,
    handled: BTreeSet<(ExecutionId, u64)>,
    results: Vec<AttemptResult>,
    outstanding: Option<Report>,
    sequence: u64,
    report_at: u64,
    renew_at: u64,
}

impl Worker {
    /// A fresh start.
    #[must_use]
    pub(super) fn new(node: NodeId, incarnation: Incarnation) -> Self {
        Self {
            key: (node, incarnation),
            draining: false,
            joined: false,
            lease_until: 0,
            leased: 0,
            running: BTreeMap::new(),
            handled: BTreeSet::new(),
            results: Vec::new(),
            outstanding: None,
            sequence: 0,
            report_at: 0,
            renew_at: 0,
        }
    }

    /// Whether it has nothing in hand and nothing to say.
    #[must_use]
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.results.is_empty() && self.outstanding.is_none()
    }

    /// The leader renewed the lease that was asked for at `monotonic`, or `sent` in ms of the world.
    pub(super) fn renewed(&mut self, monotonic: u64, sent: u64, witness: &mut [Attempt]) {
        self.lease_until = self.lease_until.max(monotonic + LEASE_TAKEN_MS);
        self.leased = self.leased.max(sent + LEASE_TAKEN_MS);
        for running in self.running.values() {
            witness[running.attempt].leased = self.leased;
        }
    }

    /// Its process died, and all that it ran.
    pub(super) fn die(&mut self, now: u64, witness: &mut [Attempt]) {
        for running in self.running.values() {
            let attempt = &mut witness[running.attempt];
            (attempt.ended, attempt.how) = (now, Ended::Died);
        }
        self.running.clear();
    }

    /// Whether the cluster gave it up, as far as its replica knows; it must start anew then.
    #[must_use]
    pub(super) fn is_given_up(&self, replica: &Replica) -> bool {
        let known = replica.workers().get(&self.key);
        self.joined && known.is_none_or(|worker| worker.condition == Condition::Lost)
    }

    /// Kills what it runs, and says a last time what it has to say.
    pub(super) fn give_up(&mut self, moment: &Moment<'_>, witness: &mut [Attempt]) -> Option<Message> {
        self.kill_all(moment, witness);
        let results = std::mem::take(&mut self.results);
        self.outstanding.take().map(Message::Report).or_else(|| {
            (!results.is_empty()).then(|| {
                self.sequence += 1;
                let (node, incarnation) = self.key;
                Message::Report(Report { node, incarnation, sequence: self.sequence, results })
            })
        })
    }

    /// Takes a step: kill, finish, stop, start, report, renew.
    pub(super) fn step(
        &mut self,
        moment: &Moment<'_>,
        witness: &mut Vec<Attempt>,
        chance: &mut Chance,
    ) -> Vec<Message> {
        let known = moment.replica.workers().get(&self.key);
        self.joined |= known.is_some();
        let careless = moment.planted.has(Plant::LeaseIgnored);
        if moment.monotonic + KILL_MS >= self.lease_until && !careless {
            self.kill_all(moment, witness);
        }
        self.finish(moment, witness);
        self.stop(moment, witness);
        let fresh = self.lease_until > moment.monotonic + FRESH_MS || (careless && self.joined);
        if let Some(worker) = known.filter(|_| fresh) {
            for id in &worker.held {
                if let Some(open) = moment.replica.execution(*id) {
                    self.start(open, moment, witness, chance);
                }
            }
        }
        let heard = known.map_or(0, |worker| worker.reports);
        let mut messages = Vec::new();
        messages.extend(self.report(heard, moment.monotonic));
        if moment.monotonic >= self.renew_at {
            self.renew_at = moment.monotonic + RENEW_MS;
            messages.push(Message::Renew {
                key: self.key,
                draining: self.draining,
                monotonic: moment.monotonic,
                sent: moment.now,
            });
        }
        messages
    }

    fn start(
        &mut self,
        open: &Execution,
        moment: &Moment<'_>,
        witness: &mut Vec<Attempt>,
        chance: &mut Chance,
    ) {
        let Some(grant) = open.grant().filter(|grant| (grant.node, grant.incarnation) == self.key) else {
            return;
        };
        if !self.handled.insert((open.id, grant.token)) {
            return;
        }
        let (takes, fails) = open
            .definition
            .open_definition()
            .map_or((10, 0), |definition| (labelled(&definition, TAKES), labelled(&definition, FAILS)));
        let takes = if moment.brief { takes.min(150) } else { takes };
        let outcome = if !chance.per_mille(fails) {
            AttemptOutcome::Succeeded(None)
        } else if chance.per_mille(200) {
            AttemptOutcome::TimedOut
        } else {
            AttemptOutcome::Failed { error: "exit code 1".into(), result: None }
        };
        let running = Running {
            attempt: witness.len(),
            tenant: open.tenant,
            ends: moment.now + 1 + chance.below(2 * takes),
            outcome,
            started_at: moment.wall,
        };
        witness.push(Attempt {
            task: open.task,
            execution: open.id,
            scheduled_at: open.scheduled_at,
            token: grant.token,
            node: self.key.0,
            incarnation: self.key.1,
            started: moment.now,
            ended: u64::MAX,
            leased: self.leased,
            how: Ended::Not,
        });
        self.running.insert((open.id, grant.token), running);
    }

    fn finish(&mut self, moment: &Moment<'_>, witness: &mut [Attempt]) {
        let over: Vec<_> = self
            .running
            .iter()
            .filter(|(_, running)| running.ends <= moment.now)
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            let Some(running) = self.running.get(&key) else { continue };
            let (outcome, how) = match &running.outcome {
                AttemptOutcome::Succeeded(_) => (running.outcome.clone(), Ended::Succeeded),
                other => (other.clone(), Ended::Failed),
            };
            self.end(key, outcome, how, moment.now, moment.wall, witness);
        }
    }

    fn stop(&mut self, moment: &Moment<'_>, witness: &mut [Attempt]) {
        let told =
            |id: &ExecutionId| moment.replica.execution(*id).is_some_and(|open| open.cancelling.is_some());
        let stopped: Vec<_> = self.running.keys().filter(|(id, _)| told(id)).copied().collect();
        for key in stopped {
            self.end(key, AttemptOutcome::Cancelled, Ended::Stopped, moment.now, moment.wall, witness);
        }
    }

    fn kill_all(&mut self, moment: &Moment<'_>, witness: &mut [Attempt]) {
        let keys: Vec<_> = self.running.keys().copied().collect();
        for key in keys {
            // A process that was frozen while its lease ended does nothing before it is killed.
            let ended = if moment.planted.has(Plant::LeaseIgnored) {
                moment.now
            } else {
                moment.now.min(self.leased)
            };
            self.end(key, AttemptOutcome::HandedBack, Ended::Killed, ended, moment.wall, witness);
        }
    }

    fn end(
        &mut self,
        key: (ExecutionId, u64),
        outcome: AttemptOutcome,
        how: Ended,
        ended: u64,
        wall: Timestamp,
        witness: &mut [Attempt],
    ) {
        let Some(running) = self.running.remove(&key) else { return };
        let attempt = &mut witness[running.attempt];
        (attempt.ended, attempt.how) = (ended.max(attempt.started), how);
        self.results.push(AttemptResult {
            execution: key.0,
            tenant: running.tenant,
            token: key.1,
            started_at: running.started_at,
            finished_at: wall,
            outcome,
        });
    }

    fn report(&mut self, heard: u64, monotonic: u64) -> Option<Message> {
        if self.outstanding.as_ref().is_some_and(|report| report.sequence <= heard) {
            self.outstanding = None;
        }
        if self.outstanding.is_none() && !self.results.is_empty() {
            self.sequence += 1;
            let (node, incarnation) = self.key;
            let results = std::mem::take(&mut self.results);
            self.outstanding = Some(Report { node, incarnation, sequence: self.sequence, results });
            self.report_at = 0;
        }
        let report = self.outstanding.as_ref().filter(|_| monotonic >= self.report_at)?;
        self.report_at = monotonic + REPORT_MS;
        Some(Message::Report(report.clone()))
    }
}
