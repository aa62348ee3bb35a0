//! Chains: tasks that run after the ends of others, and their runs.
//!
//! The execution of a task that does not belong to the runs of others begins a run. Of a run the state keeps how its steps
//! ended, for as long as something of it is open or is yet to be decided. What a step does is certain at the end of one
//! execution, and is then due: the command that ended the execution begins or skips it, or, when that is too much for one
//! command, a later one. Absent on purpose: runs of tasks after which nothing runs.

mod graph;
mod runs;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use graph::Graph;
pub use runs::{End, Run};

use super::Replica;
use crate::event::Chaining;
use crate::execution::state::{Execution, Occurrence};
use crate::identifier::{ExecutionId, TaskId, TenantId};
use crate::record::Record;
use crate::task::state::Task;
use runs::DueStep;

/// Every chain, and what is open of their runs.
#[derive(Clone, Debug, Default)]
pub struct Chains {
    graph: Graph,
    runs: BTreeMap<ExecutionId, Run>,
    /// Ends that a task of several chains has not counted yet, by that task and the one that ended.
    uncounted: BTreeMap<(TenantId, TaskId), BTreeMap<TaskId, End>>,
    /// Steps that are to be begun or skipped.
    due: BTreeMap<(Occurrence, TaskId), DueStep>,
}

/// What a snapshot keeps of them; the graph is made again from the tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    runs: BTreeMap<ExecutionId, Run>,
    uncounted: BTreeMap<(TenantId, TaskId), BTreeMap<TaskId, End>>,
    due: BTreeMap<(Occurrence, TaskId), DueStep>,
}

impl Chains {
    /// Which task runs after which.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A run of which something is open or yet to be decided; none while only the execution is open that began it.
    #[must_use]
    pub fn run(&self, run: ExecutionId) -> Option<&Run> {
        self.runs.get(&run)
    }

    /// Whether steps are left that a command did not get to.
    pub(super) fn left_over(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether nothing of a run is open or yet to be decided.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.due.is_empty()
    }

    pub(super) fn keep(&self) -> Kept {
        Kept { runs: self.runs.clone(), uncounted: self.uncounted.clone(), due: self.due.clone() }
    }

    pub(super) fn restore<'a>(kept: Kept, tasks: impl Iterator<Item = &'a Task>) -> Self {
        let mut graph = Graph::default();
        for task in tasks.filter(|task| task.rules.after.is_some()) {
            graph.link(task.tenant, task.id, task.rules.after.as_ref());
        }
        Self { graph, runs: kept.runs, uncounted: kept.uncounted, due: kept.due }
    }

    /// JSON text of the ends that brought an execution about; none if they are no longer known.
    pub(super) fn cause_of(&self, execution: &Execution) -> Option<String> {
        let run = self.runs.get(&execution.run())?;
        let ends: Vec<(TaskId, &End)> = match execution.occurrence {
            Occurrence::After { .. } => {
                let after = execution.rules.after.as_ref()?;
                after.tasks.iter().filter_map(|task| Some((*task, run.end_of(*task)?))).collect()
            }
            Occurrence::Joined { .. } => run.causes().collect(),
            _ => return None,
        };
        Some(tasks_document(ends))
    }
}

impl Replica {
    /// The chains.
    #[must_use]
    pub fn chains(&self) -> &Chains {
        &self.chains
    }

    pub(super) fn evolve_chain(&mut self, record: &Record, chaining: &Chaining) {
        let (tenant, id) = (record.header.tenant, chaining.run());
        let open = self.executions.get(&id).map(|open| &**open);
        self.chains.decided(tenant, chaining, open);
        if matches!(chaining, Chaining::RunTakenUp { .. }) {
            self.reopened.insert(id, (record.header.log_index, record.header.at));
        }
    }
}

/// The cause of an execution that follows others.
#[must_use]
pub fn tasks_document<'a>(ends: impl IntoIterator<Item = (TaskId, &'a End)>) -> String {
    let told = ends.into_iter().map(|(task, end)| format!(r#""{task}":{}"#, end.told()));
    format!(r#"{{"tasks":{{{}}}}}"#, told.collect::<Vec<_>>().join(","))
}

/// The request that what follows an execution goes back to: its own name where there is none.
fn correlation_of(execution: &Execution) -> Arc<str> {
    if execution.correlation_id.is_empty() {
        execution.id.to_string().into()
    } else {
        execution.correlation_id.clone()
    }
}
