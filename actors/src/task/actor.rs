//! One task in motion: its clients' commands, one at a time.
//!
//! While a command is on its way the next ones wait in the mailbox, which is bounded. Absent on purpose: results of
//! attempts (they go to the log in reports of many), timers, and any state that cannot be dropped.

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message};
use escapement_domain::answer::{Answer, Rejection};
use escapement_domain::command::{Client, Origin, Request};
use escapement_domain::identifier::TaskId;

use super::drafting::{Moments, Present, new_task, update};
use super::front::{InMotion, Submit};
use super::occurrences::Planned;
use super::proposing::{Proposer, carry_unless_answered, refusal};
use crate::intent::{Intent, Submission, SubmitError};

/// Commands of one task that may wait.
const MAILBOX: usize = 64;
/// How often a command is asked again because something became due meanwhile.
const ROUNDS: usize = 16;

/// A command for this task.
pub(super) struct Carry {
    pub(super) submit: Submit,
    pub(super) in_motion: InMotion,
}

impl Message for Carry {
    type Result = ();
}

/// See the [module](self).
pub(super) struct TaskActor {
    pub(super) task: TaskId,
    pub(super) proposer: Proposer,
}

impl Actor for TaskActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Carry> for TaskActor {
    type Result = ();

    fn handle(&mut self, Carry { submit, in_motion }: Carry, ctx: &mut Self::Context) {
        let Submit { submission, reply } = submit;
        if reply.is_closed() {
            // Whoever asked has gone; under the same id they may ask again.
            return;
        }
        let (proposer, task) = (self.proposer.clone(), self.task);
        let answer = async move {
            carry_unless_answered(&proposer, submission, |submission| {
                carry(proposer.clone(), task, submission)
            })
            .await
        };
        ctx.wait(wrap_future(answer).map(move |answer, _: &mut Self, _| {
            // Whoever asked may have given up waiting.
            let _ = reply.send(answer);
            drop(in_motion);
        }));
    }
}

async fn carry(proposer: Proposer, task: TaskId, submission: Submission) -> Result<Answer, SubmitError> {
    let Submission { client, intent } = submission;
    if let Some(answer) = quick(&proposer, &client, &intent) {
        return Ok(answer);
    }
    let settles_first =
        matches!(intent, Intent::UpdateTask { .. } | Intent::PauseTask { .. } | Intent::DeleteTask { .. });
    for _ in 0..ROUNDS {
        if settles_first && proposer.settle(&client.tenant, task).await? {
            continue;
        }
        let answer = propose(&proposer, &client, &intent).await?;
        // Something became due between the look and the log; it was not carried out and is not remembered.
        if !matches!(answer.outcome, Err(Rejection::Overdue { .. })) {
            return Ok(answer);
        }
    }
    Err(SubmitError::Busy)
}

/// An answer that needs no log: the first answer of a repeated command, and a refusal that can never change.
fn quick(proposer: &Proposer, client: &Client, intent: &Intent) -> Option<Answer> {
    if let Some(answer) = proposer.recall(client) {
        return Some(answer);
    }
    let (task, expected) = match intent {
        Intent::UpdateTask { task, expected_version, .. } | Intent::DeleteTask { task, expected_version } => {
            (*task, (*expected_version)?)
        }
        _ => return None,
    };
    let index = proposer.machine().applied();
    proposer.machine().read(|replica| {
        let current = replica.task(replica.tenant_number(&client.tenant)?, task)?.version;
        // Versions only grow: whoever saw an older one will never be right.
        (current > expected).then(|| refusal(index, Rejection::VersionMismatch { current }))
    })
}

async fn propose(proposer: &Proposer, client: &Client, intent: &Intent) -> Result<Answer, SubmitError> {
    let mut stamp = proposer.stamp()?;
    let request = match intent {
        Intent::CreateTasks(drafts) if drafts.len() == 1 => {
            let tasks = drafts.iter().cloned();
            let moments = Moments { issued_at: client.issued_at, at: stamp.at };
            Request::CreateTasks(tasks.map(|draft| new_task(draft, moments)).collect::<Result<_, _>>()?)
        }
        Intent::UpdateTask { task, expected_version, definition } => {
            let mut present = present(proposer, client, *task);
            if present.is_none() {
                // This node may not have applied yet what another leader acknowledged.
                proposer.catch_up().await?;
                present = self::present(proposer, client, *task);
                stamp = proposer.stamp()?;
            }
            update(
                *task,
                *expected_version,
                definition,
                present,
                Moments { issued_at: client.issued_at, at: stamp.at },
            )?
        }
        Intent::ChangeOccurrence { task, at: instant, change } => {
            let planned = planned(proposer, client, *task).await?;
            planned.map_or(Ok(()), |planned| planned.can_change(*instant, *change, stamp.at))?;
            Request::ChangeOccurrence { task: *task, at: *instant, change: *change }
        }
        Intent::Backfill { task, from, to, concurrency } => {
            let planned = planned(proposer, client, *task).await?;
            let instants =
                planned.map_or(Ok(Vec::new()), |planned| planned.backfill(*from, *to, stamp.at))?;
            Request::Backfill { task: *task, instants, concurrency: *concurrency }
        }
        plain => match as_it_is(plain) {
            Some(request) => request,
            None => return Err(SubmitError::Stopped { reason: "the request went astray".into() }),
        },
    };
    proposer.propose_at(stamp, Origin::Client(client.clone()), request).await
}

/// What needs nothing of the state; `None` if it is not about one task.
fn as_it_is(intent: &Intent) -> Option<Request> {
    Some(match intent {
        Intent::PauseTask { task } => Request::PauseTask { task: *task },
        Intent::ResumeTask { task } => Request::ResumeTask { task: *task },
        Intent::DeleteTask { task, expected_version } => {
            Request::DeleteTask { task: *task, expected_version: *expected_version }
        }
        Intent::RunTask { task } => Request::RunTask { task: *task },
        Intent::CancelExecution { execution, .. } => Request::CancelExecution { execution: *execution },
        Intent::RetryExecution(reopening) => Request::RetryExecution(reopening.clone()),
        Intent::CompleteAttempt { execution, token, outcome, .. } => {
            Request::CompleteAttempt { execution: *execution, token: *token, outcome: outcome.clone() }
        }
        Intent::ReportProgress { execution, token, percent, message, of_node, .. } => {
            Request::ReportProgress {
                execution: *execution,
                token: *token,
                percent: *percent,
                message: message.clone(),
                of_node: *of_node,
            }
        }
        Intent::CancelBackfill { task, backfill } => {
            Request::CancelBackfill { task: *task, backfill: *backfill }
        }
        Intent::SetPriority { execution, priority, .. } => {
            Request::SetPriority { execution: *execution, priority: *priority }
        }
        _ => return None,
    })
}

/// How a task is planned; `None` when there is no such task, which the log will say.
async fn planned(proposer: &Proposer, client: &Client, task: TaskId) -> Result<Option<Planned>, SubmitError> {
    let look = || {
        proposer.machine().read(|replica| {
            let task = replica.task(replica.tenant_number(&client.tenant)?, task)?;
            Some(Planned::of(task, replica))
        })
    };
    let mut planned = look();
    if planned.is_none() {
        // This node may not have applied yet what another leader acknowledged.
        proposer.catch_up().await?;
        planned = look();
    }
    planned.transpose()
}

fn present(proposer: &Proposer, client: &Client, task: TaskId) -> Option<Present> {
    proposer.machine().read(|replica| {
        let task = replica.task(replica.tenant_number(&client.tenant)?, task)?;
        Some(Present { created_at: task.created_at, timing: task.rules.timing })
    })
}
