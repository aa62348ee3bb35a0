//! Texts that nobody should write: each is compiled or refused, and never a panic.

use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::{Schedule, describe};
use escapement_domain::task::trigger::{Dst, Trigger};
use escapement_domain::timestamp::Timestamp;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_either_compiled_or_refused_with_a_place(
        text in prop_oneof![
            any::<String>(),
            "(TZ=[A-Z]{2,3} )?[-0-9*/,#?()HLWa-z]{1,6}( [-0-9*/,#?HLWSUNMO]{1,5}){4,5}",
            "@[a-z]{1,6} ?[0-9a-z]{0,8}",
        ],
        now in 0..200_000_000_000_000_i64,
    ) {
        let trigger = Trigger::Cron { expression: text.clone(), timezone: "UTC".into(), dst: Dst::default() };
        prop_assert!(!describe(&trigger).is_empty());
        match Schedule::compile(&trigger, TaskId(1), Timestamp(0)) {
            Ok(schedule) => prop_assert!(schedule.next_after(Timestamp(now)).is_none_or(|next| next.0 > now)),
            Err(error) => {
                prop_assert!(!error.faults.is_empty());
                for fault in error.faults {
                    let column = fault.column.expect("each fault of an expression has a place") as usize;
                    prop_assert!((1..=text.chars().count() + 1).contains(&column), "{} of {:?}", column, text);
                }
            }
        }
    }
}
