//! The timer wheel against a map from deadlines to keys: whatever is done to both, they hand out the same timers.

use std::collections::{BTreeMap, VecDeque};

use escapement_domain::timestamp::Timestamp;
use escapement_domain::wheel::Wheel;
use proptest::prelude::*;

/// Timers by deadline, then by the order of their insertion.
#[derive(Default)]
struct Model(BTreeMap<i64, VecDeque<u64>>);

impl Model {
    fn insert(&mut self, deadline: i64, key: u64) {
        self.0.entry(deadline).or_default().push_back(key);
    }

    fn pop(&mut self, now: i64) -> Option<(i64, u64)> {
        let mut first = self.0.first_entry().filter(|first| *first.key() <= now)?;
        let popped = (*first.key(), first.get_mut().pop_front().expect("no deadline is without a timer"));
        if first.get().is_empty() {
            first.remove();
        }
        Some(popped)
    }

    fn len(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A timer this far from the present.
    Insert(i64),
    /// The clock moves by this much, and a batch of at most so many is handed out.
    Advance(i64, usize),
    /// Sleep until the wheel's own bound.
    Sleep,
    /// Drop the timers whose key is divisible by this.
    Retain(u64),
}

/// Distances of every size, from within a slot to thousands of years.
fn distance() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..70_i64,
        4 => 0..5_000_i64,
        3 => 0..4_000_000_i64,
        2 => 0..100_000_000_000_i64,
        1 => 0..253_402_300_799_999_i64,
        2 => (0..40_u32, -1..2_i64).prop_map(|(bit, more)| (1 << bit) + more),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => distance().prop_map(Step::Insert),
        2 => (0..10_000_i64).prop_map(|back| Step::Insert(-back)),
        4 => (distance(), 0..20_usize).prop_map(|(by, max)| Step::Advance(by, max)),
        1 => (0..5_000_i64, 0..20_usize).prop_map(|(by, max)| Step::Advance(-by, max)),
        4 => Just(Step::Sleep),
        1 => (2..7_u64).prop_map(Step::Retain),
    ]
}

/// A wheel and its model, and the time that both are told.
struct Pair {
    wheel: Wheel<u64>,
    model: Model,
    now: i64,
}

impl Pair {
    fn at(now: i64) -> Self {
        Self { wheel: Wheel::new(Timestamp(now)), model: Model::default(), now }
    }

    fn insert(&mut self, distance: i64, key: u64) {
        let deadline = (self.now + distance).clamp(Timestamp::MIN.0, Timestamp::MAX.0);
        self.wheel.insert(Timestamp(deadline), key);
        self.model.insert(deadline, key);
    }

    fn advance(&mut self, to: i64, max: usize) {
        self.now = to.clamp(Timestamp::MIN.0, Timestamp::MAX.0);
        let mut expired = Vec::new();
        let advance = self
            .wheel
            .advance(Timestamp(self.now), max, &mut |deadline, key| expired.push((deadline.0, key)));
        let expected: Vec<_> = std::iter::from_fn(|| self.model.pop(self.now)).take(max).collect();
        assert_eq!(expired, expected, "at {}", self.now);
        assert_eq!(advance.expired, expired.len());
        let due = self.model.0.first_key_value().is_some_and(|(first, _)| *first <= self.now);
        assert!(advance.more || !due, "a timer is due and the wheel denies it");
        assert!(!advance.more || expired.len() == max, "a batch ended before it was full");
    }

    fn check_bound(&self) {
        assert_eq!(self.wheel.len(), self.model.len());
        let earliest = self.model.0.first_key_value().map(|(first, _)| *first);
        match (self.wheel.next_deadline(), earliest) {
            (Some(bound), Some(earliest)) => assert!(bound.0 <= earliest, "{bound} hides {earliest}"),
            (bound, earliest) => assert_eq!((bound, earliest), (None, None)),
        }
    }

    /// Sleeps from bound to bound until something expires, which takes at most eight rounds.
    fn sleep(&mut self) {
        let before = self.wheel.len();
        for _ in 0..9 {
            let Some(bound) = self.wheel.next_deadline() else {
                return;
            };
            self.advance(bound.0.max(self.now), usize::MAX);
            if self.wheel.len() < before {
                return;
            }
        }
        panic!("nine rounds and nothing expired");
    }
}

fn run(start: i64, steps: Vec<Step>) {
    let mut pair = Pair::at(start);
    for (key, step) in (0..).zip(steps) {
        match step {
            Step::Insert(distance) => pair.insert(distance, key),
            Step::Advance(by, max) => pair.advance(pair.now + by, max),
            Step::Sleep => pair.sleep(),
            Step::Retain(divisor) => {
                pair.wheel.retain(|_, key| key % divisor != 0);
                pair.model.0.values_mut().for_each(|keys| keys.retain(|key| key % divisor != 0));
                pair.model.0.retain(|_, keys| !keys.is_empty());
            }
        }
        pair.check_bound();
    }
    pair.advance(Timestamp::MAX.0, usize::MAX);
    assert!(pair.wheel.is_empty(), "a timer was lost");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_wheel_hands_out_what_the_model_does(
        start in prop_oneof![Just(0), Just(1_800_000_000_000_i64), 0..4_000_000_000_000_i64],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        run(start, steps);
    }
}

#[test]
fn a_deadline_in_the_past_expires_at_the_next_advance() {
    let mut pair = Pair::at(1_000_000);
    pair.insert(-500, 1);
    pair.insert(-900, 2);
    pair.insert(0, 3);
    pair.advance(1_000_000, 10);
    assert!(pair.wheel.is_empty());
}

#[test]
fn a_clock_that_steps_back_makes_nothing_early() {
    let mut pair = Pair::at(1_000_000);
    pair.insert(100, 1);
    pair.advance(2_000_000, 10);
    pair.now = 500_000;
    pair.insert(200, 2);
    pair.advance(500_100, 10);
    assert_eq!(pair.wheel.len(), 1);
    pair.advance(500_200, 10);
    assert!(pair.wheel.is_empty());
}

#[test]
fn deadlines_in_the_year_9999_and_beyond_wait_for_its_end() {
    let mut wheel = Wheel::new(Timestamp(1_800_000_000_000));
    wheel.insert(Timestamp(i64::MAX), 7_u64);
    let mut seen = Vec::new();
    let mut note = |deadline, key| seen.push((deadline, key));
    assert_eq!(wheel.advance(Timestamp(Timestamp::MAX.0 - 1), 10, &mut note).expired, 0);
    assert_eq!(wheel.advance(Timestamp(i64::MAX), 10, &mut note).expired, 1);
    assert_eq!(seen, [(Timestamp::MAX, 7)]);
}

#[test]
fn a_batch_stops_at_its_maximum_and_says_that_there_is_more() {
    let mut wheel = Wheel::new(Timestamp(0));
    for key in 0..100_u64 {
        wheel.insert(Timestamp(50), key);
    }
    let mut seen = Vec::new();
    let first = wheel.advance(Timestamp(60), 30, &mut |_, key| seen.push(key));
    assert!(first.more);
    let second = wheel.advance(Timestamp(60), 100, &mut |_, key| seen.push(key));
    assert!(!second.more);
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_timer_costs_about_sixteen_bytes() {
    let mut wheel = Wheel::new(Timestamp(0));
    for key in 0..200_000_u64 {
        wheel.insert(Timestamp((key * 7_919 % 3_600_000).cast_signed() + 1), key);
    }
    let bytes = wheel.heap_bytes() / wheel.len();
    assert!(bytes <= 19, "{bytes}");
    wheel.retain(|_, _| false);
    assert!(wheel.heap_bytes() < 64 * 1_024, "{}", wheel.heap_bytes());
}

#[test]
fn a_cleared_wheel_holds_nothing_and_goes_on() {
    let mut pair = Pair::at(10);
    pair.insert(5, 1);
    pair.wheel.clear();
    pair.model = Model::default();
    pair.check_bound();
    pair.insert(7, 2);
    pair.advance(100, 10);
    assert!(pair.wheel.is_empty());
}
