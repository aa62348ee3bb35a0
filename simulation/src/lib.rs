//! A whole cluster under a seeded world of faults, in one thread and in virtual time, judged from outside.
//!
//! The nodes are real: the program's own assembly of openraft, state machine, actors, wheel, dispatcher and leases. Only
//! what is around them is played from one seed: the network, the disks, the clocks, chance, and what attempts call.
//! Clients with unknown outcomes, an operator and a witness outside the cluster do the rest ([`world`]).
//!
//! Invariants: a seed and a profile determine a run bit for bit ([`trace`]); the checker ([`invariants`]) reads only
//! what clients, the witness and the event log say. Absent on purpose: HTTP, sled and real disks, which the end-to-end
//! tests bring.

pub mod chance;
pub mod definitions;
pub mod evidence;
pub mod invariants;
pub mod plants;
pub mod profile;
pub mod progress;
pub mod run;
pub mod trace;
pub mod watchdog;
pub mod world;
