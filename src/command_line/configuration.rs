//! `config check`: every fault of a configuration, before a node refuses it.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::connection::Output;
use super::failure::Failure;
use super::screen::{Screen, note};
use super::table::visible;
use crate::config::{self, ConfigError, Fault, Place};

const CHECK_EXAMPLES: &str = "\
Examples:
  escapement config check cluster.toml
  ESCAPEMENT__EXECUTION__SLOTS=64 escapement config check cluster.toml     overrides are checked too

Prints each fault with its key, its line and what is allowed, and ends with status 1 if there is one.";

/// Commands on configurations.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every fault of a configuration
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check {
        /// The configuration
        file: PathBuf,
    },
}

impl ConfigCommand {
    pub(super) fn run(self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Self::Check { file } = self;
        match (config::check(&file), screen.output) {
            (Ok(said), Output::Table) => screen.line(&said),
            (Ok(_), Output::Json) => screen.line(&json!({ "faults": [] }).to_string()),
            (Err(ConfigError::Faulty(faults)), Output::Json) => {
                let faults: Vec<Value> = faults.iter().map(to_json).collect();
                screen.line(&json!({ "faults": faults }).to_string())?;
                Err(Failure::Told)
            }
            (Err(ConfigError::Faulty(faults)), Output::Table) => {
                faults.iter().for_each(|fault| note(&visible(&fault.to_string())));
                let plural = if faults.len() == 1 { "" } else { "s" };
                Err(Failure::stopped(format!("{} has {} fault{plural}", file.display(), faults.len())))
            }
            (Err(other), _) => Err(Failure::stopped(other)),
        }
    }
}

fn to_json(fault: &Fault) -> Value {
    let (line, variable) = match &fault.place {
        Place::File => (None, None),
        Place::Line(line) => (Some(line), None),
        Place::Variable(name) => (None, Some(name)),
    };
    json!({ "file": fault.file, "key": fault.key, "line": line, "variable": variable, "problem": fault.problem })
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;
    use crate::command_line::zone::Zone;

    #[test]
    fn scripts_get_each_fault_with_its_key_and_line() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("cluster.toml");
        std::fs::write(&file, "[cluster]\nname = 7\n").expect("written");
        let mut out = Vec::new();
        let checked = ConfigCommand::Check { file }.run(&mut Screen {
            out: &mut out,
            output: Output::Json,
            zone: Zone(Tz::UTC),
        });
        assert!(matches!(checked, Err(Failure::Told)));
        let found: Value = serde_json::from_slice(&out).expect("JSON");
        let faults = found["faults"].as_array().expect("a list");
        assert!(faults.iter().any(|fault| fault["key"] == "cluster.name" && fault["line"] == 2), "{found}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let mut out = Vec::new();
        let command = ConfigCommand::Check { file: "/nowhere/cluster.toml".into() };
        let failure = command
            .run(&mut Screen { out: &mut out, output: Output::Table, zone: Zone(Tz::UTC) })
            .expect_err("missing");
        assert!(failure.to_string().starts_with("/nowhere/cluster.toml cannot be read: "), "{failure}");
    }
}
