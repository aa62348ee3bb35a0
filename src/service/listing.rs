//! Lists of tasks, in order of their identifiers, which is the order in which they were created.
//!
//! The state is looked at in short turns, so that a long list never holds up the log; definitions are opened between
//! them. A page looks at a bounded number of tasks: it may hold fewer than asked for, or none, and go on all the same.

use std::sync::Arc;

use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::task::definition::Kind;
use escapement_domain::task::state::Task;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::view::{TaskState, TaskView};
use crate::security::Permission;

/// Tasks that one look at the state takes.
const TURN: usize = 256;
/// Tasks that one page looks at before it ends early.
const LOOKED_AT_MAX: usize = 20_000;

/// Which tasks are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TaskFilter {
    /// Only those in this state.
    pub state: Option<TaskState>,
    /// Only those of this kind.
    pub kind: Option<Kind>,
    /// Only those with this label; any value if there is none.
    pub label: Option<(String, Option<String>)>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those that name this calendar.
    pub calendar: Option<String>,
}

/// Some tasks.
#[derive(Clone, Debug, Default)]
pub struct TaskPage {
    /// The tasks.
    pub items: Vec<TaskView>,
    /// Where the next page begins: after this one; none when there is no more.
    pub next: Option<TaskId>,
}

impl TaskFilter {
    fn fits(&self, view: &TaskView) -> bool {
        let label = |(name, value): &(String, Option<String>)| {
            let found = view.definition.labels.get(name);
            found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        self.kind.is_none_or(|kind| kind == view.definition.kind)
            && self.name.as_ref().is_none_or(|name| *name == view.definition.name)
            && self.label.as_ref().is_none_or(label)
            && self.calendar.as_ref().is_none_or(|name| view.definition.calendars.contains(name))
    }
}

impl Service {
    /// Lists tasks after one of them.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn tasks(
        &self,
        caller: &Caller,
        filter: &TaskFilter,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<TaskPage, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        let mut page = TaskPage::default();
        let (mut after, mut looked_at) = (after, 0);
        loop {
            let turn = self.turn(caller.tenant(), after);
            let (in_turn, exhausted) = (turn.len(), turn.len() < TURN);
            for (task, calendars) in turn {
                if page.items.len() == limit {
                    page.next = after;
                    return Ok(page);
                }
                after = Some(task.id);
                if filter.state.is_some_and(|state| state != task.phase().into()) {
                    continue;
                }
                let view = TaskView::of(&task, calendars, caller.tenant())?;
                if filter.fits(&view) {
                    page.items.push(view);
                }
            }
            looked_at += in_turn;
            if exhausted {
                return Ok(page);
            }
            if looked_at >= LOOKED_AT_MAX {
                page.next = after;
                return Ok(page);
            }
            tokio::task::yield_now().await;
        }
    }

    fn turn(&self, tenant: &str, after: Option<TaskId>) -> Vec<(Task, Vec<Arc<Calendar>>)> {
        self.parts.machine.read(|replica| {
            let Some(tenant) = replica.tenant_number(tenant) else { return Vec::new() };
            let tasks = replica.tasks_of(tenant, after).take(TURN);
            tasks.map(|task| (task.clone(), replica.calendars().named_by(task))).collect()
        })
    }
}
