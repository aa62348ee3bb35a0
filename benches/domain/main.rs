//! What the pure core costs, piece by piece: wheel, decider, schedule, chain and codec.
//!
//! Measured with `cargo bench --bench domain`; figures with their machine are in `benches/README.md`. Absent on purpose:
//! disks and networks, which `escapement bench` measures on real nodes.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

mod chain;
mod decider;
mod schedule;
mod wheel;
mod world;

criterion::criterion_group!(benches, wheel::bench, decider::bench, schedule::bench, chain::bench);
criterion::criterion_main!(benches);
