//! The Raft group behind the actors' port.

use std::sync::Arc;

use bytes::Bytes;
use escapement_actors::intent::SubmitError;
use escapement_actors::machine::Machine;
use escapement_actors::ports::{Clock, Leadership, Log, Observer};
use escapement_domain::answer::Answer;
use escapement_domain::identifier::NodeId;
use escapement_raft::{Group, ProposeError, ReadError};
use futures::future::BoxFuture;
use tokio::sync::watch;

/// The log of this node.
pub struct GroupLog {
    group: Group,
    machine: Arc<Machine>,
    leadership: watch::Receiver<Leadership>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
}

impl GroupLog {
    /// Wraps a group; `leadership` is what [`follow_leadership`] keeps. `observer` hears how long commits take.
    pub(super) fn new(
        group: Group,
        machine: Arc<Machine>,
        leadership: watch::Receiver<Leadership>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { group, machine, leadership, clock, observer }
    }
}

/// Retells the group's leadership in the actors' words until the group is gone.
pub(super) async fn follow_leadership(
    mut heard: watch::Receiver<escapement_raft::Leadership>,
    told: watch::Sender<Leadership>,
) {
    loop {
        let now = *heard.borrow_and_update();
        told.send_replace(Leadership {
            term: now.term,
            leader: now.leader.map(NodeId),
            leading: now.leading,
        });
        if heard.changed().await.is_err() {
            told.send_replace(Leadership::default());
            return;
        }
    }
}

impl Log for GroupLog {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        let (group, clock, observer) = (self.group.clone(), self.clock.clone(), self.observer.clone());
        Box::pin(async move {
            let since = clock.monotonic();
            let committed = group.propose(Bytes::from(command)).await.map_err(refused)?;
            observer.committed(clock.monotonic().saturating_sub(since));
            Answer::decode(&committed.answer)
                .map_err(|error| SubmitError::Stopped { reason: error.to_string().into() })
        })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<u64, SubmitError>> {
        let (group, machine) = (self.group.clone(), self.machine.clone());
        Box::pin(async move {
            group.read_barrier().await.map_err(|error| match error {
                ReadError::NotLeader { leader } => SubmitError::NotLeader { leader: leader.map(NodeId) },
                ReadError::Leader(_) | ReadError::Behind { .. } => SubmitError::Unknown,
                ReadError::Stopped => SubmitError::Stopped { reason: "it is shutting down".into() },
            })?;
            // The group has applied everything up to the barrier; entries of its own never reach the state.
            Ok(machine.applied())
        })
    }
}

fn refused(error: ProposeError) -> SubmitError {
    match error {
        ProposeError::NotLeader { leader } => SubmitError::NotLeader { leader: leader.map(NodeId) },
        ProposeError::Unknown { .. } => SubmitError::Unknown,
        ProposeError::Busy => SubmitError::Busy,
        ProposeError::TooLarge { .. } | ProposeError::Storage(_) => {
            SubmitError::Stopped { reason: error.to_string().into() }
        }
        ProposeError::Stopped => SubmitError::Stopped { reason: "it is shutting down".into() },
    }
}
