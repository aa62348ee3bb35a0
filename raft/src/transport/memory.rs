//! A network within one process, whose links can be cut: for tests and the simulation.
//!
//! Invariants are those of every transport: order on a lane, refusal of strangers. A request over a cut
//! link fails at once; an answer over one is lost. Absent on purpose: delay and chance, which a
//! simulation brings itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::switchboard::{Destination, Handshake, Switchboard, disk_lost};
use super::{GroupService, Lane, Local, Peer, PeerService, Transport, TransportError};
use crate::member::{GroupId, Hello, Member, NodeId};
use crate::runtime;
use crate::wire;

/// The network; clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Arc<Switchboard>>,
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl MemoryNetwork {
    /// A network without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects a node under an address; a node that was there before is replaced.
    #[must_use]
    pub fn connect(&self, local: Local, address: impl Into<String>) -> MemoryTransport {
        let (switchboard, address) = (Switchboard::new(local), address.into());
        self.state.lock().nodes.insert(address.clone(), switchboard.clone());
        MemoryTransport { network: self.clone(), switchboard, address }
    }

    /// Cuts the link between two nodes, both ways.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.state.lock().cut.extend([(a, b), (b, a)]);
    }

    /// Cuts every link of a node to these.
    pub fn isolate(&self, node: NodeId, others: impl IntoIterator<Item = NodeId>) {
        others.into_iter().filter(|other| *other != node).for_each(|other| self.cut(node, other));
    }

    /// Mends every link.
    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    fn reachable(&self, from: NodeId, to: NodeId) -> bool {
        !self.state.lock().cut.contains(&(from, to))
    }
}

/// One node's end of a [`MemoryNetwork`].
pub struct MemoryTransport {
    network: MemoryNetwork,
    switchboard: Arc<Switchboard>,
    address: String,
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        let mut state = self.network.state.lock();
        if state.nodes.get(&self.address).is_some_and(|held| Arc::ptr_eq(held, &self.switchboard)) {
            state.nodes.remove(&self.address);
        }
    }
}

/// Whom a request is for, and what is expected to be there.
struct Route<'a> {
    address: &'a str,
    expects: Option<(NodeId, u128)>,
    lane: Lane,
    destination: Destination,
}

impl MemoryTransport {
    fn find(&self, route: &Route<'_>) -> Result<Arc<Switchboard>, TransportError> {
        let unreachable = |reason: &str| TransportError::Unreachable {
            to: route.address.to_owned(),
            reason: reason.to_owned(),
        };
        let refused = |reason: String| TransportError::Refused { to: route.address.to_owned(), reason };
        let found = self.network.state.lock().nodes.get(route.address).cloned();
        let found = found.ok_or_else(|| unreachable("nobody listens"))?;
        let Local { cluster, node, disk } = self.switchboard.local.clone();
        if !self.network.reachable(node, found.local.node) {
            return Err(unreachable("the link is cut"));
        }
        let expects = route.expects.map(|(node, _)| node);
        found.admit(&Handshake { cluster, node, disk, lane: route.lane, expects }).map_err(refused)?;
        match route.expects {
            Some((node, disk)) if disk != found.local.disk => Err(refused(disk_lost(node))),
            _ => Ok(found),
        }
    }

    fn send(
        &self,
        route: &Route<'_>,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let found = match self.find(route) {
            Ok(found) => found,
            Err(error) => return futures::future::ready(Err(error)).boxed(),
        };
        let (to, from, network) =
            (route.address.to_owned(), self.switchboard.local.node, self.network.clone());
        let (there, deadline) = (found.local.node, runtime::now() + timeout);
        let mut work = found.dispatch(from, route.destination, body);
        let (reply, answer) = oneshot::channel();
        // The first poll happens here, so that requests begin in the order of the calls.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let begun = work.as_mut().poll(&mut context);
        runtime::spawn(async move {
            let result = match begun {
                Poll::Ready(result) => result,
                Poll::Pending => work.await,
            };
            if network.reachable(from, there) {
                // Whoever asked may have given up.
                drop(reply.send(result));
            }
        });
        async move {
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(Ok(answer))) => Ok(answer),
                Ok(Ok(Err(reason))) => Err(TransportError::Remote { to, reason }),
                Ok(Err(_)) => {
                    Err(TransportError::Unreachable { to, reason: "the answer was lost".to_owned() })
                }
                Err(_) => Err(TransportError::Timeout { to, waited: timeout }),
            }
        }
        .boxed()
    }
}

impl Transport for MemoryTransport {
    fn call(
        &self,
        to: &Peer,
        lane: Lane,
        group: GroupId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let expects = Some((to.node, to.member.disk));
        let route = Route { address: &to.member.peer, expects, lane, destination: Destination::Group(group) };
        self.send(&route, request, timeout)
    }

    fn request(
        &self,
        to: NodeId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let Some(member) = self.switchboard.member(to) else {
            let reason = "it is not a member".to_owned();
            let error = TransportError::Unreachable { to: format!("node {to}"), reason };
            return futures::future::ready(Err(error)).boxed();
        };
        let (expects, destination) = (Some((to, member.disk)), Destination::Application);
        let route = Route { address: &member.peer, expects, lane: Lane::Application, destination };
        self.send(&route, request, timeout)
    }

    fn hello(
        &self,
        address: &str,
        group: GroupId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Hello, TransportError>> {
        let destination = Destination::Hello(group);
        let route = Route { address, expects: None, lane: Lane::Control, destination };
        let answer = self.send(&route, Bytes::new(), timeout);
        let to = address.to_owned();
        async move {
            let answer = answer.await?;
            wire::decode(&answer).map_err(|error| TransportError::Refused { to, reason: error.to_string() })
        }
        .boxed()
    }

    fn serve(&self, group: GroupId, service: Arc<dyn GroupService>) {
        self.switchboard.serve(group, service);
    }

    fn leave(&self, group: GroupId) {
        self.switchboard.leave(group);
    }

    fn register(&self, service: Arc<dyn PeerService>) {
        self.switchboard.register(service);
    }

    fn learn(&self, group: GroupId, members: &BTreeMap<NodeId, Member>) {
        self.switchboard.learn(group, members);
    }

    fn local(&self) -> &Local {
        &self.switchboard.local
    }
}
