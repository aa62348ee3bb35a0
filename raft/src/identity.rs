//! The identity of a node's disk: who this data directory belongs to.
//!
//! Invariants: a directory is created for one node of one cluster and never serves another; its random
//! disk id is made once and synced before anything relies on it; one process uses it at a time. A vote
//! or an entry that was lost with a disk could otherwise be contradicted by the same id on an empty
//! one. Absent on purpose: how peers learn of it, see [`Member::disk`](crate::Member::disk).

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Record};
use crate::member::NodeId;
use crate::options::{OptionsError, check_cluster};
use crate::runtime;
use crate::transport::Local;

const FILE: &str = "identity";
const TEMPORARY: &str = "identity.temporary";
const LOCK: &str = "LOCK";
const LOG: &str = "raft-log";
const SNAPSHOTS: &str = "snapshots";
/// How the directory is laid out.
const FORMAT: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another process uses it. Stop that one, or name another directory.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another node. Name the right directory.
    #[error("{} belongs to node {held}, not to node {configured}", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        held: NodeId,
        /// Who asked.
        configured: NodeId,
    },
    /// It belongs to another cluster. Name the right directory.
    #[error("{} belongs to cluster {held:?}, not to {configured:?}", path.display())]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        held: String,
        /// Who asked.
        configured: String,
    },
    /// What it says of itself is damaged or missing. Restore it from a backup, or treat the disk as
    /// lost.
    #[error("the identity in {} is damaged: {reason}", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The cluster's name cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The disk said no.
    #[error("the data directory cannot be used")]
    Storage(#[from] io::Error),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    cluster: String,
    node: NodeId,
    disk: u128,
}

/// A data directory that belongs to this process until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Identity,
    _lock: Arc<File>,
}

impl DataDirectory {
    /// Opens a node's directory, or makes it when there is none.
    ///
    /// # Errors
    /// [`IdentityError`] when it is in use, belongs to somebody else, is damaged or cannot be written.
    pub fn open(path: impl Into<PathBuf>, cluster: &str, node: NodeId) -> Result<Self, IdentityError> {
        check_cluster(cluster)?;
        let path = path.into();
        fs::create_dir_all(&path)?;
        let lock = lock(&path)?;
        let identity = match fs::read(path.join(FILE)) {
            Ok(bytes) => read(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&path, cluster, node)?,
            Err(error) => return Err(error.into()),
        };
        if identity.cluster != cluster {
            let (held, configured) = (identity.cluster, cluster.to_owned());
            return Err(IdentityError::OtherCluster { path, held, configured });
        }
        if identity.node != node {
            return Err(IdentityError::OtherNode { path, held: identity.node, configured: node });
        }
        Ok(Self { path, identity, _lock: Arc::new(lock) })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node's number.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    /// The disk's identity, made when the directory was.
    #[must_use]
    pub fn disk(&self) -> u128 {
        self.identity.disk
    }

    /// What a transport says of this node to its peers.
    #[must_use]
    pub fn local(&self) -> Local {
        let Identity { cluster, node, disk, .. } = self.identity.clone();
        Local { cluster, node, disk }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path.join(SNAPSHOTS)
    }
}

/// Held by whatever still uses the storage; the directory is given back when the last one is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Open(Arc<Option<DataDirectory>>);

impl Open {
    pub(crate) fn new(directory: Option<DataDirectory>) -> Self {
        Self(Arc::new(directory))
    }

    pub(crate) fn watch(&self) -> Weak<Option<DataDirectory>> {
        Arc::downgrade(&self.0)
    }
}

fn lock(path: &Path) -> Result<File, IdentityError> {
    let file = File::options().create(true).truncate(false).write(true).open(path.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(IdentityError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn read(path: &Path, bytes: &[u8]) -> Result<Identity, IdentityError> {
    let damaged = |reason: String| IdentityError::Damaged { path: path.to_owned(), reason };
    let Some((record, checksum)) = bytes.split_last_chunk::<4>() else {
        return Err(damaged("it is too short".to_owned()));
    };
    let decoded = codec::decode::<Identity>(Record::Identity, record);
    if let Err(error @ CodecError::Version { .. }) = decoded {
        return Err(damaged(error.to_string()));
    }
    if crc32c::crc32c(record).to_le_bytes() != *checksum {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    let identity = decoded.map_err(|error| damaged(error.to_string()))?;
    if identity.format != FORMAT {
        return Err(damaged(format!("this node knows format {FORMAT}; the disk holds {}", identity.format)));
    }
    Ok(identity)
}

fn create(path: &Path, cluster: &str, node: NodeId) -> Result<Identity, IdentityError> {
    for left in [LOG, SNAPSHOTS] {
        if path.join(left).exists() {
            let reason = format!("there is a {left} but no identity");
            return Err(IdentityError::Damaged { path: path.to_owned(), reason });
        }
    }
    let disk = u128::from(runtime::random()) << 64 | u128::from(runtime::random());
    let identity = Identity { format: FORMAT, cluster: cluster.to_owned(), node, disk };
    let mut bytes = codec::encode(Record::Identity, &identity).map_err(io::Error::from)?;
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    let mut file = File::create(path.join(TEMPORARY))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(path.join(TEMPORARY), path.join(FILE))?;
    File::open(path)?.sync_all()?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, cluster: &str, node: NodeId) -> String {
        DataDirectory::open(path, cluster, node).unwrap_err().to_string()
    }

    #[test]
    fn a_directory_keeps_its_disk_and_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let first = DataDirectory::open(path, "c", 1).unwrap();
        assert_eq!(refusal(path, "c", 1), format!("{} is in use by another process", path.display()));
        let disk = first.disk();
        drop(first);
        assert_eq!(DataDirectory::open(path, "c", 1).unwrap().disk(), disk);
        assert!(refusal(path, "c", 2).ends_with("belongs to node 1, not to node 2"));
        assert!(refusal(path, "d", 1).ends_with("belongs to cluster \"c\", not to \"d\""));
    }

    #[test]
    fn two_directories_are_two_disks() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let a = DataDirectory::open(a.path(), "c", 1).unwrap();
        let b = DataDirectory::open(b.path(), "c", 1).unwrap();
        assert_ne!(a.disk(), b.disk());
    }

    #[test]
    fn a_damaged_identity_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        drop(DataDirectory::open(path, "c", 1).unwrap());
        let whole = fs::read(path.join(FILE)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            fs::write(path.join(FILE), bytes).unwrap();
            assert!(refusal(path, "c", 1).contains("is damaged"), "byte {at}");
        }
        fs::remove_file(path.join(FILE)).unwrap();
        fs::create_dir(path.join(LOG)).unwrap();
        assert!(refusal(path, "c", 1).ends_with("there is a raft-log but no identity"));
    }
}
