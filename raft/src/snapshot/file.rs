//! Snapshots as files of one directory.
//!
//! A snapshot is written under a temporary name, synced, renamed to its own name, and the directory
//! is synced: after a crash it is there whole or not at all. Temporary files of an earlier life are
//! removed on opening. Absent on purpose: the bytes inside, see `format`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Draft, SnapshotStore, Stored, Unpublished};
use crate::limits::SNAPSHOTS_KEPT;

const SUFFIX: &str = ".snapshot";
const TEMPORARY: &str = ".temporary";

/// The snapshots of one directory.
#[derive(Debug)]
pub(crate) struct FileSnapshots {
    directory: PathBuf,
    serial: AtomicU64,
}

impl FileSnapshots {
    /// Opens or creates the directory and removes what was left unfinished.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(TEMPORARY) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { directory, serial: AtomicU64::new(0) })
    }

    /// Every published snapshot, oldest first.
    fn published(directory: &Path) -> io::Result<Vec<Stored>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(name) = name.strip_suffix(SUFFIX) {
                found.push(Stored { name: name.to_owned(), bytes: entry.metadata()?.len() });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

impl SnapshotStore for FileSnapshots {
    fn latest(&self) -> io::Result<Option<Stored>> {
        Ok(Self::published(&self.directory)?.pop())
    }

    fn create(&self) -> io::Result<Box<dyn Draft>> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{serial}{TEMPORARY}"));
        let file = File::create(&path)?;
        let temporary = Temporary { directory: self.directory.clone(), path };
        Ok(Box::new(DraftFile { file: BufWriter::with_capacity(1 << 20, file), temporary }))
    }

    fn open(&self, stored: &Stored) -> io::Result<Box<dyn Read + Send>> {
        let path = self.directory.join(format!("{}{SUFFIX}", stored.name));
        Ok(Box::new(File::open(path)?))
    }
}

/// A temporary file, removed when it is forgotten.
struct Temporary {
    directory: PathBuf,
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already when it was published; otherwise the next start removes it too.
        let _ = fs::remove_file(&self.path);
    }
}

struct DraftFile {
    file: BufWriter<File>,
    temporary: Temporary,
}

impl Write for DraftFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Draft for DraftFile {
    fn sync(mut self: Box<Self>) -> io::Result<Box<dyn Unpublished>> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(Box::new(self.temporary))
    }
}

impl Unpublished for Temporary {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(&self.path)?))
    }

    fn publish(self: Box<Self>, name: &str) -> io::Result<Stored> {
        let path = self.directory.join(format!("{name}{SUFFIX}"));
        let bytes = fs::metadata(&self.path)?.len();
        fs::rename(&self.path, &path)?;
        File::open(&self.directory)?.sync_all()?;
        let mut published = FileSnapshots::published(&self.directory)?;
        published.truncate(published.len().saturating_sub(SNAPSHOTS_KEPT));
        for old in published.into_iter().filter(|old| old.name != name) {
            fs::remove_file(self.directory.join(format!("{}{SUFFIX}", old.name)))?;
        }
        Ok(Stored { name: name.to_owned(), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(store: &FileSnapshots, name: &str) -> Box<dyn Unpublished> {
        let mut draft = store.create().unwrap();
        draft.write_all(name.as_bytes()).unwrap();
        draft.sync().unwrap()
    }

    #[test]
    fn the_last_two_are_kept_and_the_unfinished_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileSnapshots::open(directory.path()).unwrap();
        assert_eq!(store.latest().unwrap(), None);
        for name in ["1", "2", "3"] {
            write(&store, name).publish(name).unwrap();
        }
        std::mem::forget(write(&store, "4"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        let store = FileSnapshots::open(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        let latest = store.latest().unwrap().unwrap();
        let mut content = String::new();
        store.open(&latest).unwrap().read_to_string(&mut content).unwrap();
        assert_eq!((latest.name.as_str(), content.as_str()), ("3", "3"));
    }

    #[test]
    fn what_is_not_published_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileSnapshots::open(directory.path()).unwrap();
        drop(write(&store, "1"));
        assert_eq!(store.latest().unwrap(), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
