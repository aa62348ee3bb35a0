//! A network within one process: for tests and the simulation.
//!
//! Invariants are those of every transport: order on the lanes of entries and snapshots, refusal of
//! strangers. What a node does with a request happens among that node's own tasks, where it was
//! connected, so that it ends with them. Links can be cut: a request over a cut link fails at once, an
//! answer over one is lost. A [`Weather`] can do worse. Absent on purpose: chance, which a simulation
//! brings itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::link::silence;
use super::switchboard::{Destination, Handshake, Switchboard, disk_lost};
use super::{GroupService, Lane, Local, Peer, PeerService, Transport, TransportError};
use crate::member::{GroupId, Hello, Member, NodeId};
use crate::runtime::{self, Instant};
use crate::wire;

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// The other side cannot be reached, and that is known at once.
    Refused,
    /// It never arrives, and nobody hears of it.
    Lost,
    /// It arrives after so long.
    After(Duration),
    /// It arrives twice. An answer is heard once all the same: whoever asked no longer listens.
    Twice(Duration, Duration),
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Something is asked of the other node.
    Request,
    /// The other node has answered.
    Answer,
}

/// Decides what becomes of every message between two nodes.
pub trait Weather: Send + Sync + 'static {
    /// What becomes of a message that is sent now.
    fn passage(&self, from: NodeId, to: NodeId, lane: Lane, message: Message) -> Passage;
}

/// The network; clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
    weather: Option<Arc<dyn Weather>>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Listener>,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// When the last message on a lane that keeps its order arrives.
    last: BTreeMap<(NodeId, NodeId, Lane), Instant>,
}

#[derive(Clone)]
struct Listener {
    switchboard: Arc<Switchboard>,
    inbox: mpsc::UnboundedSender<Delivery>,
}

/// A request on its way.
struct Delivery {
    at: Instant,
    from: NodeId,
    lane: Lane,
    destination: Destination,
    body: Bytes,
    reply: oneshot::Sender<Reply>,
}

/// An answer on its way.
enum Reply {
    At(Instant, Result<Bytes, String>),
    Silence,
}

impl MemoryNetwork {
    /// A network without nodes, in which everything arrives at once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A network without nodes, under a weather.
    #[must_use]
    pub fn under(weather: Arc<dyn Weather>) -> Self {
        Self { state: Arc::default(), weather: Some(weather) }
    }

    /// Connects a node under an address, among the tasks around the caller; a node that was there before is
    /// replaced.
    #[must_use]
    pub fn connect(&self, local: Local, address: impl Into<String>) -> MemoryTransport {
        let (switchboard, address) = (Switchboard::new(local), address.into());
        let (inbox, deliveries) = mpsc::unbounded_channel();
        runtime::spawn(listen(deliveries, switchboard.clone(), self.clone()));
        let listener = Listener { switchboard: switchboard.clone(), inbox };
        self.state.lock().nodes.insert(address.clone(), listener);
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

    fn passage(&self, from: NodeId, to: NodeId, lane: Lane, message: Message) -> Passage {
        match &self.weather {
            _ if self.state.lock().cut.contains(&(from, to)) => Passage::Refused,
            Some(weather) if from != to => weather.passage(from, to, lane, message),
            _ => Passage::After(Duration::ZERO),
        }
    }

    /// When a message that takes so long arrives: not before the one ahead of it, where order is kept.
    fn arrival(&self, from: NodeId, to: NodeId, lane: Lane, after: Duration) -> Instant {
        let at = runtime::now() + after;
        if self.weather.is_none() || matches!(lane, Lane::Control | Lane::Application) {
            return at;
        }
        let mut state = self.state.lock();
        let last = state.last.entry((from, to, lane)).or_insert(at);
        *last = at.max(*last);
        *last
    }
}

/// Receives what is sent to one node, in the order in which it arrives.
async fn listen(
    mut inbox: mpsc::UnboundedReceiver<Delivery>,
    switchboard: Arc<Switchboard>,
    network: MemoryNetwork,
) {
    let mut coming: BTreeMap<(Instant, u64), Delivery> = BTreeMap::new();
    let mut number = 0;
    loop {
        let next = coming.first_key_value().map(|((at, _), _)| *at);
        tokio::select! {
            biased;
            delivery = inbox.recv() => {
                let Some(delivery) = delivery else { return };
                number += 1;
                coming.insert((delivery.at, number), delivery);
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(runtime::now)), if next.is_some() => {}
        }
        while let Some(first) = coming.first_entry().filter(|first| first.key().0 <= runtime::now()) {
            receive(first.remove(), &switchboard, &network);
        }
    }
}

/// Answers one request. The first poll happens here, so that requests begin in the order of their arrival.
fn receive(delivery: Delivery, switchboard: &Arc<Switchboard>, network: &MemoryNetwork) {
    let Delivery { from, lane, destination, body, reply, .. } = delivery;
    let (here, network) = (switchboard.local.node, network.clone());
    let mut work = switchboard.dispatch(from, destination, body);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let begun = work.as_mut().poll(&mut context);
    let answer = async move {
        let result = match begun {
            Poll::Ready(result) => result,
            Poll::Pending => work.await,
        };
        // Whoever asked may have given up.
        match network.passage(here, from, lane, Message::Answer) {
            Passage::Refused => drop(reply),
            Passage::Lost => drop(reply.send(Reply::Silence)),
            Passage::After(after) | Passage::Twice(after, _) => {
                drop(reply.send(Reply::At(network.arrival(here, from, lane, after), result)));
            }
        }
    };
    runtime::spawn(answer);
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
        if state
            .nodes
            .get(&self.address)
            .is_some_and(|held| Arc::ptr_eq(&held.switchboard, &self.switchboard))
        {
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
    fn find(&self, route: &Route<'_>) -> Result<Listener, TransportError> {
        let refused = |reason: String| TransportError::Refused { to: route.address.to_owned(), reason };
        let found = self.network.state.lock().nodes.get(route.address).cloned();
        let found = found.ok_or_else(|| unreachable(route.address, "nobody listens"))?;
        let Local { cluster, node, disk } = self.switchboard.local.clone();
        let expects = route.expects.map(|(node, _)| node);
        let handshake = Handshake { cluster, node, disk, lane: route.lane, expects };
        if self.network.state.lock().cut.contains(&(node, found.switchboard.local.node)) {
            return Err(unreachable(route.address, "the link is cut"));
        }
        found.switchboard.admit(&handshake).map_err(refused)?;
        match route.expects {
            Some((node, disk)) if disk != found.switchboard.local.disk => Err(refused(disk_lost(node))),
            _ => Ok(found),
        }
    }

    fn send(
        &self,
        route: &Route<'_>,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (to, from) = (route.address.to_owned(), self.switchboard.local.node);
        let deadline = runtime::now() + timeout;
        // A message is lost with its connection, which is given up when it has been silent for so long.
        let given_up = runtime::now() + silence(route.lane);
        let (reply, answer) = oneshot::channel();
        let found = match self.find(route) {
            Ok(found) => found,
            Err(error) => return futures::future::ready(Err(error)).boxed(),
        };
        let there = found.switchboard.local.node;
        let deliver = |after: Duration, reply: oneshot::Sender<Reply>| {
            let at = self.network.arrival(from, there, route.lane, after);
            let (lane, destination, body) = (route.lane, route.destination, body.clone());
            // A node that is gone hears nothing; the reply is dropped with the delivery.
            let _ = found.inbox.send(Delivery { at, from, lane, destination, body, reply });
        };
        match self.network.passage(from, there, route.lane, Message::Request) {
            Passage::Refused => {
                return futures::future::ready(Err(unreachable(&to, "the link is cut"))).boxed();
            }
            Passage::Lost => drop(reply.send(Reply::Silence)),
            Passage::After(after) => deliver(after, reply),
            Passage::Twice(first, second) => {
                deliver(first, reply);
                deliver(second, oneshot::channel().0);
            }
        }
        async move {
            let timed_out = || TransportError::Timeout { to: to.clone(), waited: timeout };
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(Reply::At(at, result))) if at < deadline => {
                    tokio::time::sleep_until(at).await;
                    result.map_err(|reason| TransportError::Remote { to, reason })
                }
                Ok(Ok(Reply::Silence)) if given_up < deadline => {
                    tokio::time::sleep_until(given_up).await;
                    Err(TransportError::Interrupted { to, reason: "the connection fell silent".to_owned() })
                }
                Ok(Ok(Reply::At(..) | Reply::Silence)) => {
                    tokio::time::sleep_until(deadline).await;
                    Err(timed_out())
                }
                Ok(Err(_)) => {
                    Err(TransportError::Interrupted { to, reason: "the answer was lost".to_owned() })
                }
                Err(_) => Err(timed_out()),
            }
        }
        .boxed()
    }
}

fn unreachable(to: &str, reason: &str) -> TransportError {
    TransportError::Unreachable { to: to.to_owned(), reason: reason.to_owned() }
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
