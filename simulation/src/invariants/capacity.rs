//! What is held of a pool or under a limit never grows beyond its capacity, no task runs more often at once than it may,
//! nothing of a queue is granted that is paused, and a target whose breaker is open is called by nobody, one that is half open
//! by one at a time. A breaker opens when its target failed as often in a row as the task bears, and then only, and follows the
//! attempt that tries it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use escapement_domain::event::{AttemptEnded, Event, GiveUpCause, Placing};
use escapement_domain::execution::failure::FailureClass;
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::replica::placement::Gate;
use escapement_domain::task::claims::Claims;
use escapement_domain::task::rules::Requirement;
use escapement_domain::timestamp::Timestamp;

use super::story::Lives;
use crate::evidence::Evidence;

/// Who takes up a place.
#[derive(Clone, Debug)]
struct Claimant {
    tenant: TenantId,
    task: TaskId,
    queue: Option<Arc<str>>,
    claims: Option<Arc<Claims>>,
}

impl Claimant {
    /// How much it takes up of what a gate lets through.
    fn share_of(&self, gate: &Gate) -> u32 {
        let claims = self.claims.as_ref();
        match gate {
            Gate::Pool(name) => claims.and_then(|claims| claims.resources.get(name)).copied().unwrap_or(0),
            Gate::Label(label) => claims.is_some_and(|claims| claims.labels.contains(label)).into(),
            Gate::Queue(queue) => (self.queue.as_ref() == Some(queue)).into(),
            Gate::Tenant => 1,
        }
    }
}

/// A tenant's target.
type Target = (TenantId, Arc<str>);

/// A target that is not called by everybody.
#[derive(Debug)]
struct Shut {
    /// When somebody may try it.
    until: Option<Timestamp>,
    half_open: bool,
    /// Who tries it.
    probe: Option<ExecutionId>,
}

/// What the records say so far.
#[derive(Default)]
struct Books {
    tasks: BTreeMap<(TenantId, TaskId), Claimant>,
    open: BTreeMap<ExecutionId, Claimant>,
    running: BTreeMap<ExecutionId, Claimant>,
    gates: BTreeMap<(TenantId, Gate), u32>,
    paused: BTreeSet<(TenantId, Arc<str>)>,
    /// Targets that are not called by everybody.
    shut: BTreeMap<Target, Shut>,
    /// Attempts that failed in a row at a target that is called.
    failures: BTreeMap<Target, u32>,
    /// Whether a breaker must open or close in the entry that is read.
    due: BTreeMap<Target, bool>,
    entry: u64,
    found: Vec<String>,
}

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut books = Books::default();
    for record in &evidence.records {
        books.turn_to(record.header.log_index);
        books.read(record);
    }
    books.turn_to(u64::MAX);
    books.found
}

/// Whether an end of an attempt says that its target did what it was asked, or failed; none if it says neither.
fn answered(event: &Event) -> Option<bool> {
    let unsent =
        |ended: &AttemptEnded| matches!(ended.failure, Some(FailureClass::Inputs | FailureClass::NotAllowed));
    match event {
        Event::TaskCompleted { .. } => Some(true),
        Event::TaskFailed { ended, .. } | Event::TaskRetry { ended, .. } => (!unsent(ended)).then_some(false),
        Event::TaskTimedOut { ended: Some(ended), cause, .. } => {
            (ended.failure.is_some() && *cause != GiveUpCause::ExecutionTimeout).then_some(false)
        }
        _ => None,
    }
}

/// Whether somebody has to do it.
fn is_by_hand(placing: &Placing) -> bool {
    matches!(
        placing,
        Placing::GatePut { .. }
            | Placing::GateDeleted { .. }
            | Placing::QueuePaused { .. }
            | Placing::QueueResumed { .. }
            | Placing::BreakerOpened { execution: None, .. }
            | Placing::BreakerClosed { execution: None, .. }
    )
}

impl Books {
    /// The records of another entry follow: what was due in this one is there.
    fn turn_to(&mut self, entry: u64) {
        if entry == self.entry {
            return;
        }
        let missing = std::mem::take(&mut self.due).into_iter();
        self.found.extend(missing.map(|((_, target), open)| {
            let what = if open { "open" } else { "close" };
            format!("the breaker of {target} did not {what} in entry {}", self.entry)
        }));
        self.entry = entry;
    }

    fn read(&mut self, record: &Record) {
        let tenant = record.header.tenant;
        match &record.event {
            Event::TaskCreated { task, rules, .. } | Event::TaskUpdated { task, rules, .. } => {
                let queue = match &rules.requirement {
                    Requirement::Queue(queue) => Some(queue.clone()),
                    _ => None,
                };
                let claimant = Claimant { tenant, task: *task, queue, claims: rules.claims.clone() };
                self.tasks.insert((tenant, *task), claimant);
            }
            Event::TaskScheduled { task, execution, .. } | Event::TaskReopened { task, execution, .. } => {
                let claimant = self.tasks.get(&(tenant, *task)).cloned();
                self.open.extend(claimant.map(|claimant| (*execution, claimant)));
            }
            Event::Placement(placing) => {
                if is_by_hand(placing) && record.header.command.is_none() {
                    self.found.push(format!("{} came about, and nobody did it", placing.name()));
                }
                self.place(tenant, placing, record.header.at);
            }
            Event::TaskStarted { execution, .. } => {
                let Some(claimant) = self.open.get(execution).cloned() else { return };
                self.running.insert(*execution, claimant.clone());
                self.judge(*execution, &claimant);
            }
            Event::TaskRetry { execution, .. }
            | Event::TaskRequeued { execution, .. }
            | Event::TaskCompleted { execution, .. }
            | Event::TaskFailed { execution, .. }
            | Event::TaskTimedOut { execution, .. }
            | Event::TaskCancelled { execution, .. }
            | Event::TaskLost { execution, .. } => {
                self.running.remove(execution);
                self.hear(*execution, answered(&record.event));
            }
            _ => {}
        }
    }

    fn place(&mut self, tenant: TenantId, placing: &Placing, now: Timestamp) {
        match placing {
            Placing::GatePut { gate, capacity, .. } => {
                self.gates.insert((tenant, gate.clone()), *capacity);
            }
            Placing::GateDeleted { gate } => {
                self.gates.remove(&(tenant, gate.clone()));
            }
            Placing::QueuePaused { queue } => {
                self.paused.insert((tenant, queue.clone()));
            }
            Placing::QueueResumed { queue } => {
                self.paused.remove(&(tenant, queue.clone()));
            }
            _ => self.turn_breaker(tenant, placing, now),
        }
    }

    fn turn_breaker(&mut self, tenant: TenantId, placing: &Placing, now: Timestamp) {
        match placing {
            Placing::BreakerOpened { target, until, execution, .. } => {
                let target = (tenant, target.clone());
                if self.due.remove(&target) != Some(true) && execution.is_some() {
                    self.found.push(format!("the breaker of {} opened for no reason", target.1));
                }
                self.shut.insert(target, Shut { until: *until, half_open: false, probe: None });
            }
            Placing::BreakerHalfOpened { target } => {
                let shut = self.shut.get_mut(&(tenant, target.clone()));
                let Some(shut) = shut.filter(|shut| shut.until.is_some_and(|until| until <= now)) else {
                    self.found.push(format!("{target} is tried too early, or was called"));
                    return;
                };
                (shut.half_open, shut.probe) = (true, None);
            }
            Placing::BreakerClosed { target, execution } => {
                let target = (tenant, target.clone());
                if self.due.remove(&target) != Some(false) && execution.is_some() {
                    self.found.push(format!("the breaker of {} closed for no reason", target.1));
                }
                self.failures.remove(&target);
                self.shut.remove(&target);
            }
            _ => {}
        }
    }

    /// Hears how an attempt ended, if that says anything of its target.
    fn hear(&mut self, execution: ExecutionId, answered: Option<bool>) {
        let Some(Claimant { tenant, claims: Some(claims), .. }) = self.open.get(&execution) else { return };
        let Some(guard) = &claims.guard else { return };
        let target = (*tenant, guard.target.clone());
        if let Some(shut) = self.shut.get_mut(&target) {
            if shut.probe == Some(execution) {
                shut.probe = None;
                answered.map(|answered| self.due.insert(target, !answered));
            }
            return;
        }
        let failures = self.failures.entry(target.clone()).or_default();
        match answered {
            Some(true) => *failures = 0,
            Some(false) => {
                *failures += 1;
                if *failures >= guard.breaker.failure_threshold {
                    self.due.insert(target, true);
                }
            }
            None => {}
        }
    }

    fn judge(&mut self, execution: ExecutionId, claimant: &Claimant) {
        let Claimant { tenant, task, queue, claims } = claimant;
        for ((_, gate), capacity) in self.gates.iter().filter(|((owner, _), _)| owner == tenant) {
            let of_tenant = self.running.values().filter(|other| other.tenant == *tenant);
            let held: u32 = of_tenant.map(|other| other.share_of(gate)).sum();
            if claimant.share_of(gate) > 0 && held > *capacity {
                self.found.push(format!(
                    "with execution {execution}, {held} are held of {gate:?}, which has {capacity}"
                ));
            }
        }
        if queue.as_ref().is_some_and(|queue| self.paused.contains(&(*tenant, queue.clone()))) {
            self.found.push(format!("execution {execution} was granted from {queue:?}, which is paused"));
        }
        let Some(claims) = claims else { return };
        if let Some(most) = claims.max_concurrent {
            let beside = self.running.values().filter(|other| (other.tenant, other.task) == (*tenant, *task));
            let running = beside.count();
            if running > most as usize {
                self.found.push(format!("with execution {execution}, {running} of task {task} run: {most}"));
            }
        }
        let Some(guard) = &claims.guard else { return };
        match self.shut.get_mut(&(*tenant, guard.target.clone())) {
            None => {}
            Some(Shut { half_open: true, probe: probe @ None, .. }) => *probe = Some(execution),
            Some(shut) => {
                let text = format!("execution {execution} calls {}, which is {shut:?}", guard.target);
                self.found.push(text);
            }
        }
    }
}
