//! One node in memory for tests: the real state, the real read models and the real front of the leader, over a log that is
//! applied the moment it is proposed to. Only the clock, the log and the way to the leader are pretended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use escapement_actors::intent::{self, Heartbeat, Intent, Renewal, Renewed, Submission, SubmitError};
use escapement_actors::machine::Machine;
use escapement_actors::ports::{Clock, Entropy, Leader, Leadership, Log, Silent};
use escapement_actors::projection::Projections;
use escapement_actors::queue_watch::QueueWatch;
use escapement_actors::task::{Front, FrontParts, IDLE};
use escapement_actors::worker::clocks::ClockWatch;
use escapement_domain::answer::Answer;
use escapement_domain::command::{
    AttemptOutcome, AttemptResult, Command, Due, Offers, Origin, Programs, Report, Request,
};
use escapement_domain::execution::failure::Failure;
use escapement_domain::identifier::{ExecutionId, Incarnation, NodeId, TaskId};
use escapement_domain::replica::Replica;
use escapement_domain::task::plan::{self, Delay, Timetable};
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::state::{Phase, Task};
use escapement_domain::timestamp::Timestamp;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::callbacks::CallbackDesk;
use super::cluster::{Cluster, ClusterError, ClusterStatus, NodeStatus};
use super::history::{HistoryError, LineStream, OutputLine, OutputPage, OutputQuery, Outputs};
use super::{Caller, Consistency, Service, ServiceError, ServiceParts};
use crate::executor::{Hearing, LeaseToken, Said};
use crate::security::{Principal, Role};
use crate::store::MemoryStorage;

/// 2026-03-01T12:00:00Z, when every test begins.
pub(crate) const NOW: Timestamp = Timestamp(1_772_366_400_000);
/// Looks at what is due, until nothing is.
const ROUNDS: usize = 10_000;
const WORKER: (NodeId, Incarnation) = (NodeId(1), Incarnation(11));

/// How the way to the leader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// There is no leader.
    Closed,
    /// The leader's queue is full.
    Full,
    /// The request arrives, its answer does not.
    Lossy,
}

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(NOW.0 + self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.load(Ordering::SeqCst)).unwrap_or(0))
    }
}

/// The clock of this node, which may be ahead of the leader's.
struct OwnClock {
    leaders: Arc<TestClock>,
    ahead: AtomicI64,
}

impl Clock for OwnClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.leaders.now().0 + self.ahead.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> std::time::Duration {
        self.leaders.monotonic()
    }
}

struct Counting(AtomicU64);

impl Entropy for Counting {
    fn bits(&self) -> u128 {
        // The bits that an identifier takes are the upper ones.
        u128::from(self.0.fetch_add(1, Ordering::SeqCst)) << 64
    }
}

struct TestLog {
    machine: Arc<Machine>,
    clock: Arc<TestClock>,
    index: AtomicU64,
    way: Arc<Mutex<Way>>,
    leadership: watch::Sender<Leadership>,
}

impl TestLog {
    fn append(&self, command: Vec<u8>) -> Answer {
        let index = self.index.fetch_add(1, Ordering::SeqCst) + 1;
        let answers = self.machine.apply(index, &[Bytes::from(command)]).expect("of this version");
        while self.machine.read(|replica| replica.left_over()) {
            let at = self.clock.now();
            let more = Command { stamp: at.into(), origin: Origin::Scheduler, request: Request::Continue };
            let index = self.index.fetch_add(1, Ordering::SeqCst) + 1;
            self.machine.apply(index, &[Bytes::from(more.encode())]).expect("of this version");
        }
        Answer::decode(&answers[0]).expect("an answer")
    }
}

impl Log for TestLog {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        let answer = self.append(command);
        async move { Ok(answer) }.boxed()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<u64, SubmitError>> {
        let answer = match *self.way.lock() {
            Way::Closed => {
                // Looking for a leader in vain takes its time.
                self.clock.0.fetch_add(3_000, Ordering::SeqCst);
                Err(SubmitError::NotLeader { leader: None })
            }
            _ => Ok(self.machine.applied()),
        };
        async move { answer }.boxed()
    }
}

struct TestLeader {
    front: Front,
    machine: Arc<Machine>,
    way: Arc<Mutex<Way>>,
}

impl Leader for TestLeader {
    fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        let way = *self.way.lock();
        match way {
            Way::Open => self.front.submit(submission),
            Way::Closed => async { Err(SubmitError::NotLeader { leader: None }) }.boxed(),
            Way::Full => async { Err(SubmitError::Busy) }.boxed(),
            Way::Lossy => {
                let carried = self.front.submit(submission);
                async move { carried.await.and(Err(SubmitError::Unknown)) }.boxed()
            }
        }
    }

    fn report(&self, report: Report) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        self.front.report(report)
    }

    fn renew(&self, _: Renewal) -> BoxFuture<'static, Result<Renewed, SubmitError>> {
        async { Err(SubmitError::Busy) }.boxed()
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'static, Result<intent::Heard, SubmitError>> {
        let heard = self.machine.read(|replica| {
            let Some(open) = replica.execution(heartbeat.execution) else {
                return intent::Heard::NoSuchExecution;
            };
            match open.grant() {
                Some(grant) if grant.token == heartbeat.token => {
                    intent::Heard::Until { lease_millis: 30_000, cancel: open.cancelling.is_some() }
                }
                _ => intent::Heard::Stale,
            }
        });
        async move { Ok(heard) }.boxed()
    }
}

/// No attempt here has a target that reports later.
struct NoTargets;

impl CallbackDesk for NoTargets {
    fn say(&self, _: ExecutionId, _: LeaseToken, _: Said) -> BoxFuture<'static, Option<(Hearing, u64)>> {
        async move { Some((Hearing::Unknown, 0)) }.boxed()
    }

    fn was_good(&self, _: ExecutionId, _: LeaseToken) -> bool {
        false
    }
}

/// A group of one, and what it was told to do.
#[derive(Default)]
pub(crate) struct TestCluster {
    pub(crate) told: Mutex<Vec<String>>,
    pub(crate) refuse: Mutex<Option<ClusterError>>,
    /// Where the APIs of further nodes listen.
    pub(crate) others: Mutex<Vec<String>>,
}

impl TestCluster {
    fn tell(&self, what: String) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.told.lock().push(what);
        let answer = self.refuse.lock().clone().map_or(Ok(()), Err);
        async move { answer }.boxed()
    }
}

impl Cluster for TestCluster {
    fn status(&self) -> BoxFuture<'static, ClusterStatus> {
        let node = |(id, api): (u64, String)| NodeStatus {
            id: NodeId(id),
            role: if id == 1 { "leader" } else { "follower" },
            voter: true,
            api,
            peer: "127.0.0.1:7170".into(),
            applied: Some(7),
            lag: Some(0),
            zone_data: Some("2025b".into()),
            clock_offset_ms: Some(0),
            history_complete: Some(true),
        };
        let others = self.others.lock().clone();
        let nodes = (1..).zip(std::iter::once("127.0.0.1:7070".to_owned()).chain(others)).map(node).collect();
        async { ClusterStatus { leader: Some(NodeId(1)), term: 1, nodes, ..ClusterStatus::default() } }
            .boxed()
    }

    fn add_node(
        &self,
        node: NodeId,
        api: String,
        peer: String,
    ) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.tell(format!("add {node} {api} {peer}"))
    }

    fn promote(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.tell(format!("promote {node}"))
    }

    fn remove_node(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.tell(format!("remove {node}"))
    }

    fn transfer_leadership(&self, to: Option<NodeId>) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.tell(format!("transfer {to:?}"))
    }
}

/// Lines that attempts wrote.
#[derive(Default)]
pub(crate) struct TestOutputs {
    pub(crate) lines: Mutex<BTreeMap<u32, Vec<&'static str>>>,
}

impl Outputs for TestOutputs {
    fn read(&self, query: OutputQuery) -> BoxFuture<'static, Result<OutputPage, HistoryError>> {
        let lines = self.lines.lock();
        let Some(written) = lines.get(&query.attempt) else {
            return async { Err(HistoryError::Elsewhere) }.boxed();
        };
        let skip = query.after.map_or(0, |after| after.line as usize + 1);
        let place = |line: usize| super::history::OutputCursor {
            attempt: query.attempt,
            pack: 0,
            line: u32::try_from(line).expect("few lines"),
        };
        let page: Vec<_> = written.iter().enumerate().skip(skip).take(query.limit).collect();
        let next = page.last().map(|(line, _)| *line).filter(|last| last + 1 < written.len()).map(place);
        let line = |text: &&str| OutputLine {
            attempt: query.attempt,
            at: NOW,
            stream: LineStream::Stdout,
            text: (*text).to_owned(),
        };
        let places = page.iter().map(|(line, _)| place(*line)).collect();
        let page = OutputPage { lines: page.iter().map(|(_, text)| line(text)).collect(), places, next };
        async move { Ok(page) }.boxed()
    }

    fn growth(&self, _: ExecutionId, _: NodeId) -> BoxStream<'static, ()> {
        futures::stream::pending().boxed()
    }
}

/// See the [module](self).
pub(crate) struct TestNode {
    pub(crate) service: Service,
    pub(crate) machine: Arc<Machine>,
    pub(crate) cluster: Arc<TestCluster>,
    pub(crate) outputs: Arc<TestOutputs>,
    clock: Arc<TestClock>,
    own_clock: Arc<OwnClock>,
    log: Arc<TestLog>,
    way: Arc<Mutex<Way>>,
    reports: AtomicU64,
}

impl TestNode {
    /// Starts a node without a worker. Must be called in a `LocalSet`.
    pub(crate) fn start() -> Self {
        let machine = Arc::new(Machine::default());
        let clock = Arc::new(TestClock(AtomicI64::new(0)));
        let way = Arc::new(Mutex::new(Way::Open));
        let leads = Leadership { term: 1, leader: Some(NodeId(1)), leading: true };
        let log = Arc::new(TestLog {
            machine: machine.clone(),
            clock: clock.clone(),
            index: AtomicU64::new(0),
            way: way.clone(),
            leadership: watch::Sender::new(leads),
        });
        let projections =
            Projections::start(machine.clone(), Arc::new(MemoryStorage::new())).expect("an empty storage");
        let clocks = ClockWatch::new(NodeId(1), clock.clone());
        clocks.count([NodeId(1)].into());
        let front = Front::start(FrontParts {
            log: log.clone(),
            machine: machine.clone(),
            clock: clock.clone(),
            clocks,
            observer: Arc::new(Silent),
            idle: IDLE,
        });
        let (cluster, outputs) = (Arc::<TestCluster>::default(), Arc::<TestOutputs>::default());
        let own_clock = Arc::new(OwnClock { leaders: clock.clone(), ahead: AtomicI64::new(0) });
        let service = Service::new(ServiceParts {
            machine: machine.clone(),
            queues: QueueWatch::start(&machine),
            log: log.clone(),
            leader: Arc::new(TestLeader { front, machine: machine.clone(), way: way.clone() }),
            clock: own_clock.clone(),
            entropy: Arc::new(Counting(AtomicU64::new(1))),
            callbacks: Arc::new(NoTargets),
            read_models: Arc::new(projections),
            outputs: outputs.clone(),
            cluster: cluster.clone(),
        });
        let reports = AtomicU64::new(0);
        Self { service, machine, cluster, outputs, clock, own_clock, log, way, reports }
    }

    pub(crate) fn way_is(&self, way: Way) {
        *self.way.lock() = way;
        let leader = (way != Way::Closed).then_some(NodeId(1));
        self.log.leadership.send_replace(Leadership { term: 1, leader, leading: leader.is_some() });
    }

    pub(crate) fn advance(&self, millis: i64) {
        self.clock.0.fetch_add(millis, Ordering::SeqCst);
    }

    /// This node's clock is so much ahead of the leader's from now on.
    pub(crate) fn is_ahead(&self, millis: i64) {
        self.own_clock.ahead.store(millis, Ordering::SeqCst);
    }

    pub(crate) fn scheduler(&self, request: Request) -> Answer {
        self.log
            .append(Command { stamp: self.clock.now().into(), origin: Origin::Scheduler, request }.encode())
    }

    /// Somebody wants something, past what the service checks.
    pub(crate) async fn carry_out(&self, caller: &Caller, intent: Intent) -> Result<(), ServiceError> {
        self.service.carry_out(caller, intent).await.map(drop)
    }

    /// A worker joins that runs the listed programs.
    pub(crate) fn worker(&self, programs: Programs) {
        let offers = Offers { http: true, builtin: true, programs };
        let (node, incarnation) = WORKER;
        let joined = self.scheduler(Request::JoinWorker { node, incarnation, slots: 8, offers });
        assert!(joined.outcome.is_ok(), "a worker may always join");
    }

    /// The next instant of a task fires.
    pub(crate) fn fire(&self, task: TaskId, next: Option<Timestamp>) {
        let due = self.machine.read(|replica| {
            let task = replica.tasks().iter().find(|other| other.id == task).expect("the task exists");
            let due = task.next.expect("it is due");
            Due { slot: task.slot, revision: task.revision, due, passed: None, next, next_allowed: next }
        });
        self.scheduler(Request::Fire(vec![due]));
    }

    /// Settles everything that is due, as the wheel would.
    pub(crate) fn settle(&self) {
        let now = self.service.now();
        for _ in 0..ROUNDS {
            let (mut due, mut moved) = (Vec::new(), Vec::new());
            self.machine.read(|replica| {
                for task in replica.tasks().iter() {
                    let first =
                        task.next_moved().filter(|(to, _)| *to <= now && task.phase() == Phase::Active);
                    if let Some((_, at)) = first {
                        moved.push((task.slot, at));
                    } else {
                        let (revision, timetable) = (replica.revision(task), timetable_of(task, replica));
                        due.extend(plan::due(task, revision, &timetable, now, Delay::Jittered, 100));
                    }
                }
            });
            if due.is_empty() && moved.is_empty() {
                return;
            }
            self.scheduler(Request::FireMoved(moved));
            self.scheduler(Request::Fire(due));
        }
        panic!("something is due for ever");
    }

    /// The running attempt of an execution ends.
    pub(crate) fn end(&self, execution: ExecutionId, outcome: AttemptOutcome) {
        let (tenant, token) = self.machine.read(|replica| {
            let open = replica.execution(execution).expect("open");
            (open.tenant, open.grant().expect("running").token)
        });
        let at = self.clock.now();
        let result =
            AttemptResult { execution, tenant, token, started_at: at, finished_at: at, outcome, usage: None };
        let sequence = self.reports.fetch_add(1, Ordering::SeqCst) + 1;
        let (node, incarnation) = WORKER;
        self.scheduler(Request::Report(Report { node, incarnation, sequence, results: vec![result] }));
    }

    pub(crate) fn succeed(&self, execution: ExecutionId) {
        self.end(execution, AttemptOutcome::Succeeded(Some(Sealed::in_clear(br#"{"passed":7}"#.to_vec()))));
    }

    pub(crate) fn fail(&self, execution: ExecutionId) {
        self.end(execution, AttemptOutcome::Failed(Failure::new("exit code 1")));
    }
}

/// How a task is planned.
pub(crate) fn timetable_of(task: &Task, replica: &Replica) -> Timetable {
    Timetable::of(task, replica.calendars().named_by(task)).expect("sound")
}

/// Somebody of a tenant.
pub(crate) fn caller(subject: &str, tenant: &str, roles: &[Role]) -> Caller {
    Caller {
        principal: Principal { subject: subject.into(), tenant: tenant.into(), roles: roles.to_vec() },
        correlation_id: "request".into(),
        idempotency: None,
        consistency: Consistency::Linearizable,
    }
}
