//! What a command prints, and how: columns for people, the API's answer for scripts.
//!
//! Invariant: standard output carries the answer and nothing else, so that it can be piped; what is said beside it
//! goes to standard error.

use std::io::{self, Write};

use serde_json::Value;

use super::client::Answer;
use super::connection::Output;
use super::failure::Failure;
use super::zone::Zone;
use escapement_domain::timestamp::Timestamp;

/// Stands where there is no value.
const NOTHING: &str = "-";

/// Where a command prints.
pub(crate) struct Screen<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) output: Output,
    pub(crate) zone: Zone,
}

impl Screen<'_> {
    /// Prints an answer: for scripts as it is, for people as `show` puts it.
    pub(crate) fn answer(
        &mut self,
        answer: &Answer,
        show: impl FnOnce(&Value, Zone) -> String,
    ) -> Result<(), Failure> {
        match self.output {
            Output::Json => self.line(answer.body.trim_end()),
            Output::Table => {
                let text = show(&answer.json()?, self.zone);
                self.text(&text)
            }
        }
    }

    /// Prints a list: a table, then how to go on if there is more.
    pub(crate) fn list(
        &mut self,
        answer: &Answer,
        show: impl FnOnce(&[Value], Zone) -> String,
    ) -> Result<(), Failure> {
        self.answer(answer, |value, zone| show(items(value), zone))?;
        if self.output == Output::Table
            && let Some(cursor) = answer.json()?["next_cursor"].as_str()
        {
            note(&format!(
                "there is more: go on with --cursor {cursor}, or ask for more at once with --limit"
            ));
        }
        Ok(())
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }

    /// Prints a text that brings its own line breaks.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }
}

/// Says something beside the answer.
pub(crate) fn note(text: &str) {
    // Where standard error cannot be written there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Returns the items of a list's answer.
pub(crate) fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// Returns a field as text, `-` if it is null or not there.
pub(crate) fn field(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => NOTHING.into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Returns a field as text, nothing if it is null, not there, or empty.
pub(crate) fn optional(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::Array(list)) if list.is_empty() => String::new(),
        Some(Value::Object(map)) if map.is_empty() => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Returns a field that holds an instant.
pub(crate) fn instant(value: &Value, pointer: &str) -> Option<Timestamp> {
    Timestamp::parse(value.pointer(pointer)?.as_str()?).ok()
}

/// Returns an instant for a column, `-` if there is none.
pub(crate) fn when(value: &Value, pointer: &str, zone: Zone) -> String {
    instant(value, pointer).map_or_else(|| NOTHING.into(), |instant| zone.show(instant))
}

/// Returns an instant for a sheet, nothing if there is none.
pub(crate) fn exactly_when(value: &Value, pointer: &str, zone: Zone) -> String {
    instant(value, pointer).map_or_else(String::new, |instant| zone.show_exactly(instant))
}

/// Returns an object of texts as `a=b,c=d`.
pub(crate) fn pairs(value: &Value, pointer: &str) -> String {
    let pairs = value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| {
            format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), Into::into))
        })
        .collect();
    pairs.join(",")
}
