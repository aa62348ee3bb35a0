//! What is judged while nodes run: that they agree, and that a healed world settles and drains within a bound.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use escapement_actors::ports::{Storage, Tree};
use escapement_actors::projection::{ExecutionQuery, Failure, Projections, dump};
use escapement_domain::execution::state::{Execution, Stage};
use escapement_domain::identifier::{NodeId, TaskId, TenantId};
use escapement_domain::schedule::jitter_of;
use escapement_domain::task::state::{Phase, Task};
use escapement_domain::timestamp::Timestamp;
use futures::FutureExt;

use super::World;
use super::clients::{TENANTS, caller};
use super::host::Ready;
use crate::definitions::holds_up_ms;
use crate::profile::{DRAINED_WITHIN_MS, SETTLED_WITHIN_MS};

/// How often the states are compared, in ms.
const COMPARED_EVERY_MS: u64 = 2_000;
/// How long after its instant an occurrence may be unsettled in a healed world, in ms.
const SETTLED_BEHIND_MS: i64 = 3_000;
/// How long nothing may happen before a drained world counts as at rest, in ms.
const REST_MS: u64 = 5_000;

/// Compares the states of all nodes with the fold of what was seen, as long as the world goes on.
pub(super) async fn compare(world: Rc<World>) {
    loop {
        world.pause(COMPARED_EVERY_MS).await;
        world.compare_states();
    }
}

/// Waits until a healed world has settled, pauses every task, waits until everything has ended, and compares all that
/// the nodes hold.
pub(super) async fn settle(world: &Rc<World>) {
    world.pause(SETTLED_WITHIN_MS).await;
    world.judge_settled();
    world.nature.note(&[32], || "the tasks are paused".into());
    world.quiesced.set(Some(world.nature.now()));
    let begun = world.nature.now();
    let drained_within = DRAINED_WITHIN_MS + world.longest_line_ms();
    let mut at_rest_since = None;
    while !world.has_seen_enough() {
        world.pause_tasks().await;
        let unfinished = world.unfinished();
        let now = world.nature.now();
        match (unfinished, at_rest_since) {
            (None, Some(since)) if now - since > REST_MS => break,
            (None, Some(_)) => {}
            (None, None) => at_rest_since = Some(now),
            (Some(_), _) => at_rest_since = None,
        }
        if now - begun > drained_within {
            let what = world.unfinished().unwrap_or_else(|| "it does not come to rest".into());
            world.violate("convergence", format!("{} ms after the tasks were paused: {what}", now - begun));
            break;
        }
        world.pause(500).await;
    }
    world.compare_states();
    world.compare_histories().await;
}

fn deadline_of(task: &Task) -> Option<Timestamp> {
    let next = task.next.filter(|_| task.phase() == Phase::Active)?;
    Some(next.plus(jitter_of(task.id, next, task.rules.jitter)))
}

impl World {
    fn members(&self) -> Vec<(NodeId, Option<Ready>)> {
        let hosts = self.hosts.borrow();
        hosts.values().filter(|host| !host.retired).map(|host| (host.id, host.ready())).collect()
    }

    fn compare_states(&self) {
        let ledger = self.ledger.borrow();
        let expected = ledger.state().state_hash();
        let mut wrong = Vec::new();
        for (id, ready) in self.members() {
            let Some(Ready { machine, .. }) = ready else { continue };
            // A node that is behind, or has just gone ahead, holds something else by right.
            let found = machine.read(|replica| {
                (replica.tenants() == ledger.state().tenants()).then(|| replica.state_hash())
            });
            if found.is_some_and(|found| found != expected) {
                wrong.push(format!(
                    "the chains of node {id} end where they should at {}, and its state is another",
                    machine.applied()
                ));
            }
        }
        drop(ledger);
        wrong.into_iter().for_each(|detail| self.violate("agreement", detail));
    }

    fn judge_settled(&self) {
        let now = self.nature.wall();
        let late: Vec<String> = {
            let ledger = self.ledger.borrow();
            let tasks = ledger.state().tasks().iter();
            let due = tasks.filter_map(|task| Some((task, deadline_of(task)?)));
            due.filter(|(_, deadline)| deadline.0 + SETTLED_BEHIND_MS < now.0)
                .map(|(task, deadline)| {
                    format!("task {} was due at {deadline} and is not settled at {now}", task.id)
                })
                .collect()
        };
        late.into_iter().for_each(|detail| self.violate("convergence", detail));
    }

    /// How long it takes at most until every execution that waits for earlier ones of its task has had its turn.
    fn longest_line_ms(&self) -> u64 {
        let ledger = self.ledger.borrow();
        let mut lines = BTreeMap::<TaskId, u64>::new();
        for execution in ledger.state().executions().values().filter(|one| one.stage == Stage::Held) {
            *lines.entry(execution.task).or_default() += holds_up_ms(&execution.rules.retry);
        }
        // What waits for the same pool goes one after the other at worst.
        let shares = |one: &&Arc<Execution>| one.rules.claims.is_some();
        let sharing = ledger.state().executions().values().filter(shares);
        let shared: u64 = sharing.map(|one| holds_up_ms(&one.rules.retry)).sum();
        lines.into_values().max().unwrap_or(0) + shared
    }

    /// What is not finished yet.
    fn unfinished(&self) -> Option<String> {
        let ledger = self.ledger.borrow();
        let state = ledger.state();
        let active = state.tasks().iter().filter(|task| deadline_of(task).is_some()).count();
        let (open, queued) = (state.executions().len(), state.queue().len());
        // One that nobody commits is given up some time, in an entry of its own.
        let staged = state.staged().count();
        let behind: Vec<u64> = self
            .members()
            .into_iter()
            .filter(|(_, ready)| {
                !ready.as_ref().is_some_and(|ready| {
                    ready.machine.applied() >= ledger.end() && ready.projections.complete()
                })
            })
            .map(|(id, _)| id.0)
            .collect();
        let lost = self.hosts.borrow().values().any(|host| host.lost && !host.retired) || self.changing.get();
        let unfinished =
            active + open + queued + staged > 0 || !behind.is_empty() || lost || state.left_over();
        unfinished.then(|| {
            format!(
                "{active} tasks are active, {open} executions open, {queued} queued, {staged} bulks staged, nodes \
                 {behind:?} are behind, members are being changed: {lost}"
            )
        })
    }

    /// An operator pauses what still fires.
    async fn pause_tasks(self: &Rc<Self>) {
        let active: Vec<(TaskId, &'static str)> = {
            let ledger = self.ledger.borrow();
            let state = ledger.state();
            let firing = state.tasks().iter().filter(|task| deadline_of(task).is_some());
            let named = firing.filter_map(|task| {
                let owner = state.tenant_name(task.tenant)?;
                Some((task.id, TENANTS.into_iter().find(|known| *known == &**owner)?))
            });
            named.collect()
        };
        for (task, tenant) in active {
            let ready = self.members().into_iter().find(|(_, ready)| ready.is_some());
            let Some((host, _)) = ready else { return };
            let mut operator = caller(None);
            operator.principal.tenant = tenant.into();
            operator.correlation_id = "operator".into();
            let pause = move |service: escapement::service::Service| {
                async move { service.pause_task(&operator, task).await.map(drop) }.boxed_local()
            };
            // What was not paused is asked for again.
            let _ = self.ask(host, 8_000, pause).await;
        }
    }

    /// Holds the histories of all members against each other and against the records, and each member's read models
    /// against those that its event log folds to.
    async fn compare_histories(self: &Rc<Self>) {
        self.over.set(true);
        let mut first: Option<(NodeId, BTreeMap<String, String>)> = None;
        for (id, ready) in self.members() {
            let Some(Ready { projections, .. }) = ready else { continue };
            let sound = self.judge_event_log(id, &projections);
            if !sound {
                continue;
            }
            let mut told = match self.told(&projections) {
                Ok(told) => told,
                Err(fault) => {
                    self.judge_fault(id, &format!("the read models of node {id} cannot be read: {fault}"));
                    continue;
                }
            };
            if let Err(error) = projections.stop().await {
                self.judge_fault(id, &format!("node {id} cannot write its read models: {error}"));
                continue;
            }
            match self.kept(id) {
                Ok(kept) => told.extend(kept),
                Err(fault) => {
                    self.judge_fault(id, &format!("the read models of node {id} cannot be read: {fault}"));
                    continue;
                }
            }
            match &first {
                None => first = Some((id, told.clone())),
                Some((other, expected)) if *expected != told => {
                    let what = difference(expected, &told);
                    self.violate(
                        "histories",
                        format!("nodes {other} and {id} tell different histories: {what}"),
                    );
                }
                Some(_) => {}
            }
            let folded = self.fold_anew(id).await;
            if folded.as_ref() != Some(&told) {
                let what = folded.map_or_else(|| "nothing".into(), |folded| difference(&folded, &told));
                self.violate(
                    "histories",
                    format!("the event log of node {id} folds to something else: {what}"),
                );
            }
        }
    }

    /// Whether the event log is the one that was seen.
    fn judge_event_log(&self, id: NodeId, projections: &Projections) -> bool {
        let heads: Vec<_> = {
            let ledger = self.ledger.borrow();
            (0..).map(TenantId).zip(ledger.state().tenants().iter().map(|tenant| tenant.head)).collect()
        };
        let faults: Vec<_> = heads
            .into_iter()
            .filter_map(|(tenant, head)| projections.verify(tenant, Some(head)).err())
            .collect();
        for fault in &faults {
            self.judge_fault(id, &format!("the event log of node {id} does not verify: {fault}"));
        }
        faults.is_empty()
    }

    /// Damage that was done to the disk and that nobody has read is found when all of it is read, and that it is found is
    /// all that is asked.
    fn judge_fault(&self, id: NodeId, fault: &str) {
        let damaged = self.with_host(id, |host| host.damaged) == Some(true);
        if !damaged || !fault.contains("checksum") {
            self.violate("histories", fault.to_owned());
        }
    }

    /// Every execution of every tenant, as a node tells it.
    fn told(&self, projections: &Projections) -> Result<BTreeMap<String, String>, Failure> {
        let mut told = BTreeMap::new();
        for tenant in projections.log().heads().into_keys() {
            let mut query = ExecutionQuery::newest(1_000);
            loop {
                let page = projections.executions(tenant, &query)?;
                told.extend(page.items.iter().map(|row| (row.id.to_string(), format!("{row:?}"))));
                let Some(next) = page.next else { break };
                query.before = Some(next);
            }
            told.insert(format!("tenant {}", tenant.0), format!("{:?}", projections.statistics(tenant)));
        }
        Ok(told)
    }

    /// Every record of a node's read models, as it lies on its disk.
    fn kept(&self, id: NodeId) -> io::Result<BTreeMap<String, String>> {
        let disk = self.with_host(id, |host| host.read_models.copy()).unwrap_or_default();
        kept(&disk.open())
    }

    /// What a node's read models would be if only its event log were left.
    async fn fold_anew(&self, id: NodeId) -> Option<BTreeMap<String, String>> {
        let copy = self.with_host(id, |host| host.read_models.copy())?;
        let storage = Arc::new(copy.open());
        for tree in Tree::ALL.into_iter().filter(|tree| *tree != Tree::EventBlocks) {
            storage.clear(tree).ok()?;
        }
        let projections = Projections::start(Arc::default(), storage.clone()).ok()?;
        projections.wait_complete().await.ok()?;
        let mut told = self.told(&projections).ok()?;
        projections.stop().await.ok()?;
        told.extend(kept(&*storage).ok()?);
        Some(told)
    }
}

/// Every record that is a fold of the event log; how far each model has come is none.
fn kept(storage: &dyn Storage) -> io::Result<BTreeMap<String, String>> {
    let mut kept = BTreeMap::new();
    for tree in Tree::DERIVED.into_iter().filter(|tree| *tree != Tree::Checkpoints) {
        let records = dump(storage, tree)?.into_iter();
        kept.extend(
            records.map(|(key, value)| (format!("{} {key:02x?}", tree.name()), format!("{value:02x?}"))),
        );
    }
    Ok(kept)
}

fn difference(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> String {
    let keys = expected.keys().chain(found.keys());
    let first = keys.into_iter().find(|key| expected.get(*key) != found.get(*key));
    first.map_or_else(String::new, |key| {
        let of = |side: &BTreeMap<String, String>| side.get(key).cloned().unwrap_or_else(|| "nothing".into());
        format!("{key} is {} and {}", of(expected), of(found))
    })
}
