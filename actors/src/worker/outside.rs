//! Leases of workers outside the cluster, on a monotonic clock that comes in as an argument.
//!
//! The state says who has what and for how long a lease holds; when a worker was heard of last is known here alone, and a new
//! leader grants every lease in full. Invariant: a lease whose end was found is not extended any more. Absent on purpose:
//! clocks, the log, mailboxes.

use std::collections::BTreeMap;
use std::time::Duration;

use escapement_domain::command::LeaseEnd;
use escapement_domain::execution::state::{Execution, Holder};
use escapement_domain::identifier::ExecutionId;
use escapement_domain::replica::Replica;
use escapement_domain::timestamp::Timestamp;

/// An attempt: the execution, and its fencing token.
pub(super) type AttemptKey = (ExecutionId, u64);

/// Leases by attempt.
#[derive(Debug, Default)]
pub(super) struct OutsideLeases {
    leases: BTreeMap<AttemptKey, Lease>,
}

/// One lease, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Lease {
    until: Duration,
    /// When the attempt has taken too long.
    times_out: Duration,
    ended: bool,
}

impl OutsideLeases {
    /// Brings the table in line with the state: whoever has no lease here gets a full one, whoever is gone is forgotten. Returns
    /// the leases that have ended, and goes on to return them until the state knows.
    pub(super) fn sweep(
        &mut self,
        replica: &Replica,
        now: Duration,
        wall_clock: Timestamp,
        most: usize,
    ) -> Vec<LeaseEnd> {
        let mut present = BTreeMap::new();
        let mut ends = Vec::new();
        for open in replica.leased() {
            let Some((key, lease)) = held(open) else { continue };
            let known = self.leases.get(&key).copied();
            let mut lease = known.unwrap_or_else(|| begin(open, lease, now, wall_clock));
            let timed_out = lease.times_out <= now;
            lease.ended |= timed_out || lease.until <= now;
            if lease.ended && ends.len() < most {
                ends.push(LeaseEnd { execution: key.0, token: key.1, timed_out });
            }
            present.insert(key, lease);
        }
        self.leases = present;
        ends
    }

    /// Extends a lease; `None` if it has ended, or the state does not know it.
    pub(super) fn extend(
        &mut self,
        open: &Execution,
        token: u64,
        now: Duration,
        wall_clock: Timestamp,
    ) -> Option<Duration> {
        let (key, length) = held(open).filter(|((_, held), _)| *held == token)?;
        let lease = self.leases.entry(key).or_insert_with(|| begin(open, length, now, wall_clock));
        if lease.ended || lease.until <= now || lease.times_out <= now {
            return None;
        }
        lease.until = lease.until.max(now + length);
        Some(length.min(lease.times_out.saturating_sub(now)))
    }

    /// Forgets every lease: this node has just taken the lead, and grants each in full.
    pub(super) fn begin(&mut self) {
        self.leases.clear();
    }
}

/// The attempt of an execution that a worker outside has, and how long its lease holds.
fn held(open: &Execution) -> Option<(AttemptKey, Duration)> {
    let grant = open.grant()?;
    match &grant.holder {
        Holder::Outside { lease, .. } => Some(((open.id, grant.token), Duration::from_millis(lease.0))),
        Holder::Node { .. } => None,
    }
}

fn begin(open: &Execution, lease: Duration, now: Duration, wall_clock: Timestamp) -> Lease {
    let since = open.grant().map_or(wall_clock, |grant| grant.since);
    let left = open.rules.timeout.0.saturating_sub(wall_clock.since(since).0);
    Lease { until: now + lease, times_out: now + Duration::from_millis(left), ended: false }
}
