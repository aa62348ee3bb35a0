//! Pools, limits, breakers and queues, as they are sent and answered.

use escapement_domain::replica::placement::Gate;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::{BreakerView, Claimant, GateView, QueueView};

/// A pool: what only so many executions have at once, each its share. Fields that only the node sets may be sent back and
/// are ignored.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Pool {
    /// Its name, from the path.
    #[schema(read_only, example = "staging")]
    name: String,
    /// How much there is.
    #[schema(minimum = 0, maximum = 1_000_000, example = 4)]
    capacity: u32,
    /// How much of it is held: more than there is where the capacity was lowered since.
    #[schema(read_only)]
    held: u64,
    /// Who holds it, up to a hundred executions.
    #[schema(read_only)]
    held_by: Vec<Holder>,
    /// How many executions wait that need some of it.
    #[schema(read_only)]
    waiting: usize,
    /// Who waits, in the order of queueing, up to a hundred executions.
    #[schema(read_only)]
    waiting_by: Vec<Holder>,
    /// How many tasks name it.
    #[schema(read_only)]
    tasks: u64,
    /// Counts its changes, from 1.
    #[schema(read_only)]
    version: u32,
    /// When it last changed.
    #[schema(read_only)]
    updated_at: String,
}

/// An execution that holds something, or waits for it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Holder {
    /// The execution.
    #[schema(format = "uuid")]
    execution_id: String,
    /// Its task.
    #[schema(format = "uuid")]
    task_id: String,
    /// How much of it.
    share: u32,
}

/// A limit: how many executions with a label, of a queue or of the whole tenant run at once. Fields that only the node sets
/// may be sent back and are ignored.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Limit {
    /// What it limits, from the path.
    #[schema(read_only, value_type = LimitKind)]
    kind: &'static str,
    /// Which label (`name=value`), queue or tenant, from the path.
    #[schema(read_only, example = "team=qa")]
    name: String,
    /// How many run at once.
    #[schema(minimum = 0, maximum = 1_000_000, example = 5)]
    max_concurrent: u32,
    /// How many run.
    #[schema(read_only)]
    running: u64,
    /// Which run, up to a hundred executions.
    #[schema(read_only)]
    running_by: Vec<Holder>,
    /// How many executions wait that it limits.
    #[schema(read_only)]
    waiting: usize,
    /// Which wait, in the order of queueing, up to a hundred executions.
    #[schema(read_only)]
    waiting_by: Vec<Holder>,
    /// Counts its changes, from 1.
    #[schema(read_only)]
    version: u32,
    /// When it last changed.
    #[schema(read_only)]
    updated_at: String,
}

/// What a limit limits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the words of a schema")]
pub(in crate::http) enum LimitKind {
    Label,
    Queue,
    Tenant,
}

/// A circuit breaker: whether a target is called.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Breaker {
    /// Its target, from the path: `http:` and a host, `process:` and a program, `queue:` and a queue, or `builtin`.
    #[schema(read_only, example = "http:runner.example")]
    key: String,
    /// Whether the target is called. `open` or `closed` may be asked for.
    #[schema(value_type = BreakerState)]
    state: &'static str,
    /// Attempts that failed since the last one that succeeded.
    #[schema(read_only)]
    failures: u32,
    /// When one attempt may try the target; null unless it is open by itself.
    #[schema(read_only, required = true)]
    open_until: Option<String>,
    /// The execution whose attempt tries the target.
    #[schema(read_only, required = true, format = "uuid")]
    probe: Option<String>,
    /// When the state last changed; null if it never did.
    #[schema(read_only, required = true)]
    changed_at: Option<String>,
    /// How many executions wait that call it.
    #[schema(read_only)]
    waiting: usize,
}

/// How a breaker stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the words of a schema")]
pub(in crate::http) enum BreakerState {
    /// The target is called.
    Closed,
    /// It is not: executions wait.
    Open,
    /// One attempt at a time tries it.
    HalfOpen,
}

/// A queue.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Queue {
    /// Its name.
    name: String,
    /// Whether nothing of it is granted.
    paused: bool,
    /// Whether it is paused and nothing of it runs any more.
    drained: bool,
    /// How many executions wait in it.
    waiting: usize,
    /// How many attempts of it workers have.
    running: usize,
}

/// What may be changed of an execution in the queue.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ExecutionChange {
    /// From 0, the lowest, to 9.
    #[schema(minimum = 0, maximum = 9)]
    priority: u8,
}

impl From<Claimant> for Holder {
    fn from(claimant: Claimant) -> Self {
        Self {
            execution_id: claimant.execution.to_string(),
            task_id: claimant.task.to_string(),
            share: claimant.share,
        }
    }
}

fn holders(claimants: Vec<Claimant>) -> Vec<Holder> {
    claimants.into_iter().map(Holder::from).collect()
}

impl From<GateView> for Pool {
    fn from(view: GateView) -> Self {
        let name = match &view.gate {
            Gate::Pool(name) | Gate::Label(name) | Gate::Queue(name) => name.to_string(),
            Gate::Tenant => String::new(),
        };
        Self {
            name,
            capacity: view.capacity,
            held: view.held,
            held_by: holders(view.holders),
            waiting: view.waiting,
            waiting_by: holders(view.waiters),
            tasks: view.tasks,
            version: view.version,
            updated_at: view.updated_at.to_string(),
        }
    }
}

impl Limit {
    pub(in crate::http) fn of(view: GateView, tenant: &str) -> Self {
        let (kind, name) = match &view.gate {
            Gate::Label(label) => ("label", label.to_string()),
            Gate::Queue(queue) => ("queue", queue.to_string()),
            Gate::Pool(_) | Gate::Tenant => ("tenant", tenant.to_owned()),
        };
        Self {
            kind,
            name,
            max_concurrent: view.capacity,
            running: view.held,
            running_by: holders(view.holders),
            waiting: view.waiting,
            waiting_by: holders(view.waiters),
            version: view.version,
            updated_at: view.updated_at.to_string(),
        }
    }
}

impl From<BreakerView> for Breaker {
    fn from(view: BreakerView) -> Self {
        Self {
            key: view.target.to_string(),
            state: view.state.name(),
            failures: view.failures,
            open_until: view.open_until().map(|instant| instant.to_string()),
            probe: view.probe().map(|execution| execution.to_string()),
            changed_at: view.changed_at.map(|instant| instant.to_string()),
            waiting: view.waiting,
        }
    }
}

impl From<QueueView> for Queue {
    fn from(view: QueueView) -> Self {
        Self {
            name: view.name.to_string(),
            paused: view.paused,
            drained: view.paused && view.running == 0,
            waiting: view.waiting,
            running: view.running,
        }
    }
}
