//! The events of tasks and tenants.

use std::sync::Arc;

use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::task::state::Stream;

use super::Service;
use super::audit::may_audit;
use super::caller::Caller;
use super::failure::ServiceError;
use super::history::{EventPage, EventQuery, StreamPage};
use crate::security::Permission;

impl Service {
    /// A task's own events after a position of its stream, oldest first. A deleted task has them still.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn task_events(
        &self,
        caller: &Caller,
        task: TaskId,
        after: u64,
        limit: usize,
    ) -> Result<StreamPage, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_read(caller.consistency).await?;
        let tenant = self.tenant_number(caller.tenant()).ok_or(ServiceError::NoSuchTask)?;
        let head = self.stream_head(tenant, task).await?;
        let page = self.parts.read_models.stream(tenant, task, head, after, limit)?;
        let unknown = page.records.is_empty() && after == 0 && head.is_none();
        if unknown { Err(ServiceError::NoSuchTask) } else { Ok(page) }
    }

    /// Events of a tenant, oldest first: of the caller's own unless another one is named, which takes a cluster-admin.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn audit_events(
        &self,
        caller: &Caller,
        tenant: Option<&str>,
        task: Option<TaskId>,
        query: &EventQuery,
    ) -> Result<EventPage, ServiceError> {
        let name = may_audit(caller, tenant)?;
        self.settle_history(caller.consistency).await?;
        match (self.tenant_number(name), task) {
            (Some(number), None) => Ok(self.parts.read_models.events(number, query)?),
            (Some(number), Some(task)) => {
                let head = self.stream_head(number, task).await?;
                self.events_of(number, task, head, query)
            }
            (None, _) if tenant.is_none() => Ok(EventPage::default()),
            (None, _) => Err(ServiceError::NoSuchTenant),
        }
    }

    /// Where a task's stream ends, once the read models are as far; none for a task that the state does not know.
    pub(super) async fn stream_head(
        &self,
        tenant: TenantId,
        task: TaskId,
    ) -> Result<Option<Stream>, ServiceError> {
        let machine = &self.parts.machine;
        let (head, applied) =
            machine.read(|replica| (replica.task(tenant, task).map(|task| task.stream), machine.applied()));
        self.await_folded(applied).await?;
        Ok(head)
    }

    /// The events of one task that a query of its tenant's log wants.
    fn events_of(
        &self,
        tenant: TenantId,
        task: TaskId,
        head: Option<Stream>,
        query: &EventQuery,
    ) -> Result<EventPage, ServiceError> {
        let stream = |after, limit| self.parts.read_models.stream(tenant, task, head, after, limit);
        let begun = |record: &Record| {
            let header = &record.header;
            header.sequence > query.after && query.from.is_none_or(|from| header.at >= from)
        };
        let before = first_position(|before| Ok(stream(before, 1)?.records.first().is_none_or(begun)))?;
        let page = stream(before, query.limit)?;
        let found = page.records.len();
        let ended = |record: &Record| query.to.is_some_and(|to| record.header.at >= to);
        let records: Vec<Record> = page.records.into_iter().take_while(|record| !ended(record)).collect();
        let whole = records.len() == found;
        let next = records.last().map(|last| last.header.sequence).filter(|_| whole && page.next.is_some());
        Ok(EventPage { records, next })
    }

    /// The name of a tenant, as the state knows it.
    #[must_use]
    pub fn tenant_name(&self, number: TenantId) -> Arc<str> {
        let name = self.parts.machine.read(|replica| replica.tenant_name(number).cloned());
        name.unwrap_or_default()
    }
}

/// The position before the first record that is wanted, or behind the last. `wanted` says of a position whether the record
/// after it is wanted, or there is none; whatever follows a wanted one is wanted.
pub(super) fn first_position(
    wanted: impl Fn(u64) -> Result<bool, ServiceError>,
) -> Result<u64, ServiceError> {
    if wanted(0)? {
        return Ok(0);
    }
    let (mut low, mut high) = (0, 1);
    while !wanted(high)? {
        low = high;
        high *= 2;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if wanted(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}
