//! The user that programs run as, where that is not the node's own.
//!
//! Invariant: whoever becomes this user keeps no group of the node and gains no privilege any more, not by a program of
//! root's either. Absent on purpose: the groups that the user has elsewhere.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, fchown};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Gid, Uid, User, setgid, setgroups, setuid};
use rustix::fs::{FileType, fstat};
use serde::{Deserialize, Serialize};

/// A user as the configuration names it: by name, or as `UID:GID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramUser(String);

impl FromStr for ProgramUser {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        let is_user = match text.parse::<RunAs>() {
            Ok(numbers) => numbers.uid != 0,
            Err(()) => is_name && text != "root",
        };
        if is_user { Ok(Self(text.into())) } else { Err(()) }
    }
}

/// Why programs cannot run as another user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// There is no such user on this machine.
    #[error("this machine has no user `{0}`")]
    Unknown(String),
    /// The machine's users cannot be read.
    #[error("the users of this machine cannot be read")]
    Users(#[source] io::Error),
    /// The node is not root.
    #[error("only a node that runs as root can run programs as `{0}`")]
    NotRoot(String),
    /// The user cannot come to where programs work.
    #[error(
        "`{user}` cannot enter {}, below which programs work: its mode is {mode:03o}; give others the right to pass \
         (chmod o+x), or put node.data elsewhere",
        path.display()
    )]
    Barred {
        /// The user.
        user: String,
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// User and group of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunAs {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl fmt::Display for RunAs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.uid, self.gid)
    }
}

impl FromStr for RunAs {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (uid, gid) = text.split_once(':').ok_or(())?;
        Ok(Self { uid: uid.parse().map_err(drop)?, gid: gid.parse().map_err(drop)? })
    }
}

impl RunAs {
    /// Finds the user on this machine; `None` if this process is it already.
    pub(super) fn find(user: &ProgramUser) -> Result<Option<Self>, UserError> {
        let ProgramUser(text) = user;
        let found = match text.parse() {
            Ok(numbers) => numbers,
            Err(()) => {
                let known = User::from_name(text).map_err(|error| UserError::Users(error.into()))?;
                let known = known.ok_or_else(|| UserError::Unknown(text.clone()))?;
                Self { uid: known.uid.as_raw(), gid: known.gid.as_raw() }
            }
        };
        match Uid::effective() {
            own if own.as_raw() == found.uid => Ok(None),
            own if own.is_root() => Ok(Some(found)),
            _ => Err(UserError::NotRoot(text.clone())),
        }
    }

    /// Checks that the user can pass through every directory on the way to this one, which is absolute.
    pub(super) fn check_way(self, user: &ProgramUser, to: &Path) -> Result<(), UserError> {
        let barred = to.ancestors().find_map(|path| {
            let found = std::fs::metadata(path).ok()?;
            (!self.may_pass(&found)).then(|| (path.to_path_buf(), found.mode() & 0o777))
        });
        match barred {
            Some((path, mode)) => Err(UserError::Barred { user: user.0.clone(), path, mode }),
            None => Ok(()),
        }
    }

    fn may_pass(self, directory: &Metadata) -> bool {
        let bit = match () {
            () if directory.uid() == self.uid => 0o100,
            () if directory.gid() == self.gid => 0o010,
            () => 0o001,
        };
        directory.mode() & bit != 0
    }

    /// Gives a directory to the user, and to nobody else.
    pub(super) fn own(self, directory: &Path) -> io::Result<()> {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
        chown(directory, Some(self.uid), Some(self.gid))
    }

    /// Makes this process the user's, for good, with the pipes that it was given.
    pub(super) fn assume(self) -> io::Result<()> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        for pipe in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            // So that the program may open them again by name; whatever is no pipe is not the attempt's own.
            if FileType::from_raw_mode(fstat(pipe)?.st_mode) == FileType::Fifo {
                fchown(pipe, Some(self.uid), Some(self.gid))?;
            }
        }
        setgroups(&[])?;
        setgid(Gid::from_raw(self.gid))?;
        setuid(Uid::from_raw(self.uid))?;
        Ok(set_no_new_privs()?)
    }
}
