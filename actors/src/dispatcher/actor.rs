//! The actor behind the dispatcher: renewals and reports go out, records of applied entries and ends of attempts come in.
//!
//! Absent on purpose: what a lease, a report and an order are, which the files beside this one say.

use std::time::Duration;

use actix::fut::wrap_future;
use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, SpawnHandle, StreamHandler,
};
use escapement_domain::answer::{Answer, Rejection};
use escapement_domain::command::{AttemptOutcome, AttemptResult};
use escapement_domain::event::Event;
use escapement_domain::execution::failure::Failure;
use escapement_domain::execution::state::Holder;
use escapement_domain::identifier::{ExecutionId, Incarnation, TenantId};
use escapement_domain::task::action::Action;
use futures::stream;

use super::attempts::{Attempts, Presence, Running};
use super::draining::Draining;
use super::lease::Lease;
use super::orders::{Granted, Work, granted, held, token_of};
use super::outbox::Outbox;
use super::{DispatcherParts, DispatcherStatus};
use crate::attempt::{self, AttemptParts};
use crate::intent::{Renewal, Renewed, SubmitError};
use crate::keeper::Lifeline;
use crate::machine::Applied;
use crate::ports::{AttemptOrder, Executor, Finished, OutputChunk, OutputStream};

/// Looks at the lease in each margin.
const TICKS_PER_MARGIN: u32 = 4;
/// How much sooner than usual the next renewal is sent when the last one brought no lease.
const HASTE: u32 = 4;
/// Renewals under way at once: each may take so many times as long as the pause between them.
const RENEWALS_MAX: u32 = 2;
/// How long a report is waited for before it is sent again.
const REPORT_WAIT: Duration = Duration::from_secs(5);
/// The shortest and the longest pause before a report is sent again.
const REPORT_PAUSES_MS: (u64, u64) = (50, 250);

/// How do you stand?
pub(super) struct Look;

impl Message for Look {
    type Result = DispatcherStatus;
}

/// An attempt ended; without an end it died.
struct Ended {
    execution: ExecutionId,
    token: u64,
    finished: Option<Finished>,
}

impl Message for Ended {
    type Result = ();
}

/// See the [module](super).
pub(super) struct DispatcherActor {
    pub(super) parts: DispatcherParts,
    pub(super) incarnation: Incarnation,
    pub(super) lease: Lease,
    pub(super) attempts: Attempts,
    pub(super) outbox: Outbox,
    /// The incarnation is over; the next one begins when its reports are answered.
    pub(super) retiring: bool,
    renewals: u32,
    next_renewal: Option<SpawnHandle>,
    reporting: bool,
    report_failures: u32,
    pub(super) draining: Option<Draining>,
    _lifeline: Lifeline,
}

impl DispatcherActor {
    pub(super) fn new(parts: DispatcherParts, lifeline: Lifeline) -> Self {
        let incarnation = fresh_incarnation(&parts);
        let lease = Lease::none(parts.margin);
        Self {
            parts,
            incarnation,
            lease,
            attempts: Attempts::default(),
            outbox: Outbox::default(),
            retiring: false,
            renewals: 0,
            next_renewal: None,
            reporting: false,
            report_failures: 0,
            draining: None,
            _lifeline: lifeline,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.parts.clock.monotonic()
    }

    /// Asks for the lease again, and plans the next time whether or not an answer comes: a slow one still counts from when
    /// it was asked for, and a lost one costs no more than itself.
    fn renew(&mut self, ctx: &mut Context<Self>) {
        let (sent, every, incarnation) = (self.now(), self.parts.renew_every, self.incarnation);
        self.renew_after(every, ctx);
        if self.renewals >= RENEWALS_MAX || self.retiring {
            return;
        }
        self.renewals += 1;
        let said_draining = self.draining.is_some();
        let renewal = self.parts.leader.renew(Renewal {
            node: self.parts.node,
            incarnation,
            slots: self.parts.slots,
            offers: self.parts.offers.clone(),
            draining: said_draining,
            wall_clock: self.parts.clock.now(),
        });
        let renewed = tokio::time::timeout(every * RENEWALS_MAX, renewal);
        ctx.spawn(wrap_future(renewed).map(move |renewed, actor: &mut Self, ctx| {
            actor.renewals -= 1;
            let renewed = renewed.unwrap_or(Err(SubmitError::Unknown));
            // An answer to an incarnation that is over says nothing of the present one.
            let current = !actor.retiring && actor.incarnation == incarnation;
            let sooner = match renewed {
                Ok(Renewed::Until { lease_millis, applied }) if current => {
                    actor.lease.renewed(sent, Duration::from_millis(lease_millis), applied);
                    actor.start_pending(ctx);
                    let news = actor.draining.is_some() && !said_draining;
                    news.then_some(Duration::ZERO)
                }
                Ok(Renewed::Lost) if current => {
                    actor.retire("the leader says that it is lost", ctx);
                    Some(every / HASTE)
                }
                _ => Some(every / HASTE),
            };
            if let Some(pause) = sooner {
                actor.renew_after(pause, ctx);
            }
        }));
    }

    /// Sends the next renewal after a pause; there is one plan for it at a time.
    pub(super) fn renew_after(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        if let Some(planned) = self.next_renewal.take() {
            ctx.cancel_future(planned);
        }
        self.next_renewal = Some(ctx.run_later(pause, |actor, ctx| {
            actor.next_renewal = None;
            actor.renew(ctx);
        }));
    }

    /// Kills what runs, and ends the incarnation.
    fn retire(&mut self, why: &str, ctx: &mut Context<Self>) {
        if self.retiring {
            return;
        }
        self.retiring = true;
        let killed = self.attempts.kill_all();
        tracing::warn!(node = %self.parts.node, incarnation = %self.incarnation, killed, why, "this worker's incarnation is over");
        self.come_back(ctx);
    }

    /// Begins the next incarnation, once everything that ended under the last one is reported.
    fn come_back(&mut self, ctx: &mut Context<Self>) {
        if !self.retiring || self.outbox.len() > 0 || self.draining.is_some() {
            return;
        }
        self.retiring = false;
        self.incarnation = fresh_incarnation(&self.parts);
        self.lease = Lease::none(self.parts.margin);
        self.outbox = Outbox::default();
        self.parts.observer.worker_renewed();
        self.renew_after(self.parts.renew_every / HASTE, ctx);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if self.lease.has_lapsed(self.now()) {
            self.retire("its lease is about to end", ctx);
        }
        self.go_on_draining(ctx);
    }

    /// Starts what waits for a fresh lease, and for a state that is as fresh.
    pub(super) fn start_pending(&mut self, ctx: &mut Context<Self>) {
        let stopped = self.draining.as_ref().is_some_and(|draining| draining.stopped);
        self.lease.caught_up(self.parts.machine.applied());
        let may_start = stopped || self.lease.may_start(self.now());
        if self.attempts.pending.is_empty() || self.retiring || !may_start {
            return;
        }
        let (node, incarnation) = (self.parts.node, self.incarnation);
        let pending = std::mem::take(&mut self.attempts.pending);
        let orders: Vec<Granted> = self.parts.machine.read(|replica| {
            pending
                .into_iter()
                .filter_map(|execution| granted(replica, execution, node, incarnation))
                .collect()
        });
        for order in orders {
            self.start(order, stopped, ctx);
        }
        self.report(ctx);
    }

    fn start(&mut self, order: Granted, stopped: bool, ctx: &mut Context<Self>) {
        let Granted { tenant, execution, token, cancelling, work } = order;
        if self.attempts.knows(execution, token) {
            return;
        }
        let executor = match &work {
            Work::Order(order) => self.executor(&order.action),
            Work::Nothing | Work::Impossible(_) => None,
        };
        let outcome = match (work, executor) {
            _ if cancelling => AttemptOutcome::Cancelled,
            _ if stopped => AttemptOutcome::NotStarted,
            (Work::Nothing, _) => AttemptOutcome::Succeeded(None),
            (Work::Impossible(failure), _) => AttemptOutcome::Failed(failure),
            (Work::Order(_), None) => {
                AttemptOutcome::Failed(Failure::new("this node has no executor for the action"))
            }
            (Work::Order(order), Some(executor)) => {
                self.run(tenant, token, *order, executor, ctx);
                return;
            }
        };
        self.attempts.note_end(execution, token);
        let now = self.parts.clock.now();
        self.outbox.push(AttemptResult {
            execution,
            tenant,
            token,
            started_at: now,
            finished_at: now,
            outcome,
            usage: None,
        });
    }

    fn executor(&self, action: &Action) -> Option<std::sync::Arc<dyn Executor>> {
        match action {
            Action::Http(_) => Some(self.parts.executors.http.clone()),
            Action::Process(_) => Some(self.parts.executors.process.clone()),
            Action::Builtin { .. } => Some(self.parts.executors.builtin.clone()),
            Action::Queue { .. } => None,
        }
    }

    fn run(
        &mut self,
        tenant: TenantId,
        token: u64,
        order: AttemptOrder,
        executor: std::sync::Arc<dyn Executor>,
        ctx: &mut Context<Self>,
    ) {
        let execution = order.execution;
        let output = self.parts.outputs.sink(&order.tenant, execution, order.attempt);
        if order.without_cause {
            let text =
                "inputs: the execution has no cause, such as an event; nothing was put into the action\n";
            output.write(OutputChunk {
                at: self.parts.clock.now(),
                stream: OutputStream::System,
                text: text.into(),
            });
        }
        let dispatcher = ctx.address();
        // Not bounded by the mailbox but by the slots: an end that is not heard would hold its slot for ever.
        let ended = Box::new(move |finished| dispatcher.do_send(Ended { execution, token, finished }));
        let leash = attempt::start(AttemptParts { order, executor, output, ended });
        let running = Running {
            tenant,
            token,
            started_at: self.parts.clock.now(),
            leash,
            _presence: Presence::begin(&self.parts.observer),
            cancelled: false,
            handing_back: false,
        };
        self.attempts.running.insert(execution, running);
    }

    /// Sends the next report, unless one is on its way.
    pub(super) fn report(&mut self, ctx: &mut Context<Self>) {
        if self.reporting {
            return;
        }
        let Some(report) = self.outbox.next(self.parts.node, self.incarnation) else { return };
        self.reporting = true;
        let reported = tokio::time::timeout(REPORT_WAIT, self.parts.leader.report(report));
        ctx.spawn(wrap_future(reported).map(|reported, actor: &mut Self, ctx| {
            actor.reporting = false;
            actor.reported(reported.unwrap_or(Err(SubmitError::Unknown)), ctx);
        }));
    }

    fn reported(&mut self, answer: Result<Answer, SubmitError>, ctx: &mut Context<Self>) {
        match answer {
            Err(error) => {
                let (shortest, longest) = REPORT_PAUSES_MS;
                let pause = (shortest << self.report_failures.min(16)).min(longest);
                self.report_failures += 1;
                tracing::debug!(%error, pause, "a report has no answer and is sent again");
                // Nothing else may be sent meanwhile: the report keeps its place.
                self.reporting = true;
                ctx.run_later(Duration::from_millis(pause), |actor, ctx| {
                    actor.reporting = false;
                    actor.report(ctx);
                });
                return;
            }
            Ok(Answer { outcome, .. }) => {
                self.report_failures = 0;
                self.outbox.answered();
                match outcome {
                    Ok(_) => {}
                    Err(Rejection::UnknownWorker) => self.retire("the log does not know it", ctx),
                    Err(rejection) => {
                        tracing::error!(%rejection, "a report was refused and is not sent again")
                    }
                }
            }
        }
        self.report(ctx);
        self.come_back(ctx);
        self.go_on_draining(ctx);
    }

    /// Compares what runs with what the state says: after a gap in the records.
    fn reconcile(&mut self, ctx: &mut Context<Self>) {
        let (node, incarnation) = (self.parts.node, self.incarnation);
        let attempts = &mut self.attempts;
        self.parts.machine.read(|replica| {
            attempts.drop_unless_granted(|execution| token_of(replica, execution, (node, incarnation)));
            for (execution, running) in &mut attempts.running {
                if replica.execution(*execution).is_some_and(|open| open.cancelling.is_some()) {
                    running.cancelled = true;
                    running.leash.cancel();
                }
            }
            attempts.pending.extend(held(replica, node, incarnation));
        });
        self.start_pending(ctx);
    }
}

fn fresh_incarnation(parts: &DispatcherParts) -> Incarnation {
    Incarnation::from_parts(u64::try_from(parts.clock.now().0).unwrap_or(0), parts.entropy.bits())
}

impl Actor for DispatcherActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let ((), records) = self.parts.machine.subscribe(|_, _| ());
        ctx.add_stream(stream::unfold(records, |mut records| async move {
            records.recv().await.map(|applied| (applied, records))
        }));
        ctx.run_interval(self.parts.margin / TICKS_PER_MARGIN, Self::tick);
        self.renew(ctx);
    }
}

impl StreamHandler<Applied> for DispatcherActor {
    fn handle(&mut self, applied: Applied, ctx: &mut Self::Context) {
        if applied.restored {
            self.reconcile(ctx);
            return;
        }
        let own = (self.parts.node, self.incarnation);
        let mut moved = Vec::new();
        for record in applied.records.iter() {
            match &record.event {
                Event::TaskStarted { execution, holder: Holder::Node { node, incarnation }, .. }
                    if (*node, *incarnation) == own =>
                {
                    self.attempts.pending.insert(*execution);
                }
                Event::TaskCancelRequested { execution, .. } => {
                    if let Some(running) = self.attempts.running.get_mut(execution) {
                        running.cancelled = true;
                        running.leash.cancel();
                    }
                }
                Event::WorkerLost { node, incarnation } if (*node, *incarnation) == own => {
                    self.retire("the log says that it is lost", ctx);
                }
                Event::TaskCompleted { execution, .. }
                | Event::TaskFailed { execution, .. }
                | Event::TaskTimedOut { execution, .. }
                | Event::TaskCancelled { execution, .. }
                | Event::TaskLost { execution, .. }
                | Event::TaskRetry { execution, .. }
                | Event::TaskRequeued { execution, .. } => {
                    moved.push(*execution);
                }
                _ => {}
            }
        }
        moved.retain(|execution| self.attempts.holds(*execution));
        if !moved.is_empty() {
            let attempts = &mut self.attempts;
            self.parts.machine.read(|replica| {
                for execution in moved {
                    attempts.drop_unless(execution, token_of(replica, execution, own));
                }
            });
        }
        self.start_pending(ctx);
    }

    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<Ended> for DispatcherActor {
    type Result = ();

    fn handle(&mut self, Ended { execution, token, finished }: Ended, ctx: &mut Self::Context) {
        if self.attempts.running.get(&execution).is_none_or(|running| running.token != token) {
            // It was killed, or taken away.
            return;
        }
        let Some(running) = self.attempts.running.remove(&execution) else { return };
        self.attempts.note_end(execution, token);
        self.outbox.push(running.result(execution, finished, self.parts.clock.now()));
        self.report(ctx);
        self.go_on_draining(ctx);
    }
}

impl Handler<Look> for DispatcherActor {
    type Result = MessageResult<Look>;

    fn handle(&mut self, _: Look, _: &mut Self::Context) -> Self::Result {
        MessageResult(DispatcherStatus {
            incarnation: self.incarnation,
            fresh: !self.retiring && self.lease.is_fresh(self.now()),
            running: self.attempts.running.len(),
            unreported: self.outbox.len(),
            draining: self.draining.is_some(),
        })
    }
}
