//! Instants and spans in whole milliseconds, and their text forms.
//!
//! A [`Timestamp`] is always an argument here; nothing in this crate reads a clock.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// An instant in UTC: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The earliest instant that a schedule may name: 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// The latest instant that a schedule may name: 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Returns this instant moved later by `span`, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add_unsigned(span.0).min(Self::MAX.0))
    }

    /// Returns this instant moved earlier by `span`, at least [`Timestamp::MIN`].
    #[must_use]
    pub fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub_unsigned(span.0).max(Self::MIN.0))
    }

    /// Returns how long after `earlier` this instant is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the instant as a chrono value; `None` outside chrono's range.
    #[must_use]
    pub fn to_utc(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.0)
    }

    /// Parses RFC 3339 with any offset; precision beyond a millisecond is cut off.
    ///
    /// # Errors
    /// A text for people when `text` is not RFC 3339 or lies outside [`Timestamp::MIN`]..=[`Timestamp::MAX`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let instant = DateTime::parse_from_rfc3339(text)
            .map_err(|_| format!("`{text}` is not an RFC 3339 instant such as 2026-03-01T02:00:00Z"))?;
        let instant = Self(instant.timestamp_millis());
        if (Self::MIN..=Self::MAX).contains(&instant) {
            Ok(instant)
        } else {
            Err(format!("`{text}` is outside the years 1970 to 9999"))
        }
    }
}

/// What a leader's clock showed, and what it knew of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The instant.
    pub at: Timestamp,
    /// Milliseconds by which most voters' clocks were behind this one, as far as could be told; below zero if they were
    /// ahead of it, and zero where nothing of the kind is known.
    pub ahead_ms: i32,
}

impl From<Timestamp> for Stamp {
    /// An instant by a clock of which nothing is known.
    fn from(at: Timestamp) -> Self {
        Self { at, ahead_ms: 0 }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_utc() {
            Some(instant) => formatter.write_str(&instant.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(formatter, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A length of time in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Span(pub u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Returns a span of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// Returns a span of whole minutes.
    #[must_use]
    pub const fn minutes(minutes: u64) -> Self {
        Self::seconds(minutes * 60)
    }

    /// Returns a span of whole hours.
    #[must_use]
    pub const fn hours(hours: u64) -> Self {
        Self::minutes(hours * 60)
    }
}

impl From<Span> for std::time::Duration {
    fn from(span: Span) -> Self {
        Self::from_millis(span.0)
    }
}

impl fmt::Display for Span {
    /// Writes the shortest form that the API reads back, such as `1h30m`, `90s` written as `1m30s`, or `250ms`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return formatter.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if rest >= millis {
                write!(formatter, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_with_milliseconds_in_utc() {
        let instant = Timestamp::parse("2026-03-01T02:00:00.1239+01:00").expect("valid");
        assert_eq!(instant.to_string(), "2026-03-01T01:00:00.123Z");
    }

    #[test]
    fn a_span_is_written_in_units_that_people_use() {
        assert_eq!(Span(90_000).to_string(), "1m30s");
        assert_eq!(Span(5_400_000).to_string(), "1h30m");
        assert_eq!(Span(0).to_string(), "0s");
        assert_eq!(Span(1_250).to_string(), "1s250ms");
    }

    #[test]
    fn an_instant_outside_the_calendar_is_refused() {
        assert!(Timestamp::parse("1969-12-31T23:59:59Z").is_err());
        assert!(Timestamp::parse("tomorrow").is_err());
    }
}
