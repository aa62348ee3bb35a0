//! What a command does to the leases of workers outside the cluster: take from a queue, report, end.
//!
//! Such a worker takes what waits in a queue; nothing is granted to it unasked. Its lease is renewed outside the log, and its
//! end, by silence or by the attempt's time-out, is a command. Absent on purpose: how long ago a worker was heard of.

use std::sync::Arc;

use super::apply::{Step, within};
use crate::answer::{Accepted, Rejection};
use crate::command::{AttemptOutcome, AttemptResult, LeaseEnd, Request};
use crate::event::{Event, Placing, RequeueCause};
use crate::execution::decide as execution_rules;
use crate::execution::state::{Execution, Grant, Holder};
use crate::identifier::{ExecutionId, TenantId};
use crate::limits::{
    ATTENDANCE_GRACE, ATTENDANCES_PER_COMMAND_MAX, LEASE_ENDS_PER_COMMAND_MAX, LEASES_PER_COMMAND_MAX,
};
use crate::timestamp::{Span, Timestamp};

impl Step<'_> {
    pub(super) fn change_lease(&mut self, request: &Request) -> Result<Accepted, Rejection> {
        match request {
            Request::Lease { queue, worker, most, lease, wait } => {
                let holder = Holder::Outside { worker: worker.clone(), lease: *lease };
                let most = *most as usize;
                let mut leased = self.lease(queue, most, &holder)?;
                if leased.len() < most && self.attend(queue, *wait) {
                    // It may be first in line now, at a gate that is open.
                    leased.extend(self.lease(queue, most - leased.len(), &holder)?);
                }
                Ok(Accepted::Leased(leased))
            }
            Request::CompleteAttempt { execution, token, outcome } => {
                self.complete(*execution, *token, outcome)
            }
            Request::ReportProgress { execution, token, percent, message, of_node } => {
                let (open, _) = self.held(*execution, *token, *of_node)?;
                let (task, execution, message) = (open.task, open.id, message.clone());
                let event =
                    Event::TaskProgress { task, execution, token: *token, percent: *percent, message };
                self.record(self.tenant, event);
                Ok(Accepted::Done)
            }
            Request::EndLeases(ends) => self.end_leases(ends),
            Request::AttendanceOver(over) => self.end_attendance(over),
            _ => Ok(Accepted::Done),
        }
    }

    /// Takes what is next in a queue of the client's tenant.
    fn lease(
        &mut self,
        queue: &Arc<str>,
        most: usize,
        holder: &Holder,
    ) -> Result<Vec<(ExecutionId, u64)>, Rejection> {
        within("executions in one lease", most, LEASES_PER_COMMAND_MAX)?;
        let mut leased = Vec::new();
        while leased.len() < most {
            let Some(execution) = self.replica.queue.next_of(self.tenant, queue) else { break };
            let Some(open) = self.replica.executions.get(&execution) else { break };
            let (task, attempt) = (open.task, open.attempts.saturating_add(1));
            self.record(self.tenant, Event::TaskStarted { task, execution, attempt, holder: holder.clone() });
            let granted = self.replica.executions.get(&execution).and_then(|open| open.grant());
            let Some(grant) = granted else { break };
            leased.push((execution, grant.token));
        }
        Ok(leased)
    }

    /// Notes that a worker waits at a queue, if that gives what waits there a place in the lines of its gates; says whether it
    /// does.
    fn attend(&mut self, queue: &Arc<str>, wait: Span) -> bool {
        let asked_for = self.at.plus(wait);
        let wanted = self.replica.queue.wants_attendance(self.tenant, queue, asked_for);
        if wanted {
            let until = asked_for.plus(ATTENDANCE_GRACE);
            let event = Event::Placement(Placing::QueueAttended { queue: queue.clone(), until });
            self.record(self.tenant, event);
        }
        wanted
    }

    /// Takes the places in the lines of gates from queues at which nobody was heard to wait any more.
    fn end_attendance(&mut self, over: &[(TenantId, Arc<str>, Timestamp)]) -> Result<Accepted, Rejection> {
        within("queues in one command", over.len(), ATTENDANCES_PER_COMMAND_MAX)?;
        for (tenant, queue, until) in over {
            if *until <= self.at && self.replica.queue.attendance(*tenant, queue) == Some(*until) {
                let event = Event::Placement(Placing::QueueUnattended { queue: queue.clone() });
                self.record(*tenant, event);
            }
        }
        Ok(Accepted::Done)
    }

    /// The open execution that a worker outside, or a node, has under this token, and its grant.
    ///
    /// A token that is not valid, or not any more, is recorded: somebody worked, or lied. Of an execution that is not open, only
    /// whoever found it among those that ended proposes this.
    fn held(
        &mut self,
        id: ExecutionId,
        token: u64,
        of_node: bool,
    ) -> Result<(Arc<Execution>, Grant), Rejection> {
        let open = self.replica.executions.get(&id).cloned();
        if open.as_ref().is_some_and(|open| open.tenant != self.tenant) {
            return Err(Rejection::NoSuchExecution);
        }
        let grant = open.as_ref().and_then(|open| open.grant()).cloned();
        let current = grant.as_ref().map(|grant| grant.token);
        match open.zip(grant) {
            Some((open, grant)) if grant.token == token && grant.of_node().is_some() == of_node => {
                Ok((open, grant))
            }
            _ => {
                self.record(self.tenant, Event::TaskResultRefused { execution: id, token, current });
                Err(Rejection::StaleLease)
            }
        }
    }

    fn complete(
        &mut self,
        id: ExecutionId,
        token: u64,
        outcome: &AttemptOutcome,
    ) -> Result<Accepted, Rejection> {
        let (open, grant) = self.held(id, token, false)?;
        self.end_attempt(&open, &grant, outcome.clone());
        Ok(Accepted::Done)
    }

    fn end_leases(&mut self, ends: &[LeaseEnd]) -> Result<Accepted, Rejection> {
        within("leases in one command", ends.len(), LEASE_ENDS_PER_COMMAND_MAX)?;
        for end in ends {
            let Some(open) = self.replica.executions.get(&end.execution).cloned() else { continue };
            let Some(grant) = open.grant().filter(|grant| grant.token == end.token).cloned() else {
                continue;
            };
            if grant.of_node().is_some() {
                continue;
            }
            if end.timed_out {
                self.end_attempt(&open, &grant, AttemptOutcome::TimedOut);
            } else {
                let cause = RequeueCause::LeaseExpired { token: grant.token };
                self.record(open.tenant, execution_rules::taken_back(&open, cause));
                self.go_on_after(&open);
            }
        }
        Ok(Accepted::Done)
    }

    fn end_attempt(&mut self, open: &Execution, grant: &Grant, outcome: AttemptOutcome) {
        let result = AttemptResult {
            execution: open.id,
            tenant: open.tenant,
            token: grant.token,
            started_at: grant.since,
            finished_at: self.at,
            outcome,
            usage: None,
        };
        self.conclude(open, execution_rules::report(open, &result, self.at));
        self.go_on_after(open);
    }
}
