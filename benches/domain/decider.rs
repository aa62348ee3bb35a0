//! The replicated state: a full batch of fires with its grants, the reports that settle it, creates, and a snapshot.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use escapement_domain::limits::{FIRES_PER_COMMAND_MAX, RESULTS_PER_COMMAND_MAX};

use super::world::{CREATED_AT_ONCE, World};

/// Tasks that exist beside those that fire.
const TASKS: usize = 100_000;
const BATCH: u32 = FIRES_PER_COMMAND_MAX as u32;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replica");
    group.sample_size(20);

    let world = World::with_tasks(u32::from(u16::MAX), TASKS);
    let fire = world.fire(0, BATCH);
    assert_eq!(world.clone().fired(&fire), BATCH, "every one of the batch fires");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("fire and grant 2,048 of 100,000", |bencher| {
        let apply = |mut world: World| (world.apply(black_box(&fire)).len(), world);
        bencher.iter_batched(|| world.clone(), apply, BatchSize::PerIteration);
    });

    let queued = World::with_tasks(0, TASKS);
    group.bench_function("fire 2,048 without a free slot", |bencher| {
        let apply = |mut world: World| (world.apply(black_box(&fire)).len(), world);
        bencher.iter_batched(|| queued.clone(), apply, BatchSize::PerIteration);
    });
    group.bench_function("fire 2,048 that were settled before", |bencher| {
        let mut settled = world.clone();
        settled.apply(&fire);
        bencher.iter(|| settled.fired(black_box(&fire)));
    });

    let mut running = world.clone();
    running.apply(&fire);
    let report = running.report(RESULTS_PER_COMMAND_MAX);
    group.throughput(Throughput::Elements(RESULTS_PER_COMMAND_MAX as u64));
    group.bench_function("settle 1,024 reports", |bencher| {
        let apply = |mut world: World| (world.apply(black_box(&report)).len(), world);
        bencher.iter_batched(|| running.clone(), apply, BatchSize::PerIteration);
    });

    let mut creating = world.clone();
    let create = creating.create(TASKS, CREATED_AT_ONCE);
    group.throughput(Throughput::Elements(CREATED_AT_ONCE as u64));
    group.bench_function("create 512 beside 100,000", |bencher| {
        let apply = |mut world: World| (world.apply(black_box(&create)).len(), world);
        bencher.iter_batched(|| world.clone(), apply, BatchSize::PerIteration);
    });

    group.throughput(Throughput::Elements(TASKS as u64));
    group.bench_function("clone with 100,000 tasks", |bencher| bencher.iter(|| black_box(&world).clone()));
    group.finish();
}
