//! How a record changes the state. Nothing is decided here, and nothing can fail: what a record does not find is not there
//! to change.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::breakers::answered;
use super::placement::Condition;
use super::window::Moments;
use super::{Replica, Tenant};
use crate::command::Change;
use crate::event::{Event, PauseCause, RequeueCause};
use crate::execution::state::{Execution, Grant, Occurrence, Stage, Status};
use crate::identifier::{ExecutionId, TenantId};
use crate::planted::{self, Bug};
use crate::record::{ChainHead, Record};
use crate::task::rules::Rules;
use crate::task::sealed::Sealed;
use crate::task::state::{LastExecution, Override, Stream, Task};
use crate::timestamp::Timestamp;

impl Replica {
    /// Lets a record change the state. Records come in the order in which they were made.
    pub fn evolve(&mut self, record: &Record) {
        let header = &record.header;
        self.logged = self.logged.max(header.at);
        if let Some(tenant) = self.tenants.get_mut(header.tenant.0 as usize) {
            tenant.head = ChainHead { sequence: header.sequence, hash: record.hash };
        }
        match &record.event {
            Event::TaskCreated { .. }
            | Event::TaskUpdated { .. }
            | Event::TaskPaused { .. }
            | Event::TaskResumed { .. }
            | Event::TaskDeleted { .. } => self.evolve_definition(record),
            Event::TaskScheduled { .. }
            | Event::TaskSkipped { .. }
            | Event::TaskMissed { .. }
            | Event::TaskSuppressed { .. }
            | Event::TaskMoved { .. }
            | Event::TaskOccurrenceChanged { .. }
            | Event::TaskReplanned { .. } => self.evolve_occurrence(record),
            Event::BackfillStarted { .. } | Event::BackfillEnded { .. } => self.evolve_backfill(record),
            Event::EventPublished { .. } | Event::EventHandedOut { .. } => self.evolve_publication(record),
            Event::CalendarPut { .. } | Event::CalendarDeleted { .. } => self.evolve_calendar(record),
            Event::Placement(placing) => self.evolve_placement(record, placing),
            Event::Chain(chaining) => self.evolve_chain(record, chaining),
            Event::ZoneDataAdopted { version } => self.zone_data = version.clone(),
            Event::WorkerJoined { .. } | Event::WorkerDraining { .. } | Event::WorkerLost { .. } => {
                self.evolve_worker(&record.event, header.at);
                self.queue.staff(&self.workers);
            }
            Event::WorkerReported { .. } => self.evolve_worker(&record.event, header.at),
            Event::TenantAdded { number, name } => {
                debug_assert_eq!(number.0 as usize, self.tenants.len());
                self.tenants.push(Tenant { name: name.clone(), head: ChainHead::default() });
                self.tenant_numbers.insert(name.clone(), *number);
            }
            Event::CommandAnswered { command, issued_at, idempotency, answer } => {
                let moments = Moments { at: header.at, issued_at: *issued_at };
                self.window.remember(moments, header.tenant, *command, idempotency.as_ref(), answer);
            }
            Event::WindowAdvanced { commands, keys } => {
                self.window.advance(*commands, *keys);
                // A proposal that rests on older read models is refused as expired from here on.
                self.reopened.retain(|_, (_, at)| *at >= *commands);
                self.gone.retain(|_, at| *at >= *commands);
            }
            Event::TasksStaged { .. }
            | Event::BulkCommitted { .. }
            | Event::BulkContinued { .. }
            | Event::BulkEnded { .. } => self.evolve_bulk(record),
            _ => self.evolve_execution(record),
        }
        self.thread_stream(record);
    }

    /// Notes where the last event of a task's stream is.
    fn thread_stream(&mut self, record: &Record) {
        let (Some(link), Some(task)) = (record.header.stream, record.event.task()) else { return };
        let Some(slot) = self.task_slots.get(&(record.header.tenant, task)) else { return };
        if let Some(task) = self.tasks.get_mut(*slot) {
            task.stream = Stream { length: link.position, last: record.header.sequence };
        }
    }

    fn evolve_definition(&mut self, record: &Record) {
        let (tenant, at) = (record.header.tenant, record.header.at);
        match &record.event {
            Event::TaskCreated { slot, task, owner, rules, definition, created_at, next, paused } => {
                self.revisions += 1;
                let rules = self.take_up(tenant, rules);
                self.chains.link(tenant, *task, rules.after.as_ref());
                let created = Task {
                    id: *task,
                    slot: *slot,
                    tenant,
                    owner: owner.clone(),
                    version: 1,
                    revision: self.revisions,
                    paused: paused.then_some(PauseCause::Requested),
                    failures: 0,
                    // An instant that was past from the start (`if_past: run`) is not settled yet.
                    settled: next.map_or(*created_at, |next| (*created_at).min(Timestamp(next.0 - 1))),
                    next: *next,
                    runs: 0,
                    created_at: *created_at,
                    updated_at: at,
                    rules,
                    definition: definition.clone(),
                    open: Vec::new(),
                    overrides: BTreeMap::new(),
                    last_execution: None,
                    stream: Stream::default(),
                };
                self.listeners.add(&created);
                self.task_slots.insert((tenant, *task), *slot);
                self.tasks.put(*slot, created);
            }
            Event::TaskUpdated { slot, task, version, rules, definition, next } => {
                self.revisions += 1;
                let (revision, rules) = (self.revisions, self.take_up(tenant, rules));
                self.chains.link(tenant, *task, rules.after.as_ref());
                let Some(task) = self.tasks.get_mut(*slot) else { return };
                let former = std::mem::replace(&mut task.rules, rules);
                task.version = *version;
                task.revision = revision;
                task.definition = definition.clone();
                task.next = *next;
                task.updated_at = at;
                let exhausted = task.rules.max_runs.is_some_and(|most| task.runs >= most);
                if exhausted {
                    task.next = None;
                    let_moved_fall_away(task);
                }
                self.listeners.remove(tenant, task.id, &former);
                self.listeners.add(task);
                self.give_up(tenant, &former);
            }
            Event::TaskPaused { slot, cause, .. } => self.set_paused(*slot, Some(*cause), at),
            Event::TaskResumed { slot, .. } => self.set_paused(*slot, None, at),
            Event::TaskDeleted { slot, task } => {
                self.task_slots.remove(&(tenant, *task));
                if let Some(gone) = self.tasks.take(*slot) {
                    self.listeners.remove(tenant, *task, &gone.rules);
                    self.give_up(tenant, &gone.rules);
                }
                self.backfills.retain(|_, backfill| backfill.task != *task);
                self.chains.link(tenant, *task, None);
            }
            _ => {}
        }
    }

    /// Notes what the rules of a task name, and shares what others have too.
    fn take_up(&mut self, tenant: TenantId, rules: &Rules) -> Arc<Rules> {
        self.calendars.name(tenant, &rules.calendars);
        self.pool_users.name(tenant, rules.pools());
        let mut rules = rules.clone();
        self.claims.share(&mut rules);
        Arc::new(rules)
    }

    /// Notes that a task no longer has these rules.
    fn give_up(&mut self, tenant: TenantId, rules: &Rules) {
        self.calendars.unname(tenant, &rules.calendars);
        self.pool_users.unname(tenant, rules.pools());
        self.claims.forget(rules);
    }

    fn set_paused(&mut self, slot: u32, cause: Option<PauseCause>, at: Timestamp) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        task.paused = cause;
        task.updated_at = at;
        if cause.is_none() {
            // Whoever resumed it knows of its failures.
            task.failures = 0;
        }
    }

    fn evolve_occurrence(&mut self, record: &Record) {
        match &record.event {
            Event::TaskScheduled { slot, execution, occurrence, scheduled_at, next, held, .. } => {
                self.settle_occurrence(*slot, *occurrence, *next, 1);
                let stage = if *held { Stage::Held } else { Stage::Queued };
                self.open(record, *slot, *execution, *occurrence, *scheduled_at, stage, 0);
            }
            Event::TaskSkipped { slot, task, execution, occurrence, scheduled_at, next, .. } => {
                self.settle_occurrence(*slot, *occurrence, *next, 0);
                self.chains.skipped(*task, *execution, *occurrence, record.header.sequence);
                let last = LastExecution {
                    id: *execution,
                    status: Status::Skipped,
                    scheduled_at: *scheduled_at,
                    finished_at: record.header.at,
                };
                if let Some(task) = self.tasks.get_mut(*slot) {
                    task.last_execution = Some(last);
                }
            }
            Event::TaskMissed { slot, last, next, .. } | Event::TaskSuppressed { slot, last, next, .. } => {
                self.settle(*slot, *last, *next, 0);
            }
            Event::TaskMoved { slot, at, next, .. } => self.settle(*slot, *at, *next, 0),
            Event::TaskOccurrenceChanged { slot, at, change, .. } => {
                let Some(task) = self.tasks.get_mut(*slot) else { return };
                let passed = *at <= task.settled;
                match change {
                    Change::Skip if !passed => task.overrides.insert(*at, Override::Skip),
                    Change::Move { to } => {
                        task.overrides.insert(*at, Override::Move { to: *to, done: false })
                    }
                    Change::Skip | Change::Restore => task.overrides.remove(at),
                };
            }
            Event::TaskReplanned { slot, next, .. } => {
                if let Some(task) = self.tasks.get_mut(*slot) {
                    task.next = *next;
                }
            }
            _ => {}
        }
    }

    fn settle_occurrence(&mut self, slot: u32, occurrence: Occurrence, next: Option<Timestamp>, runs: u32) {
        match occurrence {
            Occurrence::Scheduled(instant) => self.settle(slot, instant, next, runs),
            Occurrence::Moved(at) => {
                let Some(task) = self.tasks.get_mut(slot) else { return };
                task.next = next;
                match task.overrides.get_mut(&at) {
                    Some(Override::Move { done, .. }) if at > task.settled => *done = true,
                    _ => drop(task.overrides.remove(&at)),
                }
                count_runs(task, runs);
            }
            Occurrence::Event(_) | Occurrence::After { .. } | Occurrence::Joined { .. } => {
                if let Some(task) = self.tasks.get_mut(slot) {
                    count_runs(task, runs);
                }
            }
            Occurrence::Manual(_) | Occurrence::Backfill { .. } => {}
        }
    }

    fn settle(&mut self, slot: u32, instant: Timestamp, next: Option<Timestamp>, runs: u32) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        debug_assert!(
            instant > task.settled && next.is_none_or(|next| next > instant)
                || planted::has(Bug::RepeatedOccurrence),
            "next is later than settled"
        );
        task.settled = instant;
        task.next = next;
        count_runs(task, runs);
        if !task.overrides.is_empty() {
            // What was moved to a later time has yet to run.
            task.overrides
                .retain(|at, change| *at > instant || matches!(change, Override::Move { done: false, .. }));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a new execution, from two events")]
    fn open(
        &mut self,
        record: &Record,
        slot: u32,
        id: ExecutionId,
        occurrence: Occurrence,
        scheduled_at: Timestamp,
        stage: Stage,
        attempts: u32,
    ) {
        self.turns += 1;
        let turn = self.turns;
        let Some(task) = self.tasks.get_mut(slot) else { return };
        task.open.push(id);
        let execution = Execution {
            id,
            task: task.id,
            slot,
            tenant: task.tenant,
            task_version: task.version,
            occurrence,
            scheduled_at,
            fired_at: record.header.at,
            queued_at: record.header.at,
            log_index: record.header.log_index,
            correlation_id: record.header.correlation_id.clone(),
            rules: task.rules.clone(),
            definition: task.definition.clone(),
            priority: task.rules.priority,
            turn,
            stage,
            attempts,
            failures: 0,
            cancelling: None,
            retry_items: None,
            cause: None,
        };
        if execution.stage == Stage::Queued {
            self.queue.push(&execution);
        }
        self.backfill_began(occurrence);
        self.chains.began(&execution);
        self.publications.began(occurrence);
        self.executions.insert(id, Arc::new(execution));
    }

    fn evolve_execution(&mut self, record: &Record) {
        let at = record.header.at;
        match &record.event {
            Event::TaskStarted { execution, holder, .. } => {
                let grant = Grant { holder: holder.clone(), token: record.header.sequence, since: at };
                self.move_to(&record.event, *execution, Stage::Running(grant), |open| open.attempts += 1);
            }
            Event::TaskRetry { execution, until, ended, .. } => {
                self.move_to(&record.event, *execution, Stage::Retrying { until: *until }, |open| {
                    open.failures += 1;
                    // An attempt that fails without a word leaves to do what it was asked to do.
                    if ended.failed_items.is_some() {
                        open.retry_items = ended.failed_items.clone();
                    }
                });
            }
            Event::TaskRequeued { execution, cause, .. } => {
                // Work that was taken back goes to the head of its priority: it keeps the turn that it had.
                let back_of_queue = *cause == RequeueCause::RetryDue;
                if back_of_queue {
                    self.turns += 1;
                }
                let turns = self.turns;
                self.move_to(&record.event, *execution, Stage::Queued, |open| {
                    open.queued_at = at;
                    if back_of_queue {
                        open.turn = turns;
                    }
                });
            }
            Event::TaskReleased { execution, .. } => {
                self.move_to(&record.event, *execution, Stage::Queued, |_| {})
            }
            Event::TaskPriorityChanged { execution, priority, .. } => {
                let stage = self.executions.get(execution).map(|open| open.stage.clone());
                if let Some(stage) = stage {
                    self.move_to(&record.event, *execution, stage, |open| open.priority = *priority);
                }
            }
            Event::TaskCancelRequested { execution, cause, .. } => {
                if let Some(open) = self.executions.get_mut(execution) {
                    Arc::make_mut(open).cancelling = Some(*cause);
                }
            }
            Event::TaskCompleted { execution, .. } => self.close(*execution, Status::Succeeded, record),
            Event::TaskFailed { execution, .. } => self.close(*execution, Status::Failed, record),
            Event::TaskTimedOut { execution, .. } => self.close(*execution, Status::TimedOut, record),
            Event::TaskCancelled { execution, .. } => self.close(*execution, Status::Cancelled, record),
            Event::TaskLost { execution, .. } => self.close(*execution, Status::Lost, record),
            Event::TaskReopened {
                slot,
                execution,
                occurrence,
                scheduled_at,
                attempts,
                retry_items,
                cause,
                ..
            } => {
                self.reopened.insert(*execution, (record.header.log_index, at));
                self.open(record, *slot, *execution, *occurrence, *scheduled_at, Stage::Queued, *attempts);
                if let Some(open) = self.executions.get_mut(execution) {
                    let open = Arc::make_mut(open);
                    open.retry_items = retry_items.clone();
                    open.cause = cause.clone();
                }
            }
            _ => {}
        }
    }

    /// Moves an open execution to another stage, as an event says.
    fn move_to(&mut self, event: &Event, id: ExecutionId, stage: Stage, change: impl FnOnce(&mut Execution)) {
        self.let_go(id, answered(event));
        let Some(open) = self.executions.get_mut(&id) else { return };
        let open = Arc::make_mut(open);
        open.stage = stage;
        change(open);
        match &open.stage {
            Stage::Queued => self.queue.push(open),
            Stage::Running(grant) => {
                match grant.of_node() {
                    None => drop(self.leased.insert(id)),
                    Some(key) => {
                        if let Some(worker) = self.workers.get_mut(&key) {
                            worker.held.insert(id);
                        }
                    }
                }
                self.queue.grant(open);
            }
            Stage::Held | Stage::Retrying { .. } => {}
        }
    }

    /// Takes an execution out of the queue or out of its worker's hands; `answered` says what its target did, if it did.
    fn let_go(&mut self, id: ExecutionId, answered: Option<bool>) {
        let Some(open) = self.executions.get(&id) else { return };
        match &open.stage {
            Stage::Queued => self.queue.remove(open),
            Stage::Running(grant) => {
                self.queue.release(open);
                if let Some(answered) = answered {
                    self.queue.heard(open, answered, self.logged);
                }
                let Some(key) = grant.of_node() else {
                    self.leased.remove(&id);
                    return;
                };
                let Some(worker) = self.workers.get_mut(&key) else { return };
                worker.held.remove(&id);
                if worker.condition == Condition::Lost && worker.held.is_empty() {
                    self.workers.remove(&key);
                }
            }
            Stage::Held | Stage::Retrying { .. } => {}
        }
    }

    fn close(&mut self, id: ExecutionId, status: Status, record: &Record) {
        self.let_go(id, answered(&record.event));
        let Some(open) = self.executions.remove(&id) else { return };
        self.backfill_went_on(open.occurrence);
        self.chains.ended(&open, status, result_in(&record.event), record.header.sequence);
        self.publications.ended(open.occurrence);
        let Some(task) = self.tasks.get_mut(open.slot).filter(|task| task.id == open.task) else { return };
        task.open.retain(|other| *other != id);
        match status {
            Status::Succeeded => task.failures = 0,
            status if status.is_failure() => task.failures = task.failures.saturating_add(1),
            _ => {}
        }
        task.last_execution = Some(LastExecution {
            id,
            status,
            scheduled_at: open.scheduled_at,
            finished_at: record.header.at,
        });
    }
}

/// What an execution returned, as the event of its end has it.
fn result_in(event: &Event) -> Option<&Sealed> {
    match event {
        Event::TaskCompleted { result, .. } | Event::TaskFailed { result, .. } => result.as_ref(),
        _ => None,
    }
}

/// Counts a run; with the last that a task may have, what was moved to a later time falls away too.
fn count_runs(task: &mut Task, runs: u32) {
    task.runs = task.runs.saturating_add(runs);
    if runs > 0 && task.rules.max_runs.is_some_and(|most| task.runs >= most) {
        let_moved_fall_away(task);
    }
}

/// What was moved and has not run does not any more. What has run, or was skipped, is not to run again either when the task may
/// run more often one day.
fn let_moved_fall_away(task: &mut Task) {
    task.overrides.retain(|_, change| !matches!(change, Override::Move { done: false, .. }));
}
