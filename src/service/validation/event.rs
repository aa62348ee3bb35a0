//! Reads what an event is, to which a task listens, and which values of its cause an execution takes over.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::json::{Json, NoPlace, steps};
use escapement_domain::limits::{
    EVENT_NAME_BYTES_MAX, EVENT_PAYLOAD_BYTES_MAX, FILTER_VALUE_BYTES_MAX, FILTER_VALUES_MAX, INPUTS_MAX,
    POINTER_BYTES_MAX,
};
use escapement_domain::task::definition::Definition;
use escapement_domain::task::inputs;
use escapement_domain::task::trigger::Trigger;
use escapement_domain::timestamp::Span;

use super::fields::{Fault, Faults, Field, Fields};
use super::leasing;
use crate::json::{Node, escaped};

const POINTER: &str = "a JSON Pointer such as `/branch` or `/tests/0/name` is expected";

/// An event, as its publisher tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// What happened.
    pub name: Arc<str>,
    /// JSON text of what there is to say about it.
    pub payload: Arc<str>,
}

/// Reads an event that is published.
///
/// # Errors
/// Every fault, at least one.
pub fn publication(node: Node<'_>) -> Result<Publication, Vec<Fault>> {
    leasing::read(node, "an event", |fields, faults| {
        let name = name(fields, faults);
        let payload = match fields.take("payload") {
            None => Json::null().to_string(),
            Some(field) => {
                let text = field.node.compact();
                if text.len() > EVENT_PAYLOAD_BYTES_MAX {
                    let found = text.len();
                    let detail = format!(
                        "at most {EVENT_PAYLOAD_BYTES_MAX} bytes of JSON are allowed; this has {found}"
                    );
                    faults.add(&field.pointer, detail);
                }
                text
            }
        };
        Some(Publication { name: name?.into(), payload: payload.into() })
    })
}

fn name(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<String> {
    let field = fields.required("name", faults)?;
    let sane = |name: &str| !name.trim().is_empty() && !name.chars().any(char::is_control);
    let what = " that are not all blank, without control characters,";
    field.text(1..=EVENT_NAME_BYTES_MAX, sane, what, faults)
}

/// Reads a trigger of type `event`.
pub(super) fn trigger(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Trigger> {
    let name = name(fields, faults);
    let filter = fields.read("filter", faults, filter);
    Some(Trigger::Event { name: name?, filter: filter.unwrap_or_default() })
}

fn filter(field: &Field<'_>, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    let entries = field.entries(faults)?;
    if entries.len() > FILTER_VALUES_MAX {
        let found = entries.len();
        let detail =
            format!("at most {FILTER_VALUES_MAX} values are held against an event; these are {found}");
        faults.add(&field.pointer, detail);
        return None;
    }
    let mut filter = BTreeMap::new();
    for (pointer, value) in entries {
        is_pointer(&pointer, &value.pointer, faults);
        let text = value.node.compact();
        if text.len() > FILTER_VALUE_BYTES_MAX {
            let found = text.len();
            let detail =
                format!("at most {FILTER_VALUE_BYTES_MAX} bytes of JSON are allowed; this has {found}");
            faults.add(&value.pointer, detail);
        }
        filter.insert(pointer, text);
    }
    Some(filter)
}

fn is_pointer(text: &str, place: &str, faults: &mut Faults) {
    if text.len() > POINTER_BYTES_MAX {
        let found = text.len();
        faults.add(place, format!("a JSON Pointer has at most {POINTER_BYTES_MAX} bytes; this has {found}"));
    } else if steps(text).is_none() {
        let detail = "it is empty or begins with `/`, and a `~` in it is followed by `0` or `1`";
        faults.add(place, format!("{POINTER}: {detail}"));
    }
}

/// Reads where values of an execution's cause are put.
pub(super) fn inputs(field: &Field<'_>, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    let entries = field.entries(faults)?;
    if entries.len() > INPUTS_MAX {
        faults.add(
            &field.pointer,
            format!("at most {INPUTS_MAX} inputs are allowed; these are {}", entries.len()),
        );
        return None;
    }
    let before = faults.len();
    let mut inputs = BTreeMap::new();
    for (target, source) in entries {
        is_pointer(&target, &source.pointer, faults);
        let Some(text) = source.string(faults) else { continue };
        is_pointer(&text, &source.pointer, faults);
        inputs.insert(target, text);
    }
    for target in inputs.keys() {
        if let Some(other) = inputs.keys().find(|other| lies_above(other, target)) {
            let place = format!("{}/{}", field.pointer, escaped(target));
            faults.add(place, format!("it lies within `{other}`, which is an input too"));
        }
    }
    (faults.len() == before).then_some(inputs)
}

fn lies_above(other: &str, target: &str) -> bool {
    target.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether what a task takes over, and what narrows a schedule, fits its trigger and its action.
pub(super) fn fits_trigger(definition: &Definition, field: &Field<'_>, faults: &mut Faults) {
    let place = |name: &str| format!("{}/{name}", field.pointer);
    let caused = matches!(definition.trigger, Trigger::Event { .. } | Trigger::After { .. });
    if caused && !definition.calendars.is_empty() {
        faults.add(
            place("calendars"),
            "calendars narrow a schedule, and this trigger has none; leave them out",
        );
    }
    if caused && definition.jitter != Span::ZERO {
        faults.add(
            place("jitter"),
            "jitter delays the instants of a schedule, and this trigger has none; leave it out",
        );
    }
    if matches!(definition.trigger, Trigger::After { .. }) {
        for (name, _) in [("start_at", definition.start_at), ("end_at", definition.end_at)]
            .into_iter()
            .filter(|(_, bound)| bound.is_some())
        {
            faults.add(
                place(name),
                format!("`{name}` bounds a schedule or events, and this task follows others; leave it out"),
            );
        }
    }
    if definition.inputs.is_empty() {
        return;
    }
    if !caused {
        let detail = "inputs come from what made an execution: they are allowed with a trigger of type `event` or `after`";
        faults.add(place("inputs"), detail);
        return;
    }
    match inputs::misplaced(&mut definition.action.clone(), &definition.inputs) {
        Err(_) => faults
            .add(place("inputs"), "a program's inputs are put into its `stdin`, which must then be JSON"),
        Ok(misplaced) => {
            for (target, cause) in misplaced {
                let allowed = match cause {
                    NoPlace::NoPointer => POINTER,
                    NoPlace::Scalar => "a place in an object or a list of the action's JSON is allowed",
                    NoPlace::NoElement => "an element that the list has is allowed",
                };
                faults
                    .add(format!("{}/{}", place("inputs"), escaped(&target)), format!("{cause}; {allowed}"));
            }
        }
    }
}
