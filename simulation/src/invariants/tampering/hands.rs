//! How what was seen is altered.

use std::collections::BTreeSet;

use escapement_domain::event::{Event, Placing, RequeueCause};
use escapement_domain::execution::state::Occurrence;
use escapement_domain::record::{Hash, Record};
use escapement_domain::replica::placement::Gate;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::{Span, Timestamp};

use crate::evidence::{Attempt, Done, Ended, Evidence, Knowledge, Operation, Wish};
use crate::world::crew::OUTSIDE;

/// Whether an event is an occurrence of a schedule that ran.
pub(super) fn is_due(event: &Event) -> bool {
    matches!(event, Event::TaskScheduled { occurrence: Occurrence::Scheduled(_), .. })
}

pub(super) fn is_step(event: &Event) -> bool {
    matches!(event, Event::TaskScheduled { occurrence: Occurrence::After { .. }, .. })
}

pub(super) fn is_pool(event: &Event) -> bool {
    matches!(event, Event::Placement(Placing::GatePut { .. }))
}

/// Whether an event puts a limit of a kind, as the API names it.
pub(super) fn is_limit(event: &Event, kind: &str) -> bool {
    let Event::Placement(Placing::GatePut { gate, .. }) = event else { return false };
    match gate {
        Gate::Pool(_) => false,
        Gate::Label(_) => kind == "label",
        Gate::Queue(_) => kind == "queue",
        Gate::Tenant => kind == "tenant",
    }
}

pub(super) fn set_capacity(record: &mut Record, wanted: u32) -> bool {
    match &mut record.event {
        Event::Placement(Placing::GatePut { capacity, .. }) => {
            *capacity = wanted;
            true
        }
        _ => false,
    }
}

pub(super) fn later(instant: &mut Timestamp) -> bool {
    *instant = instant.plus(Span::minutes(10));
    true
}

/// Another definition than the one in the envelope.
pub(super) fn another(sealed: &mut Sealed) -> bool {
    let mut definition = sealed.open_definition().expect("a definition");
    definition.description = "another".into();
    *sealed = Sealed::definition(&definition);
    true
}

/// Where the records of such events are.
pub(super) fn places(seen: &Evidence, of: impl Fn(&Event) -> bool) -> Vec<usize> {
    let records = seen.records.iter().enumerate();
    records.filter(|(_, record)| of(&record.event)).map(|(place, _)| place).collect()
}

/// Takes one record away, from the middle of those that fit.
pub(super) fn drop_where(seen: &mut Evidence, of: impl Fn(&Event) -> bool) -> bool {
    let fitting = places(seen, of);
    fitting.get(fitting.len() / 2).map(|place| seen.records.remove(*place)).is_some()
}

/// Has an execution granted right after such a record of it.
pub(super) fn grant_after(seen: &mut Evidence, of: impl Fn(&Event) -> bool) -> bool {
    let Some(place) = places(seen, of).pop() else { return false };
    let record = seen.records[place].clone();
    let holder = seen.records.iter().find_map(|other| match &other.event {
        Event::TaskStarted { holder, .. } => Some(holder.clone()),
        _ => None,
    });
    let (Some(task), Some(execution), Some(holder)) = (record.event.task(), record.event.execution(), holder)
    else {
        return false;
    };
    let event = Event::TaskStarted { task, execution, attempt: 9, holder };
    seen.records.insert(place + 1, Record { event, ..record });
    true
}

/// Says of an attempt that somebody saw that it was never begun.
pub(super) fn unbegin(seen: &mut Evidence) -> bool {
    let begun: BTreeSet<u64> = seen.attempts.iter().map(|attempt| attempt.token).collect();
    let granted = places(seen, |event| matches!(event, Event::TaskStarted { .. }));
    let place = granted.into_iter().find(|place| begun.contains(&seen.records[*place].header.sequence));
    let Some(place) = place else { return false };
    let mut record = seen.records[place].clone();
    if let Event::TaskStarted { task, execution, .. } = record.event {
        let cause = RequeueCause::NotStarted { token: record.header.sequence };
        record.event = Event::TaskRequeued { task, execution, cause };
    }
    seen.records.insert(place + 1, record);
    true
}

/// Takes away one task of a bulk that was to be created wholly or not at all, of which nobody knows what came of it.
pub(super) fn create_in_part(seen: &mut Evidence) -> bool {
    let mut bulks = BTreeSet::new();
    for operation in &mut seen.operations {
        if matches!(&operation.wish, Wish::CreateAll(definitions) if definitions.len() > 1) {
            bulks.insert(operation.number.to_string());
            operation.knowledge = Knowledge::Unknown;
        }
    }
    let of_bulk = |record: &Record| {
        matches!(record.event, Event::TaskCreated { .. }) && bulks.contains(&*record.header.correlation_id)
    };
    let place = seen.records.iter().position(of_bulk);
    place.map(|place| seen.records.remove(place)).is_some()
}

/// Alters every attempt that stopped because it was told to, as if nothing had ever been broken.
pub(super) fn stopped(seen: &mut Evidence, how: fn(&mut Attempt)) -> bool {
    seen.disturbances.clear();
    seen.attempts.iter_mut().filter(|one| one.how == Ended::Stopped && one.node != OUTSIDE).map(how).count()
        > 0
}

pub(super) fn drop_all(seen: &mut Evidence, of: impl Fn(&Event) -> bool) -> bool {
    let before = seen.records.len();
    seen.records.retain(|record| !of(&record.event));
    seen.records.len() < before
}

/// Tells one record twice.
pub(super) fn double_where(seen: &mut Evidence, of: impl Fn(&Event) -> bool) -> bool {
    let fitting = places(seen, of);
    let place = fitting.get(fitting.len() / 2);
    place.map(|place| seen.records.insert(*place, seen.records[*place].clone())).is_some()
}

/// Alters every record that it can.
pub(super) fn alter(seen: &mut Evidence, mut how: impl FnMut(&mut Record) -> bool) -> bool {
    seen.records.iter_mut().filter_map(|record| how(record).then_some(())).count() > 0
}

/// Alters every operation of a sort that was done.
pub(super) fn operations(seen: &mut Evidence, of: fn(&Wish) -> bool, how: fn(&mut Operation)) -> bool {
    let done = |one: &&mut Operation| matches!(one.knowledge, Knowledge::Done(_)) && of(&one.wish);
    seen.operations.iter_mut().filter(done).map(how).count() > 0
}

/// Alters what those were told who read what happened to a task.
pub(super) fn read_events(seen: &mut Evidence, how: fn(&mut Vec<(u64, Hash)>) -> bool) -> bool {
    let told = seen.operations.iter_mut().filter_map(|one| match &mut one.knowledge {
        Knowledge::Done(Done::Events(served)) => Some(how(served)),
        _ => None,
    });
    told.filter(|altered| *altered).count() > 0
}
