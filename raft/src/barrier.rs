//! Linearizable reads: an index that covers everything committed before the question.
//!
//! Questions that arrive while one round with the peers is on its way share the next round: an answer
//! never comes from a round that began before its question. Absent on purpose: leases. A read index
//! costs a round trip and needs no clock.

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::group::Raft;
use crate::runtime;
use crate::wire::NotLeading;

type Reply = oneshot::Sender<Result<u64, NotLeading>>;

/// Asks this node, as the leader.
#[derive(Clone)]
pub(crate) struct Barrier {
    questions: mpsc::Sender<Reply>,
}

impl Barrier {
    pub(crate) fn start(raft: Raft) -> Self {
        const WAITING: usize = 65_536;
        let (questions, waiting) = mpsc::channel(WAITING);
        runtime::spawn(run(raft, waiting));
        Self { questions }
    }

    /// The index, if this node leads and a majority agrees that it does.
    pub(crate) async fn index(&self) -> Result<u64, NotLeading> {
        let (reply, answer) = oneshot::channel();
        if self.questions.send(reply).await.is_err() {
            return Err(NotLeading { leader: None });
        }
        answer.await.unwrap_or(Err(NotLeading { leader: None }))
    }
}

async fn run(raft: Raft, mut waiting: mpsc::Receiver<Reply>) {
    while let Some(first) = waiting.recv().await {
        let mut round = vec![first];
        while let Ok(next) = waiting.try_recv() {
            round.push(next);
        }
        let result = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(NotLeading { leader: forward.leader_id })
            }
            Err(_) => Err(NotLeading { leader: None }),
        };
        for reply in round {
            // Whoever gave up needs no answer.
            drop(reply.send(result.clone()));
        }
    }
}
