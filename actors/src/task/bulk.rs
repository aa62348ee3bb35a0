//! Carries out what is not about one task: creates in parts, bulks of which all or none is created, leases, and what a
//! tenant's tasks share: calendars, pools, limits, breakers, queues.
//!
//! Each part of a list is a command of its own under an id made from the client's, so that a repeated list gets the first
//! answer of every part. Absent on purpose: single tasks, which have actors.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use escapement_domain::answer::{Accepted, Answer};
use escapement_domain::command::{Client, Idempotency, NewTask, Origin, Request};
use escapement_domain::identifier::CommandId;
use escapement_domain::limits::CREATES_PER_COMMAND_MAX;
use escapement_domain::record::Hash;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::{Span, Stamp};

use super::drafting::{Moments, new_tasks, unschedulable};
use super::parts;
use super::proposing::Proposer;
use crate::intent::{Draft, Intent, Submission, SubmitError};

/// How long a committed bulk is waited for.
const BULK_WAIT: Duration = Duration::from_secs(10);

/// Carries a submission out that is not about one task.
pub(super) async fn carry(proposer: Proposer, submission: Submission) -> Result<Answer, SubmitError> {
    let Submission { client, intent } = submission;
    match intent {
        Intent::CreateTasks(drafts) => create(&proposer, &client, drafts).await,
        Intent::StageTasks { bulk, part, tasks } => stage(&proposer, client, bulk, part, tasks).await,
        Intent::CommitStaged { bulk, parts } => commit(&proposer, client, bulk, parts).await,
        Intent::PutCalendar { name, calendar } => {
            put_once(&proposer, client, Request::PutCalendar { name, calendar }).await
        }
        Intent::DeleteCalendar { name } => {
            put_once(&proposer, client, Request::DeleteCalendar { name }).await
        }
        Intent::Lease { queue, worker, most, lease, wait } => {
            if concerns_the_log(&proposer, &client, &queue, wait)? {
                put_once(&proposer, client, Request::Lease { queue, worker, most, lease, wait }).await
            } else {
                let index = proposer.machine().applied();
                Ok(Answer { index, outcome: Ok(Accepted::Leased(Vec::new())) })
            }
        }
        Intent::PutGate { gate, capacity } => {
            put_once(&proposer, client, Request::PutGate { gate, capacity }).await
        }
        Intent::DeleteGate { gate } => put_once(&proposer, client, Request::DeleteGate { gate }).await,
        Intent::PauseQueue { queue, paused } => {
            put_once(&proposer, client, Request::PauseQueue { queue, paused }).await
        }
        Intent::SetBreaker { target, open } => {
            put_once(&proposer, client, Request::SetBreaker { target, open }).await
        }
        Intent::PublishEvent { name, payload } => {
            let payload = Sealed::in_clear(payload.as_bytes().to_vec());
            put_once(&proposer, client, Request::PublishEvent { name, payload }).await
        }
        Intent::CancelRun { run } => put_once(&proposer, client, Request::CancelRun { run }).await,
        Intent::ChooseExecutions(choice) => {
            put_once(&proposer, client, Request::ChooseExecutions(choice)).await
        }
        Intent::DrainNode { node, drained } => {
            put_once(&proposer, client, Request::DrainNode { node, drained }).await
        }
        Intent::Refuse { pointer, detail } => {
            put_once(&proposer, client, Request::Refuse { pointer, detail }).await
        }
        Intent::RetryRun(recalled) => put_once(&proposer, client, Request::RetryRun(recalled)).await,
        other => {
            debug_assert!(other.task().is_none(), "what is about one task goes to its actor");
            Err(SubmitError::Stopped { reason: "the request went astray".into() })
        }
    }
}

/// Proposes what needs nothing of the state, unless it has its answer from before.
async fn put_once(proposer: &Proposer, client: Client, request: Request) -> Result<Answer, SubmitError> {
    match proposer.recall(&client) {
        Some(answer) => Ok(answer),
        None => proposer.propose(Origin::Client(client), request).await,
    }
}

/// A part of a list that is ready to be proposed, or has its answer from before.
enum Part {
    Answered(Answer),
    Ready(Client, Vec<NewTask>),
}

/// Whether the log has to know that a worker asks for what waits in a queue: there is something to take, or gates hold it up and
/// the worker has a place in their lines to claim.
fn concerns_the_log(
    proposer: &Proposer,
    client: &Client,
    queue: &Arc<str>,
    wait: Span,
) -> Result<bool, SubmitError> {
    let machine = proposer.machine();
    let tenant = machine.read(|replica| replica.tenant_number(&client.tenant));
    let Some(tenant) = tenant else { return Ok(false) };
    if machine.read(|replica| replica.queue().waiting_in(tenant, queue) > 0)
        || proposer.recall(client).is_some()
    {
        return Ok(true);
    }
    if !machine.read(|replica| replica.queue().is_held_up(tenant, queue)) {
        return Ok(false);
    }
    let until = proposer.stamp()?.at.plus(wait);
    Ok(machine.read(|replica| replica.queue().wants_attendance(tenant, queue, until)))
}

async fn create(proposer: &Proposer, client: &Client, drafts: Vec<Draft>) -> Result<Answer, SubmitError> {
    let cut = parts::split(drafts);
    let alone = cut.len() <= 1;
    let stamp = proposer.stamp()?;
    // Every part is prepared before the first is proposed, so that a fault in the last one refuses them all.
    let mut ready = VecDeque::with_capacity(cut.len());
    let mut first = 0;
    for drafts in cut {
        let count = drafts.len();
        let client = part_of(client, first, alone);
        ready.push_back(match proposer.recall(&client) {
            Some(answer) => Part::Answered(answer),
            None => {
                let moments = Moments { issued_at: client.issued_at, at: stamp.at };
                Part::Ready(client, new_tasks(drafts, first, moments)?)
            }
        });
        first += count;
        tokio::task::yield_now().await;
    }
    let Some(head) = ready.pop_front() else {
        return Ok(Answer { index: proposer.machine().applied(), outcome: Ok(Accepted::Tasks(Vec::new())) });
    };
    // Alone, since it tells whether the client's key and age allow the others.
    let Answer { mut index, outcome } = create_part(proposer, stamp, head).await?;
    let mut created = match outcome {
        Ok(Accepted::Tasks(created)) => created,
        outcome => return Ok(Answer { index, outcome }),
    };
    let others = ready.into_iter().map(|part| create_part(proposer, stamp, part));
    for answer in futures::future::join_all(others).await {
        let answer = answer?;
        index = index.max(answer.index);
        match answer.outcome {
            Ok(Accepted::Tasks(of_part)) => created.extend(of_part),
            outcome => return Ok(Answer { index, outcome }),
        }
    }
    Ok(Answer { index, outcome: Ok(Accepted::Tasks(created)) })
}

async fn create_part(proposer: &Proposer, stamp: Stamp, part: Part) -> Result<Answer, SubmitError> {
    match part {
        Part::Answered(answer) => Ok(answer),
        Part::Ready(client, tasks) => {
            proposer.propose_at(stamp, Origin::Client(client), Request::CreateTasks(tasks)).await
        }
    }
}

/// The client of the part that begins with draft `first`: the client itself, if there is only that part.
fn part_of(client: &Client, first: usize, alone: bool) -> Client {
    if alone {
        return client.clone();
    }
    let mut bytes = Vec::with_capacity(32);
    bytes.extend_from_slice(&client.command.0.to_be_bytes());
    bytes.extend_from_slice(&(first as u64).to_be_bytes());
    let digest = Hash::of(&bytes).0;
    let mut id = [0_u8; 16];
    id.copy_from_slice(&digest[..16]);
    let idempotency = client.idempotency.as_ref().map(|Idempotency { key, digest }| Idempotency {
        key: Arc::from(format!("{key}/{first}")),
        digest: *digest,
    });
    Client { command: CommandId(u128::from_be_bytes(id)), idempotency, ..client.clone() }
}

async fn stage(
    proposer: &Proposer,
    client: Client,
    bulk: CommandId,
    part: u32,
    drafts: Vec<Draft>,
) -> Result<Answer, SubmitError> {
    if drafts.len() > CREATES_PER_COMMAND_MAX {
        let detail =
            format!("a part holds {} tasks; at most {CREATES_PER_COMMAND_MAX} are allowed", drafts.len());
        return Err(unschedulable("", detail));
    }
    if let Some(answer) = proposer.recall(&client) {
        return Ok(answer);
    }
    let stamp = proposer.stamp()?;
    let tasks = new_tasks(drafts, 0, Moments { issued_at: client.issued_at, at: stamp.at })?;
    proposer.propose_at(stamp, Origin::Client(client), Request::StageTasks { bulk, part, tasks }).await
}

async fn commit(
    proposer: &Proposer,
    client: Client,
    bulk: CommandId,
    parts: u32,
) -> Result<Answer, SubmitError> {
    let answer = proposer.propose(Origin::Client(client), Request::CommitStaged { bulk, parts }).await?;
    if answer.outcome.is_ok() {
        let ended = tokio::time::timeout(BULK_WAIT, ended(proposer, bulk)).await;
        ended.map_err(|_| SubmitError::Unknown)?;
    }
    Ok(answer)
}

/// Resolves when every task of a committed bulk is created.
async fn ended(proposer: &Proposer, bulk: CommandId) {
    let mut applied = proposer.machine().watch_applied();
    loop {
        applied.mark_unchanged();
        if !proposer.machine().read(|replica| replica.has_bulk(bulk)) {
            return;
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
}
