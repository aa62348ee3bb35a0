//! Limits over three nodes: wherever work is spread and whoever leads, no more of it is made at once than may be, and
//! all of it is done.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::Cluster;
use crate::harness::definitions::{await_status, call, execution, manual, run, with, worker_of};
use crate::harness::outside::{lease, path, queued, succeed};
use crate::harness::program::ask;
use crate::harness::target::Target;
use crate::harness::wait::{eventually, now_ms, until};

/// Executions under one limit, each of which calls the same path, where it is held.
struct Lot {
    /// Whose they are.
    token: String,
    path: &'static str,
    /// How many may be made at once.
    most: usize,
    tasks: Vec<String>,
    ids: Vec<String>,
}

impl Lot {
    /// How many of a lot are queued at first.
    const SIZE: usize = 20;

    /// Queues a lot, of one task for each set of fields.
    #[track_caller]
    fn begin(
        cluster: &Cluster,
        target: &Target,
        token: &str,
        (path, most): (&'static str, usize),
        fields: &[Value],
    ) -> Self {
        let api = cluster.any().with_token(token);
        let calling = with(call("work", &manual(), &target.url(path)), json!({ "overlap": "allow" }));
        let tasks = fields.iter().map(|fields| api.create_id(&with(calling.clone(), fields.clone())));
        let tasks: Vec<String> = tasks.collect();
        let mut lot = Self { token: token.into(), path, most, tasks, ids: Vec::new() };
        (0..Self::SIZE).for_each(|_| drop(lot.run(cluster)));
        lot
    }

    /// Queues one more, of each task and through each node in turn.
    #[track_caller]
    fn run(&mut self, cluster: &Cluster) -> String {
        let (nodes, number) = (cluster.running(), self.ids.len());
        let api = cluster.api(nodes[number % nodes.len()]).with_token(&self.token);
        let id = run(&api, &self.tasks[number % self.tasks.len()]);
        self.ids.push(id.clone());
        id
    }

    /// Waits until as many are made at once as may be, and returns these.
    #[track_caller]
    fn await_full(&self, target: &Target) -> BTreeSet<String> {
        eventually(&format!("{} calls of {} are held", self.most, self.path), || {
            Some(target.open(self.path)).filter(|open| open.len() == self.most)
        })
    }

    /// Demands that every node tells that as many run as may, and that all others wait.
    #[track_caller]
    fn check_full(&self, cluster: &Cluster) {
        for node in cluster.running() {
            let api = cluster.api(node).with_token(&self.token);
            let count = |status: &str| -> usize {
                let of_task = |task: &String| {
                    let path = format!("/api/executions/?task_id={task}&status={status}&limit=1000");
                    items(&api.get(&path)).len()
                };
                self.tasks.iter().map(of_task).sum()
            };
            let told = (count("running"), count("queued"));
            assert_eq!(told, (self.most, self.ids.len() - self.most), "{} by node {node}", self.path);
        }
    }

    /// Waits until all is done, and returns it; demands that as many as may be were made at once, and at no time more.
    #[track_caller]
    fn finish(&self, cluster: &Cluster, target: &Target) -> Vec<Value> {
        let api = cluster.any().with_token(&self.token);
        let ended = self.ids.iter().map(|id| await_status(&api, id, "succeeded")).collect();
        assert_eq!(target.most_at_once(self.path), self.most, "calls of {} at once", self.path);
        ended
    }
}

/// Waits until all three nodes take work.
#[track_caller]
fn await_workers(api: &Api) {
    until("three nodes take work", || {
        let workers = items(&api.get("/api/workers"));
        workers.iter().filter(|worker| worker["state"] == "ready").count() == 3
    });
}

#[track_caller]
fn limit(api: &Api, kind: &str, name: &str, most: usize) {
    ask(api, &["limit", "put", kind, name, "--max-concurrent", &most.to_string()], None).expect(0);
}

#[test]
fn no_limit_on_a_task_a_label_or_a_tenant_is_exceeded_by_work_on_three_nodes() {
    let (cluster, target) = (Cluster::start(3), Target::start());
    await_workers(&cluster.any());
    let [acme, rival] = ["acme", "rival"].map(|tenant| cluster.mint("bob", tenant, &["admin"]));
    limit(&cluster.any().with_token(&acme), "label", "team=qa", 4);
    limit(&cluster.any().with_token(&rival), "tenant", "rival", 5);
    let labels = json!({ "team": "qa" });
    let lots = [
        Lot::begin(&cluster, &target, &acme, ("/held/task/50", 3), &[json!({ "max_concurrent": 3 })]),
        Lot::begin(
            &cluster,
            &target,
            &acme,
            ("/held/label/50", 4),
            &[json!({ "labels": labels }), json!({ "labels": labels, "priority": 9 })],
        ),
        Lot::begin(
            &cluster,
            &target,
            &rival,
            ("/held/tenant/50", 5),
            &[json!({ "priority": 2 }), json!({ "labels": labels })],
        ),
    ];
    for lot in &lots {
        lot.await_full(&target);
        lot.check_full(&cluster);
    }
    let workers = items(&cluster.any().get("/api/workers"));
    let running: Vec<u64> = workers.iter().filter_map(|worker| worker["running"].as_u64()).collect();
    assert_eq!((running.len(), running.iter().sum::<u64>()), (3, 3 + 4 + 5), "{workers:?}");
    assert!(running.iter().all(|running| *running > 0), "each node has some of it: {workers:?}");
    target.let_go();
    for lot in &lots {
        lot.finish(&cluster, &target);
    }
}

/// Workers that work off a queue, and how many executions they have at once.
#[derive(Debug, Default)]
struct Crew {
    at_once: AtomicUsize,
    most: AtomicUsize,
    done: AtomicUsize,
}

impl Crew {
    /// Leases from the queue one execution after the other until so many are done. None is completed before `together`
    /// of them were there at once.
    fn work(&self, api: &Api, worker: &str, all: usize, together: usize) {
        let begun = now_ms();
        while self.done.load(Ordering::SeqCst) < all {
            assert!(now_ms() < begun + 120_000, "so many are never done: {self:?}");
            for mine in lease(api, "suites", &json!({ "worker": worker, "lease": "30s", "wait": "1s" })) {
                let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(at_once, Ordering::SeqCst);
                until("the others have some, too", || self.most.load(Ordering::SeqCst) >= together);
                let progress = json!({ "lease_token": mine["lease_token"], "percent": 50 });
                api.post(&path(&mine, "progress"), &progress).expect(200);
                // The next one may have its place before this one is answered.
                self.at_once.fetch_sub(1, Ordering::SeqCst);
                succeed(api, &mine);
                self.done.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

#[test]
fn the_limit_on_a_queue_is_not_exceeded_by_workers_that_lease_from_three_nodes() {
    const MOST: usize = 3;
    const ALL: usize = 24;
    let cluster = Cluster::start(3);
    let apis: Vec<Api> = cluster.running().into_iter().map(|node| cluster.api(node)).collect();
    limit(&apis[0], "queue", "suites", MOST);
    let task = apis[0].create_id(&queued("suite", "suites"));
    let ids: Vec<String> = (0..ALL).map(|number| run(&apis[number % 3], &task)).collect();
    let leased: Vec<Vec<Value>> = apis
        .iter()
        .map(|api| lease(api, "suites", &json!({ "worker": "first", "max": 2, "lease": "5m" })))
        .collect();
    assert_eq!(leased.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 0], "what is left of three");
    for api in &apis {
        let limit = api.get("/api/limits/queue/suites");
        assert_eq!((&limit["running"], &limit["waiting"]), (&json!(MOST), &json!(ALL - MOST)), "{limit}");
    }
    leased.iter().flatten().for_each(|mine| drop(succeed(&apis[2], mine)));
    let crew = Crew::default();
    thread::scope(|scope| {
        for (number, api) in apis.iter().chain(&apis).enumerate() {
            let crew = &crew;
            scope.spawn(move || crew.work(api, &format!("w{number}"), ALL - MOST, MOST));
        }
    });
    assert_eq!(crew.most.into_inner(), MOST, "executions that workers had at once");
    ids.iter().for_each(|id| drop(await_status(&apis[1], id, "succeeded")));
    assert_eq!(apis[1].get("/api/limits/queue/suites")["running"], 0);
}

/// The leader dies with a part of all that runs; the rest goes on, and counts for the next leader as it did before.
#[test]
fn a_new_leader_grants_no_more_than_is_left_beside_what_goes_on() {
    const MOST: usize = 6;
    let (mut cluster, target) = (Cluster::start(3), Target::start());
    await_workers(&cluster.any());
    let [acme, rival] = ["acme", "rival"].map(|tenant| cluster.mint("bob", tenant, &["admin"]));
    let api = cluster.any().with_token(&acme);
    limit(&api, "label", "team=qa", MOST);
    limit(&cluster.any().with_token(&rival), "tenant", "rival", MOST);
    ask(&api, &["pool", "put", "staging", "--capacity", &MOST.to_string()], None).expect(0);
    let mut lots = [
        (&acme, "/held/task/50", json!({ "max_concurrent": MOST })),
        (&acme, "/held/label/50", json!({ "labels": { "team": "qa" } })),
        (&acme, "/held/pool/50", json!({ "resources": { "staging": 1 } })),
        (&rival, "/held/tenant/50", json!({})),
    ]
    .map(|(token, path, fields)| Lot::begin(&cluster, &target, token, (path, MOST), &[fields]));
    let full = lots.each_ref().map(|lot| lot.await_full(&target));
    let leader = cluster.leader();
    let lost: Vec<BTreeSet<String>> = lots
        .iter()
        .zip(&full)
        .map(|(lot, full)| {
            let api = cluster.any().with_token(&lot.token);
            let has = |id: &&String| worker_of(&execution(&api, id)) == Some(leader);
            full.iter().filter(has).cloned().collect()
        })
        .collect();
    assert!(lost.iter().all(|lost| (1..MOST).contains(&lost.len())), "the leader has some of each: {lost:?}");
    cluster.kill(leader);
    cluster.leader();
    for lot in &mut lots {
        let more = lot.run(&cluster);
        let api = cluster.any().with_token(&lot.token);
        assert_eq!(execution(&api, &more)["attempt"], 0, "{}", lot.path);
    }
    for ((lot, full), lost) in lots.iter().zip(&full).zip(&lost) {
        until(&format!("what the dead node called at {} is called again", lot.path), || {
            target.calls_to(lot.path).len() >= full.len() + lost.len()
        });
        assert_eq!(target.open(lot.path), *full, "what was queued first at {} goes first", lot.path);
        lot.check_full(&cluster);
    }
    let api = cluster.any().with_token(&acme);
    let (label, pool) = (api.get("/api/limits/label/team=qa"), api.get("/api/pools/staging"));
    assert_eq!((&label["running"], &pool["held"]), (&json!(MOST), &json!(MOST)), "{label} {pool}");
    target.let_go();
    for (lot, lost) in lots.iter().zip(&lost) {
        for ended in lot.finish(&cluster, &target) {
            let attempts = if lost.contains(&text(&ended, "id")) { 2 } else { 1 };
            assert_eq!(ended["attempt"], attempts, "only what was lost is made again: {ended}");
        }
    }
}

#[test]
fn a_new_leader_leases_no_more_of_a_queue_than_is_left_beside_what_workers_have() {
    let mut cluster = Cluster::start(3);
    let (leader, api) = (cluster.leader(), cluster.api(cluster.follower()));
    limit(&api, "queue", "suites", 2);
    let task = api.create_id(&queued("suite", "suites"));
    let ids: Vec<String> = (0..4).map(|_| run(&api, &task)).collect();
    let take = |api: &Api| lease(api, "suites", &json!({ "worker": "w", "max": 5, "lease": "5m" }));
    let taken = |leased: &[Value]| leased.iter().map(|mine| text(mine, "id")).collect::<Vec<_>>();
    let held = take(&api);
    assert_eq!(taken(&held), ids[..2]);
    cluster.kill(leader);
    cluster.leader();
    for node in cluster.running() {
        assert!(take(&cluster.api(node)).is_empty(), "by node {node}");
    }
    let limit = api.get("/api/limits/queue/suites");
    assert_eq!((&limit["running"], &limit["waiting"]), (&json!(2), &json!(2)), "{limit}");
    succeed(&api, &held[0]);
    let next = take(&api);
    assert_eq!(taken(&next), ids[2..3], "one place, one execution");
    succeed(&api, &held[1]);
    let last = take(&api);
    assert_eq!(taken(&last), ids[3..]);
    next.iter().chain(&last).for_each(|mine| drop(succeed(&api, mine)));
    ids.iter().for_each(|id| drop(await_status(&api, id, "succeeded")));
}
