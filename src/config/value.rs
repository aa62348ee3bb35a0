//! One value of the configuration, and where it came from.

use toml::Spanned;
use toml::de::DeValue;

use super::fault::Place;

/// A value as the file or a variable gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Value>),
    /// A kind that no key takes.
    Other,
}

/// A value with its place and its text there.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) shown: String,
    pub(super) place: Place,
}

impl Value {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).map_or(Self::Other, Self::Integer)
            }
            DeValue::Boolean(flag) => Self::Boolean(*flag),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::of(item.get_ref())).collect()),
            _ => Self::Other,
        }
    }
}

impl Entry {
    pub(super) fn in_file(value: &Spanned<DeValue<'_>>, source: &str, line: usize) -> Self {
        let shown =
            source.get(value.span()).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { value: Value::of(value.get_ref()), shown, place: Place::Line(line) }
    }

    /// Reads a variable as TOML, and as plain text if it is none.
    pub(super) fn in_variable(name: &str, text: &str) -> Self {
        let value = DeValue::parse(text)
            .map_or_else(|_| Value::Text(text.to_owned()), |value| Value::of(value.get_ref()));
        Self { value, shown: text.to_owned(), place: Place::Variable(name.to_owned()) }
    }

    /// Returns the text. A variable that looks like something else is still a text where a text is wanted.
    pub(super) fn text(&self) -> Option<&str> {
        match (&self.value, &self.place) {
            (Value::Text(text), _) => Some(text),
            (_, Place::Variable(_)) => Some(&self.shown),
            _ => None,
        }
    }

    pub(super) fn number<T: TryFrom<i64>>(&self) -> Option<T> {
        match self.value {
            Value::Integer(number) => T::try_from(number).ok(),
            _ => None,
        }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        if let Value::Boolean(flag) = self.value { Some(flag) } else { None }
    }

    /// Returns the texts of a list.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        let Value::List(items) = &self.value else { return None };
        items
            .iter()
            .map(|item| if let Value::Text(text) = item { Some(text.as_str()) } else { None })
            .collect()
    }
}
