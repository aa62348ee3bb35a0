//! The worker's side of its lease, on a monotonic clock that comes in as an argument.
//!
//! A lease counts from when its renewal was *sent*, so it ends here before it ends at the leader. To start something takes more
//! than to go on with it: the state must have come as far as the log had when a lease that still holds was asked for, or a
//! node whose disk stalls would start what was taken back long ago. Absent on purpose: clocks, messages, attempts.

use std::collections::VecDeque;
use std::time::Duration;

use escapement_domain::planted::{self, Bug};

/// Renewals that are remembered while the state has not come as far as they were: more than a lease is long.
const REMEMBERED_MAX: usize = 16;

/// A lease and the margin before its end.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    until: Option<Duration>,
    /// Until when things may be started by the state as it is.
    start_until: Option<Duration>,
    /// Renewals that the state has not come up to: the index of each, and until when it holds.
    ahead: VecDeque<(u64, Duration)>,
    margin: Duration,
}

impl Lease {
    pub(super) fn none(margin: Duration) -> Self {
        Self { until: None, start_until: None, ahead: VecDeque::new(), margin }
    }

    /// The renewal that was sent at `sent` holds for `length` from then; the log had come to the index `applied`.
    pub(super) fn renewed(&mut self, sent: Duration, length: Duration, applied: u64) {
        let until = sent + length;
        self.until = self.until.max(Some(until));
        if self.ahead.len() >= REMEMBERED_MAX {
            self.ahead.pop_front();
        }
        self.ahead.push_back((applied, until));
    }

    /// The state has come to this index.
    pub(super) fn caught_up(&mut self, applied: u64) {
        let reached = self.ahead.iter().filter(|(index, _)| *index <= applied).map(|(_, until)| *until);
        self.start_until = self.start_until.max(reached.max());
        self.ahead.retain(|(index, _)| *index > applied);
    }

    /// Whether attempts may be started.
    pub(super) fn may_start(&self, now: Duration) -> bool {
        let until = self.start_until.map(|until| until.saturating_sub(self.margin));
        until.is_some_and(|until| now < until || planted::has(Bug::IgnoredLease))
    }

    /// Whether attempts may run.
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
        lease.renewed(Duration::from_secs(10), Duration::from_secs(3), 7);
        assert!(lease.is_fresh(Duration::from_millis(12_499)));
        assert!(lease.has_lapsed(Duration::from_millis(12_500)));
        lease.renewed(Duration::from_secs(9), Duration::from_secs(3), 7);
        assert_eq!(
            lease.safe_until(),
            Some(Duration::from_millis(12_500)),
            "a late answer takes nothing away"
        );
    }

    #[test]
    fn nothing_is_started_by_a_state_that_is_older_than_every_lease_that_holds() {
        let second = Duration::from_secs;
        let mut lease = Lease::none(Duration::from_millis(500));
        lease.renewed(second(10), second(3), 7);
        assert!(lease.is_fresh(second(11)) && !lease.may_start(second(11)), "it may be long ago");
        lease.caught_up(6);
        assert!(!lease.may_start(second(11)));
        lease.renewed(second(11), second(3), 9);
        lease.caught_up(8);
        assert!(lease.may_start(second(12)), "one of them is enough");
        assert!(!lease.may_start(Duration::from_millis(12_500)), "until that one ends");
        assert!(lease.is_fresh(second(13)), "what runs may go on");
        lease.caught_up(9);
        assert!(lease.may_start(second(13)));
    }
}
