//! Reads the fields of an object one by one and collects what is wrong with them, each with its JSON Pointer.
//!
//! Invariant: a field that nobody asked for is a fault, so that what is allowed is exactly what is read. `null` counts as
//! left out.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use escapement_domain::timestamp::{Span, Timestamp};

use super::duration;
use super::nearest::{instead, shown};
use crate::json::{Node, Shape, escaped};

/// Faults of one document that are told; what comes after them is not.
const FAULTS_MAX: usize = 200;
/// What an instant is.
const INSTANT: &str = "an RFC 3339 instant such as 2026-03-01T02:00:00Z";

/// One fault of what a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A JSON Pointer to the field.
    pub pointer: String,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// Every fault that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Fault { pointer: pointer.into(), detail: detail.into() });
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults.
    #[must_use]
    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}

/// One value and where it is.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) node: Node<'a>,
    pub(super) pointer: String,
}

/// The fields of an object that were not read yet.
pub(super) struct Fields<'a> {
    pointer: String,
    entries: BTreeMap<String, Node<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Field<'a> {
    pub(super) fn new(node: Node<'a>, pointer: impl Into<String>) -> Self {
        Self { node, pointer: pointer.into() }
    }

    fn wanted(&self, what: &str, faults: &mut Faults) {
        faults.add(&self.pointer, format!("{what} is expected, not {}", self.node.shape().name()));
    }

    pub(super) fn object(&self, faults: &mut Faults) -> Option<Fields<'a>> {
        let Some(entries) = self.node.entries() else {
            self.wanted("an object", faults);
            return None;
        };
        Some(Fields {
            pointer: self.pointer.clone(),
            entries: entries.into_iter().collect(),
            known: Vec::new(),
        })
    }

    /// The fields of an object whose names are the client's own.
    pub(super) fn entries(&self, faults: &mut Faults) -> Option<Vec<(String, Field<'a>)>> {
        let Some(entries) = self.node.entries() else {
            self.wanted("an object", faults);
            return None;
        };
        let place = |key: &str| format!("{}/{}", self.pointer, escaped(key));
        Some(entries.into_iter().map(|(key, node)| (key.clone(), Field::new(node, place(&key)))).collect())
    }

    pub(super) fn elements(&self, faults: &mut Faults) -> Option<Vec<Field<'a>>> {
        let Some(elements) = self.node.elements() else {
            self.wanted("a list", faults);
            return None;
        };
        let place = |(index, node)| Field::new(node, format!("{}/{index}", self.pointer));
        Some(elements.into_iter().enumerate().map(place).collect())
    }

    pub(super) fn string(&self, faults: &mut Faults) -> Option<String> {
        let string = self.node.string();
        if string.is_none() {
            self.wanted("a string", faults);
        }
        string
    }

    /// A string of bounded length, in bytes, that passes a test; `what` says which strings do.
    pub(super) fn text(
        &self,
        bytes: RangeInclusive<usize>,
        passes: impl FnOnce(&str) -> bool,
        what: &str,
        faults: &mut Faults,
    ) -> Option<String> {
        let text = self.string(faults)?;
        if bytes.contains(&text.len()) && passes(&text) {
            return Some(text);
        }
        let (least, most) = (bytes.start(), bytes.end());
        let length = text.len();
        let detail = if *least == 0 {
            format!("at most {most} bytes{what} are allowed; this has {length}")
        } else {
            format!("{least} to {most} bytes{what} are allowed; this has {length}")
        };
        faults.add(&self.pointer, detail);
        None
    }

    pub(super) fn boolean(&self, faults: &mut Faults) -> Option<bool> {
        match self.node.text() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.wanted("`true` or `false`", faults);
                None
            }
        }
    }

    pub(super) fn integer(&self, allowed: RangeInclusive<u64>, faults: &mut Faults) -> Option<u64> {
        if self.node.shape() != Shape::Number {
            self.wanted("a whole number", faults);
            return None;
        }
        // `5.0` is as whole as `5`; what a float cannot hold exactly must be written as an integer.
        let text = self.node.text();
        let whole = text.strip_suffix(".0").unwrap_or(text).parse::<u64>().ok();
        let found = whole.filter(|number| allowed.contains(number));
        if found.is_none() {
            let detail = format!("{} to {} is allowed, not {}", allowed.start(), allowed.end(), shown(text));
            faults.add(&self.pointer, format!("a whole number from {detail}"));
        }
        found
    }

    /// A number with a fraction, in thousandths.
    pub(super) fn per_mille(&self, allowed: RangeInclusive<u32>, faults: &mut Faults) -> Option<u32> {
        if self.node.shape() != Shape::Number {
            self.wanted("a number", faults);
            return None;
        }
        let text = self.node.text();
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast from a float saturates"
        )]
        let found = number
            .map(|number| (number * 1_000.0).round())
            .filter(|mille| (f64::from(*allowed.start())..=f64::from(*allowed.end())).contains(mille))
            .map(|mille| mille as u32);
        if found.is_none() {
            let bound = |mille: &u32| f64::from(*mille) / 1_000.0;
            let (least, most) = (bound(allowed.start()), bound(allowed.end()));
            faults.add(
                &self.pointer,
                format!("a number from {least} to {most} is allowed, not {}", shown(text)),
            );
        }
        found
    }

    pub(super) fn span(&self, allowed: RangeInclusive<Span>, faults: &mut Faults) -> Option<Span> {
        if self.node.shape() != Shape::Text {
            self.wanted("a duration such as `90s` or `1h30m`", faults);
            return None;
        }
        let text = self.string(faults)?;
        match duration::parse(&text) {
            Ok(span) if allowed.contains(&span) => Some(span),
            Ok(span) => {
                let (least, most) = (allowed.start(), allowed.end());
                faults
                    .add(&self.pointer, format!("a duration from {least} to {most} is allowed, not {span}"));
                None
            }
            Err(detail) => {
                faults.add(&self.pointer, detail);
                None
            }
        }
    }

    pub(super) fn instant(&self, faults: &mut Faults) -> Option<Timestamp> {
        if self.node.shape() != Shape::Text {
            self.wanted(INSTANT, faults);
            return None;
        }
        let text = self.string(faults)?;
        Timestamp::parse(&shown(&text)).map_err(|detail| faults.add(&self.pointer, detail)).ok()
    }

    pub(super) fn choice<T: Copy>(&self, choices: &[(&'static str, T)], faults: &mut Faults) -> Option<T> {
        let text = self.string(faults)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            faults.add(&self.pointer, format!("`{}` is not known; {}", shown(&text), instead(&text, &names)));
        }
        found
    }
}

impl<'a> Fields<'a> {
    /// Takes a field that may be left out.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.push(name);
        let node = self.entries.remove(name)?;
        (node.shape() != Shape::Null).then(|| Field::new(node, format!("{}/{name}", self.pointer)))
    }

    /// Takes a field that must be there.
    pub(super) fn required(&mut self, name: &'static str, faults: &mut Faults) -> Option<Field<'a>> {
        let field = self.take(name);
        if field.is_none() {
            faults.add(format!("{}/{name}", self.pointer), format!("`{name}` is required"));
        }
        field
    }

    /// Takes an instant that must be there.
    pub(super) fn required_instant(&mut self, name: &'static str, faults: &mut Faults) -> Option<Timestamp> {
        let field = self.take(name);
        if field.is_none() {
            let detail = format!("`{name}` is required: {INSTANT}");
            faults.add(format!("{}/{name}", self.pointer), detail);
        }
        field?.instant(faults)
    }

    /// Takes a field and reads it; `None` if it is left out or wrong.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
        read: impl FnOnce(&Field<'a>, &mut Faults) -> Option<T>,
    ) -> Option<T> {
        let field = self.take(name)?;
        read(&field, faults)
    }

    /// Takes fields that may be sent back and mean nothing.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.entries.remove(*name);
        }
    }

    /// Counts every field that was not taken as a fault.
    pub(super) fn finish(self, of: &str, faults: &mut Faults) {
        for name in self.entries.keys() {
            let pointer = format!("{}/{}", self.pointer, escaped(name));
            let allowed = instead(name, &self.known);
            faults.add(pointer, format!("`{}` is not a field of {of}; {allowed}", shown(name)));
        }
    }
}
