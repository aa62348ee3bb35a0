//! Where a zone's offset from UTC changes, as a table that a binary search answers from.
//!
//! chrono-tz keeps its transitions to itself, so they are sampled once for each zone that is used, when the first
//! schedule in it is compiled. Its data ends with 2099; a zone that still changes its clocks then is taken to do so
//! on the same weekdays of the same months for ever, which 400 years of entries and the calendar's cycle express.
//!
//! Invariant: neighbouring segments differ in offset, and every instant from 1970 on lies in exactly one segment.
//! Absent on purpose: names of offsets, and whether a change is "summer time": only the clock's face matters.

use std::sync::OnceLock;

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::civil::{CYCLE_DAYS, DAY_SECONDS, date_of, day_number, is_leap, weekday_of};

/// The distance between two samples. No zone has changed its clocks and changed them back within it since 1970.
const SAMPLE_SECONDS: i64 = 6 * DAY_SECONDS;
/// The first year that chrono-tz says nothing about.
const DATA_END_YEAR: i64 = 2100;
/// From this instant on a year's changes of clocks follow from its length and the weekday on which it begins.
pub(super) const SETTLED: i64 = day_number(DATA_END_YEAR, 1, 1) * DAY_SECONDS;
/// The first of the years that stand for all later ones: the rules of every zone are settled by then, and common
/// years of all seven kinds follow.
const MODEL_YEAR: i64 = 2089;
/// Instants from the start of this year on are looked up a whole number of cycles earlier.
const CYCLE_END_YEAR: i64 = DATA_END_YEAR + 401;
const CYCLE_SECONDS: i64 = CYCLE_DAYS * DAY_SECONDS;
/// Before every instant that can be asked for, and far from overflow.
const DISTANT_PAST: i64 = -1_000_000_000_000;
/// After every instant that can be asked for, and far from overflow.
const DISTANT_FUTURE: i64 = 1_000_000_000_000;

/// The longest that local time can be ahead of or behind UTC, with room to spare.
pub(super) const OFFSET_BOUND_SECONDS: i64 = 16 * 3_600;

/// A stretch of time through which a zone's offset stays the same. Instants are seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The first instant.
    pub(super) start: i64,
    /// The first instant after it.
    pub(super) end: i64,
    /// Seconds to add to UTC for local time.
    pub(super) offset: i64,
    /// The offset before `start`; the same as `offset` if nothing is known to come before.
    pub(super) offset_before: i64,
    /// The offset from `end` on; the same as `offset` if nothing is known to follow.
    pub(super) offset_after: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transition {
    at: i64,
    offset: i32,
}

/// The offsets of one zone.
#[derive(Debug)]
pub(super) struct Zone {
    initial: i32,
    transitions: Box<[Transition]>,
    cyclic: bool,
}

impl Zone {
    /// Returns the table of a zone, made on the first use and kept for the life of the process.
    pub(super) fn of(tz: Tz) -> &'static Self {
        static ZONES: [OnceLock<Zone>; TZ_VARIANTS.len()] = [const { OnceLock::new() }; TZ_VARIANTS.len()];
        ZONES[tz as usize].get_or_init(|| Self::sample(tz))
    }

    fn sample(tz: Tz) -> Self {
        let initial = offset_at(tz, 0);
        let mut transitions = Vec::new();
        let (mut known, mut offset) = (0, initial);
        while known < SETTLED {
            let probe = (known + SAMPLE_SECONDS).min(SETTLED);
            while offset_at(tz, probe) != offset {
                let transition = first_change(tz, known, probe, offset);
                offset = transition.offset;
                known = transition.at;
                transitions.push(transition);
            }
            known = probe;
        }
        let model_start = day_number(MODEL_YEAR, 1, 1) * DAY_SECONDS;
        let model: Vec<Transition> =
            transitions.iter().filter(|change| change.at >= model_start).copied().collect();
        for year in DATA_END_YEAR..=CYCLE_END_YEAR {
            repeat_model(&model, year, &mut transitions);
        }
        transitions.dedup_by_key(|change| change.offset);
        Self { initial, transitions: transitions.into_boxed_slice(), cyclic: !model.is_empty() }
    }

    /// Returns the segment that holds an instant.
    pub(super) fn segment(&self, instant: i64) -> Segment {
        const CYCLE_END: i64 = day_number(CYCLE_END_YEAR, 1, 1) * DAY_SECONDS;
        if self.cyclic && instant >= CYCLE_END {
            let shift = ((instant - CYCLE_END) / CYCLE_SECONDS + 1) * CYCLE_SECONDS;
            let segment = self.segment_in_table(instant - shift);
            return Segment { start: segment.start + shift, end: segment.end + shift, ..segment };
        }
        self.segment_in_table(instant)
    }

    fn segment_in_table(&self, instant: i64) -> Segment {
        let index = self.transitions.partition_point(|change| change.at <= instant);
        let offset_from = |count: usize| match count.checked_sub(1) {
            Some(last) => self.transitions[last].offset.into(),
            None => self.initial.into(),
        };
        let offset = offset_from(index);
        Segment {
            start: index.checked_sub(1).map_or(DISTANT_PAST, |last| self.transitions[last].at),
            end: self.transitions.get(index).map_or(DISTANT_FUTURE, |change| change.at),
            offset,
            offset_before: offset_from(index.saturating_sub(1)),
            offset_after: self.transitions.get(index).map_or(offset, |change| change.offset.into()),
        }
    }
}

/// Appends what the model years say about `year`: January and February from a year that began on the same weekday,
/// the rest from one whose March did, so that "the last Sunday of March" stays one.
fn repeat_model(model: &[Transition], year: i64, transitions: &mut Vec<Transition>) {
    for (months, anchor) in [(1..=2, 1), (3..=12, 3)] {
        let weekday = weekday_of(day_number(year, anchor, 1));
        let alike = (MODEL_YEAR..DATA_END_YEAR).find(|&candidate| {
            !is_leap(candidate) && weekday_of(day_number(candidate, anchor, 1)) == weekday
        });
        let Some(alike) = alike else { continue };
        let shift = (day_number(year, anchor, 1) - day_number(alike, anchor, 1)) * DAY_SECONDS;
        transitions.extend(model.iter().filter_map(|change| {
            let (change_year, month, _) = date_of(change.at.div_euclid(DAY_SECONDS));
            (change_year == alike && months.contains(&month))
                .then_some(Transition { at: change.at + shift, offset: change.offset })
        }));
    }
}

/// Finds the change between `known`, where `offset` holds, and `probe`, where another does.
fn first_change(tz: Tz, mut known: i64, mut probe: i64, offset: i32) -> Transition {
    while probe - known > 1 {
        let middle = known + (probe - known) / 2;
        if offset_at(tz, middle) == offset {
            known = middle;
        } else {
            probe = middle;
        }
    }
    Transition { at: probe, offset: offset_at(tz, probe) }
}

fn offset_at(tz: Tz, instant: i64) -> i32 {
    let utc = DateTime::from_timestamp(instant, 0).unwrap_or_default().naive_utc();
    tz.offset_from_utc_datetime(&utc).fix().local_minus_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(year: i64, month: u32, day: u32, hour: i64) -> i64 {
        day_number(year, month, day) * DAY_SECONDS + hour * 3_600
    }

    #[test]
    fn every_zone_agrees_with_chrono_tz_twice_a_day() {
        for tz in TZ_VARIANTS {
            let zone = Zone::of(tz);
            let mut now = 0;
            let mut segment = zone.segment(now);
            while now < instant(2045, 1, 1, 0) {
                if now >= segment.end {
                    segment = zone.segment(now);
                }
                assert_eq!(i64::from(offset_at(tz, now)), segment.offset, "{tz} at {now}");
                now += DAY_SECONDS / 2;
            }
        }
    }

    #[test]
    fn segments_meet_without_a_hole_and_differ() {
        for tz in
            [Tz::Europe__Berlin, Tz::Africa__Casablanca, Tz::Australia__Lord_Howe, Tz::Asia__Gaza, Tz::UTC]
        {
            let mut segment = Zone::of(tz).segment(0);
            while segment.end < instant(3_000, 1, 1, 0) {
                let next = Zone::of(tz).segment(segment.end);
                assert_eq!(segment.end, next.start);
                assert_eq!(segment.offset, next.offset_before);
                assert_eq!(segment.offset_after, next.offset);
                assert_ne!(segment.offset, next.offset);
                segment = next;
            }
        }
    }

    #[test]
    fn berlin_changes_its_clocks_on_last_sundays_for_ever() {
        let zone = Zone::of(Tz::Europe__Berlin);
        for year in [2030, 2099, 2100, 2104, 2399, 2400, 2500, 2501, 2502, 2804, 9_998] {
            let summer = zone.segment(instant(year, 7, 1, 0));
            for (at, month) in [(summer.start, 3), (summer.end, 10)] {
                let (_, changed, day) = date_of(at.div_euclid(DAY_SECONDS));
                assert_eq!((changed, weekday_of(at.div_euclid(DAY_SECONDS))), (month, 0), "{year}");
                assert!(day > 24, "{year}");
                assert_eq!(at.rem_euclid(DAY_SECONDS), 3_600, "{year}");
            }
            assert_eq!(summer.offset, 7_200);
        }
    }

    #[test]
    fn morocco_keeps_the_offset_with_which_its_predictions_end() {
        let zone = Zone::of(Tz::Africa__Casablanca);
        assert_eq!(zone.segment(instant(2150, 6, 1, 0)).end, DISTANT_FUTURE);
    }
}
