//! What clients do with one task.

use std::sync::Arc;

use escapement_actors::intent::{Draft, Intent};
use escapement_domain::answer::Accepted;
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::schedule::{LocalClock, Occasion};
use escapement_domain::task::coming::Fires;
use escapement_domain::task::rules::Timing;
use escapement_domain::task::state::Task;

use super::Service;
use super::caller::{Caller, Consistency};
use super::failure::ServiceError;
use super::history::ExecutionRow;
use super::naming::Named;
use super::validation::{self, Checked, Fault, ProgramsOffered, Purpose, Surroundings, WantedState};
use super::view::{TaskState, TaskView};
use crate::json::Node;
use crate::security::Permission;

impl Service {
    /// Checks what a client wrote about a new task; `pointer` is where it is in the document. What is sent under a key may have
    /// been carried out before its time passed, and is not held to be late here.
    ///
    /// # Errors
    /// Every fault, at least one.
    pub fn check_new(&self, caller: &Caller, node: Node<'_>, pointer: &str) -> Result<Checked, Vec<Fault>> {
        let programs = self.programs_offered();
        let purpose = if caller.idempotency.is_some() { Purpose::CreateUnderKey } else { Purpose::Create };
        let surroundings = Surroundings { now: self.now(), purpose, programs: &programs };
        validation::check(node, pointer, &surroundings)
    }

    pub(super) fn programs_offered(&self) -> ProgramsOffered {
        self.parts.machine.read(|replica| ProgramsOffered::by(replica.workers()))
    }

    /// Creates a task.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn create_task(&self, caller: &Caller, task: Checked) -> Result<TaskView, ServiceError> {
        caller.may(Permission::CreateTask)?;
        let paused = task.state == Some(WantedState::Paused);
        let named = Named::by(&task.definition);
        let draft = Draft { task: self.fresh_task(), definition: task.definition, paused };
        let carried = self.carry_out(caller, Intent::CreateTasks(vec![draft])).await?;
        let Accepted::Tasks(answers) = carried.accepted else {
            return Err(ServiceError::broken("a create was answered with something else"));
        };
        // Under an idempotency key this is the task of the first answer.
        let created = answers.into_iter().next();
        let created = created.ok_or_else(|| ServiceError::broken("a create was answered with nothing"))?;
        self.view(caller, created.map_err(|rejection| named.refused(rejection.into()))?)
    }

    /// Returns a task.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn task(&self, caller: &Caller, id: TaskId) -> Result<TaskView, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        self.view(caller, id)
    }

    /// Checks what a client wrote to replace a task's definition.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] with every fault, or that there is no such task for this caller to change.
    pub async fn check_replacement(
        &self,
        caller: &Caller,
        id: TaskId,
        node: Node<'_>,
    ) -> Result<Checked, ServiceError> {
        let task = self.seen_task(caller, id).await?;
        caller.may(Permission::ChangeTask { owner: &task.owner })?;
        let once_at = match task.rules.timing {
            Timing::Once { at, .. } => Some(at),
            Timing::Recurring | Timing::Unscheduled => None,
        };
        let programs = self.programs_offered();
        let purpose = Purpose::Replace { once_at };
        let surroundings = Surroundings { now: self.now(), purpose, programs: &programs };
        validation::check(node, "", &surroundings).map_err(|faults| ServiceError::Invalid { faults })
    }

    /// Replaces a task's definition, and pauses or resumes it if the client asks for another state than it has.
    ///
    /// The two are commands of their own: when the second has no answer, the first one stands, and asking again does the
    /// rest.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn update_task(
        &self,
        caller: &Caller,
        id: TaskId,
        expected_version: Option<u32>,
        task: Checked,
    ) -> Result<TaskView, ServiceError> {
        let owner = self.seen_task(caller, id).await?.owner;
        caller.may(Permission::ChangeTask { owner: &owner })?;
        let named = Named::by(&task.definition);
        let definition = Box::new(task.definition);
        let update = Intent::UpdateTask { task: id, expected_version, definition };
        self.carry_out(caller, update).await.map_err(|error| named.refused(error))?;
        let view = self.view(caller, id)?;
        match (task.state, view.state) {
            (Some(WantedState::Paused), TaskState::Active) => {
                self.carry_out_under(caller, None, Intent::PauseTask { task: id }).await?;
            }
            (Some(WantedState::Active), TaskState::Paused) => {
                self.carry_out_under(caller, None, Intent::ResumeTask { task: id }).await?;
            }
            _ => return Ok(view),
        }
        self.view(caller, id)
    }

    /// Deletes a task; its open executions are cancelled.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn delete_task(
        &self,
        caller: &Caller,
        id: TaskId,
        expected_version: Option<u32>,
    ) -> Result<(), ServiceError> {
        let intent = Intent::DeleteTask { task: id, expected_version };
        match self.seen_task(caller, id).await {
            Ok(task) => caller.may(Permission::ChangeTask { owner: &task.owner })?,
            // Repeated under the same key, a delete gets its first answer, and its task is gone by then.
            Err(ServiceError::NoSuchTask) if caller.idempotency.is_some() => {
                caller.may(Permission::CreateTask)?
            }
            Err(error) => return Err(error),
        }
        self.carry_out(caller, intent).await.map(|_| ())
    }

    /// Stops a task from firing.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn pause_task(&self, caller: &Caller, id: TaskId) -> Result<TaskView, ServiceError> {
        self.operate(caller, id, Intent::PauseTask { task: id }).await?;
        self.view(caller, id)
    }

    /// Lets a paused task fire again.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn resume_task(&self, caller: &Caller, id: TaskId) -> Result<TaskView, ServiceError> {
        self.operate(caller, id, Intent::ResumeTask { task: id }).await?;
        self.view(caller, id)
    }

    /// Runs a task by hand, now; its overlap policy decides whether it starts, waits or is skipped.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn run_task(&self, caller: &Caller, id: TaskId) -> Result<Arc<ExecutionRow>, ServiceError> {
        let carried = self.operate(caller, id, Intent::RunTask { task: id }).await?;
        let Accepted::Execution { execution, .. } = carried.accepted else {
            return Err(ServiceError::broken("a run was answered with something else"));
        };
        self.recorded_execution(caller, carried.index, execution).await
    }

    pub(super) async fn operate(
        &self,
        caller: &Caller,
        id: TaskId,
        intent: Intent,
    ) -> Result<super::submitting::Carried, ServiceError> {
        let task = self.seen_task(caller, id).await?;
        caller.may(Permission::OperateTask { owner: &task.owner })?;
        self.carry_out(caller, intent).await
    }

    /// An execution, once the read models have folded the entry at `index`.
    pub(super) async fn recorded_execution(
        &self,
        caller: &Caller,
        index: u64,
        execution: ExecutionId,
    ) -> Result<Arc<ExecutionRow>, ServiceError> {
        self.await_folded(index).await?;
        let tenant = self.tenant_number(caller.tenant()).ok_or(ServiceError::NoSuchExecution)?;
        self.parts.read_models.execution(tenant, execution)?.ok_or(ServiceError::NoSuchExecution)
    }

    /// The next instants for which a task fires, on the clock by which it counts; none unless it is active.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn next_fires(
        &self,
        caller: &Caller,
        id: TaskId,
        count: usize,
    ) -> Result<(LocalClock, Vec<Occasion>), ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        let (task, calendars) = self.find_planned(caller.tenant(), id).ok_or(ServiceError::NoSuchTask)?;
        let clock = LocalClock::of(&task.definition.open_definition()?.trigger);
        Ok((clock, Occasion::row(clock, self.now(), Fires::of(&task, calendars)?.take(count))))
    }

    /// A task that this caller's tenant has, asked of the whole cluster before it is said that there is none.
    pub(super) async fn seen_task(&self, caller: &Caller, id: TaskId) -> Result<Task, ServiceError> {
        if let Some(task) = self.find_task(caller.tenant(), id) {
            return Ok(task);
        }
        if caller.consistency == Consistency::Linearizable {
            self.barrier().await?;
        }
        self.find_task(caller.tenant(), id).ok_or(ServiceError::NoSuchTask)
    }

    pub(super) fn find_task(&self, tenant: &str, id: TaskId) -> Option<Task> {
        self.parts.machine.read(|replica| replica.task(replica.tenant_number(tenant)?, id).cloned())
    }

    /// A task, and the calendars that it names.
    pub(super) fn find_planned(&self, tenant: &str, id: TaskId) -> Option<(Task, Vec<Arc<Calendar>>)> {
        self.parts.machine.read(|replica| {
            let task = replica.task(replica.tenant_number(tenant)?, id)?;
            Some((task.clone(), replica.calendars().named_by(task)))
        })
    }

    fn view(&self, caller: &Caller, id: TaskId) -> Result<TaskView, ServiceError> {
        let (task, calendars) = self.find_planned(caller.tenant(), id).ok_or(ServiceError::NoSuchTask)?;
        TaskView::of(&task, calendars, caller.tenant())
    }

    pub(super) fn tenant_number(&self, name: &str) -> Option<escapement_domain::identifier::TenantId> {
        self.parts.machine.read(|replica| replica.tenant_number(name))
    }
}
