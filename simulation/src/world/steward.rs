//! Who looks after the machines: a supervisor that starts what stopped, and an operator who replaces what is lost.
//!
//! The operator does what an operator does: asks some node to remove a member, starts an empty machine under a number
//! that was never used, adds it, and lets it vote once it has caught up. Every step is asked again until it is done or
//! refused for good.

use std::rc::Rc;

use escapement::service::cluster::ClusterError;
use escapement::service::{Service, ServiceError};
use escapement_domain::identifier::NodeId;
use escapement_raft::Formation;
use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::World;
use super::clients::caller;
use super::host::{Host, address};

/// How often the supervisor looks, in ms.
const LOOK_MS: u64 = 100;
/// How long a node may run on after a sync failed, in ms.
const STOPS_WITHIN_MS: u64 = 6_000;
/// How long the operator waits for an answer, and between two tries, in ms.
const PATIENCE_MS: u64 = 8_000;
const PAUSE_MS: u64 = 700;
/// How often the operator tries a step that is refused before giving it up.
const TRIES: u32 = 60;
/// Machines that the operator tries one after the other.
const MACHINES: u32 = 3;
/// Members that there are at least and at most.
const MEMBERS: (usize, usize) = (3, 5);

/// Starts what stopped, for as long as the world goes on.
pub(super) async fn supervise(world: Rc<World>) {
    while !world.over.get() {
        world.look_after();
        world.pause(LOOK_MS).await;
    }
}

/// Replaces what is lost and changes the members, for as long as the world goes on.
pub(super) async fn operate(world: Rc<World>) {
    loop {
        let lost = world.hosts.borrow().values().find(|host| host.lost && !host.retired).map(|host| host.id);
        if let Some(lost) = lost {
            world.changing.set(true);
            if world.remove(lost).await {
                world.grow().await;
            }
            world.changing.set(false);
        } else if let Some((way, host)) = world.wanted_change.take() {
            world.changing.set(true);
            world.change(way, host).await;
            world.changing.set(false);
        }
        world.pause(500).await;
    }
}

impl World {
    fn look_after(self: &Rc<Self>) {
        let now = self.nature.now();
        let ids: Vec<NodeId> = self.hosts.borrow().keys().copied().collect();
        for id in ids {
            let runs_on = self.with_host(id, |host| host.runs_on_for(now)).unwrap_or(0);
            if runs_on / LOOK_MS == STOPS_WITHIN_MS / LOOK_MS {
                self.violate("stopped", format!("node {id} has run on for {runs_on} ms after a sync failed"));
            }
            let over =
                self.with_host(id, |host| host.running.as_ref().is_some_and(|one| one.process.is_over()));
            if over == Some(true) {
                self.it_ended(id);
            }
            let mut hosts = self.hosts.borrow_mut();
            if let Some(host) = hosts.get_mut(&id)
                && host.running.is_none()
                && host.restart_at.is_some_and(|at| at <= now)
                && !host.lost
            {
                self.nature.note(&[20, id.0], || format!("node {id} starts"));
                host.start(self);
            }
        }
    }

    /// A process ended by itself. One that found damage on its disk does so again whenever it is started.
    fn it_ended(self: &Rc<Self>, id: NodeId) {
        let running = self.with_host(id, |host| host.running.take()).flatten();
        let reason = running.and_then(|running| running.inside.borrow_mut().ended.take());
        let failed = self.with_host(id, |host| host.sync_failed()) == Some(true);
        self.lose_unsynced(id);
        let orderly = reason.as_ref().is_some_and(String::is_empty);
        let reason = reason.unwrap_or_else(|| "its main task died".into());
        self.nature.note(&[21, id.0, u64::from(orderly)], || format!("node {id} stopped: {reason}"));
        let now = self.nature.now();
        let pause = self.nature.draw(|chance| chance.between(500, 4_000));
        if !orderly {
            self.disturb(pause);
            self.counts.borrow_mut().failures += 1;
        }
        let excused = self.with_host(id, |host| {
            let named = ["damaged", "corrupt", "checksum"].iter().any(|word| reason.contains(word));
            host.lost |= host.damaged && named;
            host.restart_at = (!host.lost && !host.retired).then_some(now + pause);
            host.excused || host.damaged || failed
        });
        if !orderly && excused == Some(false) {
            self.violate(
                "stopped",
                format!("node {id} stopped though nothing was wrong with its disk: {reason}"),
            );
        }
    }

    async fn change(self: &Rc<Self>, way: u64, host: NodeId) {
        let members = self.hosts.borrow().values().filter(|host| !host.retired).count();
        match way {
            0 if members < MEMBERS.1 => self.grow().await,
            1 if members > MEMBERS.0 => drop(self.remove(host).await),
            _ => {
                self.nature.note(&[22, host.0], || "the leadership is handed over".into());
                self.ask_cluster(|service| {
                    async move { service.transfer_leadership(&caller(None), None).await.map(drop) }
                        .boxed_local()
                })
                .await;
            }
        }
    }

    /// Removes a member for good, and says whether it is gone.
    async fn remove(self: &Rc<Self>, id: NodeId) -> bool {
        self.nature.note(&[23, id.0], || format!("the operator removes node {id}"));
        for _ in 0..TRIES {
            let asked = self
                .ask_cluster(move |service| {
                    async move { service.remove_node(&caller(None), id).await }.boxed_local()
                })
                .await;
            let gone = match asked {
                Some(Ok(()) | Err(ServiceError::Cluster(ClusterError::UnknownNode(_)))) => true,
                Some(Err(_)) | None => false,
            };
            if gone {
                self.nature.note(&[24, id.0], || format!("node {id} is removed"));
                self.disturb(0);
                let was_member = self.with_host(id, |host| {
                    host.retired = true;
                    host.restart_at = None;
                    host.was_added
                });
                self.counts.borrow_mut().removed += u64::from(was_member == Some(true));
                self.kill(id, 0);
                return true;
            }
            self.pause(PAUSE_MS).await;
        }
        false
    }

    /// Adds a member. One that was added by a leader whose word was not kept holds something already, and is not taken:
    /// then it is another one.
    async fn grow(self: &Rc<Self>) {
        for _ in 0..MACHINES {
            if self.add().await {
                return;
            }
        }
    }

    /// Adds an empty machine under a number that was never used, lets it vote, and says whether it was taken.
    async fn add(self: &Rc<Self>) -> bool {
        let id = NodeId(self.hosts.borrow().keys().next_back().map_or(1, |last| last.0 + 1));
        self.nature.note(&[25, id.0], || format!("the operator adds node {id}"));
        let mut host = Host::new(self, id, Formation::Join);
        host.start(self);
        self.hosts.borrow_mut().insert(id, host);
        let place = address(id);
        let added = self.persist(move |service| {
            let (api, peer) = (place.api.clone(), place.peer.clone());
            async move { service.add_node(&caller(None), id, api, peer).await.map(drop) }.boxed_local()
        });
        if !added.await {
            // It was never a member, or nobody knows: its number is not used again.
            self.remove(id).await;
            return false;
        }
        self.with_host(id, |host| host.was_added = true);
        let promoted = self.persist(move |service| {
            async move { service.promote_node(&caller(None), id).await.map(drop) }.boxed_local()
        });
        if promoted.await {
            self.nature.note(&[26, id.0], || format!("node {id} votes"));
            self.counts.borrow_mut().added += 1;
        }
        true
    }

    /// Asks until it is done, and says whether it was.
    async fn persist(
        self: &Rc<Self>,
        step: impl Fn(Service) -> LocalBoxFuture<'static, Result<(), ServiceError>> + Clone + 'static,
    ) -> bool {
        for _ in 0..TRIES {
            match self.ask_cluster(step.clone()).await {
                Some(Ok(())) => return true,
                Some(Err(ServiceError::Cluster(ClusterError::Refused { reason })))
                    if reason.contains("state of its own") =>
                {
                    return false;
                }
                Some(Err(_)) | None => {}
            }
            self.pause(PAUSE_MS).await;
        }
        false
    }

    /// Asks some node that is ready.
    async fn ask_cluster(
        self: &Rc<Self>,
        step: impl FnOnce(Service) -> LocalBoxFuture<'static, Result<(), ServiceError>> + 'static,
    ) -> Option<Result<(), ServiceError>> {
        let ready: Vec<NodeId> = {
            let hosts = self.hosts.borrow();
            hosts
                .values()
                .filter(|host| host.ready().is_some() && !host.retired)
                .map(|host| host.id)
                .collect()
        };
        let some = self.nature.draw(|chance| chance.index(ready.len()));
        let answer = self.ask(*ready.get(some)?, PATIENCE_MS, step).await;
        if let Some(Err(error)) = &answer {
            self.nature.note(&[27], || format!("the operator is told: {error}"));
        }
        answer
    }
}
