//! The leader, wherever it is: finds it, asks it, and asks again under the same command id until there is an answer or
//! the time is up.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use escapement_actors::intent::{Heard, Heartbeat, Renewal, Renewed, Submission, SubmitError};
use escapement_actors::ports::{Clock, Leader, Leadership};
use escapement_domain::answer::Answer;
use escapement_domain::command::Report;
use escapement_domain::identifier::NodeId;
use escapement_raft::{Transport, TransportError};
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::evidence::Witness;
use super::peer::{Question, Reply};

/// How long a request looks for a leader that answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a renewal may take: an answer that comes later finds the lease over.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before the leader is looked for again.
const PAUSE: Duration = Duration::from_millis(20);

/// What a node does with questions for the leader while it leads.
pub(super) trait Desk: Send + Sync + 'static {
    fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Answer, SubmitError>>;
    fn report(&self, report: Report) -> BoxFuture<'static, Result<Answer, SubmitError>>;
    fn renew(&self, renewal: Renewal) -> BoxFuture<'static, Result<Renewed, SubmitError>>;
    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'static, Result<Heard, SubmitError>>;
}

/// The way to the leader.
#[derive(Clone)]
pub struct LeaderFinder {
    node: NodeId,
    desk: Arc<OnceLock<Arc<dyn Desk>>>,
    transport: Arc<dyn Transport>,
    leadership: watch::Receiver<Leadership>,
    clock: Arc<dyn Clock>,
    witness: Witness,
}

impl LeaderFinder {
    pub(super) fn new(
        node: NodeId,
        transport: Arc<dyn Transport>,
        leadership: watch::Receiver<Leadership>,
        clock: Arc<dyn Clock>,
        witness: Witness,
    ) -> Self {
        Self { node, desk: Arc::default(), transport, leadership, clock, witness }
    }

    /// Sets up this node's own desk; once.
    pub(super) fn open_desk(&self, desk: Arc<dyn Desk>) {
        let opened = self.desk.set(desk);
        debug_assert!(opened.is_ok(), "a node has one desk");
    }

    /// Asks whoever leads, until somebody answers or `patience` is over.
    async fn ask<T>(
        mut self,
        question: Question,
        patience: Duration,
        here: impl Fn(&dyn Desk) -> BoxFuture<'static, Result<T, SubmitError>>,
        read: impl Fn(Reply) -> Option<Result<T, SubmitError>>,
    ) -> Result<T, SubmitError> {
        let deadline = self.clock.monotonic() + patience;
        let bytes = Bytes::from(question.encode());
        let mut may_be_committed = false;
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            let now = *self.leadership.borrow_and_update();
            let asked = match (now.leader, self.desk.get()) {
                _ if left.is_zero() => None,
                (Some(leader), Some(desk)) if leader == self.node => Some(here(&**desk).await),
                (Some(leader), _) if leader != self.node => {
                    Some(self.ask_peer(leader, &bytes, left, &read).await)
                }
                _ => None,
            };
            match asked {
                Some(Err(SubmitError::NotLeader { .. })) | None => {}
                Some(Err(SubmitError::Unknown)) => may_be_committed = true,
                // A refusal now says nothing of what was asked before.
                Some(Err(_)) if may_be_committed => {}
                Some(answer) => return answer,
            }
            // A change of leadership is heard at once; an answer of a leader that is just going is asked for again.
            let changed = tokio::time::timeout(PAUSE, self.leadership.changed()).await;
            let ended = matches!(changed, Ok(Err(_)));
            if ended || self.clock.monotonic() >= deadline {
                return Err(match (may_be_committed, ended) {
                    (true, _) => SubmitError::Unknown,
                    (false, true) => SubmitError::Stopped { reason: "its log ended".into() },
                    (false, false) => SubmitError::NotLeader { leader: None },
                });
            }
        }
    }

    async fn ask_peer<T>(
        &self,
        leader: NodeId,
        bytes: &Bytes,
        left: Duration,
        read: &impl Fn(Reply) -> Option<Result<T, SubmitError>>,
    ) -> Result<T, SubmitError> {
        match self.transport.request(leader.0, bytes.clone(), left).await {
            Ok(reply) => Reply::decode(&reply).ok().and_then(read).unwrap_or(Err(SubmitError::Unknown)),
            Err(TransportError::Busy { .. }) => Err(SubmitError::Busy),
            Err(TransportError::Unreachable { .. } | TransportError::Refused { .. }) => {
                Err(SubmitError::NotLeader { leader: None })
            }
            Err(
                TransportError::Timeout { .. }
                | TransportError::Interrupted { .. }
                | TransportError::Remote { .. },
            ) => Err(SubmitError::Unknown),
            Err(error @ TransportError::TooLarge { .. }) => {
                Err(SubmitError::Stopped { reason: error.to_string().into() })
            }
        }
    }
}

impl Leader for LeaderFinder {
    fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        let question = Question::Submit(Box::new(submission.clone()));
        let here = move |desk: &dyn Desk| desk.submit(submission.clone());
        Box::pin(self.clone().ask(question, PATIENCE, here, answer_of))
    }

    fn report(&self, report: Report) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        let question = Question::Report(report.clone());
        let here = move |desk: &dyn Desk| desk.report(report.clone());
        Box::pin(self.clone().ask(question, PATIENCE, here, answer_of))
    }

    fn renew(&self, renewal: Renewal) -> BoxFuture<'static, Result<Renewed, SubmitError>> {
        let question = Question::Renew(renewal.clone(), self.witness.evidence());
        let witness = self.witness.clone();
        let here = move |desk: &dyn Desk| desk.renew(renewal.clone());
        let read = move |reply| match reply {
            Reply::Renewed(renewed) => Some(renewed),
            Reply::Diverged(found) => {
                witness.contradict(found);
                None
            }
            _ => None,
        };
        Box::pin(self.clone().ask(question, RENEWAL_PATIENCE, here, read))
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'static, Result<Heard, SubmitError>> {
        let question = Question::Heartbeat(heartbeat.clone());
        let here = move |desk: &dyn Desk| desk.heartbeat(heartbeat.clone());
        let read = |reply| match reply {
            Reply::Heard(heard) => Some(heard),
            _ => None,
        };
        Box::pin(self.clone().ask(question, RENEWAL_PATIENCE, here, read))
    }
}

fn answer_of(reply: Reply) -> Option<Result<Answer, SubmitError>> {
    match reply {
        Reply::Answer(answer) => Some(answer),
        _ => None,
    }
}
