//! Percentiles by nearest rank, of samples that are all kept.

/// Samples of one quantity.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub(super) fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// Takes in another's.
    pub(super) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Returns the 50th and the 99th percentile; nothing without samples.
    pub(super) fn p50_p99(&mut self) -> Option<(f64, f64)> {
        self.0.sort_by(f64::total_cmp);
        Some((self.rank(50)?, self.rank(99)?))
    }

    /// The smallest sample that at least `percent` of all do not exceed. Samples are sorted.
    fn rank(&self, percent: usize) -> Option<f64> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }
}

/// Rounds to three places: more would claim more than was measured.
pub(super) fn rounded(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}

/// Returns a count as a figure to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts here stay far below 2^53")]
pub(super) fn figure(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(samples: impl IntoIterator<Item = u32>, expected: Option<(f64, f64)>) {
        let mut all = Samples::default();
        samples.into_iter().for_each(|sample| all.add(f64::from(sample)));
        assert_eq!(all.p50_p99(), expected);
    }

    #[test]
    fn a_percentile_is_a_sample() {
        check([], None);
        check([7], Some((7.0, 7.0)));
        check([2, 1], Some((1.0, 2.0)));
        check((1..=100).rev(), Some((50.0, 99.0)));
        check(1..=1_000, Some((500.0, 990.0)));
    }
}
