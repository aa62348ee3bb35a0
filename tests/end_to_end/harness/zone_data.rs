//! A program that is the same but for its zone data: they are older, and wrong about one night.
//!
//! A copy of the program under test in which one instant of the tables that were compiled into it, and their version, are
//! others: where the European Union's clocks change on 29 March 2037, in the copy they do so a week later.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use escapement_domain::schedule::zone_data_version;
use tempfile::TempDir;

use super::program::{PROGRAM, by};

/// 2037-03-29T01:00:00Z, when clocks change.
const CHANGE_S: i64 = 2_121_901_200;
const WEEK_S: i64 = 7 * 86_400;

/// The version of the older zone data.
pub(crate) const OLDER: &str = "2000a";

/// The copy; removed when dropped.
#[derive(Debug)]
pub(crate) struct Older(TempDir);

impl Older {
    /// Makes the copy.
    pub(crate) fn make() -> Self {
        let older = Self(tempfile::tempdir().expect("a temporary directory"));
        let mut bytes = fs::read(PROGRAM).expect("the program");
        let later = (CHANGE_S + WEEK_S).to_le_bytes();
        assert!(replace(&mut bytes, &CHANGE_S.to_le_bytes(), &later) > 0, "the tables hold the change");
        assert!(
            replace(&mut bytes, zone_data_version().as_bytes(), OLDER.as_bytes()) > 0,
            "the version is told"
        );
        let altered = older.0.path().join("altered");
        fs::write(&altered, bytes).expect("written");
        // By a process of its own: no process that is started meanwhile holds the copy open for writing.
        let copied = Command::new("install").args(["-m", "755"]).arg(&altered).arg(older.program()).status();
        assert!(copied.expect("install runs").success());
        fs::remove_file(altered).expect("removed");
        older
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("escapement")
    }

    /// The command as the copy carries it out.
    pub(crate) fn dress(&self, command: &Command) -> Command {
        by(&self.program(), command)
    }
}

/// Puts bytes into the place of others wherever they are, and says how often.
fn replace(bytes: &mut [u8], wanted: &[u8], instead: &[u8]) -> usize {
    let (mut from, mut found) = (0, 0);
    while let Some(offset) = bytes[from..].iter().position(|byte| *byte == wanted[0]) {
        let at = from + offset;
        from = at + 1;
        if bytes[at..].starts_with(wanted) {
            bytes[at..at + wanted.len()].copy_from_slice(instead);
            found += 1;
        }
    }
    found
}
