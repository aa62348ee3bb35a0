//! Intervals never drift, and jitter is a number that its task and instant alone decide.

use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::{Schedule, jitter_of};
use escapement_domain::task::trigger::Trigger;
use escapement_domain::timestamp::{Span, Timestamp};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_interval_is_a_whole_number_of_steps_from_its_anchor_however_often_it_is_asked(
        every in prop_oneof![1..5_000_u64, 1_000..100_000_000_u64],
        anchor in prop::option::of(0..4_000_000_000_000_i64),
        created in 0..4_000_000_000_000_i64,
        after in 0..4_000_000_000_000_i64,
    ) {
        let trigger = Trigger::Interval { every: Span(every), anchor: anchor.map(Timestamp) };
        let schedule = Schedule::compile(&trigger, TaskId(1), Timestamp(created)).expect("it has a length");
        let (step, origin) = (every.cast_signed(), anchor.unwrap_or(created));
        let first = schedule.next_after(Timestamp(after)).expect("it has no end");
        prop_assert!(first.0 > after && first.0 - step <= after);
        for (index, next) in (0..).zip(schedule.between(Timestamp(after), Timestamp::MAX).take(100)) {
            prop_assert_eq!((next.0 - origin).rem_euclid(step), 0);
            prop_assert_eq!(next.0, first.0 + index * step);
            prop_assert_eq!(schedule.next_after(Timestamp(next.0 - 1)), Some(next));
        }
    }

    #[test]
    fn jitter_stays_within_its_bound_and_never_changes_its_mind(
        task in any::<u128>(),
        instant in 0..4_000_000_000_000_i64,
        bound in prop_oneof![0..100_u64, 0..864_000_000_u64, any::<u64>()],
    ) {
        let jitter = jitter_of(TaskId(task), Timestamp(instant), Span(bound));
        prop_assert!(jitter.0 <= bound);
        prop_assert_eq!(jitter_of(TaskId(task), Timestamp(instant), Span(bound)), jitter);
    }
}
