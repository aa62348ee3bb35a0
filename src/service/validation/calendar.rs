//! Reads calendars, and the names by which tasks have them.
//!
//! What a day, a window and a zone may look like is the domain's to say; here each is found at its place in the document.

use std::collections::BTreeSet;
use std::str::FromStr;

use escapement_domain::limits::CALENDARS_PER_TASK_MAX;
use escapement_domain::schedule::calendar::{Calendar, CalendarMode, Window};

use super::fields::{Fault, Faults, Field};
use super::nearest::shown;
use crate::json::Node;

/// Bytes of a calendar's name.
pub const CALENDAR_NAME_BYTES_MAX: usize = 128;
/// The names of what a calendar does with what it covers.
pub const CALENDAR_MODES: [(&str, CalendarMode); 2] =
    [("exclude", CalendarMode::Exclude), ("only", CalendarMode::Only)];
/// What a calendar may be called.
pub(super) const NAMES_ALLOWED: &str = "letters, digits, `-`, `_` and `.`, not all of them dots,";
/// Fields of an answer that may be sent back and mean nothing.
const READ_ONLY: [&str; 4] = ["name", "version", "updated_at", "tasks"];

/// Checks what a client calls a calendar.
///
/// # Errors
/// What is allowed.
pub fn calendar_name(name: &str) -> Result<(), Fault> {
    name_of("a calendar", name)
}

/// Checks what a client calls something of its tenant's.
pub(super) fn name_of(what: &str, name: &str) -> Result<(), Fault> {
    if (1..=CALENDAR_NAME_BYTES_MAX).contains(&name.len()) && is_name(name) {
        return Ok(());
    }
    let detail = format!("{what}'s name has 1 to {CALENDAR_NAME_BYTES_MAX} {NAMES_ALLOWED} and no others");
    Err(Fault { pointer: String::new(), detail })
}

pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.bytes().all(allowed) && name.bytes().any(|byte| byte != b'.')
}

/// Reads a calendar.
///
/// # Errors
/// Every fault, at least one.
pub fn calendar(node: Node<'_>) -> Result<Calendar, Vec<Fault>> {
    let mut faults = Faults::default();
    let found = read(&Field::new(node, ""), &mut faults);
    found.filter(|_| faults.is_empty()).ok_or_else(|| faults.into_vec())
}

fn read(field: &Field<'_>, faults: &mut Faults) -> Option<Calendar> {
    let mut fields = field.object(faults)?;
    fields.ignore(&READ_ONLY);
    let description = fields.read("description", faults, super::description);
    let mode = fields.read("mode", faults, |field, faults| field.choice(&CALENDAR_MODES, faults));
    let timezone = fields.read("timezone", faults, |field, faults| {
        let name = field.string(faults)?;
        zone_fault(&name).map(|detail| faults.add(&field.pointer, detail)).map_or(Some(name), |()| None)
    });
    let days = fields.read("days", faults, |field, faults| each(field, faults, |_| None));
    let windows = fields.read("windows", faults, |field, faults| {
        each(field, faults, |window: &Window| window.timezone.as_deref().and_then(zone_fault))
    });
    fields.finish("a calendar", faults);
    let calendar = Calendar {
        description: description.unwrap_or_default(),
        mode: mode.unwrap_or_default(),
        timezone,
        days: days.unwrap_or_default(),
        windows: windows.unwrap_or_default(),
    };
    if faults.is_empty()
        && let Err(error) = calendar.check()
    {
        error.faults.into_iter().for_each(|fault| faults.add(fault.pointer, fault.detail));
    }
    Some(calendar)
}

/// Reads a list of texts, each of which means something.
fn each<T: FromStr<Err = String>>(
    field: &Field<'_>,
    faults: &mut Faults,
    fault: impl Fn(&T) -> Option<String>,
) -> Option<Vec<T>> {
    let elements = field.elements(faults)?;
    let read = |element: Field<'_>| {
        let found = shown(&element.string(faults)?).parse::<T>();
        let found = found.and_then(|found| fault(&found).map_or(Ok(found), Err));
        found.map_err(|detail| faults.add(&element.pointer, detail)).ok()
    };
    Some(elements.into_iter().filter_map(read).collect())
}

/// What is wrong with the name of a zone, if something is.
fn zone_fault(name: &str) -> Option<String> {
    let window = Window { weekly: false, from: 0, to: 1, timezone: Some(name.to_owned()) };
    let (description, mode) = (String::new(), CalendarMode::default());
    let calendar = Calendar { description, mode, timezone: None, days: Vec::new(), windows: vec![window] };
    calendar.check().err()?.faults.into_iter().next().map(|fault| fault.detail)
}

/// Reads the calendars that a task names. Whether they are there is not known here.
pub(super) fn calendars(field: &Field<'_>, faults: &mut Faults) -> Option<Vec<String>> {
    let elements = field.elements(faults)?;
    let (count, most) = (elements.len(), CALENDARS_PER_TASK_MAX);
    if count > most {
        faults.add(&field.pointer, format!("at most {most} calendars are allowed; these are {count}"));
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut names = Vec::with_capacity(count);
    for element in elements {
        let allowed = format!(" of {NAMES_ALLOWED}");
        let name = element.text(1..=CALENDAR_NAME_BYTES_MAX, is_name, &allowed, faults);
        let Some(name) = name else { continue };
        if seen.insert(name.clone()) {
            names.push(name);
        } else {
            faults.add(&element.pointer, format!("`{name}` is named twice"));
        }
    }
    Some(names)
}

/// A calendar that is not there, as a fault of the task that names it.
#[must_use]
pub fn no_such_calendar(name: &str, named: &[String]) -> Fault {
    let place = named.iter().position(|other| other == name);
    let pointer = place.map_or_else(|| "/calendars".into(), |place| format!("/calendars/{place}"));
    let detail = format!("there is no calendar `{name}`; create it with PUT /api/calendars/{name}");
    Fault { pointer, detail }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::json;

    fn faults(calendar: &Value) -> Vec<Fault> {
        super::calendar(json::parse(calendar.to_string().as_bytes()).expect("JSON")).err().unwrap_or_default()
    }

    #[test]
    fn every_fault_of_a_calendar_has_its_place() {
        let wrong = json!({
            "mode": "onyl", "timezone": "Europe/Berlim", "colour": "red",
            "days": ["2026-12-25", "2026-02-30", 7], "windows": ["22:00-04:00", "22:00-04:00 Mars/Base", "Sat"]
        });
        let found = faults(&wrong);
        let pointers: Vec<&str> = found.iter().map(|fault| fault.pointer.as_str()).collect();
        let expected = ["/mode", "/timezone", "/days/1", "/days/2", "/windows/1", "/windows/2", "/colour"];
        assert_eq!(pointers, expected, "{found:?}");
        assert!(found[0].detail.contains("did you mean `only`?"), "{found:?}");
        assert!(found[1].detail.contains("Europe/Berlin"), "{found:?}");
    }

    #[test]
    fn a_calendar_covers_something_and_is_bounded() {
        let check = |calendar: Value, detail: &str| {
            let found = faults(&calendar);
            assert!(found.len() == 1 && found[0].detail.contains(detail), "{found:?}");
        };
        check(json!({}), "at least one day or window");
        check(json!({ "days": vec!["12-25"; 5_001] }), "at most 5000 are allowed");
        check(json!({ "windows": vec!["22:00-04:00"; 201] }), "at most 200 are allowed");
        check(json!([]), "an object is expected, not a list");
        let sent_back =
            json!({ "name": "n", "version": 7, "updated_at": "then", "tasks": 0, "days": ["12-25"] });
        assert_eq!(faults(&sent_back), Vec::new());
    }

    #[test]
    fn a_name_is_of_a_few_letters() {
        for name in ["de-holidays", "A.1_x", &"x".repeat(128)] {
            assert_eq!(calendar_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(129)] {
            assert!(calendar_name(name).is_err(), "{name}");
        }
    }
}
