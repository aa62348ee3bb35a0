//! Nothing happens twice: one occurrence is one execution, and one grant is one attempt, or exactly-once is a word.
//!
//! An execution is granted only while it waits for a worker: not before it may begin, not in the hands of another, not before the
//! time of its next attempt, and never when it has ended and nobody opened it again.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::event::{Event, RequeueCause};
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::task::definition::Delivery;

use super::story::Lives;
use crate::evidence::Evidence;

/// How far an execution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for an earlier one of its task.
    Held,
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    InHand,
    /// It waits for the time of its next attempt.
    Retrying,
    /// It is over; whether it did what it was asked.
    Ended { succeeded: bool },
}

/// What the records say so far.
#[derive(Default)]
struct Books {
    deliveries: BTreeMap<(TenantId, TaskId), Delivery>,
    occurrences: BTreeSet<(TenantId, TaskId, Occurrence)>,
    executions: BTreeMap<ExecutionId, (Stage, Option<Delivery>)>,
    /// Grants of which it was said that they were never begun.
    unbegun: BTreeSet<(ExecutionId, u64)>,
    found: Vec<String>,
}

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut books = Books::default();
    for record in &evidence.records {
        books.read(record);
    }
    let Books { unbegun, mut found, .. } = books;
    let mut started = BTreeSet::new();
    for attempt in &evidence.attempts {
        let (execution, token) = (attempt.execution, attempt.token);
        if !started.insert((execution, token)) {
            found.push(format!("execution {execution} was started twice under token {token}"));
        }
        if unbegun.contains(&(execution, token)) {
            found.push(format!(
                "execution {execution} was begun under token {token}, and said not to have been"
            ));
        }
    }
    found
}

impl Books {
    fn read(&mut self, record: &Record) {
        let (tenant, event) = (record.header.tenant, &record.event);
        match event {
            Event::TaskCreated { task, rules, .. } | Event::TaskUpdated { task, rules, .. } => {
                self.deliveries.insert((tenant, *task), rules.delivery);
            }
            Event::TaskScheduled { task, execution, occurrence, held, .. } => {
                // A moved occurrence is the occurrence of its instant.
                let once = match occurrence {
                    Occurrence::Moved(at) => Occurrence::Scheduled(*at),
                    other => *other,
                };
                if !self.occurrences.insert((tenant, *task, once)) {
                    self.found.push(format!("{occurrence:?} of task {task} fired twice"));
                }
                let stage = if *held { Stage::Held } else { Stage::Queued };
                if self.open(tenant, *task, *execution, stage).is_some() {
                    self.found.push(format!("execution {execution} was scheduled twice"));
                }
            }
            // What was skipped can be opened by hand like everything else that ended.
            Event::TaskSkipped { task, execution, .. } => {
                self.open(tenant, *task, *execution, Stage::Ended { succeeded: false });
            }
            // Another attempt by hand is made as the task says now.
            Event::TaskReopened { task, execution, .. } => {
                let before = self.open(tenant, *task, *execution, Stage::Queued);
                if before != Some(Stage::Ended { succeeded: false }) {
                    self.found.push(format!("execution {execution} was opened again, and was {before:?}"));
                }
            }
            _ => self.go_on(record),
        }
    }

    fn open(
        &mut self,
        tenant: TenantId,
        task: TaskId,
        execution: ExecutionId,
        stage: Stage,
    ) -> Option<Stage> {
        let delivery = self.deliveries.get(&(tenant, task)).copied();
        self.executions.insert(execution, (stage, delivery)).map(|(before, _)| before)
    }

    /// Lets an execution go from one stage to the next, if it may.
    fn go_on(&mut self, record: &Record) {
        let Some(execution) = record.event.execution() else { return };
        let Some((stage, delivery)) = self.executions.get_mut(&execution) else { return };
        let before = *stage;
        let in_hand = before == Stage::InHand;
        let (next, may) = match &record.event {
            Event::TaskReleased { .. } => (Stage::Queued, before == Stage::Held),
            Event::TaskStarted { .. } => (Stage::InHand, before == Stage::Queued),
            Event::TaskRetry { .. } => (Stage::Retrying, in_hand),
            Event::TaskRequeued { cause: RequeueCause::RetryDue, .. } => {
                (Stage::Queued, before == Stage::Retrying)
            }
            Event::TaskRequeued { cause, .. } => {
                if let RequeueCause::NotStarted { token } = cause {
                    self.unbegun.insert((execution, *token));
                } else if *delivery == Some(Delivery::AtMostOnce) {
                    let why = format!("execution {execution} is at-most-once and was made again: {cause:?}");
                    self.found.push(why);
                }
                (Stage::Queued, in_hand)
            }
            Event::TaskCompleted { .. } => (Stage::Ended { succeeded: true }, in_hand),
            Event::TaskFailed { .. } | Event::TaskLost { .. } => (Stage::Ended { succeeded: false }, in_hand),
            Event::TaskTimedOut { .. } | Event::TaskCancelled { .. } => {
                (Stage::Ended { succeeded: false }, !matches!(before, Stage::Ended { .. }))
            }
            _ => return,
        };
        *stage = next;
        if !may {
            let event = record.event.name();
            self.found.push(format!("execution {execution} was {before:?}, and then came {event}"));
        }
    }
}
