//! How long to wait before a failed attempt is made again.
//!
//! Exponential back-off with a cap; the jitter is a hash of execution and attempt, so that every replica waits the same.

use sha2::{Digest, Sha256};

use crate::identifier::ExecutionId;
use crate::task::definition::Retry;
use crate::timestamp::Span;

/// Returns how long to wait after failure `failure` (counted from 1) of an execution.
///
/// The wait grows from `initial_delay` by the multiplier, up to `max_delay`, and is then drawn from what lies within
/// `jitter_per_mille` thousandths of it either way and not above `max_delay`: at the cap from what lies below, since waits that were
/// cut to it would all end at once.
#[must_use]
pub fn backoff(retry: &Retry, execution: ExecutionId, failure: u32) -> Span {
    let cap = u128::from(retry.max_delay.0);
    let mut wait = u128::from(retry.initial_delay.0).min(cap);
    let multiplier = u128::from(retry.multiplier_per_mille.max(1_000));
    if wait > 0 && multiplier > 1_000 {
        for _ in 1..failure {
            wait = (wait * multiplier / 1_000).min(cap);
            if wait == cap {
                break;
            }
        }
    }
    let reach = wait * u128::from(retry.jitter_per_mille.min(1_000)) / 1_000;
    let (shortest, longest) = (wait - reach, (wait + reach).min(cap));
    let drawn = shortest + draw(execution, failure) % (longest - shortest + 1);
    Span(u64::try_from(drawn).unwrap_or(retry.max_delay.0))
}

fn draw(execution: ExecutionId, failure: u32) -> u128 {
    let digest =
        Sha256::new().chain_update(execution.0.to_be_bytes()).chain_update(failure.to_be_bytes()).finalize();
    let mut first = [0_u8; 8];
    first.copy_from_slice(&digest[..8]);
    u128::from(u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn waits(retry: Retry, count: u32) -> Vec<u64> {
        (1..=count).map(|failure| backoff(&retry, ExecutionId(7), failure).0).collect()
    }

    #[test]
    fn the_wait_doubles_up_to_its_cap() {
        let retry = Retry { jitter_per_mille: 0, max_delay: Span(6_000), ..Retry::DEFAULT };
        assert_eq!(waits(retry, 5), [1_000, 2_000, 4_000, 6_000, 6_000]);
    }

    /// Whatever failed together is to come back apart, below the cap and at it.
    #[test]
    fn waits_of_many_executions_are_spread_at_the_cap_too() {
        let retry = Retry { jitter_per_mille: 200, max_delay: Span(60_000), ..Retry::DEFAULT };
        for (failure, plain) in [(1, 1_000), (3, 4_000), (6, 32_000), (7, 60_000), (40, 60_000)] {
            let waits: BTreeSet<u64> =
                (0..100).map(|id| backoff(&retry, ExecutionId(id), failure).0).collect();
            assert!(waits.len() > 50, "{} different waits after failure {failure}", waits.len());
            assert!(waits.iter().all(|wait| (plain * 8 / 10..=60_000).contains(wait)), "{waits:?}");
        }
    }

    proptest! {
        #[test]
        fn jitter_keeps_within_its_bound(id in any::<u128>(), failure in 1_u32..50, jitter in 0_u32..=1_000) {
            let plain = Retry { jitter_per_mille: 0, ..Retry::DEFAULT };
            let moved = Retry { jitter_per_mille: jitter, ..Retry::DEFAULT };
            let wait = backoff(&plain, ExecutionId(id), failure).0;
            let reach = wait * u64::from(jitter) / 1_000;
            let got = backoff(&moved, ExecutionId(id), failure).0;
            prop_assert!((wait - reach..=(wait + reach).min(moved.max_delay.0)).contains(&got));
        }
    }
}
