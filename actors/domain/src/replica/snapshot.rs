//! The replicated state as a stream of bytes, and its hash.
//!
//! A snapshot is a header and parts, each a length, a checked encoding, and nothing that follows from the rest: the queue
//! and the indexes are made again. The hash is taken over the same bytes, so that two replicas whose hashes agree would
//! write the same snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::backfills::Backfill;
use super::bulk::Bulk;
use super::calendars::{Calendars, Kept};
use super::chains::{self, Chains};
use super::listeners::Listeners;
use super::placement::{self, Interned, Queue, Workers};
use super::publications::{Publication, Publications};
use super::slots::{Chunk, Slots};
use super::users::Users;
use super::window::Window;
use super::{Replica, Tenant};
use crate::codec::{self, CodecError};
use crate::execution::state::Execution;
use crate::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TenantId};
use crate::limits::SNAPSHOT_PART_BYTES_MAX;
use crate::planted::{self, Bug};
use crate::record::Hash;
use crate::timestamp::Timestamp;

/// A consistent copy of the state that shares its tasks with it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    logged: Timestamp,
    tenants: Vec<Tenant>,
    tasks: Slots,
    executions: BTreeMap<ExecutionId, Arc<Execution>>,
    reopened: BTreeMap<ExecutionId, (u64, Timestamp)>,
    workers: Workers,
    gone: BTreeMap<(NodeId, Incarnation), Timestamp>,
    drained: BTreeSet<NodeId>,
    window: Window,
    bulks: BTreeMap<CommandId, Bulk>,
    backfills: BTreeMap<CommandId, Backfill>,
    publications: Vec<(CommandId, Arc<Publication>)>,
    calendars: Calendars,
    chains: chains::Kept,
    queue: placement::Kept,
    zone_data: Arc<str>,
    turns: u64,
    revisions: u64,
}

/// What comes first.
#[derive(Serialize, Deserialize)]
struct Header {
    logged: Timestamp,
    turns: u64,
    revisions: u64,
    chunks: u64,
    executions: u64,
    publications: u64,
}

/// Why a snapshot cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The stream ended or failed.
    #[error("the snapshot cannot be read")]
    Read(#[from] io::Error),
    /// A part is not what it should be.
    #[error("the snapshot cannot be used: {0}")]
    Damaged(#[from] CodecError),
    /// A part claims to be longer than any that this program writes.
    #[error("a part of the snapshot claims {0} bytes")]
    PartTooLong(u64),
}

impl Replica {
    /// Takes a consistent copy, cheap while few executions are open.
    #[must_use]
    pub fn freeze(&self) -> Snapshot {
        Snapshot {
            logged: self.logged,
            tenants: self.tenants.clone(),
            tasks: self.tasks.clone(),
            executions: self.executions.clone(),
            reopened: self.reopened.clone(),
            workers: self.workers.clone(),
            gone: self.gone.clone(),
            drained: self.drained.clone(),
            window: self.window.clone(),
            bulks: self.bulks.clone(),
            backfills: self.backfills.clone(),
            publications: self.publications.kept().collect(),
            calendars: self.calendars.clone(),
            chains: self.chains.keep(),
            queue: self.queue.keep(),
            zone_data: self.zone_data.clone(),
            turns: self.turns,
            revisions: self.revisions,
        }
    }

    /// Reads what [`Snapshot::write_to`] wrote.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing of a damaged snapshot is used.
    pub fn restore(reader: &mut dyn Read) -> Result<Self, SnapshotError> {
        let header: Header = read_part("snapshot header", reader)?;
        let tenants: Vec<Tenant> = read_part("snapshot tenants", reader)?;
        let mut chunks = Vec::new();
        for _ in 0..header.chunks {
            chunks.push(read_part::<Chunk>("snapshot tasks", reader)?);
        }
        let mut executions = BTreeMap::new();
        for _ in 0..header.executions {
            let execution: Execution = read_part("snapshot execution", reader)?;
            if !planted::has(Bug::ForgetfulSnapshot) {
                executions.insert(execution.id, Arc::new(execution));
            }
        }
        let mut publications = Publications::default();
        for _ in 0..header.publications {
            let (id, publication) = read_part("snapshot event", reader)?;
            publications.keep(id, publication);
        }
        let reopened = read_part("snapshot retries", reader)?;
        let workers: Vec<_> = read_part("snapshot workers", reader)?;
        let (gone, drained) = read_part("snapshot absent workers", reader)?;
        let window = read_part("snapshot window", reader)?;
        let bulks: Vec<(CommandId, Bulk)> = read_part("snapshot bulks", reader)?;
        let backfills: Vec<(CommandId, Backfill)> = read_part("snapshot backfills", reader)?;
        let calendars: Kept = read_part("snapshot calendars", reader)?;
        let chains = read_part("snapshot chains", reader)?;
        let queue = read_part("snapshot queue", reader)?;
        let zone_data = read_part("snapshot zone data", reader)?;
        let mut claims = Interned::default();
        for task in chunks.iter_mut().flat_map(|chunk| chunk.0.iter_mut().flatten()) {
            claims.share(Arc::make_mut(&mut task.rules));
        }
        let tasks = Slots::from_chunks(chunks);
        let outside = |open: &Execution| open.grant().is_some_and(|grant| grant.of_node().is_none());
        let leased = executions.values().filter(|open| outside(open)).map(|open| open.id).collect();
        let mut pool_users = Users::default();
        tasks.iter().for_each(|task| pool_users.name(task.tenant, task.rules.pools()));
        let numbered =
            tenants.iter().zip(0..).map(|(tenant, number)| (tenant.name.clone(), TenantId(number)));
        let workers: Workers = workers.into_iter().collect();
        let queue = Queue::restore(queue, &workers, executions.values().map(|open| &**open));
        Ok(Self {
            logged: header.logged,
            tenant_numbers: numbered.collect(),
            tenants,
            calendars: Calendars::restore(calendars, tasks.iter()),
            chains: Chains::restore(chains, tasks.iter()),
            backfills: backfills.into_iter().collect(),
            listeners: Listeners::of(tasks.iter()),
            publications,
            zone_data,
            task_slots: tasks.iter().map(|task| ((task.tenant, task.id), task.slot)).collect(),
            tasks,
            executions,
            reopened,
            queue,
            leased,
            claims,
            pool_users,
            workers,
            gone,
            drained,
            window,
            bulks: bulks.into_iter().collect(),
            turns: header.turns,
            revisions: header.revisions,
        })
    }

    /// The hash of the whole state: equal exactly when the states are.
    #[must_use]
    pub fn state_hash(&self) -> Hash {
        self.freeze().state_hash()
    }
}

impl Snapshot {
    /// The latest instant that a leader had stamped.
    #[must_use]
    pub fn logged(&self) -> Timestamp {
        self.logged
    }

    /// The tenants, with the ends of their chains.
    #[must_use]
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// The tasks.
    #[must_use]
    pub fn tasks(&self) -> &Slots {
        &self.tasks
    }

    /// Writes the snapshot.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, writer: &mut dyn Write) -> io::Result<()> {
        let header = Header {
            logged: self.logged,
            turns: self.turns,
            revisions: self.revisions,
            chunks: self.tasks.chunks().len() as u64,
            executions: self.executions.len() as u64,
            publications: self.publications.len() as u64,
        };
        write_part(&header, writer)?;
        write_part(&self.tenants, writer)?;
        for chunk in self.tasks.chunks() {
            write_part(&**chunk, writer)?;
        }
        for execution in self.executions.values() {
            write_part(&**execution, writer)?;
        }
        for publication in &self.publications {
            write_part(publication, writer)?;
        }
        write_part(&self.reopened, writer)?;
        write_part(&self.workers.iter().collect::<Vec<_>>(), writer)?;
        write_part(&(&self.gone, &self.drained), writer)?;
        write_part(&self.window, writer)?;
        write_part(&self.bulks.iter().collect::<Vec<_>>(), writer)?;
        write_part(&self.backfills.iter().collect::<Vec<_>>(), writer)?;
        write_part(&self.calendars.keep(), writer)?;
        write_part(&self.chains, writer)?;
        write_part(&self.queue, writer)?;
        write_part(&self.zone_data, writer)
    }

    /// The hash of the state.
    #[must_use]
    pub fn state_hash(&self) -> Hash {
        struct Digesting(Sha256);
        impl Write for Digesting {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.update(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut digesting = Digesting(Sha256::new());
        let written = self.write_to(&mut digesting);
        debug_assert!(written.is_ok(), "digesting cannot fail");
        Hash(digesting.0.finalize().into())
    }
}

fn write_part<T: Serialize>(part: &T, writer: &mut dyn Write) -> io::Result<()> {
    let bytes = codec::encode(part);
    writer.write_all(&(bytes.len() as u64).to_be_bytes())?;
    writer.write_all(&bytes)
}

fn read_part<T: DeserializeOwned>(what: &'static str, reader: &mut dyn Read) -> Result<T, SnapshotError> {
    let mut length = [0_u8; 8];
    reader.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > SNAPSHOT_PART_BYTES_MAX as u64 {
        return Err(SnapshotError::PartTooLong(length));
    }
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    Ok(codec::decode::<_, SNAPSHOT_PART_BYTES_MAX>(what, &bytes)?)
}
