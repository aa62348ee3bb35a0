//! What a task waits for now, read off the state.

use escapement_domain::execution::state::{Execution, Stage};
use escapement_domain::identifier::ExecutionId;
use escapement_domain::replica::Replica;
use escapement_domain::replica::placement::{Gate, WaitsFor};
use escapement_domain::schedule::jitter_of;
use escapement_domain::task::definition::Overlap;
use escapement_domain::task::rules::{Requirement, Timing};
use escapement_domain::task::state::{Phase, Task};
use escapement_domain::timestamp::{Span, Timestamp};

/// Open executions of a task that are told.
const EXECUTIONS_MAX: usize = 100;

/// One thing that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// A word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub detail: String,
    /// The execution that waits, or is waited for.
    pub execution: Option<ExecutionId>,
}

impl Wait {
    fn of_task(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), execution: None }
    }
}

/// Lists what a task, which fires next for an instant, and its open executions wait for.
pub(super) fn waits(task: &Task, next: Option<Timestamp>, replica: &Replica, now: Timestamp) -> Vec<Wait> {
    let mut waits = vec![of_phase(task, next, now)];
    // Workers outside the cluster come and go unannounced.
    let outside = matches!(task.rules.requirement, Requirement::Queue(_));
    let offered =
        outside || replica.workers().values().any(|worker| worker.offers.meet(&task.rules.requirement));
    let open = task.open.iter().filter_map(|id| replica.execution(*id)).take(EXECUTIONS_MAX);
    waits.extend(open.map(|open| of_execution(open, task, replica)));
    if task.open.is_empty() && !offered && task.phase() != Phase::Finished {
        let offer = offer(&task.rules.requirement);
        waits.push(Wait::of_task("no_worker", format!("no worker offers {offer}: an execution would wait")));
    }
    waits
}

fn of_phase(task: &Task, next: Option<Timestamp>, now: Timestamp) -> Wait {
    match (task.phase(), next) {
        (Phase::Paused, _) => Wait::of_task(
            "paused",
            format!("it is paused since {}: resume it to let it fire", task.updated_at),
        ),
        (Phase::Finished, _) if task.rules.listens.is_some() => {
            Wait::of_task("finished", "it has run for as many events as it may (max_runs)")
        }
        (Phase::Finished, _) => Wait::of_task("finished", "it has no instant to come"),
        (Phase::Active, Some(next)) => {
            let moved = task.next_moved().is_some_and(|(to, _)| to == next);
            let jitter = if moved { Span::ZERO } else { jitter_of(task.id, next, task.rules.jitter) };
            if next.plus(jitter) <= now {
                Wait::of_task("due", format!("its instant {next} is due and about to be settled"))
            } else {
                Wait::of_task("instant", format!("it waits for its next instant, {next}"))
            }
        }
        (Phase::Active, None) if let Some(after) = &task.rules.after => {
            let many = if after.tasks.len() == 1 { "the end of the task" } else { "the ends of the tasks" };
            Wait::of_task("after", format!("it waits for {many} after which it runs"))
        }
        (Phase::Active, None) if let Some(listening) = &task.rules.listens => {
            Wait::of_task("event", format!("it waits for an event `{}`", listening.name))
        }
        (Phase::Active, None) if task.rules.timing == Timing::Unscheduled => {
            Wait::of_task("trigger", "it has no schedule: it waits to be run")
        }
        (Phase::Active, None) => Wait::of_task(
            "suppressed",
            "a calendar forbids its instants to come, or they were skipped by hand",
        ),
    }
}

fn of_execution(open: &Execution, task: &Task, replica: &Replica) -> Wait {
    let (reason, detail) = match &open.stage {
        Stage::Held => {
            ("overlap", format!("it waits for an earlier execution to end (overlap: {})", overlap(task)))
        }
        Stage::Retrying { until } => ("retry", format!("its next attempt waits until {until}")),
        Stage::Running(grant) => {
            let next = match task.rules.overlap {
                Overlap::Skip => "the next instant is skipped while it runs",
                Overlap::QueueOne | Overlap::QueueAll => "the next instant waits while it runs",
                Overlap::CancelRunning => "the next instant cancels it",
                Overlap::Allow => "the next instant runs beside it",
            };
            let attempt = open.attempts;
            (
                "running",
                format!("attempt {attempt} runs on {}; {next} (overlap: {})", grant.holder, overlap(task)),
            )
        }
        Stage::Queued => queued(open, replica),
    };
    Wait { reason, detail: format!("execution {}: {detail}", open.id), execution: Some(open.id) }
}

/// What an execution in the queue waits for: a word for programs, and a sentence for people.
pub(super) fn queued(open: &Execution, replica: &Replica) -> (&'static str, String) {
    let requirement = &open.rules.requirement;
    let offer = offer(requirement);
    match replica.queue().waits_for(open) {
        Some(WaitsFor::Worker) if let Requirement::Queue(queue) = requirement => {
            ("queue", format!("it waits for a worker to lease it from the queue {queue}"))
        }
        Some(WaitsFor::Worker) => {
            let leaves = replica.workers().values().any(|worker| worker.offers.meet(requirement));
            let why = if leaves { "those that do are drained, or about to stop" } else { "there is none" };
            ("no_worker", format!("it waits for a worker that offers {offer}: {why}"))
        }
        Some(WaitsFor::PausedQueue(queue)) => {
            ("queue_paused", format!("it waits for the queue `{queue}` to be resumed"))
        }
        Some(WaitsFor::Task(most)) => {
            let detail = format!("it waits: {most} of its task run already (max_concurrent: {most})");
            ("max_concurrent", detail)
        }
        Some(WaitsFor::Breaker(target)) => {
            let detail =
                format!("it waits for `{target}` to be called again: its breaker is open or tries it");
            ("breaker", detail)
        }
        Some(WaitsFor::Impossible(gate, amount)) => {
            let (reason, name) = gate_name(&gate);
            (reason, format!("it waits for {amount} of {name}, of which there is less in all"))
        }
        Some(WaitsFor::Gate(gate)) => {
            let (reason, name) = gate_name(&gate);
            (reason, format!("it waits for {name}"))
        }
        _ => {
            let mut fit = replica.workers().values().filter(|worker| worker.offers.meet(requirement));
            if fit.all(|worker| worker.free() == 0) {
                ("workers_busy", format!("it waits: every worker that offers {offer} has its hands full"))
            } else {
                ("queued", "it waits to be granted to a worker".into())
            }
        }
    }
}

/// What an open execution waits for, in a sentence; none if it runs.
pub(super) fn waiting_for(open: &Execution, replica: &Replica) -> Option<String> {
    match open.stage {
        Stage::Running(_) => None,
        Stage::Held => Some("it waits for an earlier execution of its task to end".into()),
        Stage::Retrying { until } => Some(format!("its next attempt waits until {until}")),
        Stage::Queued => Some(queued(open, replica).1),
    }
}

fn gate_name(gate: &Gate) -> (&'static str, String) {
    match gate {
        Gate::Pool(name) => ("pool", format!("the pool `{name}`")),
        Gate::Label(label) => ("limit", format!("a place under the limit on the label `{label}`")),
        Gate::Queue(queue) => ("limit", format!("a place under the limit on the queue `{queue}`")),
        Gate::Tenant => ("limit", "a place under the limit on the whole tenant".into()),
    }
}

fn offer(requirement: &Requirement) -> String {
    match requirement {
        Requirement::Builtin => "the scheduler's own operations".into(),
        Requirement::Http => "HTTP calls".into(),
        Requirement::Process(program) => format!("the program {program}"),
        Requirement::Queue(queue) => format!("the queue {queue}"),
    }
}

fn overlap(task: &Task) -> &'static str {
    match task.rules.overlap {
        Overlap::Skip => "skip",
        Overlap::QueueOne => "queue_one",
        Overlap::QueueAll => "queue_all",
        Overlap::CancelRunning => "cancel_running",
        Overlap::Allow => "allow",
    }
}
