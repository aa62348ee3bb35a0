//! What a node does with questions of its peers, and with its own while it leads.

use std::sync::Arc;

use bytes::Bytes;
use escapement_actors::intent::{Heard, Heartbeat, Renewal, Renewed, Submission, SubmitError};
use escapement_actors::machine::Machine;
use escapement_actors::ports::Clock;
use escapement_actors::projection::Projections;
use escapement_actors::task::Front;
use escapement_actors::worker::Leases;
use escapement_domain::answer::Answer;
use escapement_domain::command::Report;
use escapement_domain::schedule::zone_data_version;
use escapement_raft::{Group, NodeId, PeerService};
use futures::future::BoxFuture;

use super::custody::Held;
use super::evidence::contradiction;
use super::leader::Desk;
use super::peer::{Question, Reply};
use crate::executor::Callbacks;
use crate::service::Cluster;

/// Bytes of event blocks in one answer.
const BLOCK_BYTES_PER_ANSWER: usize = 1024 * 1024;

/// The desk of this node: questions for the leader end here while it leads, and are refused otherwise.
pub(super) struct NodeDesk {
    pub(super) front: Front,
    pub(super) leases: Leases,
}

impl Desk for NodeDesk {
    fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        self.front.submit(submission)
    }

    fn report(&self, report: Report) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        self.front.report(report)
    }

    fn renew(&self, renewal: Renewal) -> BoxFuture<'static, Result<Renewed, SubmitError>> {
        self.leases.renew(renewal)
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'static, Result<Heard, SubmitError>> {
        self.leases.heartbeat(heartbeat)
    }
}

/// Answers the questions of peers.
pub(super) struct PeerDesk {
    pub(super) desk: Arc<dyn Desk>,
    pub(super) projections: Projections,
    pub(super) group: Group,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) machine: Arc<Machine>,
    pub(super) callbacks: Callbacks,
}

impl PeerService for PeerDesk {
    fn handle(&self, _from: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let (desk, projections, group) = (self.desk.clone(), self.projections.clone(), self.group.clone());
        let (clock, machine, callbacks) = (self.clock.clone(), self.machine.clone(), self.callbacks.clone());
        Box::pin(async move {
            let reply = match Question::decode(&request).map_err(|error| error.to_string())? {
                Question::Submit(submission) => Reply::Answer(desk.submit(*submission).await),
                Question::Report(report) => Reply::Answer(desk.report(report).await),
                Question::Heartbeat(heartbeat) => Reply::Heard(desk.heartbeat(heartbeat).await),
                Question::Renew(renewal, evidence) => match contradiction(&projections, &evidence) {
                    Some(found) => Reply::Diverged(found),
                    None => Reply::Renewed(desk.renew(renewal).await),
                },
                Question::Blocks { tenant, after } => Reply::Blocks(
                    projections
                        .blocks_after(tenant, after, BLOCK_BYTES_PER_ANSWER)
                        .map(|blocks| blocks.into_iter().map(Vec::from).collect())
                        .map_err(|error| error.to_string()),
                ),
                Question::Callback { execution, token, said } => {
                    Reply::Callback(callbacks.hear(execution, token, said), machine.applied())
                }
                Question::History { wanted } => Reply::History(Held::here(&projections, wanted)),
                Question::Clock => Reply::Clock(clock.now()),
                Question::ZoneData => Reply::ZoneData(zone_data_version().to_owned()),
                Question::Status => Reply::Status(Cluster::status(&group).await.into()),
                Question::Output { execution, attempt, after, limit } => Reply::Output(
                    projections
                        .output()
                        .read(execution, Some(attempt), after, limit as usize)
                        .map(|page| page.encode())
                        .map_err(|error| error.to_string()),
                ),
            };
            Ok(Bytes::from(reply.encode()))
        })
    }
}
