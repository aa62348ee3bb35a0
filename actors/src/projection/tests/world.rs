//! A machine that is played with commands, and a storage that can be robbed of what was not synced.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use escapement_domain::answer::{Accepted, Answer, Rejection};
use escapement_domain::command::{
    AttemptOutcome, AttemptResult, Client, Command, Due, NewTask, Offers, Origin, Programs, Reopening,
    Report, Request,
};
use escapement_domain::execution::failure::Failure;
use escapement_domain::execution::state::{Execution, Status};
use escapement_domain::execution::waits::Wait;
use escapement_domain::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TaskId, TenantId};
use escapement_domain::record::{ChainHead, Record};
use escapement_domain::task::action::{Action, Operation};
use escapement_domain::task::definition::{Definition, Delivery, Overlap, Retry};
use escapement_domain::task::rules::Rules;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::state::Stream;
use escapement_domain::task::trigger::Trigger;
use escapement_domain::timestamp::{Span, Timestamp};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;

use super::super::ExecutionRow;
use crate::machine::{Applied, Machine};
use crate::ports::{Storage, Tree, Write};

/// Runs a test where actors can be started.
pub(in super::super) fn local<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// A machine with the commands that it was given so far.
pub(in super::super) struct World {
    pub(in super::super) machine: Arc<Machine>,
    pub(in super::super) entries: Vec<(u64, Vec<Bytes>)>,
    pub(in super::super) now: i64,
    heard: UnboundedReceiver<Applied>,
    index: u64,
    commands: u128,
    reports: u64,
    workers: u128,
}

impl Default for World {
    fn default() -> Self {
        let machine = Arc::new(Machine::default());
        let ((), heard) = machine.subscribe(|_, _| ());
        let (index, commands, reports, workers) = (0, 0, 0, 0);
        let mut world =
            Self { machine, entries: Vec::new(), now: 1_000_000, heard, index, commands, reports, workers };
        world.now = 1_700_000_000_000;
        world
    }
}

impl World {
    pub(in super::super) fn apply(&mut self, command: &Command) -> Answer {
        // Logs have gaps where entries of Raft's own are.
        self.index += 1 + self.index % 3;
        let entry = vec![Bytes::from(command.encode())];
        let answers = self.machine.apply(self.index, &entry).expect("of this version");
        self.entries.push((self.index, entry));
        Answer::decode(&answers[0]).expect("an answer")
    }

    pub(in super::super) fn scheduler(&mut self, request: Request) -> Result<Accepted, Rejection> {
        let command = Command { stamp: Timestamp(self.now).into(), origin: Origin::Scheduler, request };
        self.apply(&command).outcome
    }

    pub(in super::super) fn client(&mut self, tenant: &str, request: Request) -> Result<Accepted, Rejection> {
        self.commands += 1;
        let client = Client {
            command: CommandId(self.commands),
            issued_at: Timestamp(self.now),
            idempotency: None,
            tenant: tenant.into(),
            subject: "ann".into(),
            correlation_id: "request".into(),
        };
        let command = Command { stamp: Timestamp(self.now).into(), origin: Origin::Client(client), request };
        self.apply(&command).outcome
    }

    pub(in super::super) fn join(&mut self, slots: u32) {
        self.workers += 1;
        let offers = Offers { http: true, builtin: true, programs: Programs::Any };
        let (node, incarnation) = (NodeId(1), Incarnation(self.workers));
        self.scheduler(Request::JoinWorker { node, incarnation, slots, offers })
            .expect("a worker may always join");
    }

    pub(in super::super) fn create(&mut self, tenant: &str, id: u128, definition: &Definition) {
        let task = NewTask {
            task: TaskId(id),
            rules: Box::new(Rules::of(definition)),
            definition: Sealed::definition(definition),
            created_at: Timestamp(self.now),
            next: Some(Timestamp(self.now + 100)),
            paused: false,
        };
        self.client(tenant, Request::CreateTasks(vec![task])).expect("created");
    }

    /// Fires the next instant of a task, a little late, and has the one after it follow in a second.
    pub(in super::super) fn fire(&mut self, tenant: TenantId, task: u128, late: i64) {
        let due = self.machine.read(|replica| {
            let task = replica.task(tenant, TaskId(task))?;
            let due = task.next?;
            let next = Some(Timestamp(due.0 + 1_000));
            Some(Due {
                slot: task.slot,
                revision: task.revision,
                due,
                passed: None,
                next,
                next_allowed: next,
            })
        });
        let Some(due) = due else { return };
        self.now = self.now.max(due.due.0 + late);
        self.scheduler(Request::Fire(vec![due])).expect("settled");
    }

    pub(in super::super) fn open(&self) -> Vec<Arc<Execution>> {
        self.machine.read(|replica| replica.executions().values().cloned().collect())
    }

    pub(in super::super) fn report(&mut self, open: &Execution, outcome: AttemptOutcome) {
        let Some(grant) = open.grant().cloned() else { return };
        self.reports += 1;
        let result = AttemptResult {
            execution: open.id,
            tenant: open.tenant,
            token: grant.token,
            started_at: Timestamp(self.now - 7),
            finished_at: Timestamp(self.now - 1),
            outcome,
            usage: None,
        };
        let (node, incarnation) = grant.of_node().expect("a node's");
        let report = Report { node, incarnation, sequence: self.reports, results: vec![result] };
        // A report of a worker that was lost meanwhile is refused, and recorded as such.
        let _ = self.scheduler(Request::Report(report));
    }

    /// Ends every attempt that runs.
    pub(in super::super) fn complete_all(&mut self) {
        for open in self.open() {
            self.report(&open, AttemptOutcome::Succeeded(Some(Sealed::in_clear(b"{\"ok\":true}".to_vec()))));
        }
    }

    pub(in super::super) fn lose_worker(&mut self) {
        let (node, incarnation) = (NodeId(1), Incarnation(self.workers));
        let _ = self.scheduler(Request::LoseWorker { node, incarnation });
    }

    pub(in super::super) fn retry(
        &mut self,
        tenant: &str,
        row: &ExecutionRow,
    ) -> Result<Accepted, Rejection> {
        let reopening = Reopening {
            execution: row.id,
            task: row.task,
            occurrence: row.occurrence,
            scheduled_at: row.scheduled_at,
            status: row.status,
            attempts: row.attempt,
            cause: None,
            as_of: self.index,
            retry_items: None,
            run: None,
        };
        self.client(tenant, Request::RetryExecution(Box::new(reopening)))
    }

    /// The records published since the last call.
    pub(in super::super) fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        while let Ok(applied) = self.heard.try_recv() {
            records.extend(applied.records.iter().cloned());
        }
        records
    }

    pub(in super::super) fn head(&self, tenant: TenantId) -> ChainHead {
        self.machine.read(|replica| replica.tenants()[tenant.0 as usize].head)
    }

    pub(in super::super) fn stream(&self, tenant: TenantId, task: u128) -> Stream {
        self.machine.read(|replica| replica.task(tenant, TaskId(task)).expect("there").stream)
    }

    /// Another machine that applies the same entries.
    pub(in super::super) fn replayed_on(&self, machine: &Machine, from: u64) {
        for (index, commands) in self.entries.iter().filter(|(index, _)| *index > from) {
            machine.apply(*index, commands).expect("of this version");
        }
    }

    /// Plays a little of everything; the same numbers play the same.
    pub(in super::super) fn play(&mut self, numbers: &[u8]) {
        self.join(3);
        self.create("acme", 1, &kind(1));
        self.create("globex", 101, &kind(2));
        let mut ended: Vec<Arc<Execution>> = Vec::new();
        for number in numbers {
            self.now += i64::from(*number);
            let tenant = TenantId(1 + u32::from(*number & 1));
            let task = if tenant.0 == 1 { 1 } else { 101 } + u128::from(number / 16 % 4);
            let name = if tenant.0 == 1 { "acme" } else { "globex" };
            let open = self.open();
            let picked = open.get(usize::from(*number) % open.len().max(1)).cloned();
            match number % 13 {
                0 if self.machine.read(|replica| replica.task(tenant, TaskId(task)).is_none()) => {
                    self.create(name, task, &kind(*number));
                }
                0..=4 => self.fire(tenant, task, i64::from(number % 90)),
                5..=7 => {
                    if let Some(open) = picked {
                        ended.push(open.clone());
                        self.report(&open, outcome(*number));
                    }
                }
                8 => drop(self.client(name, Request::RunTask { task: TaskId(task) })),
                9 => {
                    if let Some(open) = picked {
                        drop(self.client(name, Request::CancelExecution { execution: open.id }));
                    }
                }
                10 => {
                    self.lose_worker();
                    self.join(2);
                }
                11 if *number > 200 => {
                    let request = Request::DeleteTask { task: TaskId(task), expected_version: None };
                    drop(self.client(name, request));
                }
                _ => self.retry_something(name, &ended),
            }
        }
    }

    fn retry_something(&mut self, tenant: &str, ended: &[Arc<Execution>]) {
        let wait = |open: &Arc<Execution>| (open.id, Wait::Retry { attempts: open.attempts });
        let due: Vec<_> = self.open().iter().map(wait).collect();
        self.now += 700;
        self.scheduler(Request::WaitsOver(due)).expect("heard");
        let Some(open) = ended.last() else { return };
        let reopening = Reopening {
            execution: open.id,
            task: open.task,
            occurrence: open.occurrence,
            scheduled_at: open.scheduled_at,
            status: Status::Failed,
            attempts: open.attempts,
            cause: None,
            as_of: self.index,
            retry_items: None,
            run: None,
        };
        // Most of what is picked is open still, or another tenant's; such a retry is refused.
        let _ = self.client(tenant, Request::RetryExecution(Box::new(reopening)));
    }
}

fn outcome(number: u8) -> AttemptOutcome {
    match number % 5 {
        0 => AttemptOutcome::Succeeded(Some(Sealed::in_clear(b"{\"answer\":42}".to_vec()))),
        1 => AttemptOutcome::TimedOut,
        2 => AttemptOutcome::HandedBack,
        3 => AttemptOutcome::Cancelled,
        _ => failed(),
    }
}

pub(in super::super) fn definition() -> Definition {
    let action = Action::Builtin { operation: Operation::Noop, parameters: None };
    let trigger = Trigger::Interval { every: Span::seconds(1), anchor: None };
    Definition { overlap: Overlap::Allow, ..Definition::new("nightly", trigger, action) }
}

pub(in super::super) fn kind(number: u8) -> Definition {
    let overlaps =
        [Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll, Overlap::CancelRunning, Overlap::Allow];
    Definition {
        overlap: overlaps[usize::from(number) % 5],
        delivery: if number & 8 == 0 { Delivery::AtLeastOnce } else { Delivery::AtMostOnce },
        retry: Retry { max_attempts: 1 + u32::from(number % 3), ..Retry::DEFAULT },
        ..definition()
    }
}

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;
type Trees = BTreeMap<Tree, Pairs>;

/// A storage in memory that knows what was synced.
#[derive(Clone, Default)]
pub(in super::super) struct FakeStorage(Arc<Mutex<Fake>>);

#[derive(Clone, Default)]
struct Fake {
    trees: Trees,
    durable: Trees,
    unsynced: Vec<Change>,
    failing: bool,
}

#[derive(Clone)]
enum Change {
    Batch(Vec<Write>),
    Clear(Tree),
}

impl FakeStorage {
    /// What a crash leaves: what was synced, and the first `kept` of the changes after it.
    pub(in super::super) fn crashed(&self, kept: usize) -> Self {
        let fake = self.0.lock();
        let mut trees = fake.durable.clone();
        fake.unsynced.iter().take(kept).for_each(|change| carry_out(&mut trees, change));
        Self(Arc::new(Mutex::new(Fake { durable: trees.clone(), trees, ..Fake::default() })))
    }

    /// How many changes were not synced.
    pub(in super::super) fn unsynced(&self) -> usize {
        self.0.lock().unsynced.len()
    }

    /// Fails every write from now on.
    pub(in super::super) fn fail(&self) {
        self.0.lock().failing = true;
    }

    /// A copy that shares nothing.
    pub(in super::super) fn copy(&self) -> Arc<Self> {
        Arc::new(Self(Arc::new(Mutex::new(self.0.lock().clone()))))
    }

    /// Changes a value behind everybody's back.
    pub(in super::super) fn tamper(&self, tree: Tree, change: impl FnOnce(&mut Pairs)) {
        change(self.0.lock().trees.entry(tree).or_default());
    }
}

fn carry_out(trees: &mut Trees, change: &Change) {
    match change {
        Change::Clear(tree) => drop(trees.remove(tree)),
        Change::Batch(batch) => {
            for Write { tree, key, value } in batch.clone() {
                let pairs = trees.entry(tree).or_default();
                match value {
                    Some(value) => drop(pairs.insert(key, value)),
                    None => drop(pairs.remove(&key)),
                }
            }
        }
    }
}

impl Storage for FakeStorage {
    fn write(&self, batch: Vec<Write>) -> io::Result<()> {
        let mut fake = self.0.lock();
        if fake.failing {
            return Err(io::Error::other("no space left"));
        }
        let change = Change::Batch(batch);
        carry_out(&mut fake.trees, &change);
        fake.unsynced.push(change);
        Ok(())
    }

    fn get(&self, tree: Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().trees.get(&tree).and_then(|pairs| pairs.get(key)).cloned())
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let fake = self.0.lock();
        let Some(pairs) = fake.trees.get(&tree).filter(|_| from < to) else { return Ok(Vec::new()) };
        let range = pairs.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(if reverse {
            range.rev().take(limit).map(owned).collect()
        } else {
            range.take(limit).map(owned).collect()
        })
    }

    fn clear(&self, tree: Tree) -> io::Result<()> {
        let mut fake = self.0.lock();
        let change = Change::Clear(tree);
        carry_out(&mut fake.trees, &change);
        fake.unsynced.push(change);
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let mut fake = self.0.lock();
        fake.durable = fake.trees.clone();
        fake.unsynced.clear();
        Box::pin(std::future::ready(if fake.failing {
            Err(io::Error::other("no space left"))
        } else {
            Ok(())
        }))
    }
}

/// The name of an execution, from a row.
pub(in super::super) fn name(row: &ExecutionRow) -> ExecutionId {
    row.id
}

pub(in super::super) fn failed() -> AttemptOutcome {
    AttemptOutcome::Failed(Failure::new("exit code 1"))
}
