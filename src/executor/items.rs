//! The items that an attempt names as failed, and how the next attempt is told of them.
//!
//! An item is whatever a target or a program says: a test case, a file, a customer. Absent on purpose: what items mean.

use std::collections::BTreeMap;

use escapement_domain::limits::FAILED_ITEMS_BYTES_MAX;
use serde_json::value::RawValue;

use crate::json::{self, Node};

/// The field of a response that lists what failed.
const FAILED_ITEMS: &str = "failed_items";
/// The field of a body that lists what is to be done again.
const RETRY_ITEMS: &str = "retry_items";

/// Reads the list of failed items from a response's body: its field `failed_items`, if it is an object with one.
pub(super) fn of_response(body: &[u8]) -> Option<String> {
    let fields = json::parse(body).ok()?.entries()?;
    let (_, items) = fields.into_iter().find(|(name, _)| name == FAILED_ITEMS)?;
    list(items).filter(|items| items.len() <= FAILED_ITEMS_BYTES_MAX)
}

/// Reads the list of failed items from what a program wrote into its file: a JSON list, or one item on each line.
///
/// # Errors
/// A sentence for people when it is neither, or too much.
pub(super) fn of_file(text: &str) -> Result<Option<String>, String> {
    let items = if text.trim_start().starts_with('[') {
        let whole = json::parse(text.as_bytes());
        list(whole.map_err(|error| format!("it begins as a JSON list, but: {error}"))?)
    } else {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        (!lines.is_empty()).then(|| serde_json::Value::from(lines).to_string())
    };
    match items {
        Some(items) if items.len() > FAILED_ITEMS_BYTES_MAX => Err(too_many(items.len())),
        items => Ok(items),
    }
}

/// What is said of a list that is too long.
pub(super) fn too_many(bytes: usize) -> String {
    format!("a list of at most {FAILED_ITEMS_BYTES_MAX} bytes is kept, and this has {bytes} or more")
}

/// Returns `body`, a JSON object or nothing, with the items to do again in its field `retry_items`; `None` if it has no
/// room for them.
pub(super) fn in_body(body: Option<&str>, items: &str) -> Option<String> {
    let mut fields: BTreeMap<&str, &RawValue> = match body {
        Some(body) => serde_json::from_str(body).ok()?,
        None => BTreeMap::new(),
    };
    let items: &RawValue = serde_json::from_str(items).ok()?;
    fields.insert(RETRY_ITEMS, items);
    serde_json::to_string(&fields).ok()
}

/// The text of a list of at least one item.
fn list(items: Node<'_>) -> Option<String> {
    items.elements().is_some_and(|items| !items.is_empty()).then(|| items.text().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_names_what_failed_in_a_field_of_an_object() {
        let named = of_response(br#"{"passed": 2, "failed_items": ["a", {"id": 7}]}"#);
        assert_eq!(named.as_deref(), Some(r#"["a", {"id": 7}]"#));
        for says_nothing in [r#"{"failed_items": []}"#, r#"{"failed_items": "a"}"#, r#"["a"]"#, "no JSON", ""]
        {
            assert_eq!(of_response(says_nothing.as_bytes()), None, "{says_nothing}");
        }
    }

    #[test]
    fn a_file_is_a_json_list_or_lines() {
        assert_eq!(of_file(" [1, \"b\"]\n"), Ok(Some("[1, \"b\"]".into())));
        assert_eq!(of_file("login\n\n  check \"out\" \n"), Ok(Some(r#"["login","check \"out\""]"#.into())));
        assert_eq!(of_file("\n"), Ok(None));
        assert_eq!(of_file("[]"), Ok(None));
        assert!(of_file("[1,").is_err_and(|error| error.contains("JSON list")));
        assert!(of_file(&"x".repeat(FAILED_ITEMS_BYTES_MAX)).is_err_and(|error| error.contains("bytes")));
    }

    /// What nobody who asks for an execution could read is no list.
    #[test]
    fn a_list_is_read_strictly() {
        let deep = format!("[{}1{}]", "[".repeat(100), "]".repeat(100));
        for nasty in [&*deep, r#"["\ud800"]"#, "[1e999]", r#"[{"a":1,"a":2}]"#] {
            let body = format!(r#"{{"failed_items":{nasty}}}"#);
            assert_eq!(of_response(body.as_bytes()), None, "{nasty}");
            assert!(of_file(nasty).is_err_and(|error| error.contains("line 1, column")), "{nasty}");
        }
    }

    #[test]
    fn items_are_a_field_of_a_body_that_is_an_object() {
        let body = |body: Option<&str>| in_body(body, r#"["a"]"#);
        assert_eq!(
            body(Some(r#"{"suite":1e400,"retry_items":null}"#)).as_deref(),
            Some(r#"{"retry_items":["a"],"suite":1e400}"#)
        );
        assert_eq!(body(None).as_deref(), Some(r#"{"retry_items":["a"]}"#));
        assert_eq!(body(Some("[1]")), None);
    }
}
