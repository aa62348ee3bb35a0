//! JSON as rules need it: looked into by JSON Pointer (RFC 6901), compared, and put together again.
//!
//! Numbers stay the text that they were written as, so that nothing here computes with floats and nothing is rounded.
//! Invariant: a value comes from a text, and [`Json`] displays as one that says the same, without white space.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

/// How deep lists and objects may be nested.
const DEPTH_MAX: usize = 128;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// Fields by their names.
    Object(BTreeMap<String, Json>),
    /// Elements.
    List(Vec<Json>),
    /// A string.
    Text(String),
    /// A number, `true`, `false` or `null`, as it was written.
    Plain(String),
}

/// A value cannot be put where a pointer leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// The pointer is none.
    #[error("it is not a JSON Pointer")]
    NoPointer,
    /// It leads through a string, a number, a boolean or `null`.
    #[error("it leads through a value that is neither an object nor a list")]
    Scalar,
    /// It leads to an element of a list that is not there.
    #[error("it leads to an element that the list does not have")]
    NoElement,
}

impl Json {
    /// Reads a text; `None` if it is not one JSON value, or is nested too deep.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(serde_json::from_str(text).ok()?, DEPTH_MAX)
    }

    /// What is absent.
    #[must_use]
    pub fn null() -> Self {
        Self::Plain("null".into())
    }

    fn read(raw: &RawValue, depth: usize) -> Option<Self> {
        let text = raw.get();
        Some(match text.as_bytes().first()? {
            b'{' => {
                let deeper = depth.checked_sub(1)?;
                let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
                let read = |(name, value)| Some((name, Self::read(value, deeper)?));
                Self::Object(fields.into_iter().map(read).collect::<Option<_>>()?)
            }
            b'[' => {
                let deeper = depth.checked_sub(1)?;
                let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                Self::List(
                    elements.into_iter().map(|value| Self::read(value, deeper)).collect::<Option<_>>()?,
                )
            }
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            _ => Self::Plain(text.to_owned()),
        })
    }

    /// The value to which a pointer leads.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Self> {
        steps(pointer)?.iter().try_fold(self, |value, step| match value {
            Self::Object(fields) => fields.get(step),
            Self::List(elements) => elements.get(index(step)?),
            Self::Text(_) | Self::Plain(_) => None,
        })
    }

    /// Puts a value where a pointer leads. Objects that are missing on the way come to be; elements of lists do not.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn put(&mut self, pointer: &str, value: Self) -> Result<(), NoPlace> {
        let mut place = self;
        for step in steps(pointer).ok_or(NoPlace::NoPointer)? {
            place = match place {
                Self::Object(fields) => fields.entry(step).or_insert_with(|| Self::Object(BTreeMap::new())),
                Self::List(elements) => {
                    index(&step).and_then(|index| elements.get_mut(index)).ok_or(NoPlace::NoElement)?
                }
                Self::Text(_) | Self::Plain(_) => return Err(NoPlace::Scalar),
            };
        }
        *place = value;
        Ok(())
    }

    /// Whether two values are equal as JSON: numbers by what they are worth, however they are written.
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(one), Self::Object(another)) => {
                one.len() == another.len()
                    && one
                        .iter()
                        .zip(another)
                        .all(|((name, value), (other_name, other))| name == other_name && value.equals(other))
            }
            (Self::List(one), Self::List(another)) => {
                one.len() == another.len()
                    && one.iter().zip(another).all(|(value, other)| value.equals(other))
            }
            (Self::Text(one), Self::Text(another)) => one == another,
            (Self::Plain(one), Self::Plain(another)) => {
                one == another || worth(one).is_some_and(|worth_of| Some(worth_of) == worth(another))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(fields) => {
                formatter.write_str("{")?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(formatter, "{comma}{}:{value}", quoted(name))?;
                }
                formatter.write_str("}")
            }
            Self::List(elements) => {
                formatter.write_str("[")?;
                for (at, value) in elements.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(formatter, "{comma}{value}")?;
                }
                formatter.write_str("]")
            }
            Self::Text(text) => formatter.write_str(&quoted(text)),
            Self::Plain(text) => formatter.write_str(text),
        }
    }
}

/// A string as JSON.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The steps of a JSON Pointer; `None` if it is none.
#[must_use]
pub fn steps(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    pointer.strip_prefix('/')?.split('/').map(unescaped).collect()
}

fn unescaped(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        match part.as_bytes().first()? {
            b'0' => text.push('~'),
            b'1' => text.push('/'),
            _ => return None,
        }
        text.push_str(&part[1..]);
    }
    Some(text)
}

/// The place in a list that a step names.
fn index(step: &str) -> Option<usize> {
    let plain = step == "0" || !step.starts_with(['0', '+']);
    step.parse().ok().filter(|_| plain)
}

/// What a number is worth: its sign, its digits without the zeros around them, and the power of ten of the last one.
fn worth(number: &str) -> Option<(bool, String, i64)> {
    let (negative, size) = number.strip_prefix('-').map_or((false, number), |size| (true, size));
    let (digits, exponent) = match size.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i64>().ok()?),
        None => (size, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    let kept = significant.trim_end_matches('0');
    if kept.is_empty() {
        return Some((false, String::new(), 0));
    }
    let shift = i64::try_from(significant.len() - kept.len()).ok()? - i64::try_from(fraction.len()).ok()?;
    Some((negative, kept.to_owned(), exponent.checked_add(shift)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).expect("JSON")
    }

    #[test]
    fn a_pointer_leads_where_rfc_6901_says() {
        let document = json(r#"{"foo":["bar","baz"],"":0,"a/b":1,"m~n":8," ":7,"~1":9}"#);
        let at = |pointer| document.at(pointer).map(ToString::to_string);
        assert_eq!(at("").as_deref(), Some(&*document.to_string()));
        for (pointer, value) in
            [("/foo/0", "\"bar\""), ("/", "0"), ("/a~1b", "1"), ("/m~0n", "8"), ("/ ", "7"), ("/~01", "9")]
        {
            assert_eq!(at(pointer).as_deref(), Some(value), "{pointer}");
        }
        for nowhere in ["/foo/2", "/foo/-", "/foo/00", "/foo/+1", "/foo/0/x", "/bar", "foo", "/~2", "/~"] {
            assert_eq!(at(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn numbers_are_equal_by_what_they_are_worth() {
        for (one, other) in
            [("1", "1.0"), ("100", "1e2"), ("-0.50", "-5E-1"), ("0", "-0.0e9"), ("1e+2", "100")]
        {
            assert!(json(one).equals(&json(other)), "{one} {other}");
        }
        for (one, other) in [
            ("1", "-1"),
            ("1", "\"1\""),
            ("1", "10"),
            ("0", "false"),
            ("9007199254740993", "9007199254740992"),
        ] {
            assert!(!json(one).equals(&json(other)), "{one} {other}");
        }
    }

    #[test]
    fn lists_and_objects_are_equal_by_what_is_in_them() {
        assert!(
            json(r#"{"a":[1,{"b":null}],"c":"\u0041"}"#).equals(&json(r#"{"c":"A","a":[1.0,{"b":null}]}"#))
        );
        assert!(!json("[1,2]").equals(&json("[2,1]")));
        assert!(!json(r#"{"a":1}"#).equals(&json(r#"{"a":1,"b":1}"#)));
    }

    #[test]
    fn what_is_put_makes_its_way_through_objects_alone() {
        let mut body = json(r#"{"list":[1,2],"text":"x"}"#);
        assert_eq!(body.put("/new/deep", json("3.50")), Ok(()));
        assert_eq!(body.put("/list/1", json("[]")), Ok(()));
        assert_eq!(body.to_string(), r#"{"list":[1,[]],"new":{"deep":3.50},"text":"x"}"#);
        assert_eq!(body.put("/list/2", Json::null()), Err(NoPlace::NoElement));
        assert_eq!(body.put("/list/-", Json::null()), Err(NoPlace::NoElement));
        assert_eq!(body.put("/text/x", Json::null()), Err(NoPlace::Scalar));
        assert_eq!(body.put("text", Json::null()), Err(NoPlace::NoPointer));
        assert_eq!(body.put("", json("true")), Ok(()));
        assert_eq!(body.to_string(), "true");
    }

    #[test]
    fn a_text_that_is_nested_too_deep_is_not_read() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(&nested(DEPTH_MAX)).is_some());
        assert!(Json::parse(&nested(DEPTH_MAX + 1)).is_none());
    }
}
