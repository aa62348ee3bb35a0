//! The serving half that every transport shares: who answers, and who may ask.
//!
//! Invariant: nothing is dispatched for a caller that [`Switchboard::admit`] did not let in. Absent on
//! purpose: sockets.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::{GroupService, Lane, Local, PeerService};
use crate::limits::APPLICATION_BYTES_MAX;
use crate::member::{GroupId, Hello, Member, NodeId};

/// What a caller says of itself before it may ask anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handshake {
    pub(super) cluster: String,
    pub(super) node: NodeId,
    pub(super) disk: u128,
    pub(super) lane: Lane,
    /// Whom it believes to have reached; `None` when it is asking.
    pub(super) expects: Option<NodeId>,
}

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    Group(GroupId),
    Application,
    Hello(GroupId),
}

/// See the module.
pub(super) struct Switchboard {
    pub(super) local: Local,
    held: RwLock<Held>,
}

#[derive(Default)]
struct Held {
    groups: BTreeMap<GroupId, Arc<dyn GroupService>>,
    peers: Option<Weak<dyn PeerService>>,
    members: BTreeMap<GroupId, BTreeMap<NodeId, Member>>,
}

impl Switchboard {
    pub(super) fn new(local: Local) -> Arc<Self> {
        Arc::new(Self { local, held: RwLock::default() })
    }

    pub(super) fn serve(&self, group: GroupId, service: Arc<dyn GroupService>) {
        self.held.write().groups.insert(group, service);
    }

    pub(super) fn leave(&self, group: GroupId) {
        self.held.write().groups.remove(&group);
    }

    pub(super) fn register(&self, service: Weak<dyn PeerService>) {
        self.held.write().peers = Some(service);
    }

    pub(super) fn learn(&self, group: GroupId, members: &BTreeMap<NodeId, Member>) {
        self.held.write().members.insert(group, members.clone());
    }

    pub(super) fn member(&self, node: NodeId) -> Option<Member> {
        let held = self.held.read();
        held.members.values().find_map(|members| members.get(&node).cloned())
    }

    /// Lets a caller in, or says why not.
    pub(super) fn admit(&self, caller: &Handshake) -> Result<(), String> {
        let Local { cluster, node, disk } = &self.local;
        if caller.cluster != *cluster {
            return Err(format!("this is cluster {cluster:?}, not {:?}", caller.cluster));
        }
        if let Some(expected) = caller.expects.filter(|expected| expected != node) {
            return Err(format!("this is node {node}, not node {expected}"));
        }
        if caller.node == *node && caller.disk != *disk {
            return Err(disk_lost(caller.node));
        }
        match self.member(caller.node) {
            Some(member) if member.disk != caller.disk => Err(disk_lost(caller.node)),
            _ => Ok(()),
        }
    }

    /// The answer to one request. What its first poll does happens in the order of the calls.
    pub(super) fn dispatch(
        &self,
        from: NodeId,
        destination: Destination,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let refuse = |reason: String| futures::future::ready(Err(reason)).boxed();
        match destination {
            Destination::Group(group) => match self.held.read().groups.get(&group) {
                Some(service) => service.handle(from, request),
                None => refuse(format!("{group} does not run on node {}", self.local.node)),
            },
            Destination::Application if request.len() > APPLICATION_BYTES_MAX => {
                refuse(format!("a request of {} bytes; at most {APPLICATION_BYTES_MAX}", request.len()))
            }
            Destination::Application => match self.held.read().peers.as_ref().map(Weak::upgrade) {
                Some(Some(service)) => service.handle(from, request),
                Some(None) => refuse(format!("node {} has stopped", self.local.node)),
                None => refuse(format!("node {} is still starting", self.local.node)),
            },
            Destination::Hello(group) => {
                let hello = self.hello(group);
                async move { crate::wire::encode(&hello.await).map_err(|error| error.to_string()) }.boxed()
            }
        }
    }

    fn hello(&self, group: GroupId) -> BoxFuture<'static, Hello> {
        let Local { cluster, node, disk } = self.local.clone();
        let service = self.held.read().groups.get(&group).cloned();
        async move {
            let pristine = match service {
                Some(service) => service.pristine().await,
                None => None,
            };
            Hello { cluster, node, disk, pristine }
        }
        .boxed()
    }
}

/// The word for an id that came back with another data directory.
pub(crate) fn disk_lost(node: NodeId) -> String {
    format!("disk lost: remove node {node} and add it under a new id")
}
