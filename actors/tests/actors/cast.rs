//! Nodes with all their actors, executors that do as they are told, and a client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use escapement_actors::dispatcher::{Dispatcher, DispatcherParts};
use escapement_actors::intent::{Draft, Intent, Submission, SubmitError};
use escapement_actors::ports::{
    AttemptEnd, AttemptOrder, Executor, Executors, Finished, Observer, OutputChunk, OutputSink, OutputStore,
    Silent,
};
use escapement_actors::task::{Front, FrontParts};
use escapement_actors::wheel::{WheelHandle, WheelParts};
use escapement_actors::worker::clocks::ClockWatch;
use escapement_actors::worker::{LEASE, Leases, LeasesParts};
use escapement_domain::answer::{Accepted, Answer};
use escapement_domain::command::{Client, Offers, Programs};
use escapement_domain::execution::state::Execution;
use escapement_domain::identifier::{CommandId, ExecutionId, NodeId, TaskId};
use escapement_domain::schedule::zone_data_version;
use escapement_domain::task::action::{Action, Completion, HttpAction, Operation};
use escapement_domain::task::definition::Definition;
use escapement_domain::task::state::Task;
use escapement_domain::task::trigger::{IfPast, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::stage::{BEGIN, Counting, Directory, Shared, StageClock, StageLeader, StageLog};

pub(crate) const TENANT: &str = "acme";

/// One start or end of an attempt, as the executor saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Started { node: NodeId, execution: ExecutionId, attempt: u32, token: u64 },
    Ended { node: NodeId, execution: ExecutionId, token: u64, how: How },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    ByItself,
    Cancelled,
    Killed,
}

/// What the executors of all nodes do and have seen.
#[derive(Default)]
pub(crate) struct Playbook {
    pub(crate) seen: Mutex<Vec<Seen>>,
    /// The next ends, in order; without one an attempt succeeds.
    pub(crate) ends: Mutex<Vec<AttemptEnd>>,
    /// How long attempts take.
    pub(crate) takes: Mutex<Duration>,
    /// Attempts panic.
    pub(crate) panics: Mutex<bool>,
    running: AtomicUsize,
}

impl Observer for Playbook {
    fn attempt_started(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
    }

    fn attempt_over(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Playbook {
    pub(crate) fn starts(&self) -> Vec<(NodeId, u32, u64)> {
        let seen = self.seen.lock();
        let started = seen.iter().filter_map(|seen| match seen {
            Seen::Started { node, attempt, token, .. } => Some((*node, *attempt, *token)),
            Seen::Ended { .. } => None,
        });
        started.collect()
    }

    /// How many attempts run, as an observer was told.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn ends(&self) -> Vec<(NodeId, How)> {
        let seen = self.seen.lock();
        let ended = seen.iter().filter_map(|seen| match seen {
            Seen::Ended { node, how, .. } => Some((*node, *how)),
            Seen::Started { .. } => None,
        });
        ended.collect()
    }
}

struct Player {
    node: NodeId,
    book: Arc<Playbook>,
}

/// Notes the end of an attempt, even if its future is dropped.
struct Witness {
    node: NodeId,
    execution: ExecutionId,
    token: u64,
    how: How,
    book: Arc<Playbook>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        let Self { node, execution, token, how, .. } = *self;
        self.book.seen.lock().push(Seen::Ended { node, execution, token, how });
    }
}

impl Executor for Player {
    fn run(
        &self,
        order: AttemptOrder,
        output: Arc<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Finished> {
        let (node, book) = (self.node, self.book.clone());
        async move {
            let AttemptOrder { execution, attempt, fencing_token: token, .. } = order;
            book.seen.lock().push(Seen::Started { node, execution, attempt, token });
            let mut witness = Witness { node, execution, token, how: How::Killed, book: book.clone() };
            assert!(!*book.panics.lock(), "told to panic");
            let takes = *book.takes.lock();
            let end = tokio::select! {
                () = tokio::time::sleep(takes) => {
                    witness.how = How::ByItself;
                    let at = BEGIN;
                    output.write(OutputChunk { at, stream: escapement_actors::ports::OutputStream::Stdout, text: "done".into() });
                    let mut ends = book.ends.lock();
                    if ends.is_empty() { AttemptEnd::Succeeded { result: Some("1".into()) } } else { ends.remove(0) }
                }
                () = cancel.cancelled() => {
                    witness.how = How::Cancelled;
                    AttemptEnd::Cancelled
                }
            };
            end.into()
        }
        .boxed()
    }
}

/// Keeps every text that attempts wrote.
#[derive(Default)]
pub(crate) struct Outputs(pub(crate) Arc<Mutex<Vec<(ExecutionId, u32, String)>>>);

struct Sink {
    execution: ExecutionId,
    attempt: u32,
    texts: Arc<Mutex<Vec<(ExecutionId, u32, String)>>>,
}

impl OutputSink for Sink {
    fn write(&self, chunk: OutputChunk) {
        self.texts.lock().push((self.execution, self.attempt, chunk.text));
    }
}

impl OutputStore for Outputs {
    fn sink(&self, _tenant: &str, execution: ExecutionId, attempt: u32) -> Arc<dyn OutputSink> {
        Arc::new(Sink { execution, attempt, texts: self.0.clone() })
    }
}

/// One node with all its actors.
pub(crate) struct Node {
    pub(crate) log: Arc<StageLog>,
    pub(crate) clock: Arc<StageClock>,
    pub(crate) clocks: Arc<ClockWatch>,
    pub(crate) front: Front,
    pub(crate) leases: Leases,
    pub(crate) wheel: WheelHandle,
    pub(crate) dispatcher: Option<Dispatcher>,
}

/// Everything on the stage.
pub(crate) struct Cast {
    pub(crate) shared: Arc<Shared>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) book: Arc<Playbook>,
    pub(crate) outputs: Arc<Outputs>,
    pub(crate) nodes: BTreeMap<u64, Node>,
    commands: AtomicU64,
}

impl Cast {
    /// So many nodes, of which the first leads; those named in `working` have a dispatcher.
    pub(crate) fn new(count: u64, working: &[u64]) -> Self {
        let (shared, directory, book) =
            (Shared::new(), Arc::new(Directory::default()), Arc::new(Playbook::default()));
        let mut cast = Self {
            shared,
            directory,
            book,
            outputs: Arc::default(),
            nodes: BTreeMap::new(),
            commands: AtomicU64::new(0),
        };
        for id in 1..=count {
            let node = cast.node(NodeId(id), working.contains(&id));
            cast.nodes.insert(id, node);
        }
        cast.lead(1, 1);
        cast
    }

    fn node(&self, id: NodeId, working: bool) -> Node {
        let clock = StageClock::new(self.shared.begin);
        let clocks = ClockWatch::new(id, clock.clone());
        clocks.count([id].into());
        let log = StageLog::new(id, self.shared.clone());
        let machine = self.shared.machine.clone();
        let front = Front::start(FrontParts {
            log: log.clone(),
            machine: machine.clone(),
            clock: clock.clone(),
            clocks: clocks.clone(),
            observer: Arc::new(Silent),
            idle: Duration::from_secs(30),
        });
        let leases = Leases::start(LeasesParts {
            log: log.clone(),
            machine: machine.clone(),
            clock: clock.clone(),
            clocks: clocks.clone(),
            lease: LEASE,
        });
        let wheel = WheelHandle::start(WheelParts {
            log: log.clone(),
            machine: machine.clone(),
            clock: clock.clone(),
            clocks: clocks.clone(),
            observer: Arc::new(Silent),
            // The next node always has newer data.
            zone_data: format!("{}.{id}", zone_data_version()).into(),
        });
        self.directory.leaders.lock().insert(id, (log.clone(), front.clone(), leases.clone()));
        let player = Arc::new(Player { node: id, book: self.book.clone() });
        let dispatcher = working.then(|| {
            Dispatcher::start(DispatcherParts {
                node: id,
                slots: 16,
                offers: Offers { http: true, builtin: true, programs: Programs::Any },
                leader: Arc::new(StageLeader { from: id, directory: self.directory.clone() }),
                machine,
                clock: clock.clone(),
                entropy: Arc::new(Counting::default()),
                executors: Arc::new(Executors {
                    http: player.clone(),
                    process: player.clone(),
                    builtin: player,
                }),
                outputs: self.outputs.clone(),
                observer: self.book.clone(),
                renew_every: LEASE / 3,
                margin: LEASE / 6,
            })
        });
        Node { log, clock, clocks, front, leases, wheel, dispatcher }
    }

    /// Makes a node the leader, and every other one a follower.
    pub(crate) fn lead(&self, leader: u64, term: u64) {
        for (id, node) in &self.nodes {
            if *id == leader { node.log.lead(term) } else { node.log.follow(term, Some(NodeId(leader))) }
        }
    }

    pub(crate) fn client(&self) -> Client {
        let command = self.commands.fetch_add(1, Ordering::Relaxed) + 1;
        Client {
            command: CommandId(u128::from(command)),
            issued_at: self.nodes[&1].log.shared.machine.read(|replica| replica.logged().max(BEGIN)),
            idempotency: None,
            tenant: TENANT.into(),
            subject: "ann".into(),
            correlation_id: "c-1".into(),
        }
    }

    pub(crate) async fn submit(&self, node: u64, intent: Intent) -> Result<Answer, SubmitError> {
        self.nodes[&node].front.submit(Submission { client: self.client(), intent }).await
    }

    /// Creates a task through the first node.
    pub(crate) async fn create(&self, id: u128, definition: Definition) -> TaskId {
        let task = TaskId(id);
        let draft = Draft { task, definition, paused: false };
        let answer = self.submit(1, Intent::CreateTasks(vec![draft])).await.expect("node 1 leads");
        assert_eq!(answer.outcome, Ok(Accepted::Tasks(vec![Ok(task)])));
        task
    }

    pub(crate) fn task(&self, task: TaskId) -> Option<Task> {
        self.shared.machine.read(|replica| replica.task(replica.tenant_number(TENANT)?, task).cloned())
    }

    pub(crate) fn open(&self) -> Vec<Arc<Execution>> {
        self.shared.machine.read(|replica| replica.executions().values().cloned().collect())
    }

    /// How many queues count as attended.
    pub(crate) fn attended(&self) -> usize {
        self.shared.machine.read(|replica| replica.queue().attended().count())
    }

    /// Makes a worker join, without a dispatcher: what it is granted stays with it.
    pub(crate) fn workers(&self) -> usize {
        self.shared.machine.read(|replica| replica.workers().len())
    }
}

/// A definition that does nothing, by a trigger.
pub(crate) fn noop(trigger: Trigger) -> Definition {
    let action = Action::Builtin { operation: Operation::Noop, parameters: None };
    Definition::new("a task", trigger, action)
}

/// A definition whose attempts the playbook plays.
pub(crate) fn played(trigger: Trigger) -> Definition {
    let action = Action::Http(HttpAction {
        method: "POST".into(),
        url: "https://runner.example/".into(),
        headers: BTreeMap::new(),
        body: None,
        completion: Completion::Response,
    });
    Definition { action, ..noop(trigger) }
}

/// Once, so many seconds after the beginning.
pub(crate) fn once(seconds: u64) -> Trigger {
    Trigger::Once { at: at(seconds), if_past: IfPast::Refuse }
}

/// Every so many seconds.
pub(crate) fn every(seconds: u64) -> Trigger {
    Trigger::Interval { every: Span::seconds(seconds), anchor: None }
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    BEGIN.plus(Span::seconds(seconds))
}
