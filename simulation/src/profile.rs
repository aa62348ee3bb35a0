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
    /// Clocks drift and jump, of nodes and of clients.
    Clock,
    /// Many tasks fall due at the same instants.
    Herd,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 4] = [Self::Calm, Self::Storm, Self::Clock, Self::Herd];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Storm => "storm",
            Self::Clock => "clock",
            Self::Herd => "herd",
        }
    }

    /// The profile of a seed for which none was asked.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        [Self::Storm, Self::Clock, Self::Storm, Self::Herd, Self::Storm, Self::Calm][(seed % 6) as usize]
    }

    /// What it means.
    #[must_use]
    pub fn settings(self) -> Settings {
        let storm = Settings {
            profile: self,
            active_ms: 240_000,
            clients: 4,
            fault_gap_ms: 6_000,
            clock_share: 120,
            late_share: 40,
            duplicate_share: 30,
            drop_share: 15,
            loss_share: 40,
            aligned: false,
            pause_ms: 1_500,
        };
        match self {
            Self::Calm => Settings {
                fault_gap_ms: 0,
                clock_share: 0,
                late_share: 0,
                duplicate_share: 10,
                drop_share: 0,
                loss_share: 0,
                ..storm
            },
            Self::Storm => storm,
            Self::Clock => Settings { fault_gap_ms: 8_000, clock_share: 700, ..storm },
            Self::Herd => {
                Settings { aligned: true, clients: 3, fault_gap_ms: 12_000, pause_ms: 2_500, ..storm }
            }
        }
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

/// What a profile means. Shares are in thousandths.
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
    /// The share of faults that are of clocks.
    pub clock_share: u64,
    /// The share of proposals that are committed late.
    pub late_share: u64,
    /// The share of proposals that are committed twice.
    pub duplicate_share: u64,
    /// The share of proposals that are dropped.
    pub drop_share: u64,
    /// The share of messages that are lost.
    pub loss_share: u64,
    /// Whether schedules fall due together.
    pub aligned: bool,
    /// The mean pause of a client between two wishes, in ms.
    pub pause_ms: u64,
}

/// What a leader grants, in ms of its monotonic clock.
pub const LEASE_MS: u64 = 5_000;
/// What a worker takes of it, in ms of its own: less, for the drift of both clocks and for killing.
pub const LEASE_TAKEN_MS: u64 = 4_500;
/// How much of a lease must be left to start an attempt, in ms.
pub const FRESH_MS: u64 = 500;
/// A worker kills what it has when so much is left, in ms.
pub const KILL_MS: u64 = 150;
/// How long commands are remembered here, in ms: short, so that forgetting is seen.
pub const WINDOW_MS: u64 = 45_000;
/// How long a client repeats a command, in ms: longer than it is remembered.
pub const REPEAT_MS: u64 = 80_000;
/// How far a leader's clock may be off before it must not stamp, in ms.
pub const CLOCK_TOLERANCE_MS: i64 = 1_000;
/// How far a stamp may be from the true time, in ms: a leader's own tolerance twice (its start, and a jump), and drift.
pub const SKEW_MS: i64 = 2_500;
/// In quiet times an occurrence is settled so long after it was due, in ms.
pub const LATENESS_MS: i64 = 2_500;
/// How long after the last fault the world is quiet again, in ms: an election, a full lease, and catching up.
pub const RECOVERY_MS: u64 = 9_000;
/// After healing, everything that is due must be settled within, in ms.
pub const SETTLED_WITHIN_MS: u64 = 30_000;
/// After the tasks were paused, everything must have ended within, in ms.
pub const DRAINED_WITHIN_MS: u64 = 180_000;
