//! The transport between processes: TCP, one connection for each lane to each peer.
//!
//! Absent on purpose: encryption and authentication. The peer address belongs on a private network;
//! the handshake keeps honest nodes from meeting the wrong ones, not hostile ones out.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::frame::OVERHEAD;
use super::link::{Link, Outgoing, Target};
use super::server;
use super::switchboard::{Destination, Handshake, Switchboard};
use super::{GroupService, Lane, Local, Peer, PeerService, Transport, TransportError};
use crate::limits::FRAME_BYTES_MAX;
use crate::member::{GroupId, Hello, Member, NodeId};
use crate::runtime;
use crate::wire;

/// See the module. Listens until it is shut down or dropped.
pub struct TcpTransport {
    switchboard: Arc<Switchboard>,
    links: Mutex<BTreeMap<(NodeId, Lane), (Member, Link)>>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl TcpTransport {
    /// Listens for peers. Port 0 takes a free one, see [`address`](Self::address).
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn listen(local: Local, address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let switchboard = Switchboard::new(local);
        let stop = CancellationToken::new();
        runtime::spawn(server::accept(listener, switchboard.clone(), stop.clone()));
        Ok(Self { switchboard, links: Mutex::default(), address, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and closes every connection.
    pub fn shutdown(&self) {
        self.stop.cancel();
        self.links.lock().clear();
    }

    fn handshake(&self, lane: Lane, expects: Option<NodeId>) -> Handshake {
        let Local { cluster, node, disk } = self.switchboard.local.clone();
        Handshake { cluster, node, disk, lane, expects }
    }

    fn send(
        &self,
        to: &Peer,
        lane: Lane,
        destination: Destination,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let label = format!("node {} at {}", to.node, to.member.peer);
        if let Err(error) = fits(&body) {
            return futures::future::ready(Err(error)).boxed();
        }
        if self.stop.is_cancelled() {
            let error = TransportError::Unreachable { to: label, reason: "this node is stopping".to_owned() };
            return futures::future::ready(Err(error)).boxed();
        }
        let (reply, answer) = oneshot::channel();
        let request = Outgoing { destination, body, reply };
        let sent = {
            let mut links = self.links.lock();
            let fresh = || {
                let (address, disk) = (to.member.peer.clone(), Some(to.member.disk));
                let handshake = self.handshake(lane, Some(to.node));
                (to.member.clone(), Link::start(Target { address, handshake, disk, label: label.clone() }))
            };
            let held = links.entry((to.node, lane)).or_insert_with(fresh);
            if held.0 != to.member {
                *held = fresh();
            }
            held.1.send(request)
        };
        if sent.is_err() {
            return futures::future::ready(Err(TransportError::Busy { to: label })).boxed();
        }
        await_answer(label, answer, timeout)
    }
}

fn fits(body: &Bytes) -> Result<(), TransportError> {
    let (bytes, limit) = (body.len(), FRAME_BYTES_MAX - OVERHEAD);
    if bytes > limit { Err(TransportError::TooLarge { bytes, limit }) } else { Ok(()) }
}

/// Waits for an answer; the clock starts now, not when the future is first polled.
fn await_answer(
    to: String,
    answer: oneshot::Receiver<Result<Bytes, TransportError>>,
    timeout: Duration,
) -> BoxFuture<'static, Result<Bytes, TransportError>> {
    let deadline = runtime::now() + timeout;
    async move {
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(TransportError::Interrupted { to, reason: "it was given up".to_owned() }),
            Err(_) => Err(TransportError::Timeout { to, waited: timeout }),
        }
    }
    .boxed()
}

impl Transport for TcpTransport {
    fn call(
        &self,
        to: &Peer,
        lane: Lane,
        group: GroupId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        self.send(to, lane, Destination::Group(group), request, timeout)
    }

    fn request(
        &self,
        to: NodeId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        match self.switchboard.member(to) {
            Some(member) => {
                let peer = Peer { node: to, member };
                self.send(&peer, Lane::Application, Destination::Application, request, timeout)
            }
            None => {
                let reason = "it is not a member".to_owned();
                let error = TransportError::Unreachable { to: format!("node {to}"), reason };
                futures::future::ready(Err(error)).boxed()
            }
        }
    }

    fn hello(
        &self,
        address: &str,
        group: GroupId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Hello, TransportError>> {
        let handshake = self.handshake(Lane::Control, None);
        let (address, label) = (address.to_owned(), address.to_owned());
        let link = Link::start(Target { address, handshake, disk: None, label: label.clone() });
        let (reply, answer) = oneshot::channel();
        let request = Outgoing { destination: Destination::Hello(group), body: Bytes::new(), reply };
        let queued = link.send(request).is_ok();
        debug_assert!(queued, "a new link has room");
        let answer = await_answer(label.clone(), answer, timeout);
        async move {
            let answer = answer.await?;
            drop(link);
            wire::decode(&answer)
                .map_err(|error| TransportError::Refused { to: label, reason: error.to_string() })
        }
        .boxed()
    }

    fn serve(&self, group: GroupId, service: Arc<dyn GroupService>) {
        self.switchboard.serve(group, service);
    }

    fn leave(&self, group: GroupId) {
        self.switchboard.leave(group);
    }

    fn register(&self, service: Weak<dyn PeerService>) {
        self.switchboard.register(service);
    }

    fn learn(&self, group: GroupId, members: &BTreeMap<NodeId, Member>) {
        self.switchboard.learn(group, members);
    }

    fn local(&self) -> &Local {
        &self.switchboard.local
    }
}
