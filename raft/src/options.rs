//! What an operator or a test may set, with its defaults and its checks.
//!
//! Invariant: options that passed [`Options::validate`] start. Absent on purpose: anything that
//! would make the group unsafe; those settings are fixed in `consensus`.

use std::time::Duration;

use crate::limits::{CLUSTER_NAME_BYTES_MAX, ENTRY_BYTES_MAX};
use crate::member::GroupId;

/// How a group runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The cluster's name; a node of another cluster is refused.
    pub cluster: String,
    /// Which group this is.
    pub group: GroupId,
    /// How often a leader shows that it lives.
    pub heartbeat: Duration,
    /// The shortest silence after which a follower stands for election.
    pub election_min: Duration,
    /// The longest such silence; also the leader's lease.
    pub election_max: Duration,
    /// A snapshot is taken after so many entries,
    pub snapshot_entries: u64,
    /// or after so many bytes of commands, whichever comes first.
    pub snapshot_bytes: u64,
    /// Entries kept behind a snapshot, so that a follower that is a little late needs no snapshot.
    /// Keep it generous: purging right behind the applied index is where openraft is least tried.
    pub log_entries_kept: u64,
    /// Bytes of a file of the log; purging frees whole files.
    pub log_file_bytes: usize,
    /// Bytes of entries held in memory beside those of the file being written.
    pub log_cache_bytes: usize,
    /// Commands in one entry, in bytes.
    pub entry_bytes: usize,
    /// Entries proposed and not yet answered. While they are, later proposals gather: few make large
    /// entries and much throughput, more hide a long way between the nodes.
    pub entries_in_flight: usize,
    /// Commands that wait to be proposed; one more is refused as busy.
    pub queue_commands: usize,
    /// Their bytes; more are refused as busy.
    pub queue_bytes: usize,
    /// How long a proposal waits before its outcome is unknown.
    pub propose_timeout: Duration,
    /// How long a read barrier or a request to a peer waits.
    pub request_timeout: Duration,
    /// How long an append waits for its answer, from when it was sent.
    pub append_timeout: Duration,
    /// How long one chunk of a snapshot waits.
    pub chunk_timeout: Duration,
    /// How long a whole snapshot may take to be checked and restored at the receiver.
    pub install_timeout: Duration,
    /// How long a change of the membership or of the leader waits.
    pub change_timeout: Duration,
    /// A learner further behind than so many entries is not promoted.
    pub promote_lag: u64,
    /// How often the core is asked whether it lives.
    pub probe: Duration,
    /// Whether a leader that restarts goes on in its old term: a bug that openraft's defaults have.
    #[cfg(feature = "planted")]
    pub leader_restore: bool,
}

impl Options {
    /// The defaults for a cluster of this name.
    #[must_use]
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            group: GroupId(0),
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(400),
            snapshot_entries: 20_000,
            snapshot_bytes: 128 << 20,
            log_entries_kept: 5_000,
            log_file_bytes: 32 << 20,
            log_cache_bytes: 32 << 20,
            entry_bytes: ENTRY_BYTES_MAX,
            entries_in_flight: 2,
            queue_commands: 65_536,
            queue_bytes: 64 << 20,
            propose_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            append_timeout: Duration::from_secs(2),
            chunk_timeout: Duration::from_secs(10),
            install_timeout: Duration::from_secs(120),
            change_timeout: Duration::from_secs(10),
            promote_lag: 1_000,
            probe: Duration::from_millis(250),
            #[cfg(feature = "planted")]
            leader_restore: false,
        }
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`OptionsError`], which names the option and what is allowed.
    pub fn validate(&self) -> Result<(), OptionsError> {
        check_cluster(&self.cluster)?;
        let milliseconds = Duration::from_millis(1);
        require("heartbeat", self.heartbeat >= milliseconds, "at least 1 ms")?;
        require("election_min", self.election_min >= self.heartbeat * 2, "at least twice the heartbeat")?;
        require("election_max", self.election_max > self.election_min, "above election_min")?;
        require("snapshot_entries", self.snapshot_entries > 0, "at least 1")?;
        require("snapshot_bytes", self.snapshot_bytes > 0, "at least 1")?;
        require("log_file_bytes", self.log_file_bytes >= 4_096, "at least 4096")?;
        require("entry_bytes", (1..=ENTRY_BYTES_MAX).contains(&self.entry_bytes), "1 to 262144")?;
        require("entries_in_flight", (1..=1_024).contains(&self.entries_in_flight), "1 to 1024")?;
        require("queue_commands", self.queue_commands > 0, "at least 1")?;
        require("queue_bytes", self.queue_bytes >= self.entry_bytes, "at least entry_bytes")?;
        for (name, duration) in [
            ("propose_timeout", self.propose_timeout),
            ("request_timeout", self.request_timeout),
            ("append_timeout", self.append_timeout),
            ("chunk_timeout", self.chunk_timeout),
            ("install_timeout", self.install_timeout),
            ("change_timeout", self.change_timeout),
            ("probe", self.probe),
        ] {
            require(name, duration >= milliseconds, "at least 1 ms")?;
        }
        Ok(())
    }
}

pub(crate) fn check_cluster(name: &str) -> Result<(), OptionsError> {
    let fits = !name.is_empty() && name.len() <= CLUSTER_NAME_BYTES_MAX;
    require("cluster", fits, "1 to 128 bytes")
}

fn require(name: &'static str, holds: bool, allowed: &'static str) -> Result<(), OptionsError> {
    if holds { Ok(()) } else { Err(OptionsError::OutOfRange { name, allowed }) }
}

/// An option that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// One option is out of its range.
    #[error("option {name} is out of range: {allowed}")]
    OutOfRange {
        /// Which.
        name: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The options do not go together.
    #[error("options refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}
