//! What was acknowledged is there, and once; what was refused is not: a client that was told *done* builds on it, and one
//! that was told *no* goes another way.
//!
//! Operations without an answer are carried out wholly or not at all, never twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use escapement::service::ServiceError;
use escapement_domain::event::{Event, Placing};
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::limits::IDEMPOTENCY_WINDOW;
use escapement_domain::record::Record;
use escapement_domain::replica::placement::Gate;
use escapement_domain::schedule::calendar::Calendar;

use super::effects::{Effects, astray, effects};
use super::story::Lives;
use crate::evidence::{Done, Evidence, Hold, Knowledge, Missing, Operation, Wish};
use crate::profile::SKEW_MS;

/// What operations are held against.
struct Judged<'a> {
    evidence: &'a Evidence,
    lives: &'a Lives,
    shelf: Shelf<'a>,
}

pub(super) fn check(evidence: &Evidence, lives: &Lives) -> Vec<String> {
    let effects = effects(evidence);
    let judged = Judged { evidence, lives, shelf: Shelf::of(evidence) };
    let mut found = Vec::new();
    for operation in &evidence.operations {
        let of = effects.get(&operation.number.to_string()).map_or(&[][..], Vec::as_slice);
        judged.judge(operation, of, &mut found);
    }
    found.extend(keys(evidence, &effects));
    for ((tenant, task), life) in lives {
        let exists = evidence.last.task(*tenant, *task).is_some();
        if exists == life.deleted.is_some() {
            found.push(format!(
                "task {task} exists at the end: {exists}, and was deleted at {:?} ms",
                life.deleted
            ));
        }
    }
    found
}

impl Judged<'_> {
    fn judge(&self, operation: &Operation, of: &[&Record], found: &mut Vec<String>) {
        let number = operation.number;
        let entries: BTreeSet<u64> = of.iter().map(|record| record.header.log_index).collect();
        if operation.wish.entries().is_some_and(|most| entries.len() > most) {
            found.push(format!(
                "operation {number} was carried out {} times, in entries {entries:?}",
                entries.len()
            ));
        }
        let created = of.iter().filter_map(|record| created(&record.event)).count();
        if wanted(&operation.wish).is_some_and(|most| created > most) {
            found.push(format!("operation {number} created {created} tasks, more than were asked for"));
        }
        if let Wish::CreateAll(definitions) = &operation.wish
            && created > 0
            && created < definitions.len()
        {
            found.push(format!("operation {number} created {created} tasks, and was to create all or none"));
        }
        let of_another = |record: &&&Record| {
            let tenant = self.evidence.last.tenant_name(record.header.tenant);
            tenant.is_none_or(|tenant| **tenant != *operation.tenant)
        };
        if let Some(record) = astray(operation, of).or_else(|| of.iter().find(of_another).copied()) {
            let (event, sequence) = (record.event.name(), record.header.sequence);
            found.push(format!(
                "operation {number} led to {event} in record {sequence}, which is not what was asked for"
            ));
        }
        match &operation.knowledge {
            Knowledge::Done(done) => found.extend(there(self, operation, done, of)),
            Knowledge::Refused(reason) if reason.starts_with("unexpected") => {
                found.push(format!("operation {number} was answered with an {reason}"));
            }
            Knowledge::Refused(reason) if !of.is_empty() && is_refused_for_good(operation, reason) => found
                .push(format!(
                    "operation {number} was refused ({reason}) and carried out in entries {entries:?}"
                )),
            Knowledge::Missing(what) => found.extend(missing(self, operation, *what)),
            _ => {}
        }
    }
}

/// Whether a refusal speaks of the whole operation: that a node which was asked again had no leader, or too much to do, says
/// nothing of the times before.
fn is_refused_for_good(operation: &Operation, reason: &str) -> bool {
    let for_now = [ServiceError::NoLeader, ServiceError::Busy].map(|error| error.to_string());
    operation.key.is_none() || for_now.iter().all(|for_now| for_now != reason)
}

/// How many tasks an operation may create; any other creates none.
fn wanted(wish: &Wish) -> Option<usize> {
    match wish {
        Wish::Create(definitions) | Wish::CreateAll(definitions) => Some(definitions.len()),
        _ => Some(0),
    }
}

/// From which time of the world on something stood how.
type History<T> = Vec<(u64, T)>;

/// How what clients put stood from a time of the world on.
#[derive(Default)]
struct Shelf<'a> {
    calendars: BTreeMap<TenantId, History<&'a Calendar>>,
    /// Pools and limits that there are, with their capacity.
    gates: BTreeMap<(TenantId, &'a Gate), History<Option<u32>>>,
    /// Queues that are paused.
    queues: BTreeMap<TenantId, History<bool>>,
    /// Breakers that are open until somebody closes them, and that are closed; none is neither.
    breakers: BTreeMap<(TenantId, Arc<str>), History<Option<bool>>>,
    /// Priorities of tasks, and of their executions.
    of_tasks: BTreeMap<TaskId, u8>,
    priorities: BTreeMap<ExecutionId, History<u8>>,
    /// When each execution was first told to stop.
    stopped: BTreeMap<ExecutionId, u64>,
    /// When each was made, and of which task.
    made: BTreeMap<ExecutionId, (u64, TaskId)>,
}

impl<'a> Shelf<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let mut shelf = Self::default();
        for record in &evidence.records {
            let (tenant, at) = (record.header.tenant, evidence.committed_at(record));
            shelf.follow_placing(tenant, at, &record.event);
            match &record.event {
                Event::CalendarPut { calendar, .. } => {
                    shelf.calendars.entry(tenant).or_default().push((at, calendar));
                }
                Event::TaskCancelRequested { execution, .. } | Event::TaskCancelled { execution, .. } => {
                    shelf.stopped.entry(*execution).or_insert(at);
                }
                Event::TaskScheduled { task, execution, .. } | Event::TaskSkipped { task, execution, .. } => {
                    shelf.made.entry(*execution).or_insert((at, *task));
                }
                _ => {}
            }
        }
        shelf
    }

    fn follow_placing(&mut self, tenant: TenantId, at: u64, event: &'a Event) {
        let mut turn = |target: &Arc<str>, by_hand| {
            let history = self.breakers.entry((tenant, target.clone()));
            history.or_insert_with(|| vec![(0, Some(false))]).push((at, by_hand));
        };
        match event {
            Event::Placement(Placing::GatePut { gate, capacity, .. }) => {
                self.gates.entry((tenant, gate)).or_default().push((at, Some(*capacity)));
            }
            Event::Placement(Placing::GateDeleted { gate }) => {
                self.gates.entry((tenant, gate)).or_default().push((at, None));
            }
            Event::Placement(placing @ (Placing::QueuePaused { .. } | Placing::QueueResumed { .. })) => {
                let paused = matches!(placing, Placing::QueuePaused { .. });
                self.queues.entry(tenant).or_insert_with(|| vec![(0, false)]).push((at, paused));
            }
            Event::Placement(Placing::BreakerOpened { target, until, .. }) => {
                turn(target, until.is_none().then_some(true));
            }
            Event::Placement(Placing::BreakerHalfOpened { target }) => turn(target, None),
            Event::Placement(Placing::BreakerClosed { target, .. }) => turn(target, Some(false)),
            Event::TaskCreated { task, rules, .. } | Event::TaskUpdated { task, rules, .. } => {
                self.of_tasks.insert(*task, rules.priority);
            }
            Event::TaskScheduled { task, execution, .. } | Event::TaskReopened { task, execution, .. } => {
                let priority = self.of_tasks.get(task).copied().unwrap_or_default();
                self.priorities.entry(*execution).or_default().push((at, priority));
            }
            Event::TaskPriorityChanged { execution, priority, .. } => {
                self.priorities.entry(*execution).or_default().push((at, *priority));
            }
            _ => {}
        }
    }
}

/// Whether something was so at any time between the call of an operation and its answer.
fn stood<T: PartialEq>(history: Option<&History<T>>, operation: &Operation, wanted: &T) -> bool {
    let history = history.map_or(&[][..], Vec::as_slice);
    let ends = history.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
    history
        .iter()
        .zip(ends)
        .any(|((from, held), to)| held == wanted && *from <= operation.answered && operation.issued <= to)
}

fn there(judged: &Judged<'_>, operation: &Operation, done: &Done, effects: &[&Record]) -> Option<String> {
    let has = |matches: &dyn Fn(&Event) -> bool| effects.iter().any(|record| matches(&record.event));
    let tenant = judged.evidence.last.tenant_number(operation.tenant).unwrap_or(TenantId::CLUSTER);
    let phases = |task: &TaskId| judged.lives.get(&(tenant, *task)).map(|life| &life.phases);
    let shelf = &judged.shelf;
    let is_there = match (&operation.wish, done) {
        (Wish::Create(definitions) | Wish::CreateAll(definitions), Done::Tasks(tasks)) => {
            let created: Vec<TaskId> = effects.iter().filter_map(|record| created(&record.event)).collect();
            created == *tasks && created.len() == definitions.len()
        }
        (Wish::Run(_), Done::Execution(execution)) => has(&|event| event.execution() == Some(*execution)),
        (Wish::Publish(_), Done::Published(id)) => {
            has(&|record| matches!(record, Event::EventPublished { event, .. } if event == id))
        }
        (Wish::Delete(_), Done::Gone) => has(&|event| matches!(event, Event::TaskDeleted { .. })),
        (Wish::CancelRun(_) | Wish::RetryRun(_), Done::Changed) => {
            has(&|event| matches!(event, Event::Chain(_)))
        }
        (Wish::Retry(asked), Done::Execution(execution)) => {
            asked == execution
                && has(&|event| matches!(event, Event::TaskReopened { execution, .. } if execution == asked))
        }
        (Wish::ChangeOccurrence(..), Done::Changed) => {
            has(&|event| matches!(event, Event::TaskOccurrenceChanged { .. }))
        }
        (Wish::Backfill(..), Done::Changed) => has(&|event| matches!(event, Event::BackfillStarted { .. })),
        (Wish::Update(..), Done::Task(_)) => has(&|event| matches!(event, Event::TaskUpdated { .. })),
        // What is so already is not changed, and nothing is recorded.
        (Wish::Cancel(asked), Done::Execution(execution)) => {
            asked == execution && shelf.stopped.get(asked).is_some_and(|at| *at <= operation.answered)
        }
        (Wish::PutCalendar(asked), Done::Changed) => {
            !effects.is_empty() || stood(shelf.calendars.get(&tenant), operation, &&**asked)
        }
        (Wish::Hold(Hold::PutGate(gate, asked)), Done::Changed) => {
            !effects.is_empty() || stood(shelf.gates.get(&(tenant, gate)), operation, &Some(*asked))
        }
        (Wish::Hold(Hold::DeleteLimit(_)), Done::Changed) => !effects.is_empty(),
        (Wish::Hold(Hold::Prioritise(asked, priority)), Done::Execution(execution)) => {
            asked == execution
                && (!effects.is_empty() || stood(shelf.priorities.get(asked), operation, priority))
        }
        // Nobody needed to do anything to a queue or a target of which nothing was heard.
        (Wish::Hold(Hold::PauseQueue(asked)), Done::Changed) => {
            let history = shelf.queues.get(&tenant);
            !effects.is_empty() || stood(history, operation, asked) || history.is_none() && !asked
        }
        (Wish::Hold(Hold::SetBreaker(target, asked)), Done::Changed) => {
            let history = shelf.breakers.get(&(tenant, target.clone()));
            !effects.is_empty() || stood(history, operation, &Some(*asked)) || history.is_none() && !asked
        }
        (Wish::Pause(task), Done::Task(_)) => !effects.is_empty() || stood(phases(task), operation, &true),
        (Wish::Resume(task), Done::Task(_)) => !effects.is_empty() || stood(phases(task), operation, &false),
        // What was read is judged by the log.
        (Wish::Read(_), Done::Task(_) | Done::Absent) | (Wish::ReadEvents(_), Done::Events(_)) => true,
        _ => false,
    };
    let number = operation.number;
    (!is_there)
        .then(|| format!("operation {number} was acknowledged with {done:?}, and that is not in the log"))
}

fn created(event: &Event) -> Option<TaskId> {
    match event {
        Event::TaskCreated { task, .. } => Some(*task),
        _ => None,
    }
}

/// Whoever was told that there is no such thing was told so while there was none.
fn missing(judged: &Judged<'_>, operation: &Operation, what: Missing) -> Option<String> {
    let tenant = judged.evidence.last.tenant_number(operation.tenant)?;
    let before = |at: u64| at < operation.issued;
    let was_there = |task: &TaskId| {
        judged.lives.get(&(tenant, *task)).is_some_and(|life| {
            let created = life.segments.first().is_some_and(|first| before(first.from));
            created && life.deleted.is_none_or(|at| at > operation.answered)
        })
    };
    let there = match (&operation.wish, what) {
        (
            Wish::Update(task, _)
            | Wish::Pause(task)
            | Wish::Resume(task)
            | Wish::Delete(task)
            | Wish::Run(task)
            | Wish::ChangeOccurrence(task, ..)
            | Wish::Backfill(task, ..),
            Missing::Task,
        ) => was_there(task),
        (Wish::Cancel(execution) | Wish::Retry(execution), Missing::Task) => {
            judged.shelf.made.get(execution).is_some_and(|(_, task)| was_there(task))
        }
        (Wish::Cancel(execution) | Wish::Retry(execution), Missing::Execution) => {
            judged.shelf.made.get(execution).is_some_and(|(at, _)| before(*at))
        }
        (Wish::Create(_) | Wish::CreateAll(_) | Wish::Update(..), Missing::Calendar) => {
            let put = judged.shelf.calendars.get(&tenant).and_then(|put| put.first());
            put.is_some_and(|(at, _)| before(*at))
        }
        // A chain's run and its steps come and go with the tasks of all of them.
        _ => false,
    };
    there.then(|| {
        format!("operation {} was told that there is no such {what:?}, and there was", operation.number)
    })
}

/// A client's own key creates once, as long as it is remembered.
fn keys(evidence: &Evidence, effects: &Effects<'_>) -> Vec<String> {
    let mut by_key: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for operation in evidence.operations.iter().filter(|operation| operation.wish.entries().is_some()) {
        let (Some(key), Some(records)) = (operation.key, effects.get(&operation.number.to_string())) else {
            continue;
        };
        by_key.entry(key).or_default().extend(records.iter().map(|record| evidence.committed_at(record)));
    }
    let remembered = IDEMPOTENCY_WINDOW.0.saturating_add_signed(-SKEW_MS);
    by_key
        .into_iter()
        .filter(|(_, times)| {
            times.iter().zip(times.iter().skip(1)).any(|(first, second)| second - first < remembered)
        })
        .map(|(key, times)| format!("under the key {key} something was done at {times:?} ms"))
        .collect()
}
