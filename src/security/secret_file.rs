//! Files that only their owner may read: made whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use escapement_actors::ports::Entropy;

/// Returns 32 random bytes as 64 hexadecimal digits, fit for an HS256 key that people can copy.
#[must_use]
pub fn random_secret(entropy: &dyn Entropy) -> String {
    format!("{:032x}{:032x}", entropy.bits(), entropy.bits())
}

/// Writes a file that only its owner may read (mode 0600), replacing what was there at once.
///
/// A reader sees the old contents or the new ones; after a crash the disk holds one of them.
///
/// # Errors
/// Any of the file system's; then what was there is still there.
pub fn write_secret(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = written_beside(path, contents)?;
    std::fs::rename(&temporary, path).inspect_err(|_| remove(&temporary))?;
    sync_parent(path)
}

/// Writes a file that only its owner may read, unless there is one. Says whether it wrote it.
///
/// Of several processes that do this at the same time, exactly one writes.
///
/// # Errors
/// Any of the file system's.
pub fn create_secret(path: &Path, contents: &[u8]) -> io::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let temporary = written_beside(path, contents)?;
    // A link, unlike a rename, does not replace.
    let linked = std::fs::hard_link(&temporary, path);
    remove(&temporary);
    match linked {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn written_beside(path: &Path, contents: &[u8]) -> io::Result<PathBuf> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    remove(&temporary);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
            file.write_all(contents)?;
            file.sync_all()
        });
    written.inspect_err(|_| remove(&temporary))?;
    Ok(temporary)
}

fn remove(path: &Path) {
    // What cannot be removed is only a leftover that nobody else may read.
    let _ = std::fs::remove_file(path);
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_owner_reads_it_and_no_leftover_stays() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("keys/admin.token");
        write_secret(&path, b"one").expect("written");
        write_secret(&path, b"two").expect("replaced");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path().join("keys")).expect("directory").count(), 1);
    }

    #[test]
    fn a_key_that_is_there_is_kept() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("jwt.key");
        assert!(create_secret(&path, b"first").expect("created"));
        assert!(!create_secret(&path, b"second").expect("kept"));
        assert_eq!(std::fs::read(&path).expect("read"), b"first");
    }
}
