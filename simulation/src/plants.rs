//! Bugs that can be put in on purpose, to see that the checker sees them.
//!
//! They exist behind the feature `planted` only; without it the program refuses to plant. Most are switches within the
//! code that they break (see `planted` in the domain); some are of the disk, and one is a default of openraft's.

use std::fmt;
use std::str::FromStr;

use escapement_domain::planted::Bug;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// One within the program.
    Program(Bug),
    /// A disk reports entries as synced before they are.
    EarlyAcknowledgement,
    /// A disk answers for votes that it never wrote.
    ForgottenVotes,
    /// A node goes on after its disk failed a sync.
    IgnoredSync,
    /// A leader that restarts goes on in its old term, as openraft's defaults have it.
    LeaderRestore,
}

impl Plant {
    /// Every bug, with the name by which it is asked for.
    pub const ALL: [(&str, Self); 17] = [
        ("repeated-occurrence", Self::Program(Bug::RepeatedOccurrence)),
        ("early-acknowledgement", Self::EarlyAcknowledgement),
        ("deposed-leader", Self::Program(Bug::DeposedLeader)),
        ("ignored-lease", Self::Program(Bug::IgnoredLease)),
        ("dropped-timer", Self::Program(Bug::DroppedTimer)),
        ("forgetful-snapshot", Self::Program(Bug::ForgetfulSnapshot)),
        ("forgotten-votes", Self::ForgottenVotes),
        ("wheel-from-now", Self::Program(Bug::WheelFromNow)),
        ("hash-order", Self::Program(Bug::HashOrder)),
        ("forgotten-command", Self::Program(Bug::ForgottenCommand)),
        ("lost-blocks", Self::Program(Bug::LostBlocks)),
        ("leader-restore", Self::LeaderRestore),
        ("wild-clock", Self::Program(Bug::WildClock)),
        ("forgotten-step", Self::Program(Bug::ForgottenStep)),
        ("stale-read", Self::Program(Bug::StaleRead)),
        ("unchecked-checksum", Self::Program(Bug::UncheckedChecksum)),
        ("ignored-sync", Self::IgnoredSync),
    ];
}

impl fmt::Display for Plant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.into_iter().find(|(_, plant)| plant == self).map_or("", |(name, _)| name);
        formatter.write_str(name)
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(|(name, _)| name).join(", ");
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found
            .map(|(_, plant)| plant)
            .ok_or_else(|| format!("there is no bug `{text}`; there are {}", known()))
    }
}

/// The bug of a run, if it has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted(Option<Plant>);

impl Planted {
    /// None.
    pub const NOTHING: Self = Self(None);

    /// Plants a bug; `None` in a build that has none.
    #[must_use]
    pub fn with(plant: Plant) -> Option<Self> {
        cfg!(feature = "planted").then_some(Self(Some(plant)))
    }

    /// Puts a bug of the program in for this thread, or takes it out.
    #[cfg(feature = "planted")]
    pub(crate) fn plant(self) {
        let bug = match self.0 {
            Some(Plant::Program(bug)) => Some(bug),
            _ => None,
        };
        escapement_domain::planted::plant(bug);
    }

    /// Puts a bug of the disk in.
    #[cfg(feature = "planted")]
    pub(crate) fn plant_in_disk(self, disk: &escapement_raft::MemoryDisk) {
        use escapement_raft::DiskBug;
        let bug = match self.0 {
            Some(Plant::EarlyAcknowledgement) => DiskBug::EarlyAcknowledgement,
            Some(Plant::ForgottenVotes) => DiskBug::ForgottenVotes,
            Some(Plant::IgnoredSync) => DiskBug::IgnoredSync,
            _ => return,
        };
        disk.plant(bug);
    }

    /// Puts a bug of the log's options in.
    #[cfg(feature = "planted")]
    pub(crate) fn plant_in_options(self, options: &mut escapement_raft::Options) {
        options.leader_restore = self.0 == Some(Plant::LeaderRestore);
    }

    /// Does nothing in a build that has no bugs.
    #[cfg(not(feature = "planted"))]
    pub(crate) fn plant(self) {}

    /// Does nothing in a build that has no bugs.
    #[cfg(not(feature = "planted"))]
    pub(crate) fn plant_in_disk(self, _: &escapement_raft::MemoryDisk) {}

    /// Does nothing in a build that has no bugs.
    #[cfg(not(feature = "planted"))]
    pub(crate) fn plant_in_options(self, _: &mut escapement_raft::Options) {}
}
