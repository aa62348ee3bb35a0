//! Faults, and the list in which they come.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why there is no configuration. Do not go on with another one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It has faults.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faulty(Vec<Fault>),
    /// It has no such node.
    #[error("there is no node {id}; the file lists {known:?}")]
    NoSuchNode {
        /// The id that was asked for.
        id: u64,
        /// Those that there are.
        known: Vec<u64>,
    },
}

/// Where a value, or the lack of one, is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere in particular.
    File,
    /// In this line, counted from 1.
    Line(usize),
    /// In this variable of the environment.
    Variable(String),
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as it was named.
    pub file: PathBuf,
    /// Where it is.
    pub place: Place,
    /// The key, such as `raft.heartbeat`; empty when the file is not TOML there.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File => write!(formatter, "{}: ", self.file.display())?,
            Place::Line(line) => write!(formatter, "{}:{line}: ", self.file.display())?,
            Place::Variable(name) => write!(formatter, "{name}: ")?,
        }
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.problem)
    }
}

/// The faults found so far in one file.
#[derive(Debug)]
pub(super) struct Faults {
    file: PathBuf,
    found: Vec<Fault>,
}

impl Faults {
    pub(super) fn of(file: &Path) -> Self {
        Self { file: file.to_path_buf(), found: Vec::new() }
    }

    pub(super) fn add(&mut self, place: &Place, key: impl Into<String>, problem: impl Into<String>) {
        self.found.push(Fault {
            file: self.file.clone(),
            place: place.clone(),
            key: key.into(),
            problem: problem.into(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns them in the order of the file.
    pub(super) fn into_error(mut self) -> ConfigError {
        self.found.sort_by(|left, right| left.place.cmp(&right.place));
        ConfigError::Faulty(self.found)
    }
}

/// Returns the name among `known` that somebody who wrote `found` most likely meant.
pub(super) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| (distance(&found, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Counts the letters to add, remove, change or swap that lead from one word to the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let changed = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_if_it_is_near() {
        let known = ["heartbeat", "election", "log_entries_kept"];
        assert_eq!(nearest("heartbeet", known), Some("heartbeat"));
        assert_eq!(nearest("haertbeat", known), Some("heartbeat"));
        assert_eq!(nearest("Log-Entries-Keep", known), Some("log_entries_kept"));
        assert_eq!(nearest("slots", known), None);
    }
}
