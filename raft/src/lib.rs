//! A replicated log of opaque commands for any [`Replicated`] application.
//!
//! Every node of a [`Group`] applies the same commands in the same order. A command is acknowledged when
//! a majority has it on disk and the node that proposed it has applied it. The consensus is openraft's,
//! the log on disk is raft-log's; this crate is the one thin adapter around both and the only place
//! where their names appear.
//!
//! ```text
//!   propose ─► proposer ─► openraft ─► log (raft-log)          one entry, many commands
//!                             │  ▲
//!                  network ◄──┘  └── inbound                   over a Transport: TCP, or memory
//!                             │
//!                          machine ─► Replicated::apply        answers go back to whoever proposed
//!                             └─────► snapshots
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | `group` | [`Group`]: the handle |
//! | `proposer`, `barrier` | group commit, linearizable reads |
//! | `change`, `formation`, `identity` | who belongs: membership, the first start, a node's disk |
//! | `machine`, `replicated`, `snapshot` | the application's side |
//! | `disk`, `log`, `memory` | entries and votes on disk, and on a disk in memory that can break |
//! | `network`, `inbound`, `wire`, `transport` | the peers' side |
//! | `supervisor`, `failure` | noticing the end |
//! | `consensus`, `options`, `limits`, `codec`, `runtime` | configuration, maxima, bytes, time and chance |
//!
//! # Starting a node
//!
//! 1. [`DataDirectory::open`]: takes the directory and learns the disk's identity.
//! 2. [`TcpTransport::listen`] with [`DataDirectory::local`].
//! 3. [`Group::start`]: restores and joins in. [`Transport::register`] the application's own service.
//! 4. [`form`]: waits until the node belongs to a cluster, and forms it if that is its part.
//! 5. Await [`Group::failed`] beside everything else, and end the process when it resolves.
//!
//! # What holds
//!
//! * Acknowledged is on a majority's disks. A vote is synced before it is answered. A failed sync is
//!   fatal: never retried, never acknowledged.
//! * A node is its disk. The id of a lost disk is refused everywhere.
//! * Entries are purged only behind a published snapshot, and a snapshot is published only when
//!   everything derived from its entries is synced.
//! * Damage is named and never skipped; bytes of another version are refused by name.
//!
//! Absent on purpose: tasks, HTTP, sled, wall clocks, and any knowledge of what a command means.

mod barrier;
mod change;
mod codec;
#[cfg(test)]
mod conformance;
mod consensus;
mod disk;
mod failure;
mod formation;
mod group;
mod identity;
mod inbound;
pub mod limits;
mod log;
mod machine;
mod member;
mod memory;
mod network;
mod options;
mod proposer;
mod replicated;
pub mod runtime;
mod snapshot;
mod status;
mod supervisor;
mod transport;
mod wire;

pub use change::ChangeError;
pub use disk::Disk;
pub use failure::Failure;
pub use formation::{Formation, FormationError, form};
pub use group::{Group, InitializeError, ReadError, StartError};
pub use identity::{DataDirectory, IdentityError};
pub use member::{Address, GroupId, Hello, Member, NodeId};
#[cfg(feature = "planted")]
pub use memory::DiskBug;
pub use memory::MemoryDisk;
pub use options::{Options, OptionsError};
pub use proposer::{Committed, ProposeError};
pub use replicated::{ApplyError, CommittedEntry, Frozen, Replicated, RestoreError};
pub use status::{Leadership, MemberStatus, Role, Status};
pub use transport::{
    GroupService, Lane, Local, MemoryNetwork, MemoryTransport, Message, Passage, Peer, PeerService,
    TcpTransport, Transport, TransportError, Weather,
};
