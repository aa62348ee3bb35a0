//! The worker's side of its lease, on a monotonic clock that comes in as an argument.
//!
//! A lease counts from when its renewal was *sent*, so it ends here before it ends at the leader. Absent on purpose:
//! clocks, messages, attempts.

use std::time::Duration;

use escapement_domain::planted::{self, Bug};

/// A lease and the margin before its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    until: Option<Duration>,
    margin: Duration,
}

impl Lease {
    pub(super) fn none(margin: Duration) -> Self {
        Self { until: None, margin }
    }

    /// The renewal that was sent at `sent` holds for `length` from then.
    pub(super) fn renewed(&mut self, sent: Duration, length: Duration) {
        let until = sent + length;
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
    }

    /// Whether attempts may be started and may run.
    pub(super) fn is_fresh(&self, now: Duration) -> bool {
        self.safe_until().is_some_and(|until| now < until || planted::has(Bug::IgnoredLease))
    }

    /// Whether there was a lease and its safe part is over.
    pub(super) fn has_lapsed(&self, now: Duration) -> bool {
        self.safe_until().is_some_and(|until| now >= until && !planted::has(Bug::IgnoredLease))
    }

    /// When everything that runs must be killed.
    pub(super) fn safe_until(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_sub(self.margin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for_and_ends_early() {
        let mut lease = Lease::none(Duration::from_millis(500));
        assert!(!lease.is_fresh(Duration::ZERO) && !lease.has_lapsed(Duration::from_secs(9)));
        lease.renewed(Duration::from_secs(10), Duration::from_secs(3));
        assert!(lease.is_fresh(Duration::from_millis(12_499)));
        assert!(lease.has_lapsed(Duration::from_millis(12_500)));
        lease.renewed(Duration::from_secs(9), Duration::from_secs(3));
        assert_eq!(
            lease.safe_until(),
            Some(Duration::from_millis(12_500)),
            "a late answer takes nothing away"
        );
    }
}
