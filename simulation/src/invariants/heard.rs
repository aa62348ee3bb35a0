//! An event that is in the log met each task that listened to it once, and no other: whoever publishes builds on what follows.
//!
//! Who listened is told from the definitions as the records had them when the event was published, by a reading of filters
//! that shares nothing with the one that is judged.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::event::Event;
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::{CommandId, TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::trigger::Trigger;

use super::story::Lives;
use crate::definitions::SIDE;
use crate::evidence::{Evidence, Wish};

/// A task as the records had it at one moment.
struct Listener {
    definition: Definition,
    paused: bool,
    runs: u32,
}

/// An event that is being handed out: whom it must meet, and whom it has met.
#[derive(Default)]
struct HandOut {
    expected: BTreeSet<TaskId>,
    met: BTreeSet<TaskId>,
    over: bool,
}

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let publishers: BTreeMap<String, u64> = evidence
        .operations
        .iter()
        .filter_map(|operation| match operation.wish {
            Wish::Publish(side) => Some((operation.number.to_string(), side)),
            _ => None,
        })
        .collect();
    let mut tasks: BTreeMap<(TenantId, TaskId), Listener> = BTreeMap::new();
    let mut events: BTreeMap<CommandId, HandOut> = BTreeMap::new();
    let mut found = Vec::new();
    for record in &evidence.records {
        match &record.event {
            Event::EventPublished { event, name, .. } => match publishers.get(&*record.header.correlation_id)
            {
                Some(side) => {
                    let expected = expected(&tasks, record, name, *side);
                    events.insert(*event, HandOut { expected, ..HandOut::default() });
                }
                None => found.push(format!("event {event} is in the log, and nobody published it")),
            },
            Event::TaskScheduled { task, occurrence: Occurrence::Event(event), .. }
            | Event::TaskSkipped { task, occurrence: Occurrence::Event(event), .. } => {
                let hand_out = events.entry(*event).or_default();
                if hand_out.over || !hand_out.met.insert(*task) {
                    found.push(format!("event {event} met task {task} twice, or too late"));
                }
            }
            Event::EventHandedOut { event, up_to: None, .. } => {
                let hand_out = events.entry(*event).or_default();
                hand_out.over = true;
                if hand_out.met != hand_out.expected {
                    let (met, expected) = (&hand_out.met, &hand_out.expected);
                    found.push(format!("event {event} met {met:?}, and {expected:?} listened"));
                }
            }
            _ => {}
        }
        follow(&mut tasks, record);
    }
    let left = events.iter().filter(|(_, hand_out)| !hand_out.over);
    found.extend(left.map(|(event, _)| format!("event {event} was never handed out in full")));
    found
}

/// The tasks of the publisher's tenant that listen to an event and fire.
fn expected(
    tasks: &BTreeMap<(TenantId, TaskId), Listener>,
    record: &Record,
    name: &str,
    side: u64,
) -> BTreeSet<TaskId> {
    let at = record.header.at;
    let listens = |listener: &Listener| {
        let definition = &listener.definition;
        let Trigger::Event { name: wanted, filter } = &definition.trigger else { return false };
        let side = side.to_string();
        wanted == name
            && filter.iter().all(|(place, value)| place[1..] == *SIDE.0 && *value == side)
            && !listener.paused
            && definition.start_at.is_none_or(|start| start <= at)
            && definition.end_at.is_none_or(|end| at <= end)
            && definition.max_runs.is_none_or(|most| listener.runs < most)
    };
    let of_tenant = tasks.iter().filter(|((tenant, _), _)| *tenant == record.header.tenant);
    of_tenant.filter(|(_, listener)| listens(listener)).map(|((_, task), _)| *task).collect()
}

fn follow(tasks: &mut BTreeMap<(TenantId, TaskId), Listener>, record: &Record) {
    let Some(task) = record.event.task() else { return };
    let key = (record.header.tenant, task);
    let read = |definition: &Sealed| definition.open_definition().ok();
    match &record.event {
        Event::TaskCreated { definition, paused, .. } => {
            let listener =
                read(definition).map(|definition| Listener { definition, paused: *paused, runs: 0 });
            tasks.extend(listener.map(|listener| (key, listener)));
        }
        Event::TaskDeleted { .. } => drop(tasks.remove(&key)),
        event => {
            let Some(listener) = tasks.get_mut(&key) else { return };
            match event {
                Event::TaskUpdated { definition, .. } => {
                    listener.definition = read(definition).unwrap_or(listener.definition.clone());
                }
                Event::TaskPaused { .. } => listener.paused = true,
                Event::TaskResumed { .. } => listener.paused = false,
                Event::TaskScheduled { occurrence, .. }
                    if !matches!(occurrence, Occurrence::Manual(_) | Occurrence::Backfill { .. }) =>
                {
                    listener.runs += 1;
                }
                _ => {}
            }
        }
    }
}
