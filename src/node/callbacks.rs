//! What targets say of attempts that they report later, brought to the node that waits.

use std::sync::Arc;
use std::time::Duration;

use escapement_domain::identifier::{ExecutionId, NodeId};
use escapement_raft::Transport;
use futures::future::BoxFuture;

use super::peer::{Question, Reply};
use crate::executor::{Callbacks, Hearing, LeaseToken, Said};
use crate::service::callbacks::CallbackDesk;

/// How long another node may take to hear what a target says.
const PATIENCE: Duration = Duration::from_secs(5);

/// The attempts of this node and of others.
pub(super) struct NodeCallbacks {
    node: NodeId,
    own: Callbacks,
    transport: Arc<dyn Transport>,
}

impl NodeCallbacks {
    /// Hears here what is said of attempts made here, and tells other nodes through `transport` of the rest.
    pub(super) fn new(node: NodeId, own: Callbacks, transport: Arc<dyn Transport>) -> Self {
        Self { node, own, transport }
    }
}

impl CallbackDesk for NodeCallbacks {
    fn was_good(&self, execution: ExecutionId, token: LeaseToken) -> bool {
        self.own.was_good(execution, token)
    }

    fn say(
        &self,
        execution: ExecutionId,
        token: LeaseToken,
        said: Said,
    ) -> BoxFuture<'static, Option<(Hearing, u64)>> {
        if token.node == self.node {
            let hearing = self.own.hear(execution, token, said);
            return Box::pin(async move { Some((hearing, 0)) });
        }
        let transport = self.transport.clone();
        Box::pin(async move {
            let question = Question::Callback { execution, token, said };
            match question.ask(&*transport, token.node, PATIENCE).await {
                Some(Reply::Callback(hearing, applied)) => Some((hearing, applied)),
                _ => None,
            }
        })
    }
}
