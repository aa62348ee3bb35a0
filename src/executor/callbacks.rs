//! Attempts of calls whose target reports later: what the targets of this node's attempts may say, and who hears it.
//!
//! Any node can bring a report to where it is waited for, by the [`LeaseToken`] that comes with it. The attempt stays in the
//! hands of its node: what a target says ends the wait of the executor, and the end goes the way of every other.
//!
//! Invariants: a token is good for one attempt of one execution, and only while that attempt runs; an attempt is ended by one
//! report at most, which may be repeated. What has ended is known for a while, to tell a target that comes too late from
//! whoever guesses. Absent on purpose: the log and the network.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::ports::{AttemptEnd, AttemptFailure, AttemptOrder, Clock, Entropy};
use escapement_domain::codec;
use escapement_domain::command::AttemptOutcome;
use escapement_domain::execution::failure::Failure;
use escapement_domain::identifier::{ExecutionId, NodeId, TaskId};
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::Span;
use hmac::{Hmac, Mac as _};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::lease_token::{LeaseToken, Secrets};

/// Attempts that are known after their end, about 200 bytes each.
const OVER_MAX: usize = 10_000;

/// What a target says of its attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// It is at work.
    Alive,
    /// It is done, and how it went.
    Ended(AttemptOutcome),
}

/// What a target is told of its attempt, and the node that hears it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The name of the tenant.
    pub tenant: Arc<str>,
    /// The task.
    pub task: TaskId,
    /// How long the attempt is waited for from now on.
    pub holds: Span,
    /// Whether the attempt is to stop.
    pub cancel: bool,
}

/// What a node makes of what a target says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hearing {
    /// The attempt is waited for, or this is the report that ended it, once more.
    Told(Told),
    /// The token was good, and its attempt is over.
    TooLate {
        /// The name of the tenant.
        tenant: Arc<str>,
        /// The task.
        task: TaskId,
    },
    /// No such token is known here.
    Unknown,
}

type AttemptKey = (ExecutionId, u64);

/// An attempt whose target reports later.
struct Awaited {
    secret: u128,
    tenant: Arc<str>,
    task: TaskId,
    /// When the attempt has taken too long, on the monotonic clock.
    until: Duration,
    /// How long the target may keep silent.
    silence: Option<Duration>,
    /// When the target was heard of last, on the monotonic clock.
    heard: Duration,
    /// Whether it ever said anything.
    speaks: bool,
    stopping: bool,
    stage: Stage,
}

/// How far an attempt is.
enum Stage {
    Waits(oneshot::Sender<AttemptEnd>),
    /// Its target has reported an end of this digest.
    Reported([u8; 32]),
    /// It ended in another way.
    Over,
}

impl Awaited {
    /// When the attempt is given up unless the target says something.
    fn holds_until(&self) -> Duration {
        self.silence.map_or(self.until, |silence| self.until.min(self.heard + silence))
    }

    /// Takes up what the target says at `now`; says whether it was waited for.
    fn take_up(&mut self, said: Said, now: Duration) -> bool {
        match (&self.stage, said) {
            (Stage::Waits(_), Said::Alive) => {}
            (Stage::Waits(_), Said::Ended(outcome)) => {
                let reported = Stage::Reported(digest(&outcome));
                let Stage::Waits(end) = std::mem::replace(&mut self.stage, reported) else { return false };
                // Whoever waited may have been killed in this moment.
                if end.send(end_of(outcome)).is_err() {
                    self.stage = Stage::Over;
                    return false;
                }
            }
            (Stage::Reported(first), Said::Ended(outcome)) => return *first == digest(&outcome),
            (Stage::Reported(_), Said::Alive) | (Stage::Over, _) => return false,
        }
        (self.heard, self.speaks) = (now, true);
        true
    }
}

/// The attempts of a node, by execution and fencing token.
#[derive(Default)]
struct Attempts {
    known: BTreeMap<AttemptKey, Awaited>,
    /// Those that are over, the longest first.
    over: VecDeque<AttemptKey>,
}

impl Attempts {
    fn end(&mut self, key: AttemptKey) {
        let Some(ended) = self.known.get_mut(&key) else { return };
        if matches!(ended.stage, Stage::Waits(_)) {
            ended.stage = Stage::Over;
        }
        self.over.push_back(key);
        if self.over.len() > OVER_MAX
            && let Some(oldest) = self.over.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// The attempts of this node whose targets report later. Cloning is cheap.
#[derive(Clone)]
pub struct Callbacks {
    node: NodeId,
    public_url: Arc<str>,
    clock: Arc<dyn Clock>,
    secrets: Secrets,
    attempts: Arc<Mutex<Attempts>>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Callbacks").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Waits for nothing yet. Targets reach this node, or any other, under `public_url`; the secrets of their tokens are drawn
    /// from `entropy`, unless [`made_from`](Self::made_from) says otherwise.
    #[must_use]
    pub fn new(node: NodeId, public_url: &str, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let public_url = public_url.trim_end_matches('/').into();
        Self { node, public_url, clock, secrets: Secrets::Drawn(entropy), attempts: Arc::default() }
    }

    /// Makes the secrets of tokens from one that all nodes share.
    #[must_use]
    pub fn made_from(self, shared: &[u8; 32]) -> Self {
        match Hmac::new_from_slice(shared) {
            Ok(root) => Self { secrets: Secrets::Made(root), ..self },
            // It takes keys of any length.
            Err(_) => self,
        }
    }

    /// Whether a token was once good for an attempt of an execution, on whichever node: a node can tell only where all share a
    /// secret.
    #[must_use]
    pub fn was_good(&self, execution: ExecutionId, token: LeaseToken) -> bool {
        self.secrets.made(execution, token)
    }

    /// Hears what a target says.
    #[must_use]
    pub fn hear(&self, execution: ExecutionId, token: LeaseToken, said: Said) -> Hearing {
        let mut attempts = self.attempts.lock();
        let known = attempts.known.get_mut(&(execution, token.fencing));
        let is_its = |found: &&mut Awaited| token.node == self.node && found.secret == token.secret;
        let Some(found) = known.filter(is_its) else { return Hearing::Unknown };
        let now = self.clock.monotonic();
        let (tenant, task) = (found.tenant.clone(), found.task);
        if !found.take_up(said, now) {
            return Hearing::TooLate { tenant, task };
        }
        let holds = found.holds_until().saturating_sub(now).as_millis();
        let holds = Span(u64::try_from(holds).unwrap_or(u64::MAX));
        Hearing::Told(Told { tenant, task, holds, cancel: found.stopping })
    }

    /// Begins to wait for what the target of an attempt says.
    pub(super) fn expect(
        &self,
        order: &AttemptOrder,
        silence: Option<Span>,
    ) -> (Expected, oneshot::Receiver<AttemptEnd>) {
        let (end, ended) = oneshot::channel();
        let now = self.clock.monotonic();
        let token = self.secrets.token(self.node, order.execution, order.fencing_token);
        let awaited = Awaited {
            secret: token.secret,
            tenant: order.tenant.as_str().into(),
            task: order.task,
            until: now + Duration::from(order.timeout),
            silence: silence.map(Into::into),
            heard: now,
            speaks: false,
            stopping: false,
            stage: Stage::Waits(end),
        };
        self.attempts.lock().known.insert((order.execution, order.fencing_token), awaited);
        (Expected { callbacks: self.clone(), execution: order.execution, token }, ended)
    }
}

/// An attempt whose target reports later; over when dropped.
pub(super) struct Expected {
    callbacks: Callbacks,
    execution: ExecutionId,
    token: LeaseToken,
}

impl Expected {
    /// What the target shows with its reports.
    pub(super) fn token(&self) -> LeaseToken {
        self.token
    }

    /// Where the target reports.
    pub(super) fn url(&self) -> String {
        format!("{}/api/executions/{}", self.callbacks.public_url, self.execution)
    }

    /// Begins to count the target's silence.
    pub(super) fn answered(&self) {
        let now = self.callbacks.clock.monotonic();
        self.with(|awaited| awaited.heard = now);
    }

    /// Has the target told, with its next sign of life, to stop; says whether it ever gave one.
    pub(super) fn stop(&self) -> bool {
        self.with(|awaited| {
            awaited.stopping = true;
            awaited.speaks
        })
        .unwrap_or(false)
    }

    /// Resolves when the target was silent for too long.
    pub(super) async fn silent(&self) {
        loop {
            let now = self.callbacks.clock.monotonic();
            let left = self
                .with(|awaited| awaited.silence.map(|silence| (awaited.heard + silence).saturating_sub(now)));
            match left.flatten() {
                Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Awaited) -> T) -> Option<T> {
        self.callbacks.attempts.lock().known.get_mut(&(self.execution, self.token.fencing)).map(look)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.callbacks.attempts.lock().end((self.execution, self.token.fencing));
    }
}

fn digest(outcome: &AttemptOutcome) -> [u8; 32] {
    Sha256::digest(codec::encode(outcome)).into()
}

/// How an attempt ended, as its executor tells it.
fn end_of(outcome: AttemptOutcome) -> AttemptEnd {
    let text = |sealed: Option<Sealed>| {
        let bytes = sealed.as_ref()?.open().ok()?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    };
    match outcome {
        AttemptOutcome::Succeeded(result) => AttemptEnd::Succeeded { result: text(result) },
        AttemptOutcome::Failed(Failure { error, class, result, retry_after, failed_items }) => {
            AttemptEnd::Failed(AttemptFailure {
                error: error.to_string(),
                class,
                result: text(result),
                retry_after,
                failed_items: text(failed_items),
            })
        }
        AttemptOutcome::TimedOut => AttemptEnd::TimedOut,
        AttemptOutcome::Cancelled | AttemptOutcome::HandedBack | AttemptOutcome::NotStarted => {
            AttemptEnd::Cancelled
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Drawn, clock, order};
    use super::*;
    use escapement_domain::task::action::{Action, Operation};

    fn callbacks() -> Callbacks {
        Callbacks::new(NodeId(3), "http://n3:7070/", clock(), Arc::new(Drawn))
    }

    fn noop() -> AttemptOrder {
        order(Action::Builtin { operation: Operation::Noop, parameters: None })
    }

    fn done() -> Said {
        Said::Ended(AttemptOutcome::Succeeded(Some(Sealed::in_clear(b"{\"n\":1}".to_vec()))))
    }

    fn told_of(order: &AttemptOrder, holds: Span, cancel: bool) -> Hearing {
        Hearing::Told(Told { tenant: order.tenant.as_str().into(), task: order.task, holds, cancel })
    }

    fn too_late(order: &AttemptOrder) -> Hearing {
        Hearing::TooLate { tenant: order.tenant.as_str().into(), task: order.task }
    }

    #[test]
    fn an_attempt_is_ended_once_and_by_its_own_token_only() {
        let (callbacks, order) = (callbacks(), noop());
        let (expected, mut ended) = callbacks.expect(&order, None);
        assert_eq!(expected.url(), format!("http://n3:7070/api/executions/{}", order.execution));
        let token = expected.token();
        let forged = LeaseToken { secret: token.secret + 1, ..token };
        let elsewhere = LeaseToken { node: NodeId(2), ..token };
        let earlier = LeaseToken { fencing: token.fencing - 1, ..token };
        for wrong in [forged, elsewhere, earlier] {
            assert_eq!(callbacks.hear(order.execution, wrong, done()), Hearing::Unknown);
        }
        assert_eq!(callbacks.hear(ExecutionId(9), token, done()), Hearing::Unknown);
        let told = callbacks.hear(order.execution, token, Said::Alive);
        assert_eq!(told, told_of(&order, Span::minutes(1), false));
        assert!(expected.stop(), "it gave a sign of life");
        let told = callbacks.hear(order.execution, token, done());
        assert_eq!(told, told_of(&order, Span::minutes(1), true));
        assert_eq!(ended.try_recv(), Ok(AttemptEnd::Succeeded { result: Some("{\"n\":1}".into()) }));
        drop(expected);
        assert_eq!(callbacks.hear(order.execution, token, done()), told, "its answer was lost");
        for other in [Said::Ended(AttemptOutcome::TimedOut), Said::Alive] {
            assert_eq!(callbacks.hear(order.execution, token, other), too_late(&order));
        }
        assert_eq!(callbacks.hear(order.execution, forged, done()), Hearing::Unknown);
    }

    #[test]
    fn what_is_not_waited_for_any_more_comes_too_late() {
        let (callbacks, order) = (callbacks(), noop());
        let (expected, ended) = callbacks.expect(&order, Some(Span::seconds(5)));
        let token = expected.token();
        let told = callbacks.hear(order.execution, token, Said::Alive);
        assert_eq!(told, told_of(&order, Span::seconds(5), false));
        drop(ended);
        for _ in 0..2 {
            assert_eq!(callbacks.hear(order.execution, token, done()), too_late(&order), "nobody takes it");
        }
        drop(expected);
        let next = AttemptOrder { fencing_token: order.fencing_token + 1, ..order.clone() };
        let (expected, _ended) = callbacks.expect(&next, None);
        let later = expected.token();
        drop(expected);
        for (order, token) in [(&order, token), (&next, later)] {
            assert_eq!(callbacks.hear(order.execution, token, Said::Alive), too_late(order));
            assert_eq!(callbacks.hear(order.execution, token, done()), too_late(order));
        }
    }

    #[test]
    fn who_shares_the_secret_knows_every_token_that_was_made_of_it() {
        let (here, order) = (callbacks().made_from(&[7; 32]), noop());
        let token = here.expect(&order, None).0.token();
        let elsewhere = Callbacks::new(NodeId(2), "http://n2", clock(), Arc::new(Drawn)).made_from(&[7; 32]);
        assert!(elsewhere.was_good(order.execution, token));
        assert_eq!(
            elsewhere.hear(order.execution, token, done()),
            Hearing::Unknown,
            "and does not wait for it"
        );
        let forged = [
            LeaseToken { secret: token.secret ^ 1, ..token },
            LeaseToken { node: NodeId(2), ..token },
            LeaseToken { fencing: token.fencing + 1, ..token },
        ];
        for forged in forged {
            assert!(!elsewhere.was_good(order.execution, forged), "{forged:?}");
        }
        assert!(!elsewhere.was_good(ExecutionId(9), token));
        assert!(!callbacks().made_from(&[8; 32]).was_good(order.execution, token), "of another cluster");
        let drawn = callbacks();
        let token = drawn.expect(&order, None).0.token();
        assert!(!drawn.was_good(order.execution, token), "nobody can tell any more");
    }

    #[test]
    fn what_ended_long_ago_is_forgotten() {
        let (callbacks, first) = (callbacks(), noop());
        let tokens = (0..=OVER_MAX as u64).map(|nth| {
            let order = AttemptOrder { fencing_token: first.fencing_token + nth, ..first.clone() };
            callbacks.expect(&order, None).0.token()
        });
        let tokens: Vec<LeaseToken> = tokens.collect();
        let hear = |token: LeaseToken| callbacks.hear(first.execution, token, Said::Alive);
        assert_eq!(hear(tokens[0]), Hearing::Unknown);
        assert_eq!(hear(tokens[1]), too_late(&first));
        assert_eq!(callbacks.attempts.lock().known.len(), OVER_MAX);
    }
}
