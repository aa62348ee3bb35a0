//! What an execution takes over from its cause: values of an event, or of what other tasks left, in the JSON of its action.
//!
//! The cause is a document: `{"event": {"name", "payload", "at"}}`. An input names a place in it and a place in the
//! action's JSON: an HTTP call's body, a queue's payload, a program's standard input, the parameters of a builtin.

use std::collections::BTreeMap;

use super::action::Action;
use super::definition::Definition;
use crate::json::{Json, NoPlace};
use crate::limits::RESOLVED_BYTES_MAX;

/// The values of a cause cannot be put into an action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputsError {
    /// The cause, or what the values are put into, is no JSON.
    #[error("inputs: {what} is not JSON")]
    NotJson {
        /// Which of them.
        what: &'static str,
    },
    /// There is no place for a value.
    #[error("inputs: nothing can be put at `{pointer}`: {cause}")]
    NoPlace {
        /// Where it was to be put.
        pointer: String,
        /// Why it cannot be.
        cause: NoPlace,
    },
    /// With the values in it the action's JSON is too long.
    #[error(
        "inputs: with the values of its cause, {what} has {found} bytes; at most {RESOLVED_BYTES_MAX} are allowed"
    )]
    TooLong {
        /// What would be too long.
        what: &'static str,
        /// How long it would be.
        found: usize,
    },
}

/// The action of an attempt: what the definition says, with the values of its cause in it. Without a cause it is what the
/// definition says.
///
/// # Errors
/// [`InputsError`].
pub fn action_of(definition: Definition, cause: Option<&str>) -> Result<Action, InputsError> {
    let Definition { mut action, inputs, .. } = definition;
    if let Some(cause) = cause.filter(|_| !inputs.is_empty()) {
        put(&mut action, &inputs, cause)?;
    }
    Ok(action)
}

fn put(action: &mut Action, inputs: &BTreeMap<String, String>, cause: &str) -> Result<(), InputsError> {
    let cause = Json::parse(cause).ok_or(InputsError::NotJson { what: "the cause" })?;
    let (what, text) = document(action);
    let mut body = read(what, text.as_deref())?;
    for (target, source) in inputs {
        let value = cause.at(source).cloned().unwrap_or_else(Json::null);
        body.put(target, value).map_err(|cause| InputsError::NoPlace { pointer: target.clone(), cause })?;
    }
    let resolved = body.to_string();
    if resolved.len() > RESOLVED_BYTES_MAX {
        return Err(InputsError::TooLong { what, found: resolved.len() });
    }
    *text = Some(resolved);
    Ok(())
}

/// Tells which inputs have no place in an action, and why.
///
/// # Errors
/// [`InputsError::NotJson`], if the action holds no JSON for them.
pub fn misplaced(
    action: &mut Action,
    inputs: &BTreeMap<String, String>,
) -> Result<Vec<(String, NoPlace)>, InputsError> {
    let (what, text) = document(action);
    let mut body = read(what, text.as_deref())?;
    let places = inputs.keys().map(|target| (target.clone(), body.put(target, Json::null())));
    Ok(places.filter_map(|(target, put)| Some((target, put.err()?))).collect())
}

/// The JSON of an action, and what it is called. What is absent is an empty object.
fn document(action: &mut Action) -> (&'static str, &mut Option<String>) {
    match action {
        Action::Http(http) => ("the body", &mut http.body),
        Action::Process(process) => ("stdin", &mut process.stdin),
        Action::Queue { payload, .. } => ("the payload", payload),
        Action::Builtin { parameters, .. } => ("the parameters", parameters),
    }
}

fn read(what: &'static str, text: Option<&str>) -> Result<Json, InputsError> {
    Json::parse(text.unwrap_or("{}")).ok_or(InputsError::NotJson { what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::trigger::Trigger;

    const CAUSE: &str =
        r#"{"event":{"name":"build.finished","payload":{"branch":"main","n":1.50},"at":"x"}}"#;

    fn queue(payload: Option<&str>, inputs: &[(&str, &str)]) -> Definition {
        let action = Action::Queue { queue: "suites".into(), payload: payload.map(str::to_owned) };
        let inputs = inputs.iter().map(|(target, source)| ((*target).into(), (*source).into())).collect();
        Definition { inputs, ..Definition::new("t", Trigger::Manual, action) }
    }

    fn payload_of(definition: Definition, cause: Option<&str>) -> Result<Option<String>, InputsError> {
        action_of(definition, cause).map(|mut action| document(&mut action).1.clone())
    }

    #[test]
    fn values_of_the_cause_are_put_into_what_is_written() {
        let definition = queue(
            Some(r#"{"suite":7}"#),
            &[("/branch", "/event/payload/branch"), ("/build/number", "/event/payload/n"), ("/who", "/none")],
        );
        let expected = r#"{"branch":"main","build":{"number":1.50},"suite":7,"who":null}"#;
        assert_eq!(payload_of(definition, Some(CAUSE)), Ok(Some(expected.into())));
    }

    #[test]
    fn the_whole_can_be_a_value_of_the_cause() {
        let definition = queue(None, &[("", "/event/payload")]);
        assert_eq!(payload_of(definition, Some(CAUSE)), Ok(Some(r#"{"branch":"main","n":1.50}"#.into())));
    }

    #[test]
    fn without_a_cause_it_is_as_it_was_written() {
        let written = Some(r#"{ "z": 1 }"#);
        assert_eq!(payload_of(queue(written, &[("/a", "/b")]), None), Ok(written.map(str::to_owned)));
        assert_eq!(payload_of(queue(written, &[]), Some(CAUSE)), Ok(written.map(str::to_owned)));
    }

    #[test]
    fn what_has_no_place_is_told_by_its_pointer() {
        let inputs = [("/list/3", "/event"), ("/text/deep", "/event"), ("/fine", "/event")];
        let mut definition = queue(Some(r#"{"list":[],"text":"x"}"#), &inputs);
        let misplaced = misplaced(&mut definition.action, &definition.inputs).expect("JSON");
        let expected =
            [("/list/3".to_owned(), NoPlace::NoElement), ("/text/deep".to_owned(), NoPlace::Scalar)];
        assert_eq!(misplaced, expected);
        let error = payload_of(definition, Some(CAUSE)).expect_err("no place");
        assert!(error.to_string().contains("`/list/3`"), "{error}");
    }

    #[test]
    fn what_would_be_too_long_is_not_made() {
        let payload = "x".repeat(16 * 1024);
        let cause = format!(r#"{{"event":{{"payload":"{payload}"}}}}"#);
        let targets: Vec<String> = (0..20).map(|n| format!("/{n}")).collect();
        let inputs: Vec<(&str, &str)> = targets.iter().map(|target| (&**target, "/event/payload")).collect();
        let error = payload_of(queue(None, &inputs), Some(&cause)).expect_err("too long");
        assert!(error.to_string().contains("at most 196608 are allowed"), "{error}");
    }
}
