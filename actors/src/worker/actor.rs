//! The actor behind the lease table: renewals come in, commands about workers go out.
//!
//! Absent on purpose: the rules of leases, which are the table's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, StreamHandler};
use escapement_domain::answer::Accepted;
use escapement_domain::answer::Rejection;
use escapement_domain::command::{Command, Origin, Request};
use escapement_domain::limits::LEASE_ENDS_PER_COMMAND_MAX;
use escapement_domain::planted::{self, Bug};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::LeasesParts;
use super::outside::OutsideLeases;
use super::table::{Standing, Table, WorkerKey};
use crate::intent::{Heard, Heartbeat, Renewal, Renewed, SubmitError};
use crate::keeper::Lifeline;
use crate::ports::{Leadership, leadership_changes};

/// Renewals that may wait.
const MAILBOX: usize = 256;
/// How often leases are looked at.
const SWEEP: Duration = Duration::from_millis(100);
/// How long to wait before the log is asked again whether this node leads.
const BARRIER_PAUSE: Duration = Duration::from_millis(50);

/// A worker wants its lease renewed.
pub(super) struct Renew {
    pub(super) renewal: Renewal,
    pub(super) reply: oneshot::Sender<Result<Renewed, SubmitError>>,
}

impl Message for Renew {
    type Result = ();
}

/// A worker outside the cluster lives.
pub(super) struct Beat {
    pub(super) heartbeat: Heartbeat,
    pub(super) reply: oneshot::Sender<Result<Heard, SubmitError>>,
}

impl Message for Beat {
    type Result = ();
}

/// How long does each lease still hold?
pub(super) struct Remaining;

impl Message for Remaining {
    type Result = BTreeMap<WorkerKey, Duration>;
}

/// See the [module](super).
pub(super) struct LeaseActor {
    parts: LeasesParts,
    table: Arc<Mutex<Table>>,
    outside: Arc<Mutex<OutsideLeases>>,
    /// Whether ends of leases outside are being proposed.
    ending: bool,
    /// The term that this node leads, once the state is known to be complete.
    leading: Option<u64>,
    /// Workers whose loss is being proposed.
    losing: BTreeSet<WorkerKey>,
    /// Workers of whose loss a line was logged: without a majority it is proposed again and again.
    told: BTreeSet<WorkerKey>,
    _lifeline: Lifeline,
}

impl LeaseActor {
    pub(super) fn new(parts: LeasesParts, lifeline: Lifeline) -> Self {
        Self {
            parts,
            table: Arc::default(),
            outside: Arc::default(),
            ending: false,
            leading: None,
            losing: BTreeSet::new(),
            told: BTreeSet::new(),
            _lifeline: lifeline,
        }
    }

    fn begin(&mut self, term: u64, ctx: &mut Context<Self>) {
        self.told.clear();
        let parts = self.parts.clone();
        let settled = async move {
            while parts.log.read_barrier().await.is_err() {
                if !leads(&parts, term) {
                    return false;
                }
                tokio::time::sleep(BARRIER_PAUSE).await;
            }
            true
        };
        ctx.spawn(wrap_future(settled).map(move |settled, actor: &mut Self, _| {
            if settled && leads(&actor.parts, term) {
                let until = actor.parts.clock.monotonic() + actor.parts.lease;
                actor.parts.machine.read(|replica| actor.table.lock().begin(replica.workers(), until));
                actor.outside.lock().begin();
                actor.leading = Some(term);
            }
        }));
    }

    /// Gives up the workers whose lease ran out, and says so in the log.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let Some(term) = self.leading.filter(|term| leads(&self.parts, *term)) else { return };
        // Looked at here too, so that a slow drift never adds up to a jump.
        let _ = self.parts.clocks.is_agreed();
        let now = self.parts.clock.monotonic();
        let lease = self.parts.lease;
        let expired =
            self.parts.machine.read(|replica| self.table.lock().sweep(replica.workers(), now, lease));
        for key in expired {
            if !self.losing.insert(key) {
                continue;
            }
            let (node, incarnation) = key;
            if self.told.insert(key) {
                tracing::warn!(%node, %incarnation, term, "a worker's lease ran out");
            }
            let lost = propose(self.parts.clone(), Request::LoseWorker { node, incarnation });
            ctx.spawn(wrap_future(lost).map(move |_, actor: &mut Self, _| {
                actor.losing.remove(&key);
            }));
        }
        self.sweep_outside(now, ctx);
    }

    /// Ends the leases of workers outside that ran out, and the attempts that took too long.
    fn sweep_outside(&mut self, now: Duration, ctx: &mut Context<Self>) {
        let wall_clock = self.parts.clock.now();
        let ends = self
            .parts
            .machine
            .read(|replica| self.outside.lock().sweep(replica, now, wall_clock, LEASE_ENDS_PER_COMMAND_MAX));
        if ends.is_empty() || self.ending {
            return;
        }
        self.ending = true;
        let ended = propose(self.parts.clone(), Request::EndLeases(ends));
        ctx.spawn(wrap_future(ended).map(|_, actor: &mut Self, _| actor.ending = false));
    }
}

/// Whether this node leads in this term, as far as it knows.
fn leads(parts: &LeasesParts, term: u64) -> bool {
    let leadership = *parts.log.leadership().borrow();
    leadership.leading && leadership.term == term
}

async fn propose(parts: LeasesParts, request: Request) -> Result<Result<Accepted, Rejection>, SubmitError> {
    let logged = parts.machine.read(|replica| replica.logged());
    let stamp = parts.clocks.stamp(logged)?;
    let command = Command { stamp, origin: Origin::Scheduler, request }.encode();
    Ok(parts.log.propose(command).await?.outcome)
}

/// Renews a lease. `received` is when the renewal came in: the lease is counted from no later than that.
async fn renew(
    parts: LeasesParts,
    table: Arc<Mutex<Table>>,
    term: u64,
    renewal: Renewal,
    received: Duration,
) -> Result<Renewed, SubmitError> {
    let key = (renewal.node, renewal.incarnation);
    let (node, incarnation) = key;
    let standing = || parts.machine.read(|replica| table.lock().standing(key, replica.workers()));
    match standing() {
        Standing::Gone => return Ok(Renewed::Lost),
        Standing::New => {
            let join =
                Request::JoinWorker { node, incarnation, slots: renewal.slots, offers: renewal.offers };
            match propose(parts.clone(), join).await? {
                Ok(_) => {}
                // An earlier leader lost it: what it held is in other hands.
                Err(Rejection::UnknownWorker) => return Ok(Renewed::Lost),
                Err(rejection) => return Err(SubmitError::Stopped { reason: rejection.to_string().into() }),
            }
        }
        Standing::Known { .. } => {}
    }
    if renewal.draining && standing() == (Standing::Known { draining: false }) {
        let drained = propose(parts.clone(), Request::DrainWorker { node, incarnation }).await?;
        if drained == Err(Rejection::UnknownWorker) {
            return Ok(Renewed::Lost);
        }
    }
    // Only now is it certain that no other node has led since the renewal was sent.
    if !planted::has(Bug::DeposedLeader) {
        parts.log.read_barrier().await?;
    }
    if !leads(&parts, term) {
        return Err(SubmitError::NotLeader { leader: parts.log.leadership().borrow().leader });
    }
    let known = matches!(standing(), Standing::Known { .. });
    if known && table.lock().extend(key, received + parts.lease) {
        let lease_millis = u64::try_from(parts.lease.as_millis()).unwrap_or(u64::MAX);
        Ok(Renewed::Until { lease_millis, applied: parts.machine.applied() })
    } else {
        Ok(Renewed::Lost)
    }
}

/// Extends the lease of a worker outside. `received` is when its sign of life came in.
async fn hear(
    parts: LeasesParts,
    outside: Arc<Mutex<OutsideLeases>>,
    term: u64,
    heartbeat: Heartbeat,
    received: Duration,
) -> Result<Heard, SubmitError> {
    // Only now is it certain that no other node has led, and given the attempt away, since the sign was sent.
    parts.log.read_barrier().await?;
    if !leads(&parts, term) {
        return Err(SubmitError::NotLeader { leader: parts.log.leadership().borrow().leader });
    }
    Ok(parts.machine.read(|replica| {
        let tenant = replica.tenant_number(&heartbeat.tenant);
        let open = replica.execution(heartbeat.execution).filter(|open| Some(open.tenant) == tenant);
        let Some(open) = open else { return Heard::NoSuchExecution };
        match outside.lock().extend(open, heartbeat.token, received, parts.clock.now()) {
            Some(lease) => Heard::Until {
                lease_millis: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
                cancel: open.cancelling.is_some(),
            },
            None => Heard::Stale,
        }
    }))
}

impl Actor for LeaseActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.add_stream(leadership_changes(self.parts.log.leadership()));
        ctx.run_interval(SWEEP, Self::sweep);
    }
}

impl StreamHandler<Leadership> for LeaseActor {
    fn handle(&mut self, leadership: Leadership, ctx: &mut Self::Context) {
        if leadership.leading && self.leading == Some(leadership.term) {
            return;
        }
        self.leading = None;
        if leadership.leading {
            self.begin(leadership.term, ctx);
        }
    }

    fn finished(&mut self, _: &mut Self::Context) {
        self.leading = None;
    }
}

impl Handler<Renew> for LeaseActor {
    type Result = ();

    fn handle(&mut self, Renew { renewal, reply }: Renew, ctx: &mut Self::Context) {
        let Some(term) = self.leading.filter(|term| leads(&self.parts, *term)) else {
            let leader = self.parts.log.leadership().borrow().leader;
            // Whoever asked may have given up waiting; so below.
            let _ = reply.send(Err(SubmitError::NotLeader { leader }));
            return;
        };
        self.parts.clocks.heard(renewal.node, renewal.wall_clock, Duration::ZERO);
        let received = self.parts.clock.monotonic();
        let renewed = renew(self.parts.clone(), self.table.clone(), term, renewal, received);
        ctx.spawn(wrap_future(renewed).map(move |renewed, _: &mut Self, _| drop(reply.send(renewed))));
    }
}

impl Handler<Beat> for LeaseActor {
    type Result = ();

    fn handle(&mut self, Beat { heartbeat, reply }: Beat, ctx: &mut Self::Context) {
        let Some(term) = self.leading.filter(|term| leads(&self.parts, *term)) else {
            let leader = self.parts.log.leadership().borrow().leader;
            // Whoever asked may have given up waiting; so below.
            let _ = reply.send(Err(SubmitError::NotLeader { leader }));
            return;
        };
        let received = self.parts.clock.monotonic();
        let heard = hear(self.parts.clone(), self.outside.clone(), term, heartbeat, received);
        ctx.spawn(wrap_future(heard).map(move |heard, _: &mut Self, _| drop(reply.send(heard))));
    }
}

impl Handler<Remaining> for LeaseActor {
    type Result = ResponseFuture<BTreeMap<WorkerKey, Duration>>;

    fn handle(&mut self, _: Remaining, _: &mut Self::Context) -> Self::Result {
        let now = self.parts.clock.monotonic();
        let remaining =
            if self.leading.is_some() { self.table.lock().remaining(now) } else { BTreeMap::new() };
        Box::pin(async move { remaining })
    }
}
