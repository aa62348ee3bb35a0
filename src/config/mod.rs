//! The configuration of a cluster: one file for all of its nodes, and variables that override it.
//!
//! Invariant: a [`Config`] has been checked whole. Whoever reads a faulty file hears of every fault at once, with its key,
//! its line and what is allowed; there is no half-right configuration.
//! Absent on purpose: defaults that depend on the machine, and reading anything twice.

mod document;
mod fault;
mod nodes;
mod sections;
mod value;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use escapement_domain::identifier::NodeId;

use crate::executor::{EgressRule, ProcessPolicy, ProgramUser};
use crate::security::{KeyError, Keys};
use crate::telemetry::LogFormat;

use document::Document;
use fault::Faults;
pub use fault::{ConfigError, Fault, Place};
pub use nodes::NodeConfig;

/// What is before the name of a variable that overrides a key: `ESCAPEMENT__SECTION__KEY`, for a node's key
/// `ESCAPEMENT__NODE__ID__KEY`.
pub const VARIABLE_PREFIX: &str = "ESCAPEMENT__";

/// The configuration of a cluster. Paths are absolute or relative to the working directory: those in the file are
/// relative to the file, and were put behind its directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's name; nodes of another name are refused.
    pub cluster: String,
    /// Its first nodes, by ascending id.
    pub nodes: Vec<NodeConfig>,
    /// The replicated log.
    pub raft: RaftConfig,
    /// Where the keys for tokens are.
    pub keys: KeySource,
    /// Attempts.
    pub execution: ExecutionConfig,
    /// The read models' storage.
    pub storage: StorageConfig,
    /// Log lines.
    pub telemetry: TelemetryConfig,
}

/// How the replicated log runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    /// How often a leader shows that it lives.
    pub heartbeat: Duration,
    /// The shortest silence after which a follower stands for election.
    pub election_min: Duration,
    /// The longest such silence.
    pub election_max: Duration,
    /// A snapshot is taken after so many entries,
    pub snapshot_entries: u64,
    /// or after so many bytes of commands.
    pub snapshot_bytes: u64,
    /// Entries kept behind a snapshot.
    pub log_entries_kept: u64,
    /// Bytes of entries held in memory.
    pub log_cache_bytes: usize,
}

/// Where the keys for tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// An HS256 secret or a PEM key.
    KeyFile(PathBuf),
    /// A JSON Web Key Set.
    KeySetFile(PathBuf),
}

impl KeySource {
    /// Loads the keys.
    ///
    /// # Errors
    /// [`KeyError`], which names the file and what is wrong with it.
    pub fn load(&self) -> Result<Keys, KeyError> {
        match self {
            Self::KeyFile(path) => Keys::load(path),
            Self::KeySetFile(path) => Keys::load_key_set(path),
        }
    }
}

/// Attempts on a node.
#[derive(Clone, Debug)]
pub struct ExecutionConfig {
    /// Attempts at once.
    pub slots: u32,
    /// Whether URLs are called.
    pub http: bool,
    /// Whether the scheduler's own operations are carried out.
    pub builtin: bool,
    /// Which programs may run.
    pub process: ProcessPolicy,
    /// The user that they run as, if not the node's own.
    pub process_user: Option<ProgramUser>,
    /// Which addresses may be called.
    pub egress: EgressRule,
    /// Bytes of output that are kept of one attempt.
    pub output_bytes: usize,
    /// How long captured output is kept.
    pub keep_output: Duration,
    /// How long finished executions are kept.
    pub keep_executions: Duration,
}

/// The read models' storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Bytes of it that are held in memory.
    pub cache_bytes: u64,
}

/// Log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// How they look.
    pub log_format: LogFormat,
    /// Which there are: a level or directives.
    pub level: String,
}

impl Config {
    /// Reads a file, and the variables of this process over it.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault there is.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        Self::parse(path, &text, Self::variables())
    }

    /// Reads the text of a file that is called `path`, and variables over it.
    ///
    /// # Errors
    /// [`ConfigError::Faulty`] with every fault there is.
    pub fn parse(
        path: &Path,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut faults = Faults::of(path);
        if let Some(mut document) = Document::parse(text, &mut faults) {
            document.override_with(variables, &mut faults);
            let config = sections::read(document, path.parent().unwrap_or(Path::new("")), &mut faults);
            if let (Some(config), true) = (config, faults.is_empty()) {
                return Ok(config);
            }
        }
        Err(faults.into_error())
    }

    /// Returns the configuration of a developer's single node, whose id is 1: its keys are in `data`, actions reach
    /// loopback and run any program, unless variables say otherwise.
    ///
    /// # Errors
    /// [`ConfigError::Faulty`] when a variable has a fault.
    pub fn dev(
        api: SocketAddr,
        peer: SocketAddr,
        data: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let quoted = |path: &Path| toml::Value::from(&*path.to_string_lossy()).to_string();
        let text = format!(
            "[cluster]\nname = \"dev\"\n\
             [[node]]\nid = 1\napi = \"{api}\"\npeer = \"{peer}\"\ndata = {}\n\
             [security]\njwt_key_file = {}\n\
             [execution]\negress_allow = [\"127.0.0.0/8\", \"::1\"]\n",
            quoted(data),
            quoted(&data.join("jwt.key")),
        );
        let mut config = Self::parse(Path::new("dev"), &text, variables)?;
        if config.execution.process == ProcessPolicy::Listed(Vec::new()) {
            config.execution.process = ProcessPolicy::Any;
        }
        Ok(config)
    }

    /// Returns the variables of this process, for [`Config::parse`] and [`Config::dev`].
    pub fn variables() -> impl Iterator<Item = (String, String)> {
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        std::env::vars_os().map(move |(name, value)| (lossy(name), lossy(value)))
    }

    /// Returns the node with this id.
    ///
    /// # Errors
    /// [`ConfigError::NoSuchNode`], which lists the ids that there are.
    pub fn node(&self, id: NodeId) -> Result<&NodeConfig, ConfigError> {
        let known = || self.nodes.iter().map(|node| node.id.0).collect();
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .ok_or_else(|| ConfigError::NoSuchNode { id: id.0, known: known() })
    }
}

/// Does what `escapement config check FILE` does: returns what to print when there is no fault.
///
/// # Errors
/// [`ConfigError`], whose text is a line for each fault.
pub fn check(path: &Path) -> Result<String, ConfigError> {
    let config = Config::load(path)?;
    let nodes: Vec<_> = config.nodes.iter().map(|node| format!("{} ({})", node.id, node.api)).collect();
    let word = if nodes.len() == 1 { "node" } else { "nodes" };
    Ok(format!("{}: no fault; cluster `{}` with {word} {}", path.display(), config.cluster, nodes.join(", ")))
}

#[cfg(test)]
mod tests;
