//! Counts of a tenant's executions by how they stand, and how late its fires were lately.
//!
//! Lateness is counted in buckets that grow with the value: exact below 16 ms, then eight to each doubling. The window is the
//! last hour, by the stamps of the records and minute by minute, so that the same records give the same counts.

use std::collections::BTreeMap;

use escapement_domain::codec::{self, CodecError};
use escapement_domain::execution::state::Status;
use escapement_domain::timestamp::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// Minutes of fires whose lateness is kept.
const WINDOW_MINUTES: i64 = 60;
const MINUTE_MILLIS: i64 = 60_000;
/// Below this many milliseconds each value has a bucket of its own.
const EXACT_BELOW: u64 = 16;
/// Buckets for each doubling above it, as a power of two.
const DOUBLING_BITS: u32 = 3;
/// Bytes of one tenant's statistics: every bucket in every minute.
const BYTES_MAX: usize = 1024 * 1024;

/// The statistics of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    counts: BTreeMap<Status, u64>,
    fires: u64,
    missed: u64,
    minutes: BTreeMap<i64, BTreeMap<u16, u32>>,
}

impl Statistics {
    /// How many executions stand so. Those that retention removed are counted still.
    #[must_use]
    pub fn count(&self, status: Status) -> u64 {
        self.counts.get(&status).copied().unwrap_or(0)
    }

    /// How many occurrences became executions, ever.
    #[must_use]
    pub fn fires(&self) -> u64 {
        self.fires
    }

    /// How many instants were missed, ever.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// How many fires by schedule there were in the window.
    #[must_use]
    pub fn recent_fires(&self) -> u64 {
        self.minutes.values().flat_map(BTreeMap::values).map(|count| u64::from(*count)).sum()
    }

    /// The lateness that `per_mille` of a thousand fires of the window did not exceed, up to an eighth of it too high;
    /// none without fires.
    #[must_use]
    pub fn lateness(&self, per_mille: u64) -> Option<Span> {
        quantile([self], per_mille)
    }

    /// Adds what another tenant counted, for a view over all of them.
    pub fn add(&mut self, other: &Self) {
        for (status, count) in &other.counts {
            *self.counts.entry(*status).or_default() += count;
        }
        self.fires += other.fires;
        self.missed += other.missed;
        for (minute, buckets) in &other.minutes {
            let minute = self.minutes.entry(*minute).or_default();
            buckets.iter().for_each(|(bucket, count)| *minute.entry(*bucket).or_default() += count);
        }
        self.forget();
    }

    pub(super) fn moved(&mut self, before: Option<Status>, after: Status) {
        if let Some(before) = before {
            let count = self.counts.entry(before).or_default();
            *count = count.saturating_sub(1);
        }
        *self.counts.entry(after).or_default() += 1;
    }

    pub(super) fn fired(&mut self) {
        self.fires += 1;
    }

    pub(super) fn fired_late(&mut self, at: Timestamp, lateness: Span) {
        let minute = self.minutes.entry(at.0.div_euclid(MINUTE_MILLIS)).or_default();
        let count = minute.entry(bucket_of(lateness.0)).or_default();
        *count = count.saturating_add(1);
        self.forget();
    }

    pub(super) fn passed_by(&mut self, instants: u32) {
        self.missed += u64::from(instants);
    }

    fn forget(&mut self) {
        let Some((latest, _)) = self.minutes.last_key_value() else { return };
        let oldest = *latest - WINDOW_MINUTES;
        while let Some(first) = self.minutes.first_entry().filter(|first| *first.key() <= oldest) {
            first.remove();
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, BYTES_MAX>("statistics", bytes)
    }
}

fn quantile<'a>(all: impl IntoIterator<Item = &'a Statistics>, per_mille: u64) -> Option<Span> {
    let mut merged: BTreeMap<u16, u64> = BTreeMap::new();
    for minute in all.into_iter().flat_map(|one| one.minutes.values()) {
        minute.iter().for_each(|(bucket, count)| *merged.entry(*bucket).or_default() += u64::from(*count));
    }
    let total: u64 = merged.values().sum();
    let wanted = (total * per_mille.min(1_000)).div_ceil(1_000).max(1);
    let mut passed = 0;
    for (bucket, count) in merged {
        passed += count;
        if passed >= wanted {
            return Some(Span(top_of(bucket)));
        }
    }
    None
}

fn bucket_of(millis: u64) -> u16 {
    if millis < EXACT_BELOW {
        return millis as u16;
    }
    let doubling = millis.ilog2() - EXACT_BELOW.ilog2();
    let within = (millis >> (millis.ilog2() - DOUBLING_BITS)) & ((1 << DOUBLING_BITS) - 1);
    // At most 60 doublings of 8 buckets each.
    EXACT_BELOW as u16 + (doubling << DOUBLING_BITS) as u16 + within as u16
}

/// The greatest value of a bucket.
fn top_of(bucket: u16) -> u64 {
    let Some(above) = u64::from(bucket).checked_sub(EXACT_BELOW) else { return u64::from(bucket) };
    let doubling = (above >> DOUBLING_BITS) as u32 + EXACT_BELOW.ilog2();
    let within = above & ((1 << DOUBLING_BITS) - 1);
    let width = 1_u64 << (doubling - DOUBLING_BITS);
    (1_u64 << doubling) + within * width + (width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_its_top_says() {
        for millis in (0..100_000).chain([u64::from(u32::MAX), u64::MAX / 2, u64::MAX]) {
            let top = top_of(bucket_of(millis));
            assert!(top >= millis, "{millis} lies in a bucket that ends at {top}");
            assert!(top - millis <= millis / 8, "{millis} is reported as {top}");
        }
    }

    #[test]
    fn only_the_last_hour_counts() {
        let mut statistics = Statistics::default();
        statistics.fired_late(Timestamp(0), Span(5_000));
        statistics.fired_late(Timestamp(59 * MINUTE_MILLIS), Span(3));
        assert_eq!(statistics.lateness(990).map(|span| span.0 >= 5_000), Some(true));
        statistics.fired_late(Timestamp(60 * MINUTE_MILLIS), Span(4));
        assert_eq!(statistics.recent_fires(), 2);
        assert_eq!(statistics.lateness(500), Some(Span(3)));
        assert_eq!(statistics.lateness(990), Some(Span(4)));
    }
}
