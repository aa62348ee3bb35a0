//! Removes what programs leave, also what they made so that its owner cannot enter it.
//!
//! Invariants: no link is followed; what a program can pile up, however deep, takes no more descriptors and no more stack
//! than anything else. Absent on purpose: files that somebody else made or holds fast; these stay, and an error says so.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, chmod, openat, renameat, rmdir, unlinkat};
use rustix::io::Errno;

/// Removes a file, or a directory with all that it holds. What is gone already is no error.
///
/// # Errors
/// Whatever the system says of the first thing that cannot be removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Err(Errno::ISDIR) => Ok(gone(flatten(path).and_then(|()| rmdir(path)))?),
        other => Ok(gone(other)?),
    }
}

/// Empties a directory: what is deep in it is moved up into it, level by level.
fn flatten(path: &Path) -> Result<(), Errno> {
    let top = open(CWD, path)?;
    let mut moved = 0;
    loop {
        let directories = unlink_files(&top)?;
        if directories.is_empty() {
            return Ok(());
        }
        for name in directories {
            let Some(below) = found(open(&top, &*name))? else { continue };
            for deeper in unlink_files(&below)? {
                // It can be moved only by who may write into it.
                gone(open(&below, &*deeper).map(drop))?;
                gone(move_up(&below, &deeper, &top, &mut moved))?;
            }
            gone(unlinkat(&top, &*name, AtFlags::REMOVEDIR))?;
        }
    }
}

/// Opens a directory as a place, with the right to list it and to change what is in it.
fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(parent, name, flags, Mode::empty())?;
    // By its descriptor, so that no link can take its place. Somebody else's may be empty, and need no right.
    let _ = chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), Mode::RWXU);
    Ok(place)
}

/// Removes all that is no directory, and returns the names of the rest.
fn unlink_files(place: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut directories = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(openat(place, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match unlinkat(place, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => directories.push(name.to_owned()),
            other => gone(other)?,
        }
    }
    Ok(directories)
}

/// Moves a directory to a name that nothing has; `moved` counts the names.
fn move_up(from: &OwnedFd, name: &CStr, to: &OwnedFd, moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        match renameat(from, name, to, moved.to_string()) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            other => return other,
        }
    }
}

/// `None` for what is gone: a guardian and a node may remove the same at once.
fn found<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}

fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    found(result).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::mkdirat;

    use super::super::fixtures::as_nobody;
    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("its owner's");
    }

    #[test]
    fn directories_that_cannot_be_entered_are_removed_and_what_links_lead_to_is_not_touched() {
        let place = tempfile::tempdir().expect("a temporary directory");
        as_nobody(place.path(), || {
            let (left, other) = (place.path().join("left"), place.path().join("other"));
            for directory in ["left/a/b/c", "left/read-only/empty", "left/1/2", "other"] {
                fs::create_dir_all(place.path().join(directory)).expect("made");
            }
            for file in ["left/a/b/c/file", "left/read-only/file", "left/1/2/1", "left/2", "other/file"] {
                fs::write(place.path().join(file), "").expect("written");
            }
            symlink(&other, left.join("a/b/link")).expect("a link");
            symlink("nowhere", left.join("dangling")).expect("a link");
            set(&other, 0o500);
            for (closed, mode) in [("a/b/c", 0), ("a/b", 0), ("a", 0o100), ("read-only", 0o500), ("", 0)] {
                set(&left.join(closed), mode);
            }
            let refused = fs::remove_dir_all(&left).expect_err("nobody may enter it");
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);

            remove(&left).expect("removed");
            assert!(!fs::exists(&left).expect("told"));
            assert!(fs::exists(other.join("file")).expect("told"));
            assert_eq!(fs::metadata(&other).expect("told").permissions().mode() & 0o777, 0o500);
            remove(&left).expect("gone already");
        });
    }

    #[test]
    fn however_deep_it_is() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let left = place.path().join("left");
        fs::create_dir(&left).expect("made");
        let mut here = open(CWD, &left).expect("opened");
        for _ in 0..3_000 {
            mkdirat(&here, "deeper", Mode::RWXU).expect("made");
            here = open(&here, "deeper").expect("opened");
        }
        remove(&left).expect("removed");
        assert!(!fs::exists(&left).expect("told"));
    }

    #[test]
    fn what_is_held_fast_is_told() {
        let place = tempfile::tempdir().expect("a temporary directory");
        as_nobody(place.path(), || {
            fs::write(place.path().join("file"), "").expect("written");
            set(place.path(), 0o500);
            let error = remove(&place.path().join("file")).expect_err("the directory is read-only");
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            set(place.path(), 0o700);
        });
    }
}
