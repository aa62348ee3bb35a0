//! Three nodes under load, something that breaks, and the verdict.
//!
//! A campaign starts a cluster, creates a thousand tasks that fall due while a test breaks things, and lets clients write
//! meanwhile. Then it waits until everything is settled, ends all nodes, and judges.

use std::time::{Duration, Instant};

use escapement_domain::identifier::TaskId;
use escapement_simulation::profile::RECOVERY_MS;
use serde_json::Value;

use crate::evidence::Case;
use crate::harness::api::{Api, items};
use crate::harness::cluster::{Cluster, Settings};
use crate::harness::definitions::all_executions;
use crate::harness::notice::notice;
use crate::harness::target::Target;
use crate::harness::wait::{now_ms, until, within};
use crate::load::Load;

/// Tasks that fall due once.
pub(crate) const TASKS: usize = 1_000;
/// Tasks that fire every second besides.
const BEATS: usize = 4;
/// How long after they were created the first falls due, in ms.
const LEAD_MS: i64 = 5_000;
/// How long it may take after healing until everything is settled.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// What a process may take to end.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// A cluster under load.
#[derive(Debug)]
pub(crate) struct Campaign {
    pub(crate) cluster: Cluster,
    pub(crate) target: Target,
    /// Spans in which a node was frozen, in ms since 1970.
    pub(crate) frozen: Vec<(u64, i64, i64)>,
    name: &'static str,
    load: Load,
    beats: Vec<TaskId>,
    epoch: i64,
    last_due: i64,
    began: Instant,
    disturbances: Vec<(i64, i64)>,
    without_quorum: Vec<(i64, i64)>,
}

impl Campaign {
    /// Starts three nodes whose tasks fall due over so many seconds.
    #[track_caller]
    pub(crate) fn start(name: &'static str, settings: Settings, seconds: i64) -> Self {
        Self::begin(name, Cluster::start_with(3, settings), Target::start(), seconds)
    }

    /// Puts nodes that run under a load that calls a target.
    #[track_caller]
    pub(crate) fn begin(name: &'static str, cluster: Cluster, target: Target, seconds: i64) -> Self {
        // The cluster has formed within the minute before.
        let (epoch, began) = (now_ms() - 60_000, Instant::now());
        let load = Load::new(apis(&cluster), epoch);
        let beats = load.create_beats(&target, BEATS);
        let last_due = load.create_due(&target, TASKS, LEAD_MS, seconds * 1_000);
        let (disturbances, without_quorum, frozen) = (Vec::new(), Vec::new(), Vec::new());
        let mut campaign = Self {
            cluster,
            target,
            frozen,
            name,
            load,
            beats,
            epoch,
            last_due,
            began,
            disturbances,
            without_quorum,
        };
        campaign.load.start_clients(&campaign.target, Duration::from_millis(300));
        campaign.load.start_editors(&campaign.target);
        campaign
    }

    /// Whether tasks still fall due.
    pub(crate) fn goes_on(&self) -> bool {
        now_ms() < self.last_due
    }

    /// Breaks something of one node, and mends it: what is a little late meanwhile, or shortly after, is excused. The other
    /// nodes are a majority, so that nothing may be very late.
    pub(crate) fn disturb<T>(&mut self, fault: impl FnOnce(&mut Cluster, &Target) -> T) -> T {
        let from = now_ms();
        let value = fault(&mut self.cluster, &self.target);
        eprintln!("{}: fault {} took {} ms", self.name, self.disturbances.len() + 1, now_ms() - from);
        self.disturbances.push((from, now_ms() + RECOVERY_MS.cast_signed()));
        value
    }

    /// As [`Campaign::disturb`]; who is the majority meanwhile, nobody can say.
    pub(crate) fn disturb_the_majority(&mut self, fault: impl FnOnce(&mut Cluster, &Target)) {
        self.disturb(fault);
        self.without_quorum.extend(self.disturbances.last());
    }

    /// What breaks is broken from the beginning to the end, on every node.
    pub(crate) fn disturb_throughout(&mut self) {
        self.disturbances.push((self.epoch, i64::MAX));
        self.without_quorum.push((self.epoch, i64::MAX));
    }

    /// The clients ask the nodes that are members now.
    pub(crate) fn ask_members(&self) {
        self.load.ask(apis(&self.cluster));
    }

    /// Spans in which nothing of a node ran: it was frozen, or its process was no more.
    fn stood_still(&self) -> Vec<(u64, i64, i64)> {
        let dead = self.cluster.deaths().iter().map(|(node, since)| (*node, *since, i64::MAX));
        self.frozen.iter().copied().chain(dead).collect()
    }

    /// Waits until all is settled, ends the nodes, judges, and tells.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.cluster.await_ready();
        let operations = self.load.stop();
        let api = self.cluster.any();
        await_settled(&api, self.beats.len());
        let quiesced = now_ms() - 1;
        pause(&api, &self.beats);
        await_drained(&api);
        let drained = now_ms();
        let nodes = self.cluster.running();
        nodes.iter().for_each(|&id| self.cluster.await_caught_up(id));
        let told: Vec<Vec<Value>> = nodes.iter().map(|&id| all_executions(&self.cluster.api(id))).collect();
        let ended = self.cluster.terminate_all(END_PATIENCE);
        assert!(ended.iter().all(|code| *code == Some(0)), "{ended:?}");
        let mut verdict = Case {
            epoch: self.epoch,
            quiesced,
            drained,
            data: nodes.iter().map(|&id| self.cluster.data(id)).collect(),
            operations,
            calls: self.target.calls(),
            disturbances: std::mem::take(&mut self.disturbances),
            without_quorum: std::mem::take(&mut self.without_quorum),
            frozen: self.stood_still(),
        }
        .judge();
        if told.windows(2).any(|pair| pair[0] != pair[1]) {
            verdict.violations.push("agreement: the nodes tell of different executions".into());
        }
        verdict.tell(self.name, self.began, TASKS);
    }
}

/// Pauses tasks, all at once: the checker knows only when the first was.
pub(crate) fn pause(api: &Api, tasks: &[TaskId]) {
    let pause = |task: &TaskId| {
        let path = format!("/api/scheduled-tasks/{task}/pause");
        until("a task is paused", || {
            api.try_send("POST", &path, &[], None).is_ok_and(|reply| reply.status == 200)
        });
    };
    std::thread::scope(|scope| {
        for task in tasks {
            scope.spawn(|| pause(task));
        }
    });
}

/// Says why a test was not made on this machine.
pub(crate) fn skip(name: &str, reason: &str) {
    notice(&format!("| {name} | SKIPPED: {reason} |"));
}

/// The APIs of the nodes that run.
fn apis(cluster: &Cluster) -> Vec<Api> {
    cluster.running().into_iter().map(|id| cluster.api(id)).collect()
}

/// Waits until a target has been called so many times more.
#[track_caller]
pub(crate) fn await_calls(target: &Target, more: usize) {
    let goal = target.calls().len() + more;
    until(&format!("{more} more calls"), || target.calls().len() >= goal);
}

/// Waits until no more than so many tasks will ever fire again.
#[track_caller]
fn await_settled(api: &Api, left: usize) {
    within(SETTLED_WITHIN, "every task has fired", || {
        let reply = api.try_send("GET", "/api/scheduled-tasks/?state=active&limit=10", &[], None).ok()?;
        (reply.status == 200 && items(&reply.json()).len() <= left).then_some(())
    });
}

/// Waits until no execution is open.
#[track_caller]
pub(crate) fn await_drained(api: &Api) {
    within(SETTLED_WITHIN, "every execution has ended", || {
        ["queued", "running", "retrying"]
            .iter()
            .all(|status| {
                let path = format!("/api/executions/?status={status}&limit=1");
                let reply = api.try_send("GET", &path, &[], None);
                reply.is_ok_and(|reply| reply.status == 200 && items(&reply.json()).is_empty())
            })
            .then_some(())
    });
}
