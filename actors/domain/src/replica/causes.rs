//! What made an execution, as a document from which it takes its inputs.

use super::Replica;
use crate::execution::state::{Execution, Occurrence};
use crate::json::quoted;
use crate::timestamp::Timestamp;

impl Replica {
    /// JSON text of the cause of an open execution; `None` if it has none, such as a run by hand.
    #[must_use]
    pub fn cause_of(&self, execution: &Execution) -> Option<String> {
        if let Some(brought) = &execution.cause {
            return brought.text().map(str::to_owned);
        }
        match execution.occurrence {
            Occurrence::Event(event) => {
                let publication = self.publications.get(event)?;
                Some(event_document(&publication.name, publication.payload.text()?, publication.at))
            }
            Occurrence::After { .. } | Occurrence::Joined { .. } => self.chains.cause_of(execution),
            Occurrence::Scheduled(_)
            | Occurrence::Manual(_)
            | Occurrence::Moved(_)
            | Occurrence::Backfill { .. } => None,
        }
    }
}

/// The cause of an execution that an event made.
#[must_use]
pub fn event_document(name: &str, payload: &str, at: Timestamp) -> String {
    let (name, at) = (quoted(name), quoted(&at.to_string()));
    format!(r#"{{"event":{{"name":{name},"payload":{payload},"at":{at}}}}}"#)
}
