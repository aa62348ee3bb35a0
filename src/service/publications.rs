//! Events from outside, which fire the tasks that listen to them, and what they were for executions that are made again.

use escapement_actors::intent::Intent;
use escapement_domain::answer::Accepted;
use escapement_domain::event::Event;
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::{CommandId, ExecutionId, TenantId};
use escapement_domain::replica::causes::event_document;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::history::{EventQuery, ExecutionRow};
use super::validation::Publication;
use crate::security::Permission;

/// Events of the log that are read at a time.
const PAGE: usize = 256;

/// An event that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its name in the log.
    pub id: CommandId,
    /// When it was published.
    pub at: Timestamp,
    /// How many tasks it had met when this was answered.
    pub met: u32,
    /// The first executions that it had opened by then.
    pub executions: Vec<ExecutionId>,
    /// Whether it had been held against every task that listens to it.
    pub complete: bool,
}

impl Service {
    /// Publishes an event: it fires the tasks of the caller's tenant that listen to it.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn publish(&self, caller: &Caller, event: Publication) -> Result<Published, ServiceError> {
        caller.may(Permission::PublishEvent)?;
        let Publication { name, payload } = event;
        match self.carry_out(caller, Intent::PublishEvent { name, payload }).await?.accepted {
            Accepted::Event { event: id, at, met, executions, complete } => {
                Ok(Published { id, at, met, executions, complete })
            }
            _ => Err(ServiceError::broken("an event was answered with something else")),
        }
    }

    /// The document of what made an execution, for its next attempt; none if nothing did, or if the log no longer has it.
    pub(super) fn cause_of(&self, row: &ExecutionRow) -> Result<Option<Sealed>, ServiceError> {
        let document = match row.occurrence {
            Occurrence::Event(event) => self.published(row.tenant, event, row.scheduled_at)?,
            Occurrence::Joined { .. } => self.joined_ends(row)?,
            // The run brings the ends along that they follow.
            Occurrence::After { .. } => None,
            Occurrence::Scheduled(_)
            | Occurrence::Manual(_)
            | Occurrence::Moved(_)
            | Occurrence::Backfill { .. } => None,
        };
        Ok(document.map(|document| Sealed::in_clear(document.into_bytes())))
    }

    /// Finds an event in the log by its name and by when it was published.
    fn published(
        &self,
        tenant: TenantId,
        id: CommandId,
        at: Timestamp,
    ) -> Result<Option<String>, ServiceError> {
        let mut query = EventQuery { after: 0, limit: PAGE, from: Some(at), to: Some(Timestamp(at.0 + 1)) };
        loop {
            let page = self.parts.read_models.events(tenant, &query)?;
            let found = page.records.iter().find_map(|record| match &record.event {
                Event::EventPublished { event, name, payload } if *event == id => Some((name, payload)),
                _ => None,
            });
            if let Some((name, payload)) = found {
                return Ok(payload.text().map(|payload| event_document(name, payload, at)));
            }
            match page.next {
                Some(next) => query.after = next,
                None => return Ok(None),
            }
        }
    }
}
