//! Stamps commands and proposes them.
//!
//! Absent on purpose: what is in them.

use std::sync::Arc;

use escapement_domain::answer::{Answer, Rejection};
use escapement_domain::command::{Client, Command, Origin, Request};
use escapement_domain::identifier::TaskId;
use escapement_domain::limits::{COMMAND_BYTES_MAX, FIRES_PER_COMMAND_MAX};
use escapement_domain::replica::Replica;
use escapement_domain::replica::window::Recalled;
use escapement_domain::task::plan::{self, Delay, Timetable};
use escapement_domain::task::state::{Phase, Task};
use escapement_domain::timestamp::{Stamp, Timestamp};

use super::drafting::unschedulable;
use crate::intent::{Submission, SubmitError};
use crate::machine::Machine;
use crate::ports::Log;
use crate::worker::clocks::ClockWatch;

/// Stamps and proposes.
#[derive(Clone)]
pub(super) struct Proposer {
    log: Arc<dyn Log>,
    machine: Arc<Machine>,
    clocks: Arc<ClockWatch>,
}

impl Proposer {
    pub(super) fn new(log: Arc<dyn Log>, machine: Arc<Machine>, clocks: Arc<ClockWatch>) -> Self {
        Self { log, machine, clocks }
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The instant to stamp, never before what was logged.
    pub(super) fn stamp(&self) -> Result<Stamp, SubmitError> {
        self.clocks.stamp(self.machine.read(|replica| replica.logged()))
    }

    /// Waits until everything that was acknowledged is in the state.
    pub(super) async fn catch_up(&self) -> Result<(), SubmitError> {
        self.log.read_barrier().await.map(|_| ())
    }

    /// Waits until everything is applied that this leader took up before: what is proposed is applied in its order.
    async fn pass_through(&self) -> Result<(), SubmitError> {
        let passed = self.propose(Origin::Scheduler, Request::Fire(Vec::new())).await;
        passed.map(|_| ()).map_err(|error| match error {
            // Nobody knows whether that is in the log, and of what was submitted nothing is.
            SubmitError::Unknown => SubmitError::Busy,
            other => other,
        })
    }

    /// Stamps and proposes.
    pub(super) async fn propose(&self, origin: Origin, request: Request) -> Result<Answer, SubmitError> {
        let stamp = self.stamp()?;
        self.propose_at(stamp, origin, request).await
    }

    /// Proposes with a stamp that was used to compute instants.
    pub(super) async fn propose_at(
        &self,
        stamp: Stamp,
        origin: Origin,
        request: Request,
    ) -> Result<Answer, SubmitError> {
        let command = Command { stamp, origin, request }.encode();
        if command.len() > COMMAND_BYTES_MAX {
            let detail =
                format!("the request takes {} bytes; at most {COMMAND_BYTES_MAX} are allowed", command.len());
            return Err(unschedulable("", detail));
        }
        self.log.propose(command).await
    }

    /// The answer that a client's command already has.
    pub(super) fn recall(&self, client: &Client) -> Option<Answer> {
        let index = self.machine.applied();
        let recalled = self
            .machine
            .read(|replica| replica.window().recall(client, replica.tenant_number(&client.tenant)));
        recalled.map(|recalled| match recalled {
            Recalled::First(answer) => (*answer).clone(),
            Recalled::Refused(rejection) => refusal(index, rejection),
        })
    }

    /// Proposes what is overdue of a task; says whether anything was.
    pub(super) async fn settle(&self, tenant: &str, task: TaskId) -> Result<bool, SubmitError> {
        let stamp = self.stamp()?;
        let overdue = self.machine.read(|replica| {
            let task = replica.task(replica.tenant_number(tenant)?, task)?;
            overdue_instants(task, replica, stamp.at).or_else(|| overdue_moved(task, stamp.at))
        });
        let Some(request) = overdue else { return Ok(false) };
        self.propose_at(stamp, Origin::Scheduler, request).await?;
        Ok(true)
    }
}

/// Carries a submission out. One that is refused before the log under a client's own key is looked at once more when all is
/// applied that this leader had taken up by then: an earlier try under the key may have been on its way, and who is refused
/// takes it that nothing was carried out.
pub(super) async fn carry_unless_answered<C: Future<Output = Result<Answer, SubmitError>>>(
    proposer: &Proposer,
    submission: Submission,
    carry: impl Fn(Submission) -> C,
) -> Result<Answer, SubmitError> {
    let again = submission.client.idempotency.is_some().then(|| submission.clone());
    match (carry(submission).await, again) {
        (Err(SubmitError::Unschedulable { .. }), Some(again)) => {
            proposer.pass_through().await?;
            carry(again).await
        }
        (answer, _) => answer,
    }
}

/// What is overdue of a task's schedule, its jitter over or not.
fn overdue_instants(task: &Task, replica: &Replica, at: Timestamp) -> Option<Request> {
    let revision = replica.revision(task);
    let due = match Timetable::of(task, replica.calendars().named_by(task)) {
        Ok(timetable) => match plan::gap(task, revision, &timetable, at) {
            Some(gap) => vec![gap],
            None => plan::due(task, revision, &timetable, at, Delay::Waived, FIRES_PER_COMMAND_MAX),
        },
        Err(error) => {
            tracing::error!(task = %task.id, %error, "a task cannot be planned; no instant of it is settled");
            Vec::new()
        }
    };
    (!due.is_empty()).then_some(Request::Fire(due))
}

/// The moved occurrences of a task whose time has come: in a pause they are missed.
fn overdue_moved(task: &Task, at: Timestamp) -> Option<Request> {
    let due: Vec<_> =
        task.moved().filter(|(to, _)| *to <= at).map(|(_, instant)| (task.slot, instant)).collect();
    let request = if task.phase() == Phase::Paused { Request::MissMoved } else { Request::FireMoved };
    (!due.is_empty()).then(|| request(due))
}

/// A refusal that the log would give too, for ever.
pub(super) fn refusal(index: u64, rejection: Rejection) -> Answer {
    Answer { index, outcome: Err(rejection) }
}
