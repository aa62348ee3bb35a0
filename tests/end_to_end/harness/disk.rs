//! A disk that fails: a small library, preloaded into the program, between it and the system's files.
//!
//! What it does is told in `disk.c` beside these tests. It is compiled once in a run, with `cc`, which building the program
//! takes anyway.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// How the disk fails, once it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every sync is an error.
    SyncsFail,
    /// The power goes: what was not synced is gone.
    PowerCut,
    /// The power goes: of what was not synced, writes and ends of writes are gone by chance.
    TornPowerCut,
}

/// A disk under some directory of a node.
#[derive(Debug)]
pub(crate) struct Disk {
    under: PathBuf,
    mode: Mode,
    trigger: PathBuf,
    _directory: TempDir,
}

impl Disk {
    /// A disk that fails in this way when it is told to; until then it is a good one.
    pub(crate) fn new(under: &Path, mode: Mode) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let under = fs::canonicalize(under).expect("the directory is there");
        Self { under, mode, trigger: directory.path().join("now"), _directory: directory }
    }

    /// Puts it under a program that is about to start.
    pub(crate) fn slide_under(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("DISK_UNDER", &self.under)
            .env("DISK_TRIGGER", &self.trigger);
        command.env("DISK_MODE", if self.mode == Mode::SyncsFail { "fail" } else { "cut" });
        if self.mode == Mode::TornPowerCut {
            command.env("DISK_KEEP", "1");
        }
    }

    /// From now on it fails.
    pub(crate) fn fail(&self) {
        fs::write(&self.trigger, "").expect("written");
    }

    /// How many syncs have failed, or how many writes the power cut undid.
    pub(crate) fn failures(&self) -> u64 {
        fs::metadata(&self.trigger).expect("it was told to fail").len()
    }
}

/// The compiled library.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/disk.c");
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&place).arg(source).args(["-ldl", "-lpthread"]);
        let status = compiler.status().expect("cc runs");
        assert!(status.success(), "cc ended with {status}");
        place
    })
}
