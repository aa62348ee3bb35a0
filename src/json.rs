//! JSON, read strictly: what an API that people script against must refuse, it refuses here.
//!
//! [`parse`] walks the whole text once and refuses what is not JSON, a key that appears twice in an object, nesting
//! beyond [`DEPTH_MAX`], and numbers that no machine number holds. What it returns is a view of the text: a value's own
//! text survives as it was written. Absent on purpose: what the values mean, which is for `service::validation` to say.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How deep lists and objects may be nested.
pub const DEPTH_MAX: usize = 64;
/// Characters of a key that a refusal shows.
const KEY_CHARS_SHOWN: usize = 64;

/// Why a text is not taken as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {detail}")]
pub struct JsonError {
    /// The line of the fault, counted from 1.
    pub line: usize,
    /// The column of the fault in bytes, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub detail: String,
    /// Where in the document, if the fault is one of its content.
    pub pointer: Option<String>,
}

/// What sort of value a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    Text,
    /// A list.
    List,
    /// An object.
    Object,
}

impl Shape {
    /// The shape as a sentence names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

/// One value of a text that [`parse`] accepted.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a>(&'a RawValue);

/// Reads a text that must hold one JSON value.
///
/// # Errors
/// [`JsonError`], with the place of the fault.
pub fn parse(text: &[u8]) -> Result<Node<'_>, JsonError> {
    let text = std::str::from_utf8(text).map_err(|error| {
        let before = &text[..error.valid_up_to()];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        JsonError {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: before.len() - line_start + 1,
            detail: "this byte is not UTF-8".into(),
            pointer: None,
        }
    })?;
    let fault = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let walked = Walk { depth: 0, fault: &fault }.deserialize(&mut reader).and_then(|()| reader.end());
    walked.map_err(|error| located(&error, fault.into_inner()))?;
    serde_json::from_str(text).map(Node).map_err(|error| located(&error, None))
}

fn located(error: &serde_json::Error, path: Option<Vec<String>>) -> JsonError {
    let text = error.to_string();
    let detail = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]).to_owned();
    let pointer = path.map(|steps| steps.iter().rev().map(|step| format!("/{}", escaped(step))).collect());
    JsonError { line: error.line(), column: error.column(), detail, pointer }
}

/// Returns one step of a JSON Pointer (RFC 6901).
#[must_use]
pub fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

impl<'a> Node<'a> {
    /// The value's text, as it was written.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.0.get()
    }

    /// What sort of value it is.
    #[must_use]
    pub fn shape(self) -> Shape {
        match self.text().as_bytes().first() {
            Some(b'{') => Shape::Object,
            Some(b'[') => Shape::List,
            Some(b'"') => Shape::Text,
            Some(b't' | b'f') => Shape::Bool,
            Some(b'n') | None => Shape::Null,
            Some(_) => Shape::Number,
        }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn string(self) -> Option<String> {
        serde_json::from_str(self.text()).ok().filter(|_| self.shape() == Shape::Text)
    }

    /// The elements, if it is a list.
    #[must_use]
    pub fn elements(self) -> Option<Vec<Node<'a>>> {
        let raw: Vec<&'a RawValue> =
            serde_json::from_str(self.text()).ok().filter(|_| self.shape() == Shape::List)?;
        Some(raw.into_iter().map(Node).collect())
    }

    /// The fields in the order of the text, if it is an object.
    #[must_use]
    pub fn entries(self) -> Option<Vec<(String, Node<'a>)>> {
        let Entries(entries) =
            serde_json::from_str(self.text()).ok().filter(|_| self.shape() == Shape::Object)?;
        Some(entries)
    }

    /// The text without insignificant white space.
    #[must_use]
    pub fn compact(self) -> String {
        let mut text = String::with_capacity(self.text().len());
        self.write(&mut text, false);
        text
    }

    /// The same text for all texts that say the same: fields in order of their keys, no white space.
    #[must_use]
    pub fn canonical(self) -> String {
        let mut text = String::with_capacity(self.text().len());
        self.write(&mut text, true);
        text
    }

    fn write(self, into: &mut String, sorted: bool) {
        if let Some(elements) = self.elements() {
            into.push('[');
            for (index, element) in elements.into_iter().enumerate() {
                if index > 0 {
                    into.push(',');
                }
                element.write(into, sorted);
            }
            into.push(']');
        } else if let Some(mut entries) = self.entries() {
            if sorted {
                entries.sort_by(|left, right| left.0.cmp(&right.0));
            }
            into.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    into.push(',');
                }
                into.push_str(&quoted(&key));
                into.push(':');
                value.write(into, sorted);
            }
            into.push('}');
        } else if let Some(string) = self.string() {
            into.push_str(&quoted(&string));
        } else {
            into.push_str(self.text());
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The fields of an object in the order of the text.
struct Entries<'a>(Vec<(String, Node<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    entries.push((key, Node(value)));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Walks a value and refuses what is not allowed anywhere. `fault` collects the steps to it from the inside out.
#[derive(Clone, Copy)]
struct Walk<'f> {
    depth: usize,
    fault: &'f RefCell<Option<Vec<String>>>,
}

impl Walk<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth < DEPTH_MAX {
            return Ok(Self { depth: self.depth + 1, ..self });
        }
        self.fault.replace(Some(Vec::new()));
        Err(E::custom(format!("nested deeper than {DEPTH_MAX} lists and objects")))
    }

    fn step(self, step: impl FnOnce() -> String) {
        if let Some(steps) = self.fault.borrow_mut().as_mut() {
            steps.push(step());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut index = 0;
        loop {
            match list.next_element_seed(inner) {
                Ok(Some(())) => index += 1,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.step(|| index.to_string());
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                let shown: String = key.chars().take(KEY_CHARS_SHOWN).collect();
                self.fault.replace(Some(vec![key]));
                return Err(A::Error::custom(format!("the key `{shown}` appears twice in one object")));
            }
            map.next_value_seed(inner).inspect_err(|_| self.step(|| key.clone()))?;
            keys.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, line: usize, detail: &str, pointer: Option<&str>) {
        let error = parse(text.as_bytes()).expect_err("refused");
        assert!(error.detail.contains(detail), "{error:?}");
        assert_eq!((error.line, error.pointer.as_deref()), (line, pointer), "{error:?}");
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        check("", 1, "EOF", None);
        check("{\"a\": 1,\n  b}", 2, "key must be a string", None);
        check("{\"a\": 1} x", 1, "trailing", None);
        check("[1, 2,]", 1, "trailing comma", None);
        check("NaN", 1, "expected value", None);
        check("\"\\ud800\"", 1, "hex escape", None);
        let error = parse(b"{\n\"a\": \xff}").expect_err("refused");
        assert_eq!((error.line, error.column), (2, 6));
    }

    #[test]
    fn a_key_that_appears_twice_is_named() {
        check(r#"{"a":[{"b":1,"b/~":2,"b/~":3}]}"#, 1, "`b/~` appears twice", Some("/a/0/b~1~0"));
        check(r#"{"a":1,"\u0061":2}"#, 1, "`a` appears twice", Some("/a"));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        let error = parse(nested(DEPTH_MAX + 1).as_bytes()).expect_err("refused");
        assert!(error.detail.contains("nested deeper than 64"), "{error:?}");
        assert!(parse("[".repeat(1_000_000).as_bytes()).is_err(), "and costs no stack");
    }

    #[test]
    fn a_number_that_no_machine_number_holds_is_refused() {
        check(r#"{"a": 1e999}"#, 1, "number out of range", None);
    }

    #[test]
    fn texts_that_say_the_same_have_the_same_canonical_text() {
        let canonical = |text: &str| parse(text.as_bytes()).expect("JSON").canonical();
        assert_eq!(
            canonical(r#"{"b": [1, {"y":"\u0041","x":null}], "a": 1.50}"#),
            canonical("{\"a\":1.50,\n\"b\":[1,{\"x\":null,\"y\":\"A\"}]}")
        );
        assert_ne!(canonical("[1,2]"), canonical("[2,1]"));
    }

    #[test]
    fn a_compact_text_keeps_order_and_numbers() {
        let node = parse(b" { \"z\" : 1.0e2 , \"a\" : [ ] } ").expect("JSON");
        assert_eq!(node.compact(), r#"{"z":1.0e2,"a":[]}"#);
    }
}
