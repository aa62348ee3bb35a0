//! How rough the world is, and every span of it.

use std::fmt;
use std::str::FromStr;

/// How rough the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Nothing breaks: what is late here is late for no reason.
    Calm,
    /// Everything breaks.
    Storm,
    /// Disks tear, flip, fail, fill, stall and are lost.
    Disk,
    /// Clocks drift and jump.
    Clock,
    /// Members come and go.
    Membership,
    /// Many tasks fall due at the same instants.
    Herd,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 6] =
        [Self::Calm, Self::Storm, Self::Disk, Self::Clock, Self::Membership, Self::Herd];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Storm => "storm",
            Self::Disk => "disk",
            Self::Clock => "clock",
            Self::Membership => "membership",
            Self::Herd => "herd",
        }
    }

    /// The profile of a seed for which none was asked.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        [
            Self::Storm,
            Self::Disk,
            Self::Clock,
            Self::Membership,
            Self::Herd,
            Self::Storm,
            Self::Disk,
            Self::Calm,
        ][(seed % 8) as usize]
    }

    /// What it means when clients and faults go on for so long, in ms; for the profile's own time if absent.
    #[must_use]
    pub fn settings_for(self, active_ms: Option<u64>) -> Settings {
        let settings = self.settings();
        Settings { active_ms: active_ms.unwrap_or(settings.active_ms), ..settings }
    }

    /// What it means.
    #[must_use]
    pub fn settings(self) -> Settings {
        let storm = Settings {
            profile: self,
            active_ms: 120_000,
            clients: 4,
            fault_gap_ms: 4_500,
            faults: Faults {
                crash: 6,
                stop: 1,
                freeze: 3,
                cut: 4,
                weather: 3,
                clock: 2,
                disk: 3,
                members: 1,
                power: 1,
            },
            aligned: false,
            pause_ms: 700,
        };
        match self {
            Self::Calm => Settings { fault_gap_ms: 0, ..storm },
            Self::Storm => storm,
            Self::Disk => Settings {
                faults: Faults {
                    crash: 4,
                    stop: 0,
                    freeze: 0,
                    cut: 2,
                    weather: 1,
                    clock: 0,
                    disk: 9,
                    members: 0,
                    power: 1,
                },
                ..storm
            },
            Self::Clock => Settings {
                faults: Faults {
                    crash: 4,
                    stop: 1,
                    freeze: 2,
                    cut: 1,
                    weather: 0,
                    clock: 10,
                    disk: 0,
                    members: 0,
                    power: 1,
                },
                ..storm
            },
            Self::Membership => Settings {
                faults: Faults {
                    crash: 4,
                    stop: 2,
                    freeze: 1,
                    cut: 3,
                    weather: 1,
                    clock: 0,
                    disk: 1,
                    members: 9,
                    power: 1,
                },
                ..storm
            },
            Self::Herd => {
                Settings { aligned: true, clients: 3, fault_gap_ms: 6_000, pause_ms: 1_200, ..storm }
            }
        }
    }
}

impl Settings {
    /// Whether any clock jumps.
    #[must_use]
    pub fn clocks_jump(&self) -> bool {
        self.fault_gap_ms > 0 && self.faults.clock > 0
    }

    /// How far a stamp may be from the true time, in ms.
    #[must_use]
    pub fn skew_ms(&self) -> i64 {
        if self.clocks_jump() { SKEW_MS } else { KEPT_SKEW_MS }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|profile| profile.name() == text).ok_or_else(|| {
            format!("there is no profile `{text}`; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// What a profile means.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which profile.
    pub profile: Profile,
    /// How long clients and faults go on, in ms.
    pub active_ms: u64,
    /// Clients.
    pub clients: u64,
    /// The mean time between two faults, in ms; 0 for none.
    pub fault_gap_ms: u64,
    /// How often each kind of fault comes, against the others.
    pub faults: Faults,
    /// Whether schedules fall due together.
    pub aligned: bool,
    /// The mean pause of a client between two wishes, in ms.
    pub pause_ms: u64,
}

/// Weights of the kinds of faults.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A node dies and comes back.
    pub crash: u64,
    /// A node stops in good order and comes back.
    pub stop: u64,
    /// A node stands still for a while.
    pub freeze: u64,
    /// Links are cut.
    pub cut: u64,
    /// The network is bad.
    pub weather: u64,
    /// A clock jumps.
    pub clock: u64,
    /// A disk breaks in one of its ways.
    pub disk: u64,
    /// A member comes, goes, or hands over.
    pub members: u64,
    /// Every node dies at once.
    pub power: u64,
}

/// How long a grant of a lease lasts, in ms.
pub const LEASE_MS: u64 = escapement_actors::worker::LEASE.as_millis() as u64;
/// How far a stamp may be from the true time, in ms: a leader's own tolerance twice (its start, and a jump), and drift.
pub const SKEW_MS: i64 = 2_500;
/// The same where no clock jumps, in ms: what a time service leaves, and drift.
const KEPT_SKEW_MS: i64 = 200;
/// In quiet times an occurrence is settled so long after it was due, in ms.
pub const LATENESS_MS: i64 = 2_500;
/// While a majority is well and connected an occurrence is settled so long after it was due, whatever happens to the rest,
/// in ms.
pub const LATENESS_WITH_QUORUM_MS: i64 = 15_000;
/// In quiet times an attempt that is told to stop has stopped within, in ms.
pub const STOPPED_WITHIN_MS: u64 = 1_000;
/// How long after the last fault the world is quiet again, in ms: an election, a full lease, and catching up.
pub const RECOVERY_MS: u64 = 9_000;
/// After healing, everything that is due must be settled within, in ms.
pub const SETTLED_WITHIN_MS: u64 = 30_000;
/// After the tasks were paused, everything must have ended within, in ms; what a task's executions may take one after the
/// other comes on top.
pub const DRAINED_WITHIN_MS: u64 = 120_000;
