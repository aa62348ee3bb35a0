//! The pure core of a whole cluster under a seeded world of faults, judged from outside.
//!
//! The first of two tiers: consensus is assumed (one committed log), leadership is not. Leaders are deposed and go on
//! proposing from stale replicas; what they proposed is committed late, twice, out of order or never. Nodes crash, freeze
//! and fall behind, clocks drift and jump, workers lose their leases, clients repeat what got no answer. The real
//! rules decide, evolve, plan, grant and snapshot; everything around them is played here from one seeded generator.
//!
//! Invariants: a seed and a profile determine a run bit for bit ([`trace`]); the checker ([`invariants`]) reads only
//! what was recorded and what a witness outside the cluster saw. Absent on purpose: real disks, networks, clocks,
//! openraft and actors, which the second tier brings.

pub mod chance;
pub mod definitions;
pub mod evidence;
pub mod invariants;
pub mod plants;
pub mod profile;
pub mod progress;
pub mod run;
pub mod trace;
pub mod world;
