//! A log of one place that several nodes can lead in turn, and the ways in which it can misbehave.
//!
//! Time is tokio's, paused: it moves only when everybody waits.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use escapement_actors::intent::{Heard, Heartbeat, Renewal, Renewed, Submission, SubmitError};
use escapement_actors::machine::Machine;
use escapement_actors::ports::{Clock, Entropy, Leader, Leadership, Log};
use escapement_actors::task::Front;
use escapement_actors::worker::Leases;
use escapement_domain::answer::Answer;
use escapement_domain::command::{Command, Origin, Report, Request};
use escapement_domain::identifier::NodeId;
use escapement_domain::timestamp::Timestamp;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// The instant at which every test begins: 2026-03-01T00:00:00Z.
pub(crate) const BEGIN: Timestamp = Timestamp(1_772_323_200_000);

/// Runs a test on one thread of paused time.
pub(crate) fn play(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O always starts");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Waits, in paused time, until something holds; a test that waits longer than two minutes has failed.
#[track_caller]
pub(crate) fn until(mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        for _ in 0..120_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("what {place} waits for did not come");
    }
}

/// A wall clock that may be wrong over tokio's paused time.
pub(crate) struct StageClock {
    begin: Instant,
    wrong_by: AtomicI64,
    unsteady: AtomicBool,
    last_reading: AtomicI64,
}

impl StageClock {
    pub(crate) fn new(begin: Instant) -> Arc<Self> {
        Arc::new(Self {
            begin,
            wrong_by: AtomicI64::new(0),
            unsteady: AtomicBool::new(false),
            last_reading: AtomicI64::new(-1),
        })
    }

    /// From now on a millisecond passes after the first reading of an instant.
    pub(crate) fn set_unsteady(&self) {
        self.unsteady.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_wrong_by(&self, millis: i64) {
        self.wrong_by.store(millis, Ordering::Relaxed);
    }
}

impl Clock for StageClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.monotonic().as_millis()).expect("tests are short");
        let read_before = self.last_reading.swap(elapsed, Ordering::Relaxed) == elapsed;
        let passed = i64::from(read_before && self.unsteady.load(Ordering::Relaxed));
        Timestamp(BEGIN.0 + elapsed + passed + self.wrong_by.load(Ordering::Relaxed))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Clock of the tests")]
    fn monotonic(&self) -> Duration {
        Instant::now().duration_since(self.begin)
    }
}

/// Numbers that follow each other.
#[derive(Default)]
pub(crate) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn bits(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1) << 64
    }
}

/// What was committed, and by whom it may be.
pub(crate) struct Shared {
    pub(crate) machine: Arc<Machine>,
    pub(crate) begin: Instant,
    index: AtomicU64,
    /// Every command that was proposed, with its node, in order.
    proposed: Mutex<Vec<(NodeId, Command)>>,
    /// How many commands were applied.
    applied: Mutex<Vec<Command>>,
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock of the tests")]
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            machine: Arc::default(),
            begin: Instant::now(),
            index: AtomicU64::new(0),
            proposed: Mutex::default(),
            applied: Mutex::default(),
        })
    }

    pub(crate) fn apply(&self, command: &[u8]) -> Answer {
        let index = self.index.fetch_add(1, Ordering::Relaxed) + 1;
        self.applied.lock().push(Command::decode(command).expect("what is proposed can be read"));
        let answers = self.machine.apply(index, &[Bytes::copy_from_slice(command)]).expect("of this version");
        Answer::decode(answers.first().expect("one answer a command")).expect("an answer can be read")
    }

    /// How many commands of some kind were proposed by a node.
    pub(crate) fn proposals(&self, node: NodeId, kind: impl Fn(&Request) -> bool) -> usize {
        self.proposed.lock().iter().filter(|(by, command)| *by == node && kind(&command.request)).count()
    }

    /// How many commands of clients a node has proposed.
    pub(crate) fn client_proposals(&self, node: NodeId) -> usize {
        let of_client = |command: &Command| matches!(command.origin, Origin::Client(_));
        self.proposed.lock().iter().filter(|(by, command)| *by == node && of_client(command)).count()
    }

    /// The requests that were applied, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.applied.lock().iter().map(|command| command.request.clone()).collect()
    }
}

/// How a node's log behaves.
#[derive(Clone, Copy, Default)]
pub(crate) struct Conduct {
    /// How long a proposal takes.
    pub(crate) delay: Duration,
    /// So many more proposals are applied and answered with `Unknown`.
    pub(crate) forgetful: usize,
    /// So many more proposals are lost and answered with `Unknown`.
    pub(crate) lossy: usize,
    /// So many more proposals are refused with `Busy`.
    pub(crate) busy: usize,
}

/// The log as one node sees it.
pub(crate) struct StageLog {
    pub(crate) node: NodeId,
    pub(crate) shared: Arc<Shared>,
    leadership: watch::Sender<Leadership>,
    conduct: Mutex<Conduct>,
}

impl StageLog {
    pub(crate) fn new(node: NodeId, shared: Arc<Shared>) -> Arc<Self> {
        let conduct = Conduct { delay: Duration::from_millis(1), ..Conduct::default() };
        Arc::new(Self {
            node,
            shared,
            leadership: watch::Sender::new(Leadership::default()),
            conduct: Mutex::new(conduct),
        })
    }

    pub(crate) fn lead(&self, term: u64) {
        self.leadership.send_replace(Leadership { term, leader: Some(self.node), leading: true });
    }

    pub(crate) fn follow(&self, term: u64, leader: Option<NodeId>) {
        self.leadership.send_replace(Leadership { term, leader, leading: false });
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut self.conduct.lock());
    }

    pub(crate) fn leads(&self) -> bool {
        self.leadership.borrow().leading
    }

    fn fate(&self) -> Fate {
        let mut conduct = self.conduct.lock();
        if conduct.busy > 0 {
            conduct.busy -= 1;
            Fate::Busy
        } else if conduct.lossy > 0 {
            conduct.lossy -= 1;
            Fate::Lost
        } else if conduct.forgetful > 0 {
            conduct.forgetful -= 1;
            Fate::Forgotten
        } else {
            Fate::Answered
        }
    }
}

enum Fate {
    Answered,
    Forgotten,
    Lost,
    Busy,
}

impl Log for StageLog {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        let leadership = *self.leadership.borrow();
        if !leadership.leading {
            return std::future::ready(Err(SubmitError::NotLeader { leader: leadership.leader })).boxed();
        }
        let decoded = Command::decode(&command).expect("what is proposed can be read");
        self.shared.proposed.lock().push((self.node, decoded));
        let (fate, delay) = (self.fate(), self.conduct.lock().delay);
        let (shared, term, watched) = (self.shared.clone(), leadership.term, self.leadership.subscribe());
        async move {
            tokio::time::sleep(delay).await;
            let present = *watched.borrow();
            if !present.leading || present.term != term {
                return Err(SubmitError::Unknown);
            }
            match fate {
                Fate::Answered => Ok(shared.apply(&command)),
                Fate::Busy => Err(SubmitError::Busy),
                Fate::Lost => Err(SubmitError::Unknown),
                Fate::Forgotten => {
                    shared.apply(&command);
                    Err(SubmitError::Unknown)
                }
            }
        }
        .boxed()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<u64, SubmitError>> {
        let leadership = *self.leadership.borrow();
        let (delay, machine) = (self.conduct.lock().delay, self.shared.machine.clone());
        async move {
            tokio::time::sleep(delay).await;
            if leadership.leading {
                Ok(machine.applied())
            } else {
                Err(SubmitError::NotLeader { leader: None })
            }
        }
        .boxed()
    }
}

/// A node that may lead.
type Candidate = (Arc<StageLog>, Front, Leases);

/// The way from every node to whoever leads.
#[derive(Default)]
pub(crate) struct Directory {
    pub(crate) leaders: Mutex<BTreeMap<NodeId, Candidate>>,
    pub(crate) cut_off: Mutex<BTreeSet<NodeId>>,
}

impl Directory {
    fn leader(&self, from: NodeId) -> Result<(Front, Leases), SubmitError> {
        let lost = self.cut_off.lock().contains(&from);
        let leaders = self.leaders.lock();
        let mut found = leaders.values().filter(|(log, ..)| log.leads() && !(lost && log.node != from));
        found
            .next()
            .map(|(_, front, leases)| (front.clone(), leases.clone()))
            .ok_or(SubmitError::NotLeader { leader: None })
    }
}

/// The leader as one node reaches it.
pub(crate) struct StageLeader {
    pub(crate) from: NodeId,
    pub(crate) directory: Arc<Directory>,
}

impl Leader for StageLeader {
    fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        match self.directory.leader(self.from) {
            Ok((front, _)) => front.submit(submission),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn report(&self, report: Report) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        match self.directory.leader(self.from) {
            Ok((front, _)) => front.report(report),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn renew(&self, renewal: Renewal) -> BoxFuture<'static, Result<Renewed, SubmitError>> {
        match self.directory.leader(self.from) {
            Ok((_, leases)) => leases.renew(renewal),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'static, Result<Heard, SubmitError>> {
        match self.directory.leader(self.from) {
            Ok((_, leases)) => leases.heartbeat(heartbeat),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }
}
