//! An execution is tried again as often as its task says, after the waits that it asks for, and is not given up before: whoever
//! sets the retries of a task knows how often it is done at most, that it is done so often, and that its target is spared.

use std::collections::BTreeMap;

use escapement_domain::event::{AttemptEnded, Event, GiveUpCause, RequeueCause};
use escapement_domain::execution::failure::FailureClass;
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::task::definition::{Delivery, Retry};
use escapement_domain::task::rules::{Requirement, Rules};
use escapement_domain::timestamp::Timestamp;

use super::story::Lives;
use crate::evidence::Evidence;

/// An execution as the records have it so far.
struct Course<'a> {
    rules: &'a Rules,
    /// Attempts that were granted, ever.
    attempts: u32,
    /// Attempts that failed since it was opened, the last time.
    failures: u32,
    /// When it is to be tried again.
    until: Option<Timestamp>,
}

#[derive(Default)]
struct Books<'a> {
    rules: BTreeMap<(TenantId, TaskId), &'a Rules>,
    open: BTreeMap<ExecutionId, Course<'a>>,
}

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut books = Books::default();
    let mut found = Vec::new();
    for record in &evidence.records {
        let (tenant, event, at) = (record.header.tenant, &record.event, record.header.at);
        if let (Some(execution), Err(why)) = (event.execution(), books.read(tenant, event, at)) {
            found.push(format!("execution {execution}: {} of {at} {why}", event.name()));
        }
    }
    found
}

impl<'a> Books<'a> {
    fn read(&mut self, tenant: TenantId, event: &'a Event, now: Timestamp) -> Result<(), String> {
        match event {
            Event::TaskCreated { task, rules, .. } | Event::TaskUpdated { task, rules, .. } => {
                self.rules.insert((tenant, *task), rules);
                Ok(())
            }
            Event::TaskScheduled { task, execution, .. } => {
                self.open(tenant, *task, *execution, 0);
                Ok(())
            }
            Event::TaskReopened { task, execution, attempts, .. } => {
                self.open(tenant, *task, *execution, *attempts);
                Ok(())
            }
            Event::TaskCompleted { execution, .. } | Event::TaskCancelled { execution, .. } => {
                self.open.remove(execution);
                Ok(())
            }
            event => {
                let Some(course) = event.execution().and_then(|id| self.open.get_mut(&id)) else {
                    return Ok(());
                };
                course.go_on(event, now)
            }
        }
    }

    fn open(&mut self, tenant: TenantId, task: TaskId, execution: ExecutionId, attempts: u32) {
        if let Some(rules) = self.rules.get(&(tenant, task)) {
            self.open.insert(execution, Course { rules, attempts, failures: 0, until: None });
        }
    }
}

impl Course<'_> {
    fn go_on(&mut self, event: &Event, now: Timestamp) -> Result<(), String> {
        let most = self.rules.retry.max_attempts;
        match event {
            Event::TaskStarted { attempt, .. } => {
                self.attempts += 1;
                let number = self.attempts;
                (*attempt == number)
                    .then_some(())
                    .ok_or_else(|| format!("is attempt {attempt}, not {number}"))
            }
            Event::TaskRetry { until, ended, retry_after, .. } => {
                self.failures += 1;
                self.until = Some(*until);
                let worth_it = self.is_worth_it(ended) && !self.may_have_been_done(ended);
                let failures = self.failures;
                if failures >= most || !worth_it {
                    return Err(format!("is failure {failures} of {most}: {:?}", ended.failure));
                }
                let (shortest, longest) = waits(&self.rules.retry, failures);
                let (shortest, longest) = retry_after.map_or((shortest, longest), |asked| (asked.0, asked.0));
                let waited = until.0 - now.0;
                (shortest.cast_signed()..=longest.cast_signed())
                    .contains(&waited)
                    .then_some(())
                    .ok_or_else(|| format!("waits {waited} ms, not {shortest} to {longest}"))
            }
            Event::TaskRequeued { cause: RequeueCause::RetryDue, .. } => {
                let until = self.until.take();
                until
                    .is_some_and(|until| until <= now)
                    .then_some(())
                    .ok_or_else(|| format!("comes too early, it was due at {until:?}"))
            }
            Event::TaskFailed { ended, cause, .. } => self.give_up(Some(ended), *cause),
            Event::TaskTimedOut { ended, cause, .. } => self.give_up(ended.as_ref(), *cause),
            Event::TaskLost { .. } => (self.rules.delivery == Delivery::AtMostOnce)
                .then_some(())
                .ok_or_else(|| "is of one that is made at least once".to_owned()),
            _ => Ok(()),
        }
    }

    fn give_up(&self, ended: Option<&AttemptEnded>, cause: GiveUpCause) -> Result<(), String> {
        let (failures, most) = (self.failures + 1, self.rules.retry.max_attempts);
        let fits = match cause {
            GiveUpCause::AttemptsUsedUp => failures == most,
            GiveUpCause::NotRetried => ended.is_some_and(|ended| !self.is_worth_it(ended)),
            GiveUpCause::ExecutionTimeout => self.rules.execution_timeout.is_some(),
            GiveUpCause::QueueTimeout => self.rules.queue_timeout.is_some(),
            GiveUpCause::OutcomeUnknown => ended.is_some_and(|ended| self.may_have_been_done(ended)),
        };
        fits.then_some(()).ok_or_else(|| format!("gives up for {cause:?} at failure {failures} of {most}"))
    }

    /// Whether it may be made once at most, and may have been done by somebody who did not say so.
    fn may_have_been_done(&self, ended: &AttemptEnded) -> bool {
        let elsewhere = matches!(self.rules.requirement, Requirement::Http | Requirement::Queue(_));
        let unknown = match ended.failure {
            Some(FailureClass::TimedOut | FailureClass::Connection) => elsewhere,
            class => class == Some(FailureClass::Died),
        };
        unknown && self.rules.delivery == Delivery::AtMostOnce
    }

    /// Whether a failure of its class is retried at all.
    fn is_worth_it(&self, ended: &AttemptEnded) -> bool {
        match (&self.rules.retry_on, ended.failure) {
            (Some(on), Some(class)) => on.covers(class),
            (_, class) => class != Some(FailureClass::Inputs),
        }
    }
}

/// The shortest and the longest wait after so many failures, in ms.
fn waits(retry: &Retry, failures: u32) -> (u64, u64) {
    let most = retry.max_delay.0;
    let grown = |wait: u64, _| (wait * u64::from(retry.multiplier_per_mille) / 1_000).min(most);
    let wait = (1..failures).fold(retry.initial_delay.0.min(most), grown);
    let reach = wait * u64::from(retry.jitter_per_mille) / 1_000;
    (wait - reach, (wait + reach).min(most))
}
