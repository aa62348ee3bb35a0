//! What attempts call, and the witness outside the cluster: it notes every attempt that began, and how it ended.
//!
//! Invariant: a target works only while the node that called it lives and runs; when the node dies, so does its work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::ports::{
    AttemptEnd, AttemptFailure, AttemptOrder, Executor, Finished, OutputChunk, OutputSink, OutputStream,
};
use escapement_domain::identifier::{ExecutionId, NodeId, TaskId};
use escapement_domain::timestamp::Timestamp;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::nature::Nature;
use crate::definitions::Behaviour;
use crate::evidence::{Attempt, Ended};

/// How long a target takes to stop politely, in ms.
const STOPS_WITHIN_MS: u64 = 40;

/// The target of all attempts of one run; clones are the same.
#[derive(Clone)]
pub(super) struct Target {
    nature: Nature,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    attempts: Vec<Attempt>,
    /// Nodes whose process is being ended from outside.
    dying: BTreeSet<NodeId>,
}

impl Target {
    pub(super) fn new(nature: &Nature) -> Self {
        Self { nature: nature.clone(), seen: Arc::default() }
    }

    /// As one node calls it.
    pub(super) fn called_by(&self, node: NodeId) -> Arc<dyn Executor> {
        Arc::new(Caller { node, target: self.clone() })
    }

    /// Whether the attempts of a node end because it dies.
    pub(super) fn set_dying(&self, node: NodeId, dying: bool) {
        let mut seen = self.seen.lock();
        if dying {
            seen.dying.insert(node);
        } else {
            seen.dying.remove(&node);
        }
    }

    /// Every attempt that was seen; those that still run end now.
    pub(super) fn take(&self) -> Vec<Attempt> {
        let mut attempts = std::mem::take(&mut self.seen.lock().attempts);
        let now = self.nature.now();
        attempts
            .iter_mut()
            .filter(|attempt| attempt.ended == u64::MAX)
            .for_each(|attempt| attempt.ended = now);
        attempts
    }

    /// An attempt begins on a node, or with a worker outside the cluster.
    pub(super) fn begin(&self, node: NodeId, begun: Begun) -> Visit {
        let now = self.nature.now();
        let mut seen = self.seen.lock();
        let number = seen.attempts.len();
        seen.attempts.push(Attempt {
            task: begun.task,
            execution: begun.execution,
            scheduled_at: begun.scheduled_at,
            number: begun.attempt,
            token: begun.token,
            node,
            started: now,
            ended: u64::MAX,
            how: Ended::Not,
        });
        let (execution, token) = (begun.execution, begun.token);
        self.nature.note(&[2, node.0, number as u64, token], || {
            format!("node {node} begins attempt {number} of {execution} under {token}")
        });
        Visit { target: self.clone(), node, number }
    }
}

/// What begins.
pub(super) struct Begun {
    pub(super) task: TaskId,
    pub(super) execution: ExecutionId,
    pub(super) scheduled_at: Timestamp,
    pub(super) attempt: u32,
    pub(super) token: u64,
}

impl From<&AttemptOrder> for Begun {
    fn from(order: &AttemptOrder) -> Self {
        Self {
            task: order.task,
            execution: order.execution,
            scheduled_at: order.scheduled_at,
            attempt: order.attempt,
            token: order.fencing_token,
        }
    }
}

/// One attempt at the target; it ends when this is dropped, if not before.
pub(super) struct Visit {
    target: Target,
    node: NodeId,
    number: usize,
}

impl Visit {
    /// It ends; only the first word counts.
    pub(super) fn end(&self, how: Ended) {
        let now = self.target.nature.now();
        let mut seen = self.target.seen.lock();
        let Some(attempt) = seen.attempts.get_mut(self.number) else { return };
        if attempt.how == Ended::Not {
            (attempt.how, attempt.ended) = (how, now);
            let number = self.number;
            self.target
                .nature
                .note(&[3, number as u64, how as u64], || format!("attempt {number} ends: {how:?}"));
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let dying = self.target.seen.lock().dying.contains(&self.node);
        self.end(if dying { Ended::Died } else { Ended::Killed });
    }
}

/// The target as one node calls it.
struct Caller {
    node: NodeId,
    target: Target,
}

impl Executor for Caller {
    fn run(
        &self,
        order: AttemptOrder,
        output: Arc<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Finished> {
        let visit = self.target.begin(self.node, Begun::from(&order));
        let nature = self.target.nature.clone();
        let Behaviour { takes_ms, fails_per_mille } = Behaviour::of(&order.action);
        let (fails, stops) =
            nature.draw(|chance| (chance.per_mille(fails_per_mille), chance.below(STOPS_WITHIN_MS)));
        Box::pin(async move {
            output.write(OutputChunk {
                at: nature.wall(),
                stream: OutputStream::Stdout,
                text: format!("working for {takes_ms} ms"),
            });
            let end = tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    tokio::time::sleep(Duration::from_millis(stops)).await;
                    visit.end(Ended::Stopped);
                    AttemptEnd::Cancelled
                }
                () = tokio::time::sleep(order.timeout.into()) => {
                    visit.end(Ended::Failed);
                    AttemptEnd::TimedOut
                }
                () = tokio::time::sleep(Duration::from_millis(takes_ms)) => {
                    if fails {
                        visit.end(Ended::Failed);
                        AttemptEnd::Failed(AttemptFailure::new("the target says no"))
                    } else {
                        visit.end(Ended::Succeeded);
                        AttemptEnd::Succeeded { result: None }
                    }
                }
            };
            end.into()
        })
    }
}
