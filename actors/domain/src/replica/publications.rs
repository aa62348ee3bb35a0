//! Events from outside that are not done with: each is held against the tasks that listen to it, so many in one command, and
//! its payload is kept, once, until the executions that it opened have ended.
//!
//! The tasks are taken in order of their names from a cursor, so that none is met twice; an event meets those that exist
//! and fire when the cursor passes them. Events of one tenant are handed out one after the other, so that two of them
//! reach a task in the order in which they were published.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Replica;
use super::apply::{Step, within};
use crate::answer::{Accepted, Rejection};
use crate::event::Event;
use crate::execution::state::Occurrence;
use crate::identifier::{CommandId, ExecutionId, TaskId, TenantId};
use crate::json::Json;
use crate::limits::{
    EVENT_EXECUTIONS_TOLD_MAX, EVENT_NAME_BYTES_MAX, EVENT_PAYLOAD_BYTES_MAX, EVENTS_KEPT_MAX,
    LISTENERS_PER_COMMAND_MAX,
};
use crate::record::Record;
use crate::task::decide as task_rules;
use crate::task::sealed::Sealed;
use crate::timestamp::Timestamp;

/// One event that is not done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Publication {
    /// Whose it is.
    pub(super) tenant: TenantId,
    /// What happened.
    pub(super) name: Arc<str>,
    /// JSON text of what there is to say about it.
    pub(super) payload: Sealed,
    /// When it was published.
    pub(super) at: Timestamp,
    /// Its place among all events: the index of its log entry, and its place there.
    place: (u64, u32),
    /// How far it was handed out.
    hand_out: HandOut,
    /// How many of its executions are open.
    open: u32,
    /// The request that all of its executions go back to.
    pub(super) correlation_id: Arc<str>,
}

/// How far an event was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum HandOut {
    /// The tasks after this one are yet to be looked at; all of them if it is none.
    After(Option<TaskId>),
    /// It was held against every task.
    Complete,
}

/// The events that are not done with.
#[derive(Clone, Debug, Default)]
pub(super) struct Publications {
    kept: BTreeMap<CommandId, Arc<Publication>>,
    /// How many there are of each tenant.
    counts: BTreeMap<TenantId, usize>,
    /// Those that are being handed out, of each tenant in order.
    lines: BTreeMap<TenantId, BTreeMap<(u64, u32), CommandId>>,
}

impl Publications {
    pub(super) fn get(&self, event: CommandId) -> Option<&Arc<Publication>> {
        self.kept.get(&event)
    }

    /// Every event, in order of their names.
    pub(super) fn kept(&self) -> impl Iterator<Item = (CommandId, Arc<Publication>)> {
        self.kept.iter().map(|(id, publication)| (*id, publication.clone()))
    }

    pub(super) fn keep(&mut self, event: CommandId, publication: Publication) {
        *self.counts.entry(publication.tenant).or_default() += 1;
        if publication.hand_out != HandOut::Complete {
            self.lines.entry(publication.tenant).or_default().insert(publication.place, event);
        }
        self.kept.insert(event, Arc::new(publication));
    }

    /// Whether one of them is yet to be handed out in full.
    pub(super) fn left_over(&self) -> bool {
        !self.lines.is_empty()
    }

    /// The event of each tenant whose turn it is to be handed out.
    fn in_turn(&self) -> impl Iterator<Item = CommandId> {
        self.lines.values().filter_map(|line| line.values().next().copied())
    }

    fn handed_out(&mut self, event: CommandId, up_to: Option<TaskId>) {
        let Some(publication) = self.kept.get_mut(&event) else { return };
        let publication = Arc::make_mut(publication);
        if up_to.is_some() {
            publication.hand_out = HandOut::After(up_to);
            return;
        }
        publication.hand_out = HandOut::Complete;
        let (tenant, place) = (publication.tenant, publication.place);
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.remove(&place);
            if line.is_empty() {
                self.lines.remove(&tenant);
            }
        }
        self.forget_if_done(event);
    }

    /// An execution was opened.
    pub(super) fn began(&mut self, occurrence: Occurrence) {
        let Occurrence::Event(event) = occurrence else { return };
        if let Some(publication) = self.kept.get_mut(&event) {
            Arc::make_mut(publication).open += 1;
        }
    }

    /// An execution ended.
    pub(super) fn ended(&mut self, occurrence: Occurrence) {
        let Occurrence::Event(event) = occurrence else { return };
        let Some(publication) = self.kept.get_mut(&event) else { return };
        let publication = Arc::make_mut(publication);
        publication.open = publication.open.saturating_sub(1);
        self.forget_if_done(event);
    }

    fn forget_if_done(&mut self, event: CommandId) {
        let done = |publication: &Arc<Publication>| {
            publication.hand_out == HandOut::Complete && publication.open == 0
        };
        let Some(publication) = self.kept.get(&event).filter(|publication| done(publication)) else { return };
        let tenant = publication.tenant;
        self.kept.remove(&event);
        if let Some(count) = self.counts.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&tenant);
            }
        }
    }
}

/// The event that a record goes back to, if there is one.
pub(super) fn behind(record: &Event) -> Option<CommandId> {
    match record {
        Event::TaskScheduled { occurrence: Occurrence::Event(event), .. }
        | Event::TaskSkipped { occurrence: Occurrence::Event(event), .. }
        | Event::EventHandedOut { event, .. } => Some(*event),
        _ => None,
    }
}

impl Replica {
    pub(super) fn evolve_publication(&mut self, record: &Record) {
        match &record.event {
            Event::EventPublished { event, name, payload } => {
                let header = &record.header;
                let publication = Publication {
                    tenant: header.tenant,
                    name: name.clone(),
                    payload: payload.clone(),
                    at: header.at,
                    place: (header.log_index, header.ordinal),
                    hand_out: HandOut::After(None),
                    open: 0,
                    correlation_id: header.correlation_id.clone(),
                };
                self.publications.keep(*event, publication);
            }
            Event::EventHandedOut { event, up_to, .. } => self.publications.handed_out(*event, *up_to),
            _ => {}
        }
    }
}

/// What one step of handing an event out did.
#[derive(Default)]
struct HandedOut {
    looked_at: usize,
    met: u32,
    opened: Vec<ExecutionId>,
}

impl Step<'_> {
    pub(super) fn publish(&mut self, name: &Arc<str>, payload: &Sealed) -> Result<Accepted, Rejection> {
        let text = payload.text().unwrap_or_default();
        within("bytes of an event's name", name.len(), EVENT_NAME_BYTES_MAX)?;
        within("bytes of an event's payload", text.len(), EVENT_PAYLOAD_BYTES_MAX)?;
        let kept = self.replica.publications.counts.get(&self.tenant).copied().unwrap_or_default();
        within("events that are being handed out or whose executions are open", kept + 1, EVENTS_KEPT_MAX)?;
        let client = self.client.filter(|_| Json::parse(text).is_some());
        let Some(event) = client.map(|client| client.command) else {
            return Err(Rejection::Unreadable {
                detail: "an event has a publisher, and JSON as its payload".into(),
            });
        };
        let (tenant, at) = (self.tenant, self.at);
        let published = Event::EventPublished { event, name: name.clone(), payload: payload.clone() };
        self.record(tenant, published);
        let mut handed_out = HandedOut::default();
        let in_turn = self.replica.publications.in_turn().any(|turn| turn == event);
        if in_turn {
            self.by_itself(|step| handed_out = step.hand_out(event, LISTENERS_PER_COMMAND_MAX));
        }
        let HandedOut { met, opened: mut executions, .. } = handed_out;
        executions.truncate(EVENT_EXECUTIONS_TOLD_MAX);
        let line = self.replica.publications.lines.get(&tenant);
        let complete = line.is_none_or(|line| line.values().all(|waiting| *waiting != event));
        Ok(Accepted::Event { event, at, met, executions, complete })
    }

    /// Holds the events whose turn it is against the next tasks, up to the bound; tenants share it.
    pub(super) fn continue_events(&mut self) {
        let mut left = LISTENERS_PER_COMMAND_MAX;
        while left > 0 {
            let in_turn: Vec<CommandId> = self.replica.publications.in_turn().take(left).collect();
            let Some(share) = left.checked_div(in_turn.len()) else { return };
            for event in in_turn {
                // One that nobody listens to is work too.
                left -= self.hand_out(event, share).looked_at.max(1);
            }
        }
    }

    /// Holds an event against the next of the tasks that listen to it.
    fn hand_out(&mut self, event: CommandId, most: usize) -> HandedOut {
        let mut handed_out = HandedOut::default();
        let Some(publication) = self.replica.publications.get(event).cloned() else { return handed_out };
        let HandOut::After(after) = publication.hand_out else { return handed_out };
        let payload = publication.payload.text().and_then(Json::parse).unwrap_or_else(Json::null);
        let (tenant, at) = (publication.tenant, publication.at);
        let mut listening: Vec<(TaskId, u32)> =
            self.replica.listeners.after(tenant, &publication.name, after).take(most + 1).collect();
        let more = listening.len() > most;
        listening.truncate(most);
        for (_, slot) in &listening {
            let Some(task) = self.replica.tasks.get(*slot) else { continue };
            let decided = task_rules::hear(task, &self.replica.executions, event, at, &payload);
            handed_out.met += u32::from(!decided.is_empty());
            for decision in decided {
                if let Event::TaskScheduled { execution, .. } = &decision {
                    handed_out.opened.push(*execution);
                }
                self.record(tenant, decision);
            }
        }
        handed_out.looked_at = listening.len();
        let up_to = listening.last().map(|(task, _)| *task).filter(|_| more);
        self.record(tenant, Event::EventHandedOut { event, up_to, met: handed_out.met });
        handed_out
    }
}
