//! What clients do with queues: look at them, pause them, and change the priority of what waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_actors::intent::Intent;
use escapement_domain::answer::Rejection;
use escapement_domain::execution::state::Stage;
use escapement_domain::identifier::ExecutionId;
use escapement_domain::replica::Replica;
use escapement_domain::task::rules::Requirement;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::history::ExecutionRow;
use crate::security::Permission;

/// A queue at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    /// Its name.
    pub name: Arc<str>,
    /// Whether nothing of it is granted.
    pub paused: bool,
    /// How many executions wait in it.
    pub waiting: usize,
    /// How many workers have an attempt of it.
    pub running: usize,
}

impl Service {
    /// Lists the queues in which something waits or runs, and those that are paused.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn queues(&self, caller: &Caller) -> Result<Vec<QueueView>, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        Ok(self.find_queues(caller).into_values().collect())
    }

    /// Returns a queue; one of which nothing was heard is empty.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn queue(&self, caller: &Caller, name: &str) -> Result<QueueView, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        Ok(self.find_queue(caller, name))
    }

    /// Lets nothing more of a queue be granted, or something again. What is held is finished meanwhile.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn pause_queue(
        &self,
        caller: &Caller,
        name: &str,
        paused: bool,
    ) -> Result<QueueView, ServiceError> {
        caller.may(Permission::OperateTask { owner: "" })?;
        self.carry_out(caller, Intent::PauseQueue { queue: name.into(), paused }).await?;
        Ok(self.find_queue(caller, name))
    }

    /// Gives an execution in the queue another priority.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn set_priority(
        &self,
        caller: &Caller,
        id: ExecutionId,
        priority: u8,
    ) -> Result<Arc<ExecutionRow>, ServiceError> {
        let task = self.open_task_to_operate(caller, id).await?;
        let set = Intent::SetPriority { execution: id, task, priority };
        match self.carry_out(caller, set).await {
            Ok(carried) => self.recorded_execution(caller, carried.index, id).await,
            Err(ServiceError::NoSuchExecution) => {
                // It ended in between.
                let status = self.execution(caller, id).await?.status;
                Err(ServiceError::Rejected(Rejection::WrongStatus { status }))
            }
            Err(error) => Err(error),
        }
    }

    fn find_queue(&self, caller: &Caller, name: &str) -> QueueView {
        let found = self.find_queues(caller).remove(name);
        found.unwrap_or_else(|| QueueView { name: name.into(), ..QueueView::default() })
    }

    fn find_queues(&self, caller: &Caller) -> BTreeMap<Arc<str>, QueueView> {
        self.parts.machine.read(|replica| queues_of(replica, caller.tenant()))
    }
}

fn queues_of(replica: &Replica, tenant: &str) -> BTreeMap<Arc<str>, QueueView> {
    let mut queues = BTreeMap::<Arc<str>, QueueView>::new();
    let Some(tenant) = replica.tenant_number(tenant) else { return queues };
    let mut named = |name: &Arc<str>, change: fn(&mut QueueView)| {
        let queue = queues.entry(name.clone()).or_default();
        queue.name = name.clone();
        change(queue);
    };
    replica.queue().paused(tenant).for_each(|name| named(name, |queue| queue.paused = true));
    for open in replica.executions().values().filter(|open| open.tenant == tenant) {
        let Requirement::Queue(name) = &open.rules.requirement else { continue };
        match open.stage {
            Stage::Running(_) => named(name, |queue| queue.running += 1),
            Stage::Queued => named(name, |queue| queue.waiting += 1),
            Stage::Held | Stage::Retrying { .. } => {}
        }
    }
    queues
}
