//! To which events a task listens: the part of its trigger that decisions read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::trigger::Trigger;
use crate::json::Json;
use crate::timestamp::Timestamp;

/// The events that make a task run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listening {
    /// What they are called.
    pub name: Arc<str>,
    /// Places in their payload, as JSON Pointers, and the JSON text that each must equal.
    filter: Vec<(Box<str>, Box<str>)>,
    /// Those from this instant on.
    from: Option<Timestamp>,
    /// Those up to this instant.
    until: Option<Timestamp>,
}

impl Listening {
    /// What a definition listens to; `None` if it has another trigger.
    #[must_use]
    pub fn of(definition: &Definition) -> Option<Self> {
        let Trigger::Event { name, filter } = &definition.trigger else { return None };
        let filter = filter.iter().map(|(pointer, value)| (pointer.as_str().into(), value.as_str().into()));
        Some(Self {
            name: name.as_str().into(),
            filter: filter.collect(),
            from: definition.start_at,
            until: definition.end_at,
        })
    }

    /// Whether an event of its name meets it. A place that a payload does not have equals nothing, not even `null`.
    #[must_use]
    pub fn is_met_by(&self, payload: &Json, published_at: Timestamp) -> bool {
        self.from.is_none_or(|from| published_at >= from)
            && self.until.is_none_or(|until| published_at <= until)
            && self.filter.iter().all(|(pointer, value)| {
                let found = payload.at(pointer);
                let wanted = Json::parse(value);
                found.zip(wanted.as_ref()).is_some_and(|(found, wanted)| found.equals(wanted))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::action::{Action, Operation};

    fn listening(filter: &[(&str, &str)]) -> Listening {
        let filter = filter.iter().map(|(pointer, value)| ((*pointer).into(), (*value).into())).collect();
        let action = Action::Builtin { operation: Operation::Noop, parameters: None };
        let trigger = Trigger::Event { name: "build.finished".into(), filter };
        let definition = Definition {
            start_at: Some(Timestamp(1_000)),
            end_at: Some(Timestamp(2_000)),
            ..Definition::new("t", trigger, action)
        };
        Listening::of(&definition).expect("an event trigger")
    }

    #[track_caller]
    fn check(filter: &[(&str, &str)], payload: &str, expected: bool) {
        let payload = Json::parse(payload).expect("JSON");
        assert_eq!(listening(filter).is_met_by(&payload, Timestamp(1_500)), expected);
    }

    #[test]
    fn every_value_of_a_filter_must_be_equal() {
        let filter = [("/branch", "\"main\""), ("/tests/failed", "0")];
        check(&filter, r#"{"branch":"main","tests":{"failed":0.0}}"#, true);
        check(&filter, r#"{"branch":"main","tests":{"failed":1}}"#, false);
        check(&filter, r#"{"branch":"main"}"#, false);
        check(&[], "null", true);
    }

    #[test]
    fn what_is_not_there_is_not_null() {
        check(&[("/branch", "null")], "{}", false);
        check(&[("/branch", "null")], r#"{"branch":null}"#, true);
        check(&[("", "null")], "null", true);
    }

    #[test]
    fn events_outside_its_bounds_do_not_meet_it() {
        for (at, expected) in [(999, false), (1_000, true), (2_000, true), (2_001, false)] {
            assert_eq!(listening(&[]).is_met_by(&Json::null(), Timestamp(at)), expected, "{at}");
        }
    }
}
