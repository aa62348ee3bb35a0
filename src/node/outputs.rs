//! What attempts wrote, on whichever node they were made.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use escapement_actors::projection::{OutputPage, Projections};
use escapement_domain::identifier::{ExecutionId, NodeId};
use escapement_raft::Transport;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};

use super::peer::{Question, Reply};
use crate::service::Outputs;
use crate::service::history::{HistoryError, OutputQuery};

/// How long another node may take to answer what an attempt wrote there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What attempts wrote, on this node and on others.
pub(super) struct NodeOutputs {
    node: NodeId,
    projections: Projections,
    transport: Arc<dyn Transport>,
}

impl NodeOutputs {
    /// Reads here what was captured here, and asks other nodes through `transport` for the rest.
    pub(super) fn new(node: NodeId, projections: Projections, transport: Arc<dyn Transport>) -> Self {
        Self { node, projections, transport }
    }
}

fn failed(error: impl std::fmt::Display) -> HistoryError {
    HistoryError::Failed { detail: error.to_string() }
}

impl Outputs for NodeOutputs {
    fn growth(&self, execution: ExecutionId, node: NodeId) -> BoxStream<'static, ()> {
        if node != self.node {
            return stream::pending().boxed();
        }
        let told = self.projections.output().follow(execution);
        stream::unfold(told, |mut told| async move { told.changed().await.ok().map(|()| ((), told)) }).boxed()
    }

    fn read(&self, query: OutputQuery) -> BoxFuture<'static, Result<OutputPage, HistoryError>> {
        let OutputQuery { execution, attempt, node, after, limit } = query;
        if node == self.node {
            let page = self.projections.output().read(execution, Some(attempt), after, limit);
            return Box::pin(async move { page.map_err(failed) });
        }
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let question = Question::Output { execution, attempt, after, limit };
        let asked = self.transport.request(node.0, Bytes::from(question.encode()), PATIENCE);
        Box::pin(async move {
            let reply = asked.await.map_err(|_| HistoryError::Elsewhere)?;
            match Reply::decode(&reply).map_err(failed)? {
                Reply::Output(Ok(bytes)) => OutputPage::decode(&bytes).map_err(failed),
                Reply::Output(Err(detail)) => Err(HistoryError::Failed { detail }),
                _ => Err(HistoryError::Elsewhere),
            }
        })
    }
}
