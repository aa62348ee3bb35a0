//! A task as it is told to clients.

use std::sync::Arc;

use escapement_domain::event::PauseCause;
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::task::coming::Fires;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::state::{LastExecution, Phase, Task};
use escapement_domain::timestamp::Timestamp;

use super::failure::ServiceError;

/// Whether a task fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It fires.
    Active,
    /// It does not, until it is resumed.
    Paused,
    /// It has no instant to come.
    Finished,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Active, Self::Paused, Self::Finished];

    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Finished => "finished",
        }
    }
}

impl From<Phase> for TaskState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Active => Self::Active,
            Phase::Paused => Self::Paused,
            Phase::Finished => Self::Finished,
        }
    }
}

/// A task at one moment.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// Its name for ever.
    pub id: TaskId,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Who created it.
    pub owner: Arc<str>,
    /// Counts the changes of its definition, from 1.
    pub version: u32,
    /// Whether it fires.
    pub state: TaskState,
    /// Why it is paused, if it is.
    pub paused: Option<PauseCause>,
    /// How many of its executions in a row have failed for good.
    pub failures: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its definition or state last changed.
    pub updated_at: Timestamp,
    /// The instant for which it fires next; none unless it is active.
    pub next_fire_at: Option<Timestamp>,
    /// The execution that ended or was skipped last.
    pub last_execution: Option<LastExecution>,
    /// What the client wrote.
    pub definition: Definition,
}

impl TaskView {
    /// Opens a task of the state; `calendars` are those that it names.
    ///
    /// # Errors
    /// [`ServiceError::Broken`] when its definition cannot be read by this version.
    pub(super) fn of(task: &Task, calendars: Vec<Arc<Calendar>>, tenant: &str) -> Result<Self, ServiceError> {
        let regular = calendars.is_empty() && task.overrides.is_empty();
        let next_fire_at = if regular {
            task.next.filter(|_| task.phase() == Phase::Active)
        } else {
            Fires::of(task, calendars)?.next()
        };
        Ok(Self {
            id: task.id,
            tenant: tenant.into(),
            owner: task.owner.clone(),
            version: task.version,
            state: task.phase().into(),
            paused: task.paused,
            failures: task.failures,
            created_at: task.created_at,
            updated_at: task.updated_at,
            next_fire_at,
            last_execution: task.last_execution,
            definition: task.definition.open_definition()?,
        })
    }
}
