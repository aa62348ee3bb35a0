//! Records and commands as bytes: hashed, written, read.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use escapement_domain::command::Command;
use escapement_domain::event::Event;
use escapement_domain::record::{Record, link};

use super::world::{World, records};

pub(crate) fn bench(criterion: &mut Criterion) {
    let records = records();
    let event = |wanted: fn(&Event) -> bool| {
        records.iter().find(|record| wanted(&record.event)).expect("the batch has one").clone()
    };
    let started = event(|event| matches!(event, Event::TaskStarted { .. }));
    let mut group = criterion.benchmark_group("chain");
    group.bench_function("hash one record", |bencher| {
        bencher.iter(|| link(black_box(&started.header), &started.body, started.previous_hash));
    });
    group.bench_function("encode and chain one record", |bencher| {
        bencher.iter(|| {
            Record::chain(started.header.clone(), black_box(&started.event).clone(), started.previous_hash)
        });
    });
    group.bench_function("read and check one record", |bencher| {
        bencher.iter(|| {
            Record::reread(started.header.clone(), started.body.clone(), started.previous_hash)
                .is_ok_and(|read| read.hash == started.hash)
        });
    });
    group.finish();

    let mut world = World::with_tasks(4_096, 4_096);
    let create = world.create(4_096, 1);
    let fire = world.fire(0, 2_048);
    let mut group = criterion.benchmark_group("codec");
    for (name, command, elements) in [("create", &create, 1), ("fire of 2,048", &fire, 2_048)] {
        let bytes = command.encode();
        println!("codec: {name} has {} bytes", bytes.len());
        group.throughput(Throughput::Elements(elements));
        group
            .bench_function(format!("encode {name}"), |bencher| bencher.iter(|| black_box(command).encode()));
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| Command::decode(black_box(&bytes)).expect("it reads"));
        });
    }
    group.finish();
}
