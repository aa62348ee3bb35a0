//! The clock on the wall of whoever wrote a trigger: its face at an instant, and where it was changed.
//!
//! Absent on purpose: evaluation. What is said here is for people; instants are decided in UTC, elsewhere.

use chrono::{DateTime, Datelike as _, SecondsFormat, TimeZone as _};
use chrono_tz::Tz;

use super::expression;
use super::zone::Zone;
use crate::task::trigger::Trigger;
use crate::timestamp::{Span, Timestamp};

/// The version of the zone data that this program was built with, such as `2025b`.
#[must_use]
#[inline(never)] // It stays in one place of the program, so that a test can dress a copy in other zone data.
pub fn zone_data_version() -> &'static str {
    chrono_tz::IANA_TZDB_VERSION
}

/// The clock of one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalClock(Tz);

impl LocalClock {
    /// The clock by which a trigger counts: that of its zone, or of the zone that its expression names; UTC for a trigger
    /// without local time.
    #[must_use]
    pub fn of(trigger: &Trigger) -> Self {
        let Trigger::Cron { expression, timezone, .. } = trigger else { return Self(Tz::UTC) };
        let prefix = expression::parse(expression, &|_, _| 0).ok().and_then(|parsed| parsed.zone);
        Self(prefix.or_else(|| timezone.parse().ok()).unwrap_or(Tz::UTC))
    }

    /// The zone's IANA name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Writes an instant as this clock shows it: RFC 3339 with the zone's offset.
    #[must_use]
    pub fn show(self, instant: Timestamp) -> String {
        self.local(instant)
            .map_or_else(|| instant.to_string(), |local| local.to_rfc3339_opts(SecondsFormat::Millis, false))
    }

    /// Says when and how the clock was changed last between two instants, such as `clocks forward 1h on Mar 29 at 02:00`,
    /// by the old clock; nothing if it shows the same offset at both.
    #[must_use]
    pub fn change_between(self, before: Timestamp, after: Timestamp) -> Option<String> {
        let second = |instant: Timestamp| instant.0.div_euclid(1_000);
        let zone = Zone::of(self.0);
        let (first, last) = (zone.segment(second(before)), zone.segment(second(after)));
        if first.offset == last.offset || after <= before {
            return None;
        }
        let change = last.offset - last.offset_before;
        let direction = if change > 0 { "forward" } else { "back" };
        let length = Span::seconds(change.unsigned_abs());
        let old_face = DateTime::from_timestamp(last.start + last.offset_before, 0)?;
        Some(format!("clocks {direction} {length} on {}", old_face.format("%b %-d at %H:%M")))
    }

    /// Returns the day of the week that this clock shows, such as `Sun`.
    #[must_use]
    pub fn weekday(self, instant: Timestamp) -> &'static str {
        const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let day = self.local(instant).map(|local| local.weekday().num_days_from_monday() as usize);
        day.and_then(|day| DAYS.get(day)).copied().unwrap_or_default()
    }

    fn local(self, instant: Timestamp) -> Option<DateTime<Tz>> {
        self.0.timestamp_millis_opt(instant.0).single()
    }
}

/// An instant as people are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// The instant.
    pub at: Timestamp,
    /// The local time: RFC 3339 with the zone's offset.
    pub local: String,
    /// How the clock was changed since the instant before, if it was.
    pub note: Option<String>,
}

impl Occasion {
    /// Puts instants, in order, on a clock; the first is compared with `since`.
    pub fn row(
        clock: LocalClock,
        since: Timestamp,
        instants: impl IntoIterator<Item = Timestamp>,
    ) -> Vec<Self> {
        let mut before = since;
        let show = |at| {
            let note = clock.change_between(std::mem::replace(&mut before, at), at);
            Self { at, local: clock.show(at), note }
        };
        instants.into_iter().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::trigger::Dst;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("an instant")
    }

    #[test]
    fn the_zone_of_an_expression_goes_before_that_of_its_trigger() {
        let clock = |expression: &str, timezone: &str| {
            let (expression, timezone) = (expression.into(), timezone.into());
            LocalClock::of(&Trigger::Cron { expression, timezone, dst: Dst::default() }).name()
        };
        assert_eq!(clock("0 2 * * *", "Europe/Berlin"), "Europe/Berlin");
        assert_eq!(clock("CRON_TZ=Asia/Tokyo 0 2 * * *", "UTC"), "Asia/Tokyo");
        assert_eq!(clock("TZ=Asia/Tokyo @daily", "UTC"), "Asia/Tokyo");
        assert_eq!(LocalClock::of(&Trigger::Manual).name(), "UTC");
    }

    #[test]
    fn a_change_is_told_by_the_old_clock() {
        let berlin = LocalClock(Tz::Europe__Berlin);
        let noted = |from: &str, to: &str| berlin.change_between(at(from), at(to));
        let forward = "clocks forward 1h on Mar 29 at 02:00";
        assert_eq!(noted("2026-03-28T01:00:00Z", "2026-03-29T01:00:00Z").as_deref(), Some(forward));
        assert_eq!(noted("2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"), None);
        let back = "clocks back 1h on Oct 25 at 03:00";
        assert_eq!(noted("2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z").as_deref(), Some(back));
        let lord_howe = LocalClock(Tz::Australia__Lord_Howe);
        let half = lord_howe.change_between(at("2026-04-04T00:00:00Z"), at("2026-04-05T00:00:00Z"));
        assert_eq!(half.as_deref(), Some("clocks back 30m on Apr 5 at 02:00"));
        let apia = LocalClock(Tz::Pacific__Apia);
        let day = apia.change_between(at("2011-12-29T12:00:00Z"), at("2011-12-31T12:00:00Z"));
        assert_eq!(day.as_deref(), Some("clocks forward 1d on Dec 30 at 00:00"));
    }

    #[test]
    fn an_instant_is_shown_with_the_offset() {
        let (clock, instant) = (LocalClock(Tz::Europe__Berlin), at("2026-07-01T12:00:00.250Z"));
        assert_eq!(clock.show(instant), "2026-07-01T14:00:00.250+02:00");
        assert_eq!(clock.weekday(instant), "Wed");
    }

    #[test]
    fn a_row_notes_a_change_once() {
        let days = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"].map(at);
        let row = Occasion::row(LocalClock(Tz::Europe__Berlin), days[0], days);
        let notes: Vec<bool> = row.iter().map(|occasion| occasion.note.is_some()).collect();
        assert_eq!(notes, [false, true, false]);
    }
}
