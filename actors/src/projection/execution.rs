//! One execution as history knows it: a row folded from the records of its tenant.
//!
//! Instants of the execution are those that the leader stamped, so that they are in order whatever the workers' clocks say;
//! instants of its ended attempts are the worker's.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use escapement_domain::codec::{self, CodecError};
use escapement_domain::event::{AttemptEnded, Chaining, Event, GiveUpCause, RequeueCause};
use escapement_domain::execution::failure::FailureClass;
use escapement_domain::execution::state::{CancelCause, Holder, Occurrence, Status};
use escapement_domain::execution::usage::Usage;
use escapement_domain::identifier::{ExecutionId, NodeId, TaskId, TenantId};
use escapement_domain::record::{Record, RecordHeader};
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// Attempts that a row keeps, the latest.
pub const ATTEMPTS_KEPT: usize = 100;
/// Bytes of one row: the kept attempts with the longest errors, and the longest result.
const ROW_BYTES_MAX: usize = 1024 * 1024;

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionRow {
    /// Its name.
    pub id: ExecutionId,
    /// Its task.
    pub task: TaskId,
    /// The version of the definition that it runs, or ran last.
    pub task_version: u32,
    /// Whose it is.
    pub tenant: TenantId,
    /// What made it.
    pub occurrence: Occurrence,
    /// How it stands.
    pub status: Status,
    /// The instant it is for.
    pub scheduled_at: Timestamp,
    /// When it was queued, as the leader stamped it: before the commit, which no replica can know. None if it was skipped.
    pub fired_at: Option<Timestamp>,
    /// Milliseconds by which the leader's clock was ahead of most voters' when it stamped that, as far as it knew: by theirs, the
    /// fire came so much earlier. Below zero if it came later.
    pub clock_ahead_ms: i32,
    /// When its first attempt was granted.
    pub started_at: Option<Timestamp>,
    /// When it ended, or was skipped.
    pub finished_at: Option<Timestamp>,
    /// Attempts granted so far, those of before it was reopened among them.
    pub attempt: u32,
    /// The latest of its attempts, oldest first.
    pub attempts: Vec<AttemptRow>,
    /// How far it has come, as whoever has the attempt says.
    pub progress: Option<Progress>,
    /// JSON text of what it returned.
    pub result: Option<Sealed>,
    /// Why its last attempt failed.
    pub error: Option<Arc<str>>,
    /// JSON text of a list: the items that failed last, for its next attempt.
    pub retry_items: Option<Sealed>,
    /// Why it waited for an earlier one, or was skipped, cancelled, lost or given up.
    pub reason: Option<Reason>,
    /// Whether the run that it began was cancelled as a whole.
    pub run_cancelled: bool,
    /// The index of the log entry that made it.
    pub log_index: u64,
    /// The request that it goes back to; empty where its own name serves.
    pub correlation_id: Arc<str>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// Counted from 1.
    pub number: u32,
    /// Who had it.
    pub worker: AttemptWorker,
    /// Its fencing token.
    pub token: u64,
    /// When it began: when it was granted, until the worker says better.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended; none while it is in the hands of its worker.
    pub outcome: Option<Outcome>,
    /// What sort of failure it was, if it failed.
    pub failure: Option<FailureClass>,
    /// Why it failed.
    pub error: Option<Arc<str>>,
    /// What it used, if its worker could tell.
    pub usage: Option<Usage>,
}

fn text_in(sealed: &Sealed) -> Option<&str> {
    std::str::from_utf8(sealed.open().ok()?).ok()
}

/// Who made an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptWorker {
    /// A node of the cluster.
    Node(NodeId),
    /// A worker outside it, by the name that it gave itself.
    Outside(Arc<str>),
}

impl AttemptWorker {
    fn of(holder: &Holder) -> Self {
        match holder {
            Holder::Node { node, .. } => Self::Node(*node),
            Holder::Outside { worker, .. } => Self::Outside(worker.clone()),
        }
    }
}

impl fmt::Display for AttemptWorker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(formatter, "node-{node}"),
            Self::Outside(worker) => formatter.write_str(worker),
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It did what it was asked.
    Succeeded,
    /// It failed.
    Failed,
    /// It took too long.
    TimedOut,
    /// It was told to stop.
    Cancelled,
    /// Its worker was lost.
    Lost,
    /// Its worker stopped and gave it back.
    HandedBack,
}

impl Outcome {
    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::HandedBack => "handed_back",
        }
    }
}

/// How far an execution has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// From 0 to 100.
    pub percent: u8,
    /// A sentence for people.
    pub message: Arc<str>,
}

/// Why an execution did not run at once, or to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// It was skipped.
    Skipped(escapement_domain::event::SkipReason),
    /// It was told to stop.
    Cancelled(CancelCause),
    /// Its attempt was taken back, and it may be made at most once.
    Lost(RequeueCause),
    /// It had to wait until earlier ones of its task had ended.
    Held,
    /// It failed, and is not tried again.
    GivenUp(GiveUpCause),
}

impl Reason {
    /// A sentence for people.
    #[must_use]
    pub fn explanation(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Skipped(reason) => return reason.explanation(),
            Self::Cancelled(CancelCause::Requested) => "somebody asked for it to be cancelled",
            Self::Cancelled(CancelCause::Superseded) => {
                "a newer occurrence of the task took its place (overlap: cancel_running)"
            }
            Self::Cancelled(CancelCause::TaskDeleted) => "its task was deleted",
            Self::Cancelled(CancelCause::OutOfTime) => GiveUpCause::ExecutionTimeout.explanation(),
            Self::Lost(RequeueCause::LeaseExpired { .. }) => {
                "its worker was not heard of until the lease was over, and the task is delivered at most once"
            }
            Self::Lost(RequeueCause::HandedBack { .. }) => {
                "its worker stopped with it unfinished, and the task is delivered at most once"
            }
            Self::Lost(_) => "its worker was lost and the task is delivered at most once",
            Self::Held => {
                "an earlier execution of the task had not ended: it waited for that (overlap policy)"
            }
            Self::GivenUp(cause) => cause.explanation(),
        })
    }
}

impl ExecutionRow {
    /// What made it, in the API's words.
    #[must_use]
    pub fn trigger(&self) -> &'static str {
        match self.occurrence {
            Occurrence::Scheduled(_) | Occurrence::Moved(_) => "schedule",
            Occurrence::Manual(_) => "manual",
            Occurrence::Backfill { .. } => "backfill",
            Occurrence::Event(_) => "event",
            Occurrence::After { .. } | Occurrence::Joined { .. } => "after",
        }
    }

    /// The run of a chain that it belongs to, by the execution that began it: itself, unless it follows others in theirs.
    #[must_use]
    pub fn run(&self) -> ExecutionId {
        self.occurrence.run_of(self.id)
    }

    /// Whether it follows others in their run.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.run() != self.id
    }

    /// Milliseconds from its instant to the stamp of its fire; none if it was skipped, or if a backfill asked for it long after.
    #[must_use]
    pub fn lateness_ms(&self) -> Option<u64> {
        let in_time = self.fired_at.filter(|_| !matches!(self.occurrence, Occurrence::Backfill { .. }));
        in_time.map(|fired| fired.since(self.scheduled_at).0)
    }

    /// The request that it goes back to, in words: its own name where there is none.
    #[must_use]
    pub fn correlation(&self) -> String {
        if self.correlation_id.is_empty() { self.id.to_string() } else { self.correlation_id.to_string() }
    }

    /// JSON text of what it returned, if it returned something that can be opened.
    #[must_use]
    pub fn result_text(&self) -> Option<&str> {
        text_in(self.result.as_ref()?)
    }

    /// JSON text of the items that failed last, if some were named and can be opened.
    #[must_use]
    pub fn retry_items_text(&self) -> Option<&str> {
        text_in(self.retry_items.as_ref()?)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, ROW_BYTES_MAX>("execution row", bytes)
    }

    /// The row that a record makes, if it makes one. `TaskReopened` makes one only where the old one was removed.
    pub(super) fn made_by(record: &Record) -> Option<Self> {
        let header = &record.header;
        match &record.event {
            Event::TaskScheduled {
                task, execution, occurrence, scheduled_at, task_version, held, ..
            } => {
                let mut row = Self::new(header, *execution, *task, *task_version, *occurrence, *scheduled_at);
                row.fired_at = Some(header.at);
                row.clock_ahead_ms = header.ahead_ms;
                row.reason = held.then_some(Reason::Held);
                Some(row)
            }
            Event::TaskSkipped {
                task, execution, occurrence, scheduled_at, task_version, reason, ..
            } => {
                let mut row = Self::new(header, *execution, *task, *task_version, *occurrence, *scheduled_at);
                row.status = Status::Skipped;
                row.finished_at = Some(header.at);
                row.reason = Some(Reason::Skipped(reason.clone()));
                Some(row)
            }
            Event::TaskReopened {
                task,
                execution,
                occurrence,
                scheduled_at,
                task_version,
                attempts,
                status,
                retry_items,
                ..
            } => {
                let mut row = Self::new(header, *execution, *task, *task_version, *occurrence, *scheduled_at);
                row.attempt = *attempts;
                row.status = *status;
                row.retry_items = retry_items.clone();
                Some(row)
            }
            _ => None,
        }
    }

    fn new(
        header: &RecordHeader,
        id: ExecutionId,
        task: TaskId,
        task_version: u32,
        occurrence: Occurrence,
        scheduled_at: Timestamp,
    ) -> Self {
        Self {
            id,
            task,
            task_version,
            tenant: header.tenant,
            occurrence,
            status: Status::Queued,
            scheduled_at,
            fired_at: None,
            clock_ahead_ms: 0,
            started_at: None,
            finished_at: None,
            attempt: 0,
            attempts: Vec::new(),
            progress: None,
            result: None,
            error: None,
            retry_items: None,
            reason: None,
            run_cancelled: false,
            log_index: header.log_index,
            correlation_id: header.correlation_id.clone(),
        }
    }

    /// Lets a later record of the execution change the row.
    pub(super) fn evolve(&mut self, record: &Record) {
        let (at, sequence) = (record.header.at, record.header.sequence);
        match &record.event {
            Event::TaskStarted { attempt, holder, .. } => {
                self.start(*attempt, AttemptWorker::of(holder), sequence, at);
            }
            Event::TaskProgress { percent, message, .. } => {
                let known = self.progress.take();
                let percent = percent.or(known.as_ref().map(|known| known.percent)).unwrap_or(0);
                let message = message.clone().or(known.map(|known| known.message)).unwrap_or_default();
                self.progress = Some(Progress { percent, message });
            }
            Event::TaskRetry { ended, .. } => {
                self.end_attempt(ended, outcome_of(ended));
                self.status = Status::Retrying;
            }
            Event::TaskRequeued { cause, .. } => {
                match cause {
                    RequeueCause::RetryDue => {}
                    RequeueCause::WorkerLost { .. } | RequeueCause::LeaseExpired { .. } => {
                        self.take_back(Outcome::Lost, at);
                    }
                    RequeueCause::HandedBack { .. } | RequeueCause::NotStarted { .. } => {
                        self.take_back(Outcome::HandedBack, at)
                    }
                }
                self.status = Status::Queued;
            }
            Event::Chain(chaining) => {
                self.run_cancelled = matches!(chaining, Chaining::RunCancelled { .. });
            }
            Event::TaskCancelRequested { cause, .. } => self.reason = Some(Reason::Cancelled(*cause)),
            Event::TaskReopened { task_version, attempts, .. } => self.reopen(*task_version, *attempts, at),
            _ => self.finish(&record.event, at),
        }
    }

    fn start(&mut self, number: u32, worker: AttemptWorker, token: u64, at: Timestamp) {
        self.status = Status::Running;
        self.attempt = number;
        self.started_at.get_or_insert(at);
        self.progress = None;
        if self.attempts.len() >= ATTEMPTS_KEPT {
            self.attempts.remove(0);
        }
        let attempt = AttemptRow {
            number,
            worker,
            token,
            started_at: at,
            finished_at: None,
            outcome: None,
            failure: None,
            error: None,
            usage: None,
        };
        self.attempts.push(attempt);
    }

    fn finish(&mut self, event: &Event, at: Timestamp) {
        self.status = match event {
            Event::TaskCompleted { ended, result, .. } => {
                self.end_attempt(ended, Outcome::Succeeded);
                self.result = result.clone();
                // It was done before it could be stopped.
                self.reason = self.reason.take().filter(|reason| !matches!(reason, Reason::Cancelled(_)));
                Status::Succeeded
            }
            Event::TaskFailed { ended, result, cause, .. } => {
                self.end_attempt(ended, Outcome::Failed);
                self.result = result.clone();
                self.reason = Some(Reason::GivenUp(*cause));
                Status::Failed
            }
            Event::TaskTimedOut { ended, cause, .. } => {
                match ended {
                    Some(ended) => self.end_attempt(ended, outcome_of(ended)),
                    None => self.take_back(Outcome::Lost, at),
                }
                self.reason = Some(Reason::GivenUp(*cause));
                Status::TimedOut
            }
            Event::TaskCancelled { cause, ended, .. } => {
                match ended {
                    Some(ended) => self.end_attempt(ended, Outcome::Cancelled),
                    None => self.take_back(Outcome::Cancelled, at),
                }
                self.reason = Some(Reason::Cancelled(*cause));
                Status::Cancelled
            }
            Event::TaskLost { cause, .. } => {
                self.take_back(Outcome::Lost, at);
                self.reason = Some(Reason::Lost(*cause));
                Status::Lost
            }
            _ => return,
        };
        self.finished_at = Some(at);
    }

    fn reopen(&mut self, task_version: u32, attempts: u32, at: Timestamp) {
        self.task_version = task_version;
        self.attempt = attempts;
        self.status = Status::Queued;
        // An occurrence that was skipped is fired now.
        self.fired_at.get_or_insert(at);
        self.finished_at = None;
        self.result = None;
        self.error = None;
        self.reason = None;
    }

    /// The attempt that is in the hands of a worker.
    fn running(&mut self) -> Option<&mut AttemptRow> {
        self.attempts.last_mut().filter(|attempt| attempt.outcome.is_none())
    }

    fn end_attempt(&mut self, ended: &AttemptEnded, outcome: Outcome) {
        if let Some(attempt) = self.running() {
            attempt.started_at = ended.started_at;
            attempt.finished_at = Some(ended.finished_at);
            attempt.outcome = Some(outcome);
            attempt.failure = ended.failure;
            attempt.usage = ended.usage;
            attempt.error = ended.error.clone();
        }
        self.error = ended.error.clone();
        if ended.failed_items.is_some() {
            self.retry_items = ended.failed_items.clone();
        }
    }

    fn take_back(&mut self, outcome: Outcome, at: Timestamp) {
        if let Some(attempt) = self.running() {
            attempt.finished_at = Some(at);
            attempt.outcome = Some(outcome);
        }
    }
}

/// How an attempt ended of an execution that did not succeed.
fn outcome_of(ended: &AttemptEnded) -> Outcome {
    match ended.failure {
        Some(FailureClass::TimedOut) => Outcome::TimedOut,
        Some(_) => Outcome::Failed,
        None => Outcome::Cancelled,
    }
}
