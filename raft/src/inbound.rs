//! What this node does about the requests of the group's other nodes.
//!
//! Invariants: a request is handed to the core at the first poll of its answer, so that the order on a
//! lane is the order in the core; a snapshot is synced and checked byte by byte before it is offered to the
//! core, and one under a vote older than this node's is not offered at all; a sync that fails ends the node.
//! Absent on purpose: the calling half, see `network`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::Snapshot;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;

use crate::consensus::{AppendRequest, SnapshotResponse, Vote};
use crate::failure::Latch;
use crate::group::{Inner, Raft};
use crate::machine::snapshot_failed;
use crate::member::NodeId;
use crate::runtime;
use crate::snapshot::{Draft, Handle, Reader, SnapshotError, SnapshotStore, Unpublished};
use crate::transport::GroupService;
use crate::wire::{self, Request, Response};

/// A snapshot that is being received from one node.
struct Receiving {
    transfer: u64,
    bytes: u64,
    received: u64,
    /// Away while a chunk is written.
    draft: Option<Box<dyn Draft>>,
}

/// See the module. It holds the group weakly: the transport must not keep it alive.
pub(crate) struct Inbound {
    raft: Raft,
    snapshots: Arc<dyn SnapshotStore>,
    latch: Latch,
    group: Weak<Inner>,
    receiving: Arc<Mutex<BTreeMap<NodeId, Receiving>>>,
}

impl GroupService for Inbound {
    fn handle(&self, from: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let request = match wire::decode::<Request>(&request) {
            Ok(request) => request,
            Err(error) => return futures::future::ready(Err(error.to_string())).boxed(),
        };
        let answer = self.answer(from, request);
        async move { wire::encode(&answer.await?).map_err(|error| error.to_string()) }.boxed()
    }

    fn pristine(&self) -> BoxFuture<'static, Option<bool>> {
        let raft = self.raft.clone();
        async move { raft.is_initialized().await.ok().map(|initialized| !initialized) }.boxed()
    }
}

impl Inbound {
    pub(crate) fn new(raft: Raft, snapshots: Arc<dyn SnapshotStore>, group: &Arc<Inner>) -> Self {
        let (latch, group) = (group.latch.clone(), Arc::downgrade(group));
        Self { raft, snapshots, latch, group, receiving: Arc::default() }
    }

    fn answer(&self, from: NodeId, request: Request) -> BoxFuture<'static, Result<Response, String>> {
        let (raft, receiving) = (self.raft.clone(), self.receiving.clone());
        match request {
            Request::Append(append) => self.append(append),
            Request::Vote(vote) => {
                async move { raft.vote(vote).await.map(Response::Vote).map_err(|error| error.to_string()) }
                    .boxed()
            }
            Request::PreVote(vote) => async move {
                raft.pre_vote(vote).await.map(Response::Vote).map_err(|error| error.to_string())
            }
            .boxed(),
            Request::Transfer(transfer) => async move {
                let handled = raft.handle_transfer_leader(transfer).await;
                handled.map(Response::Transfer).map_err(|error| error.to_string())
            }
            .boxed(),
            Request::SnapshotBegin { transfer, bytes } => {
                let snapshots = self.snapshots.clone();
                async move {
                    let draft =
                        runtime::blocking(move || snapshots.create()).await.map_err(|e| e.to_string())?;
                    let begun = Receiving { transfer, bytes, received: 0, draft: Some(draft) };
                    receiving.lock().insert(from, begun);
                    Ok(Response::SnapshotReceived)
                }
                .boxed()
            }
            Request::SnapshotChunk { transfer, offset, bytes } => {
                async move { chunk(&receiving, from, transfer, offset, bytes).await }.boxed()
            }
            Request::SnapshotInstall { transfer, vote } => {
                let latch = self.latch.clone();
                async move { install(raft, latch, &receiving, from, transfer, vote).await }.boxed()
            }
            Request::ReadIndex => {
                let group = self.group.upgrade();
                async move {
                    let group = group.ok_or("this node is stopping")?;
                    Ok(Response::ReadIndex(group.barrier.index().await))
                }
                .boxed()
            }
            Request::Change(change) => {
                let group = self.group.upgrade();
                async move {
                    let group = group.ok_or("this node is stopping")?;
                    Ok(Response::Change(group.lead(&change).await))
                }
                .boxed()
            }
        }
    }

    fn append(&self, append: AppendRequest) -> BoxFuture<'static, Result<Response, String>> {
        let raft = self.raft.clone();
        async move { raft.append_entries(append).await.map(Response::Append).map_err(|error| error.to_string()) }
            .boxed()
    }
}

async fn chunk(
    receiving: &Mutex<BTreeMap<NodeId, Receiving>>,
    from: NodeId,
    transfer: u64,
    offset: u64,
    bytes: Bytes,
) -> Result<Response, String> {
    let stale = || "another snapshot is being received".to_owned();
    let length = bytes.len() as u64;
    let mut draft = {
        let mut receiving = receiving.lock();
        let held = receiving.get_mut(&from).filter(|held| held.transfer == transfer).ok_or_else(stale)?;
        if held.received != offset || offset + length > held.bytes {
            return Err(format!("a chunk of {length} at {offset} does not follow {}", held.received));
        }
        held.draft.take().ok_or_else(stale)?
    };
    let written = runtime::blocking(move || draft.write_all(&bytes).map(|()| draft)).await;
    let draft = written.map_err(|error| error.to_string())?;
    let mut receiving = receiving.lock();
    let held = receiving.get_mut(&from).filter(|held| held.transfer == transfer).ok_or_else(stale)?;
    held.draft = Some(draft);
    held.received += length;
    Ok(Response::SnapshotReceived)
}

async fn install(
    raft: Raft,
    latch: Latch,
    receiving: &Mutex<BTreeMap<NodeId, Receiving>>,
    from: NodeId,
    transfer: u64,
    vote: Vote,
) -> Result<Response, String> {
    let taken = {
        let mut receiving = receiving.lock();
        let known = receiving.get(&from).is_some_and(|held| held.transfer == transfer);
        if known { receiving.remove(&from) } else { None }
    };
    let Some(Receiving { bytes, received, draft: Some(draft), .. }) = taken else {
        return Err("no such snapshot is being received".to_owned());
    };
    if received != bytes {
        return Err(format!("{received} of {bytes} bytes were received"));
    }
    let synced = runtime::blocking(move || draft.sync()).await;
    let unpublished = synced.map_err(|error| snapshot_failed(&latch, error.into()).to_string())?;
    let checked = runtime::blocking(move || Ok(check(unpublished))).await;
    let snapshot = checked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let own = raft.metrics().borrow_watched().vote;
    if own > vote {
        return Ok(Response::SnapshotInstalled(SnapshotResponse::new(own)));
    }
    let installed = raft.install_full_snapshot(vote, snapshot).await;
    installed.map(Response::SnapshotInstalled).map_err(|error| error.to_string())
}

type Received = Snapshot<crate::consensus::LeaderId, NodeId, crate::member::Member, Handle>;

/// Reads a received snapshot back, all of it.
fn check(unpublished: Box<dyn Unpublished>) -> Result<Received, SnapshotError> {
    let mut reader = Reader::new("as received", unpublished.open()?)?;
    let meta = reader.head().meta.clone();
    io::copy(&mut reader, &mut io::sink())?;
    reader.finish()?;
    Ok(Snapshot { meta, snapshot: Handle::received(unpublished) })
}
