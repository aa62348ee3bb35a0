//! An event log at rest: the data directory of a stopped node, a copy of it, or the blocks that a running node told.
//!
//! Whatever it is, the same code verifies, exports and replays it. Invariant: a directory that a running process holds is
//! refused, and stays held by us while it is read. Opening the storage may finish what a crash interrupted there; nothing
//! else is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use escapement_actors::ports::Storage;
use escapement_actors::projection::{EventLog, Failure, Fault, checkpoints};
use escapement_domain::event::Event;
use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::record::{ChainHead, Hash};
use escapement_domain::replica::CLUSTER_TENANT;

use super::fires::Unaccountable;
use crate::store::{OpenError, SledStorage, StorageOptions};

/// The file that a running node holds locked.
const LOCK: &str = "LOCK";
/// The directory of the storage.
const STORE: &str = "store";

/// Why an event log could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is no node's data.
    #[error("there is no node's data in {}: it has no directory `{STORE}`", path.display())]
    NoData {
        /// The directory.
        path: PathBuf,
    },
    /// A process runs on it.
    #[error("{} is held by a running node: ask the node, or stop it first", path.display())]
    Running {
        /// The directory.
        path: PathBuf,
    },
    /// The storage does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The storage failed, or the log's end cannot be read.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A record is not what it was.
    #[error("record {} of tenant {tenant}: {}", .fault.sequence, .fault.kind)]
    Broken {
        /// The tenant's name, as far as it is known.
        tenant: String,
        /// What is wrong, and where.
        fault: Fault,
    },
    /// The chains hold, each for itself, but an event between them is missing: the end of one was cut off.
    #[error("{}", told(*.log_index, *.ordinal, .ends))]
    CutOff {
        /// The log entry.
        log_index: u64,
        /// The event's place among those of the entry, from 0.
        ordinal: u32,
        /// The tenants whose chains end before it, and the first sequence that is not there: it is one of them.
        ends: Vec<(String, u64)>,
    },
    /// There are only some tenants' events, and the state rests on those of all.
    #[error("the state rests on the events of every tenant, and these are not all")]
    Partial,
    /// The events are sound, and lead to another state than the node has from which they were fetched.
    #[error("the events lead to the state {found}, and the node has the state {expected}")]
    OtherState {
        /// The hash of the node's state.
        expected: Hash,
        /// The hash of the state that was rebuilt.
        found: Hash,
    },
    /// There is no such tenant.
    #[error("there is no tenant `{name}` in this event log")]
    NoSuchTenant {
        /// The name that was asked for.
        name: String,
    },
    /// There is no such task.
    #[error("there is no task {task} in this event log")]
    NoSuchTask {
        /// The task that was asked for.
        task: TaskId,
    },
    /// A sequence names a record only within a tenant.
    #[error("a sequence counts the events of one tenant, and there are {tenants}: say which, or name a task")]
    WhichTenant {
        /// How many tenants there are.
        tenants: usize,
    },
    /// No account of the instants can be given.
    #[error(transparent)]
    Unaccountable(#[from] Unaccountable),
    /// What was asked for could not be written.
    #[error("the output cannot be written")]
    Write(#[from] io::Error),
}

/// An event log at rest.
pub struct Archive {
    log: EventLog,
    names: BTreeMap<TenantId, Arc<str>>,
    whole: bool,
    state: Option<Hash>,
    // What the storage lies on; let go when the reading is over.
    _place: Option<Box<dyn Send>>,
}

/// A tenant's chain as the replicated state of a running node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownChain {
    /// The tenant's number.
    pub tenant: TenantId,
    /// Its name.
    pub name: Arc<str>,
    /// Where the chain ends.
    pub head: ChainHead,
}

/// What the replicated state of a running node knows of the events that are fetched from it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The chains.
    pub chains: &'a [KnownChain],
    /// Whether they are those of every tenant.
    pub whole: bool,
    /// The hash of the state to which they lead, if it was asked.
    pub state: Option<Hash>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Archive").field("tenants", &self.names).finish_non_exhaustive()
    }
}

impl Archive {
    /// Opens the data directory of a stopped node, or a copy of it.
    ///
    /// # Errors
    /// [`AuditError`] when it is none, when a process runs on it, or when its log cannot be read.
    pub fn open(data: &Path) -> Result<Self, AuditError> {
        let store = data.join(STORE);
        if !store.is_dir() {
            return Err(AuditError::NoData { path: data.to_path_buf() });
        }
        let lock = hold(data)?;
        let storage = SledStorage::open(&store, &StorageOptions::default())?;
        let mut archive = Self::of(Arc::new(storage))?;
        archive._place = lock.map(|lock| Box::new(lock) as Box<dyn Send>);
        Ok(archive)
    }

    /// Reads the event log in a storage. Its chains end where their blocks do, or where the read models beside it say that
    /// they once reached.
    ///
    /// # Errors
    /// [`AuditError`] when it cannot be read.
    pub fn of(storage: Arc<dyn Storage>) -> Result<Self, AuditError> {
        let mut heads = EventLog::open(storage.clone())?.heads();
        for (tenant, reached) in checkpoints(&*storage)? {
            let head = heads.entry(tenant).or_default();
            if head.sequence < reached.sequence {
                *head = ChainHead { sequence: reached.sequence, ..ChainHead::default() };
            }
        }
        let log = EventLog::ending_at(storage, heads);
        let mut names = BTreeMap::from([(TenantId::CLUSTER, Arc::from(CLUSTER_TENANT))]);
        // A fault in the cluster's chain is named by whoever reads it; names behind it are numbers then.
        for record in log.walk_from(TenantId::CLUSTER, 1).map_while(Result::ok) {
            if let Event::TenantAdded { number, name } = record.event {
                names.insert(number, name);
            }
        }
        Ok(Self { log, names, whole: true, state: None, _place: None })
    }

    /// Reads blocks that were fetched from a running node into a storage at `place`, which goes with the archive.
    #[must_use]
    pub fn fetched(storage: Arc<dyn Storage>, known: &Known<'_>, place: Box<dyn Send>) -> Self {
        let heads = known.chains.iter().map(|chain| (chain.tenant, chain.head)).collect();
        let names = known.chains.iter().map(|chain| (chain.tenant, chain.name.clone())).collect();
        let log = EventLog::ending_at(storage, heads);
        Self { log, names, whole: known.whole, state: known.state, _place: Some(place) }
    }

    /// The event log.
    #[must_use]
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// The tenants that have events, and their names.
    pub fn tenants(&self) -> impl Iterator<Item = (TenantId, String)> + '_ {
        self.log.heads().into_keys().map(|tenant| (tenant, self.name(tenant)))
    }

    /// Every tenant that has events or a name.
    pub(super) fn named(&self) -> impl Iterator<Item = TenantId> + '_ {
        self.names.keys().copied().chain(self.log.heads().into_keys()).collect::<BTreeSet<_>>().into_iter()
    }

    /// The name of a tenant; its number where the name is not known.
    #[must_use]
    pub fn name(&self, tenant: TenantId) -> String {
        self.names.get(&tenant).map_or_else(|| format!("#{}", tenant.0), ToString::to_string)
    }

    /// Whether the events of every tenant are here.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.whole
    }

    /// The hash of the state to which all events lead, as the node says from which they were fetched.
    #[must_use]
    pub fn state(&self) -> Option<Hash> {
        self.state
    }

    /// The number of a tenant.
    ///
    /// # Errors
    /// [`AuditError::NoSuchTenant`].
    pub fn number(&self, name: &str) -> Result<TenantId, AuditError> {
        let found = self.names.iter().find(|(_, known)| &***known == name);
        found.map(|(number, _)| *number).ok_or_else(|| AuditError::NoSuchTenant { name: name.into() })
    }

    /// A fault with the name of its tenant.
    pub(super) fn broken(&self, fault: Fault) -> AuditError {
        AuditError::Broken { tenant: self.name(fault.tenant), fault }
    }
}

/// What is known of an event that is missing because the end of a chain was cut off.
fn told(log_index: u64, ordinal: u32, ends: &[(String, u64)]) -> String {
    match ends {
        [(tenant, sequence)] => format!(
            "record {sequence} of tenant {tenant}: it is missing, with event {ordinal} of log entry {log_index}: the end of \
             the chain was cut off"
        ),
        ends => {
            let ends: Vec<String> = ends
                .iter()
                .map(|(tenant, sequence)| format!("record {sequence} of tenant {tenant}"))
                .collect();
            format!(
                "event {ordinal} of log entry {log_index} is missing: the end of a chain was cut off, from {}",
                ends.join(" or from ")
            )
        }
    }
}

/// Takes the lock that a running node would hold; none if the copy came without the file.
fn hold(data: &Path) -> Result<Option<File>, AuditError> {
    let path = data.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Failed { path, source }.into()),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(AuditError::Running { path: data.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Failed { path, source }.into()),
    }
}
