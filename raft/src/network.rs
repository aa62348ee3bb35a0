//! openraft's calls to a peer, carried by the transport.
//!
//! Invariants: appends are pipelined and answered in order; each waits from when it was sent, never
//! from when its turn to be awaited came, since openraft pauses inside the stream of requests; when
//! the requests end, the answers end without an error; sending a snapshot stops the moment openraft
//! cancels it, since a late retry under an old vote is what its receiver does not survive. Absent on
//! purpose: the receiving half, see `inbound`.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::StreamAppendResult;
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2, Snapshot};

use crate::consensus::{
    AppendRequest, AppendResponse, Consensus, LeaderId, LogId, RpcError, SnapshotResponse, TransferRequest,
    TransferResponse, Vote, VoteRequest, VoteResponse,
};
use crate::limits::{APPENDS_IN_FLIGHT, SNAPSHOT_CHUNK_BYTES};
use crate::member::{Member, NodeId};
use crate::options::Options;
use crate::runtime;
use crate::snapshot::{Content, Handle};
use crate::transport::{Lane, Peer, Transport, TransportError};
use crate::wire::{self, Request, Response};

/// Makes a client for each peer and purpose.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) local: NodeId,
    pub(crate) options: Arc<Options>,
    pub(crate) transport: Arc<dyn Transport>,
}

impl Network {
    fn client(&self, target: NodeId, member: &Member, appends: Lane) -> Client {
        Client { network: self.clone(), peer: Peer { node: target, member: member.clone() }, appends }
    }
}

impl RaftNetworkFactory<Consensus> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Client {
        self.client(target, member, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, member: &Member) -> Client {
        self.client(target, member, Lane::Control)
    }
}

/// Calls one peer.
pub(crate) struct Client {
    network: Network,
    peer: Peer,
    /// The lane of its append requests: heartbeats take another one than entries.
    appends: Lane,
}

type Answer = BoxFuture<'static, Result<Response, TransportError>>;

impl Client {
    /// Sends a request; it is queued before this returns.
    fn send(&self, lane: Lane, request: &Request, timeout: Duration) -> Answer {
        let to = format!("node {}", self.peer.node);
        let malformed = move |error: crate::codec::CodecError| TransportError::Refused {
            to: to.clone(),
            reason: error.to_string(),
        };
        let bytes = match wire::encode(request) {
            Ok(bytes) => bytes,
            Err(error) => return futures::future::ready(Err(malformed(error))).boxed(),
        };
        let answer =
            self.network.transport.call(&self.peer, lane, self.network.options.group, bytes, timeout);
        async move { wire::decode(&answer.await?).map_err(malformed) }.boxed()
    }

    fn error(&self, action: RPCTypes, error: &TransportError) -> RpcError {
        match error {
            TransportError::Timeout { waited, .. } => {
                let (id, target) = (self.network.local, self.peer.node);
                RPCError::Timeout(Timeout { action, id, target, timeout: *waited })
            }
            other => RPCError::Unreachable(Unreachable::new(other)),
        }
    }

    fn unexpected(&self) -> RpcError {
        let reason = format!("node {} answered another question than it was asked", self.peer.node);
        RPCError::Network(NetworkError::from_string(reason))
    }

    fn append_timeout(&self, option: &RPCOption) -> Duration {
        match self.appends {
            Lane::Control => option.hard_ttl(),
            _ => self.network.options.append_timeout,
        }
    }
}

/// An append that was sent, with what its answer has to be read against.
struct Sent {
    previous: Option<LogId>,
    last: Option<LogId>,
    answer: Answer,
}

/// What happened next on a stream of appends.
enum Turn {
    Answered(Result<Response, TransportError>),
    Requested(Option<AppendRequest>),
}

/// The state of one stream of appends.
struct Pipeline<'a, S> {
    client: &'a Client,
    /// `None` once it ended.
    input: Option<S>,
    sent: VecDeque<Sent>,
    timeout: Duration,
    failed: bool,
}

impl<S: Stream<Item = AppendRequest> + Unpin> Pipeline<'_, S> {
    fn send(&mut self, request: AppendRequest) {
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        let answer = self.client.send(self.client.appends, &Request::Append(request), self.timeout);
        self.sent.push_back(Sent { previous, last, answer });
    }

    /// Sends what comes in until the oldest unanswered request is answered; `None` at the end.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Consensus>, RpcError>> {
        if self.failed {
            return None;
        }
        loop {
            let room = self.sent.len() < APPENDS_IN_FLIGHT;
            if self.sent.is_empty() && self.input.is_none() {
                return None;
            }
            let (sent, input) = (&mut self.sent, &mut self.input);
            let answer = async {
                match sent.front_mut() {
                    Some(front) => (&mut front.answer).await,
                    None => std::future::pending().await,
                }
            };
            let request = async {
                match input {
                    Some(input) if room => input.next().await,
                    _ => std::future::pending().await,
                }
            };
            let turn = tokio::select! {
                biased;
                answer = answer => Turn::Answered(answer),
                request = request => Turn::Requested(request),
            };
            match turn {
                Turn::Answered(answer) => {
                    let Sent { previous, last, .. } = self.sent.pop_front()?;
                    return Some(self.result(answer, previous, last));
                }
                Turn::Requested(Some(request)) => self.send(request),
                Turn::Requested(None) => self.input = None,
            }
        }
    }

    fn result(
        &mut self,
        answer: Result<Response, TransportError>,
        previous: Option<LogId>,
        last: Option<LogId>,
    ) -> Result<StreamAppendResult<Consensus>, RpcError> {
        let result = match answer {
            // Nothing precedes the first entry, so nothing can conflict with it.
            Ok(Response::Append(AppendResponse::Conflict)) if previous.is_none() => {
                Err(self.client.unexpected())
            }
            Ok(Response::Append(response)) => Ok(response.into_stream_result(previous, last)),
            Ok(_) => Err(self.client.unexpected()),
            Err(error) => Err(self.client.error(RPCTypes::AppendEntries, &error)),
        };
        self.failed = !matches!(result, Ok(Ok(_)));
        result
    }
}

impl RaftNetworkV2<Consensus> for Client {
    type SnapshotData = Handle;

    async fn append_entries(
        &mut self,
        rpc: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, RpcError> {
        match self.send(self.appends, &Request::Append(rpc), self.append_timeout(&option)).await {
            Ok(Response::Append(response)) => Ok(response),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(self.error(RPCTypes::AppendEntries, &error)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Consensus>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        let timeout = self.append_timeout(&option);
        let pipeline =
            Pipeline { client: self, input: Some(input), sent: VecDeque::new(), timeout, failed: false };
        let answers = futures::stream::unfold(pipeline, |mut pipeline| async move {
            let answer = pipeline.next().await?;
            Some((answer, pipeline))
        });
        futures::future::ready(Ok(answers.boxed())).boxed()
    }

    async fn vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        match self.send(Lane::Control, &Request::Vote(rpc), option.hard_ttl()).await {
            Ok(Response::Vote(response)) => Ok(response),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(self.error(RPCTypes::Vote, &error)),
        }
    }

    async fn pre_vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        match self.send(Lane::Control, &Request::PreVote(rpc), option.hard_ttl()).await {
            Ok(Response::Vote(response)) => Ok(response),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(self.error(RPCTypes::Vote, &error)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<LeaderId, NodeId, Member, Handle>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError<Consensus>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot.snapshot) => sent.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferRequest,
        option: RPCOption,
    ) -> Result<TransferResponse, RpcError> {
        match self.send(Lane::Control, &Request::Transfer(request), option.hard_ttl()).await {
            Ok(Response::Transfer(response)) => Ok(response),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(self.error(RPCTypes::TransferLeader, &error)),
        }
    }
}

impl Client {
    async fn send_snapshot(&self, vote: Vote, snapshot: Handle) -> Result<SnapshotResponse, RpcError> {
        let disk = |error: std::io::Error| RPCError::Network(NetworkError::new(&error));
        let Content::Published { store, stored } = snapshot.content().clone() else {
            return Err(disk(std::io::Error::other("only a published snapshot is sent")));
        };
        let (transfer, bytes) = (runtime::random(), stored.bytes);
        self.acknowledged(Request::SnapshotBegin { transfer, bytes }).await?;
        let mut from = runtime::blocking(move || store.open(&stored)).await.map_err(disk)?;
        let mut offset = 0;
        loop {
            let (chunk, rest) = runtime::blocking(move || read_chunk(from)).await.map_err(disk)?;
            from = rest;
            if chunk.is_empty() {
                break;
            }
            let length = chunk.len() as u64;
            self.acknowledged(Request::SnapshotChunk { transfer, offset, bytes: chunk.into() }).await?;
            offset += length;
        }
        let install = Request::SnapshotInstall { transfer, vote };
        match self.send(Lane::Snapshot, &install, self.network.options.install_timeout).await {
            Ok(Response::SnapshotInstalled(response)) => Ok(response),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(self.error(RPCTypes::InstallSnapshot, &error)),
        }
    }

    async fn acknowledged(&self, request: Request) -> Result<(), RpcError> {
        match self.send(Lane::Snapshot, &request, self.network.options.chunk_timeout).await {
            Ok(Response::SnapshotReceived) => Ok(()),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(self.error(RPCTypes::InstallSnapshot, &error)),
        }
    }
}

type Chunked = Box<dyn Read + Send>;

fn read_chunk(mut from: Chunked) -> std::io::Result<(Vec<u8>, Chunked)> {
    let mut chunk = Vec::with_capacity(SNAPSHOT_CHUNK_BYTES);
    from.by_ref().take(SNAPSHOT_CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
    Ok((chunk, from))
}
