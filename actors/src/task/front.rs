//! The registry of tasks in motion: finds or activates a task's actor, and lets the idle ones go.
//!
//! Invariant: at most one actor for each task. Absent on purpose: waiting. Everything here is handed on at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::dev::SendError;
use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message};
use escapement_domain::answer::Answer;
use escapement_domain::identifier::TaskId;
use tokio::sync::oneshot;

use super::actor::{Carry, TaskActor};
use super::proposing::{Proposer, carry_unless_answered};
use super::{FrontParts, bulk};
use crate::intent::{Submission, SubmitError};
use crate::keeper::Lifeline;

/// Submissions that may wait to be handed on.
const MAILBOX: usize = 4_096;
/// Tasks that may have an actor at a time; when they do, the idle ones go before their time.
const ACTORS_MAX: usize = 16_384;
/// Requests about many tasks that may be on their way at a time.
const BULKS_MAX: usize = 32;
/// How many sweeps fall into the time after which an idle actor goes.
const SWEEPS_PER_IDLE: u32 = 6;

/// What a client wants, and where the answer goes.
pub(super) struct Submit {
    pub(super) submission: Submission,
    pub(super) reply: oneshot::Sender<Result<Answer, SubmitError>>,
}

impl Message for Submit {
    type Result = ();
}

/// Held by every command that is on its way through a task's actor.
#[derive(Clone, Debug, Default)]
pub(super) struct InMotion(Arc<()>);

impl InMotion {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// See the [module](self).
pub(super) struct FrontActor {
    parts: FrontParts,
    proposer: Proposer,
    tasks: BTreeMap<(Arc<str>, TaskId), Registered>,
    bulks: usize,
    count: Arc<AtomicUsize>,
    _lifeline: Lifeline,
}

struct Registered {
    address: Addr<TaskActor>,
    in_motion: InMotion,
    used_at: Duration,
}

impl FrontActor {
    pub(super) fn new(parts: FrontParts, count: Arc<AtomicUsize>, lifeline: Lifeline) -> Self {
        let proposer = Proposer::new(parts.log.clone(), parts.machine.clone(), parts.clocks.clone());
        Self { parts, proposer, tasks: BTreeMap::new(), bulks: 0, count, _lifeline: lifeline }
    }

    fn hand_on(&mut self, task: TaskId, submit: Submit) {
        let key = (submit.submission.client.tenant.clone(), task);
        if self.tasks.len() >= ACTORS_MAX && !self.tasks.contains_key(&key) {
            self.tasks.retain(|_, task| !task.in_motion.is_idle());
            if self.tasks.len() >= ACTORS_MAX {
                refuse(submit, SubmitError::Busy);
                return;
            }
        }
        let (proposer, now) = (&self.proposer, self.parts.clock.monotonic());
        let registered = self.tasks.entry(key).or_insert_with(|| activate(task, proposer));
        registered.used_at = now;
        let carry = Carry { submit, in_motion: registered.in_motion.clone() };
        match registered.address.try_send(carry) {
            Ok(()) => {}
            Err(SendError::Full(carry)) => refuse(carry.submit, SubmitError::Busy),
            Err(SendError::Closed(Carry { submit, .. })) => {
                tracing::error!(%task, "a task's actor died; it is built again from the state");
                *registered = Registered { used_at: now, ..activate(task, proposer) };
                let carry = Carry { submit, in_motion: registered.in_motion.clone() };
                if let Err(error) = registered.address.try_send(carry) {
                    refuse(error.into_inner().submit, SubmitError::Busy);
                }
            }
        }
        self.tell_count();
    }

    /// Carries out what is not about one task.
    fn carry_at_large(&mut self, submit: Submit, ctx: &mut Context<Self>) {
        let counted = usize::from(submit.submission.intent.is_bulk());
        if self.bulks + counted > BULKS_MAX {
            refuse(submit, SubmitError::Busy);
            return;
        }
        self.bulks += counted;
        let Submit { submission, reply } = submit;
        // A task of its own, so that a panic in it is not the front's.
        let proposer = self.proposer.clone();
        let carried = tokio::task::spawn_local(async move {
            carry_unless_answered(&proposer, submission, |submission| {
                bulk::carry(proposer.clone(), submission)
            })
            .await
        });
        ctx.spawn(wrap_future(carried).map(move |carried, actor: &mut Self, _| {
            actor.bulks -= counted;
            // Whoever asked may have given up waiting.
            let _ = reply.send(carried.unwrap_or(Err(SubmitError::Unknown)));
        }));
    }

    fn sweep(&mut self, _: &mut Context<Self>) {
        let (now, idle) = (self.parts.clock.monotonic(), self.parts.idle);
        let leading = self.parts.log.leadership().borrow().leading;
        self.tasks.retain(|_, task| {
            !task.in_motion.is_idle()
                || (leading && now.saturating_sub(task.used_at) < idle && task.address.connected())
        });
        self.tell_count();
    }

    fn tell_count(&self) {
        let count = self.tasks.len();
        if self.count.swap(count, Ordering::Relaxed) != count {
            self.parts.observer.tasks_in_motion(count);
        }
    }
}

fn activate(task: TaskId, proposer: &Proposer) -> Registered {
    let address = TaskActor { task, proposer: proposer.clone() }.start();
    Registered { address, in_motion: InMotion::default(), used_at: Duration::ZERO }
}

fn refuse(submit: Submit, error: SubmitError) {
    // Whoever asked may have given up waiting.
    let _ = submit.reply.send(Err(error));
}

impl Actor for FrontActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(self.parts.idle / SWEEPS_PER_IDLE, Self::sweep);
    }
}

impl Handler<Submit> for FrontActor {
    type Result = ();

    fn handle(&mut self, submit: Submit, ctx: &mut Self::Context) {
        let leadership = *self.parts.log.leadership().borrow();
        if !leadership.leading {
            refuse(submit, SubmitError::NotLeader { leader: leadership.leader });
            return;
        }
        match submit.submission.intent.task() {
            Some(task) => self.hand_on(task, submit),
            None => self.carry_at_large(submit, ctx),
        }
    }
}
