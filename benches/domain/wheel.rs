//! A million timers over an hour, and ten million: put in, looked for, handed out.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use escapement_domain::timestamp::Timestamp;
use escapement_domain::wheel::Wheel;

const HOUR_MS: u64 = 3_600_000;
const NOW: i64 = 1_800_000_000_000;

/// Deadlines within an hour that look random and are the same in every run.
fn deadlines(timers: u64) -> Vec<Timestamp> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Timestamp(NOW + (state % HOUR_MS).cast_signed())
    };
    (0..timers).map(|_| next()).collect()
}

fn filled(deadlines: &[Timestamp]) -> Wheel<u64> {
    let mut wheel = Wheel::new(Timestamp(NOW));
    for (deadline, key) in deadlines.iter().zip(0..) {
        wheel.insert(*deadline, key);
    }
    wheel
}

/// Hands everything out, over an hour in steps of 10 ms.
fn run_down(mut wheel: Wheel<u64>) -> u64 {
    let mut sum = 0;
    for step in 0..=HOUR_MS / 10 {
        let now = Timestamp(NOW + (step * 10).cast_signed());
        while wheel.advance(now, 2_048, &mut |_, key| sum ^= key).more {}
    }
    assert!(wheel.is_empty());
    sum
}

/// Hands everything out that is due at one instant.
fn run_down_at_once(mut wheel: Wheel<u64>) -> u64 {
    let mut sum = 0;
    while wheel.advance(Timestamp(NOW + 1_000), 2_048, &mut |_, key| sum ^= key).more {}
    assert!(wheel.is_empty());
    sum
}

fn bench_size(criterion: &mut Criterion, name: &str, timers: u64) {
    let deadlines = deadlines(timers);
    let mut group = criterion.benchmark_group(format!("wheel {name}"));
    group.throughput(Throughput::Elements(timers)).sample_size(10);
    group.bench_function("insert", |bencher| bencher.iter_with_large_drop(|| filled(black_box(&deadlines))));
    group.bench_function("advance over an hour, by 10 ms", |bencher| {
        bencher.iter_batched(|| filled(&deadlines), run_down, BatchSize::PerIteration);
    });
    group.bench_function("advance, all due at one instant", |bencher| {
        let same = vec![Timestamp(NOW + 1_000); deadlines.len()];
        bencher.iter_batched(|| filled(&same), run_down_at_once, BatchSize::PerIteration);
    });
    group.throughput(Throughput::Elements(1));
    let wheel = filled(&deadlines);
    println!("wheel {name}: {:.1} bytes a timer", wheel.heap_bytes() as f64 / timers as f64);
    group.bench_function("next deadline", |bencher| bencher.iter(|| black_box(&wheel).next_deadline()));
    group.finish();
}

pub(crate) fn bench(criterion: &mut Criterion) {
    bench_size(criterion, "1M", 1_000_000);
    bench_size(criterion, "10M", 10_000_000);
}
