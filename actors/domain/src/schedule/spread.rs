//! Numbers that look random and are not: the same task gets the same one on every node, at any time.
//!
//! Absent on purpose: generators with a state. Each number is a function of its arguments alone.

use crate::identifier::TaskId;
use crate::timestamp::{Span, Timestamp};

/// Returns how much later than `instant` an occurrence of `task` is to fire: between nothing and `bound`, inclusive.
///
/// A function of the task and the instant alone, so that every node and every retry agrees.
#[must_use]
pub fn jitter_of(task: TaskId, instant: Timestamp, bound: Span) -> Span {
    match bound.0.checked_add(1) {
        Some(choices) => Span(below(hash(task, instant.0.cast_unsigned()), choices)),
        None => Span(hash(task, instant.0.cast_unsigned())),
    }
}

/// Returns a number below `choices` that `task` keeps for `purpose`; 0 if there are no choices.
pub(super) fn spread(task: TaskId, purpose: u64, choices: u64) -> u64 {
    below(hash(task, purpose), choices)
}

fn below(hash: u64, choices: u64) -> u64 {
    let scaled = (u128::from(hash) * u128::from(choices)) >> 64;
    u64::try_from(scaled).unwrap_or(0)
}

fn hash(task: TaskId, salt: u64) -> u64 {
    let high = (task.0 >> 64) as u64;
    let low = task.0 as u64;
    mix(mix(mix(high).wrapping_add(low)).wrapping_add(salt))
}

/// The finishing steps of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_reaches_both_ends_of_its_bound_and_nothing_beyond() {
        let mut seen = [0_u32; 4];
        for instant in 0..1_000 {
            let jitter = jitter_of(TaskId(7), Timestamp(instant * 60_000), Span(3));
            seen[usize::try_from(jitter.0).expect("at most 3")] += 1;
        }
        assert!(seen.iter().all(|&count| count > 200), "{seen:?}");
    }

    #[test]
    fn jitter_is_the_same_every_time_it_is_asked_for() {
        let first = jitter_of(TaskId(1), Timestamp(5), Span::hours(1));
        assert_eq!(first, jitter_of(TaskId(1), Timestamp(5), Span::hours(1)));
        assert_ne!(first, jitter_of(TaskId(2), Timestamp(5), Span::hours(1)));
        assert_eq!(jitter_of(TaskId(1), Timestamp(5), Span::ZERO), Span::ZERO);
        assert!(jitter_of(TaskId(1), Timestamp(5), Span(u64::MAX)).0 > 0);
    }
}
