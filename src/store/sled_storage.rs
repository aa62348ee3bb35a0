//! The storage of a node: sled, with checksums of ours, and a sync that deserves the name.
//!
//! sled's own `flush` ends in `sync_file_range`, which covers neither the file's metadata nor the drive's cache, and sled
//! never syncs the blob files into which it moves pages that outgrow a segment. So [`Storage::sync`] flushes, then syncs
//! the blobs, then the `db` file; and segments are large enough that pages of event blocks stay out of blobs: sixteen
//! values of 64 KiB fit into a quarter of one.
//!
//! A batch goes through one transaction over its trees, which sled recovers as a whole. A lock of ours lets nobody read
//! between its changes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use escapement_actors::ports::{Storage, Tree, Write};
use futures::future::BoxFuture;
use parking_lot::RwLock;
use sled::Transactional as _;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::record::{open_record, seal_record};
use super::syncer::{Poison, SyncStep, Syncer};

/// Bytes of one of sled's segments. Written into the database at its creation; another value would not open it.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// How to keep a storage on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageOptions {
    /// Bytes of pages that sled keeps in memory.
    pub cache_bytes: u64,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024 }
    }
}

/// Why a storage does not open. Nothing was changed; do not go on with an empty one instead.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds it.
    #[error("the storage in {} is held by another process: is a node already running on this data directory?", path.display())]
    Held {
        /// Its directory.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("the storage in {} does not open", path.display())]
    Failed {
        /// Its directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// An ordered map of byte strings on a disk, cut into trees.
pub struct SledStorage {
    // Ends, and lets go of the database, before `disk` does.
    syncer: Syncer,
    disk: Arc<Disk>,
}

/// The database, shared with the storage's thread.
struct Disk {
    trees: BTreeMap<Tree, sled::Tree>,
    visible: RwLock<()>,
    poison: Poison,
    database: sled::Db,
}

impl std::fmt::Debug for SledStorage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SledStorage").field("poison", &self.disk.poison).finish_non_exhaustive()
    }
}

impl SledStorage {
    /// Opens the storage in the directory `path`, or makes one there.
    ///
    /// # Errors
    /// [`OpenError`] when another process holds it, or the disk fails.
    pub fn open(path: &Path, options: &StorageOptions) -> Result<Self, OpenError> {
        Self::open_with(path, options, |step| step)
    }

    /// Opens a storage whose sync step is wrapped, so that a test can make it fail.
    fn open_with(
        path: &Path,
        options: &StorageOptions,
        wrap: impl FnOnce(SyncStep) -> SyncStep,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Failed { path: path.to_path_buf(), source };
        let mut config = sled::Config::new().path(path).cache_capacity(options.cache_bytes);
        // sled's own thread would try a failed sync again and only log it: this storage syncs when it is told to.
        config = config.segment_size(SEGMENT_BYTES).flush_every_ms(None);
        let database = config.open().map_err(|error| match io::Error::from(error) {
            // sled hides the kind of the lock's failure behind a text.
            source if source.to_string().contains("could not acquire lock") => {
                OpenError::Held { path: path.to_path_buf() }
            }
            source => failed(source),
        })?;
        let mut trees = BTreeMap::new();
        for tree in Tree::ALL {
            trees.insert(tree, database.open_tree(tree.name()).map_err(|error| failed(error.into()))?);
        }
        let poison = Poison::default();
        let mut step = sync_step(&database, path).map_err(failed)?;
        step().and_then(|()| sync_names(path)).map_err(failed)?;
        let syncer = Syncer::start(wrap(step), poison.clone()).map_err(failed)?;
        Ok(Self { syncer, disk: Arc::new(Disk { trees, visible: RwLock::new(()), poison, database }) })
    }

    /// Returns how many bytes the storage takes on the disk.
    ///
    /// # Errors
    /// Any of the file system's.
    pub fn bytes_on_disk(&self) -> io::Result<u64> {
        self.disk.database.size_on_disk().map_err(Into::into)
    }
}

impl Disk {
    fn tree(&self, tree: Tree) -> &sled::Tree {
        // `open` put every tree of `Tree::ALL` there.
        &self.trees[&tree]
    }

    fn write(&self, batch: Vec<Write>) -> io::Result<()> {
        self.poison.check()?;
        self.write_batch(batch).map_err(|error| self.poison.set("write", io::Error::from(error)))
    }

    fn write_batch(&self, batch: Vec<Write>) -> Result<(), sled::Error> {
        let mut batches: BTreeMap<Tree, sled::Batch> = BTreeMap::new();
        for Write { tree, key, value } in batch {
            let batch = batches.entry(tree).or_default();
            match value {
                Some(value) => {
                    let record = seal_record(tree, &key, &value);
                    batch.insert(key, record);
                }
                None => batch.remove(key),
            }
        }
        let _exclusive = self.visible.write();
        if batches.len() <= 1 {
            // One tree needs no transaction: a batch is recovered as a whole, too.
            return batches.into_iter().try_for_each(|(tree, batch)| self.tree(tree).apply_batch(batch));
        }
        let trees: Vec<&sled::Tree> = batches.keys().map(|tree| self.tree(*tree)).collect();
        let outcome = trees[..].transaction(|views| {
            for (view, batch) in views.iter().zip(batches.values()) {
                view.apply_batch(batch)?;
            }
            Ok::<_, ConflictableTransactionError<Infallible>>(())
        });
        match outcome {
            Ok(()) => Ok(()),
            Err(TransactionError::Storage(error)) => Err(error),
            Err(TransactionError::Abort(never)) => match never {},
        }
    }
}

impl Storage for SledStorage {
    fn write(&self, batch: Vec<Write>) -> io::Result<()> {
        self.disk.write(batch)
    }

    fn write_behind(&self, batch: Vec<Write>) -> BoxFuture<'static, io::Result<()>> {
        let disk = self.disk.clone();
        self.syncer.write(Box::new(move || disk.write(batch)))
    }

    fn get(&self, tree: Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let _shared = self.disk.visible.read();
        match self.disk.tree(tree).get(key)? {
            Some(record) => Ok(Some(open_record(tree, key, &record)?)),
            None => Ok(None),
        }
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let _shared = self.disk.visible.read();
        let open = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, record) = pair?;
            let value = open_record(tree, &key, &record)?;
            Ok((key.to_vec(), value))
        };
        let range = self.disk.tree(tree).range(from..to);
        if reverse {
            range.rev().take(limit).map(open).collect()
        } else {
            range.take(limit).map(open).collect()
        }
    }

    fn clear(&self, tree: Tree) -> io::Result<()> {
        self.disk.poison.check()?;
        let _exclusive = self.disk.visible.write();
        self.disk.tree(tree).clear().map_err(|error| self.disk.poison.set("clear", io::Error::from(error)))
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        self.syncer.sync()
    }
}

/// Makes the names of the storage's files, and of its directory, last.
fn sync_names(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Returns what makes everything in the database last: sled's flush, then every blob that is new, then the `db` file.
fn sync_step(database: &sled::Db, path: &Path) -> io::Result<SyncStep> {
    let database = database.clone();
    let db_file = File::open(path.join("db"))?;
    let mut blobs = Blobs::of(path)?;
    Ok(Box::new(move || {
        database.flush()?;
        blobs.sync_new()?;
        db_file.sync_data()
    }))
}

/// The files into which sled moves pages that outgrow a segment. Their names are positions in its log: they only grow,
/// and a file is never written again.
struct Blobs {
    path: PathBuf,
    directory: File,
    listed_at: Option<SystemTime>,
    newest_synced: i64,
}

impl Blobs {
    fn of(storage: &Path) -> io::Result<Self> {
        let path = storage.join("blobs");
        let directory = File::open(&path)?;
        Ok(Self { path, directory, listed_at: None, newest_synced: i64::MIN })
    }

    fn sync_new(&mut self) -> io::Result<()> {
        let changed_at = self.directory.metadata()?.modified()?;
        // A change within the clock's resolution of the last one does not show, so a recent listing is not trusted.
        let settled = self.listed_at.is_some_and(|listed| listed == changed_at);
        if settled && changed_at.elapsed().is_ok_and(|age| age.as_millis() > 1_000) {
            return Ok(());
        }
        let mut newest = self.newest_synced;
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let Some(position) = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok()) else {
                continue;
            };
            if position <= self.newest_synced {
                continue;
            }
            match File::open(entry.path()) {
                Ok(file) => file.sync_all()?,
                // sled removed it meanwhile: nothing points to it any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            newest = newest.max(position);
        }
        self.directory.sync_all()?;
        self.newest_synced = newest;
        self.listed_at = Some(changed_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::executor::block_on;

    use super::super::conformance;
    use super::*;

    fn small() -> StorageOptions {
        StorageOptions { cache_bytes: 8 * 1024 * 1024 }
    }

    fn open(path: &Path) -> SledStorage {
        SledStorage::open(path, &small()).expect("opens")
    }

    fn put(tree: Tree, key: &[u8], value: &[u8]) -> Write {
        Write { tree, key: key.to_vec(), value: Some(value.to_vec()) }
    }

    #[test]
    fn sled_conforms() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let count = std::cell::Cell::new(0);
        conformance(|| {
            count.set(count.get() + 1);
            Arc::new(open(&directory.path().join(count.get().to_string())))
        });
    }

    #[test]
    fn what_was_synced_is_there_after_reopening() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let storage = open(directory.path());
        storage
            .write(vec![put(Tree::Executions, b"a", b"1"), put(Tree::Checkpoints, b"a", b"2")])
            .expect("write");
        block_on(storage.sync()).expect("sync");
        drop(storage);
        let storage = open(directory.path());
        assert_eq!(storage.get(Tree::Executions, b"a").expect("get"), Some(b"1".to_vec()));
        assert_eq!(storage.get(Tree::Checkpoints, b"a").expect("get"), Some(b"2".to_vec()));
    }

    #[test]
    fn a_flipped_byte_is_found_and_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let storage = open(directory.path());
        storage
            .write(vec![put(Tree::Executions, b"a", b"1"), put(Tree::Executions, b"b", b"2")])
            .expect("write");
        let tree = storage.disk.tree(Tree::Executions);
        let mut record = tree.get(b"b").expect("get").expect("there").to_vec();
        record[5] ^= 1;
        tree.insert(b"b", record).expect("insert");
        let expected = "record in tree `executions` under key 0x62 does not match its checksum: \
                        the disk returned something else than was written";
        assert_eq!(storage.get(Tree::Executions, b"b").expect_err("flipped").to_string(), expected);
        let scanned = storage.scan(Tree::Executions, b"", b"z", 10, false).expect_err("flipped");
        assert_eq!(scanned.to_string(), expected, "a scan skips nothing");
        assert_eq!(storage.get(Tree::Executions, b"a").expect("intact"), Some(b"1".to_vec()));
    }

    #[test]
    fn after_a_failed_sync_nothing_is_written_any_more() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let failing = Arc::new(AtomicBool::new(false));
        let fails = Arc::clone(&failing);
        let storage = SledStorage::open_with(directory.path(), &small(), |mut step| {
            Box::new(move || {
                if fails.load(Ordering::SeqCst) { Err(io::Error::other("no space left")) } else { step() }
            })
        })
        .expect("opens");
        storage.write(vec![put(Tree::Executions, b"a", b"1")]).expect("write");
        block_on(storage.sync()).expect("sync");

        failing.store(true, Ordering::SeqCst);
        assert_eq!(block_on(storage.sync()).expect_err("fails").to_string(), "sync failed: no space left");
        failing.store(false, Ordering::SeqCst);

        let closed = "this storage failed before and is closed: sync failed: no space left";
        assert_eq!(storage.write(vec![]).expect_err("closed").to_string(), closed);
        assert_eq!(storage.clear(Tree::Output).expect_err("closed").to_string(), closed);
        assert_eq!(block_on(storage.sync()).expect_err("closed").to_string(), closed);
    }

    #[test]
    fn a_second_process_is_told_who_holds_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let _first = open(directory.path());
        let error = SledStorage::open(directory.path(), &small()).expect_err("held");
        assert!(matches!(error, OpenError::Held { .. }), "{error:?}");
    }

    #[test]
    fn pages_of_event_blocks_stay_out_of_blobs() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let storage = open(directory.path());
        let block = vec![1_u8; 64 * 1024];
        for key in 0..200_u32 {
            storage.write(vec![put(Tree::EventBlocks, &key.to_be_bytes(), &block)]).expect("write");
        }
        block_on(storage.sync()).expect("sync");
        let blobs = std::fs::read_dir(directory.path().join("blobs")).expect("directory").count();
        assert_eq!(blobs, 0);
    }
}
