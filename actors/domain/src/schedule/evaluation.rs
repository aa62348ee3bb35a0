//! From a zone and local times to instants, through the nights when clocks change.
//!
//! A zone's life is a row of segments with one offset each. Within a segment local time and UTC run side by side,
//! so the next occurrence is a bit search and a subtraction; only where segments meet do the rules of gap and fold
//! decide. Invariant: an answer is later than the question, whatever the clocks do.
//!
//! Absent on purpose: a limit that Debian's cron sets, after which a change of clocks is a correction and not a
//! gap. A day skipped whole (Apia, 30 December 2011) is a gap like any other.

use super::civil::DAY_SECONDS;
use super::cron::Cron;
use super::zone::{OFFSET_BOUND_SECONDS, SETTLED, Segment, Zone};
use crate::task::trigger::{Dst, Fold, Gap};
use crate::timestamp::Timestamp;

/// What happens to local times that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GapRule {
    Skip,
    /// They fire together at the first whole minute after the gap.
    Collapse,
    Shift,
}

/// What happens to local times that exist twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FoldRule {
    First,
    Second,
    Both,
}

/// The two rules of a schedule, with Debian's distinction of wildcard and fixed times resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClockRules {
    gap: GapRule,
    fold: FoldRule,
}

impl ClockRules {
    pub(super) fn new(dst: Dst, wildcard: bool) -> Self {
        let gap = match dst.gap {
            Gap::Cron if wildcard => GapRule::Skip,
            Gap::Cron => GapRule::Collapse,
            Gap::Skip => GapRule::Skip,
            Gap::Shift => GapRule::Shift,
        };
        let fold = match dst.fold {
            Fold::Cron if wildcard => FoldRule::Both,
            Fold::Cron | Fold::First => FoldRule::First,
            Fold::Second => FoldRule::Second,
            Fold::Both => FoldRule::Both,
        };
        Self { gap, fold }
    }
}

/// Every kind of year, by its length and the weekday on which it begins, comes within so many years: 28 in a row hold all
/// of them, unless a leap day among them is skipped.
const EVERY_KIND_OF_YEAR: i64 = 60;

/// Returns the first second after `after` at which `cron` is due in `zone`; `None` if there is none before the year 10000.
pub(super) fn next_after(cron: &Cron, zone: &Zone, rules: ClockRules, after: i64) -> Option<i64> {
    const HORIZON: i64 = Timestamp::MAX.0 / 1_000;
    let mut cursor = after.saturating_add(1).max(0);
    // Once a zone's rules are settled, a year is like any other of its kind: what none of them has never comes.
    let hopeless = cursor.max(SETTLED).saturating_add(EVERY_KIND_OF_YEAR * 366 * DAY_SECONDS);
    while cursor <= HORIZON.min(hopeless) {
        let segment = zone.segment(cursor);
        let upcoming = cron.at_or_after(cursor + segment.offset);
        let found = first_in(cron, &segment, rules, cursor, upcoming);
        if let Some(found) = found {
            return (found <= HORIZON).then_some(found);
        }
        cursor = skip_to(&segment, cursor, upcoming);
    }
    None
}

/// Returns the first occurrence at or after `cursor` that `segment` holds. `upcoming` is the first local time at or
/// after the cursor's, gaps and folds aside.
fn first_in(
    cron: &Cron,
    segment: &Segment,
    rules: ClockRules,
    cursor: i64,
    upcoming: Option<i64>,
) -> Option<i64> {
    let offset = segment.offset;
    let regular = first_regular(cron, segment, rules.fold, cursor, upcoming);
    let moved = match rules.gap {
        GapRule::Collapse if segment.offset_before < offset => collapsed(cron, segment, cursor),
        GapRule::Shift if segment.offset_before < offset => shifted(cron, segment, cursor),
        _ => None,
    };
    match (regular, moved) {
        (Some(regular), Some(moved)) => Some(regular.min(moved)),
        (found, None) | (None, found) => found,
    }
}

fn first_regular(
    cron: &Cron,
    segment: &Segment,
    fold: FoldRule,
    cursor: i64,
    upcoming: Option<i64>,
) -> Option<i64> {
    let from = cursor + segment.offset;
    let mut until = segment.end + segment.offset;
    let mut local = upcoming?;
    match fold {
        FoldRule::First => {
            // The fold behind this segment ends where its first pass did.
            let fresh = segment.start + segment.offset_before;
            if from < fresh && local < fresh {
                local = cron.at_or_after(fresh)?;
            }
        }
        FoldRule::Second => until = until.min(segment.end + segment.offset_after),
        FoldRule::Both => {}
    }
    (local < until).then(|| local - segment.offset)
}

fn collapsed(cron: &Cron, segment: &Segment, cursor: i64) -> Option<i64> {
    let resumed = segment.start + segment.offset;
    let minute = resumed + (-resumed).rem_euclid(60) - segment.offset;
    if minute < cursor {
        return None;
    }
    let missing = cron.at_or_after(segment.start + segment.offset_before)?;
    (missing < resumed).then_some(minute)
}

fn shifted(cron: &Cron, segment: &Segment, cursor: i64) -> Option<i64> {
    let resumed = segment.start + segment.offset;
    let missing_from = cursor.max(segment.start) + segment.offset_before;
    if missing_from >= resumed {
        return None;
    }
    let missing = cron.at_or_after(missing_from)?;
    (missing < resumed).then_some(missing - segment.offset_before)
}

/// Returns where to look next when a segment holds nothing: its end, or a later instant before which no local time
/// can match. Local time runs at most [`OFFSET_BOUND_SECONDS`] from UTC, and within three times that of the cursor
/// a fold could still bring back local times before the cursor's.
fn skip_to(segment: &Segment, cursor: i64, upcoming: Option<i64>) -> i64 {
    const CLEARANCE: i64 = 3 * OFFSET_BOUND_SECONDS;
    let far = upcoming.map_or(i64::MAX, |local| local - CLEARANCE);
    if segment.end - cursor >= CLEARANCE { segment.end.max(far) } else { segment.end }
}
