//! Bugs that can be put in on purpose, to see that the checker sees them.
//!
//! They exist behind the feature `planted` only; without it [`Planted::has`] is false whatever is asked, and the program
//! refuses to plant. Absent on purpose: bugs in the domain itself, which has no switches for them.

use std::fmt;
use std::str::FromStr;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A fire names a next instant that is not one of the schedule, so that one occurrence fires twice.
    ShiftedInstant,
    /// A new leader fills its wheel from now, not from the last settled instant.
    WheelFromNow,
    /// A worker starts and goes on although its lease ran out.
    LeaseIgnored,
    /// A snapshot comes back without the executions in flight.
    SnapshotForgets,
    /// A repeated command is proposed under a fresh id.
    CommandForgotten,
    /// A deposed leader goes on dispatching: it renews leases without asking whether it still leads.
    DeposedDispatches,
    /// A late result is put under the token that is valid now.
    FencingIgnored,
    /// A leader stamps although its clock is off.
    WildClock,
}

impl Plant {
    /// Every bug.
    pub const ALL: [Self; 8] = [
        Self::ShiftedInstant,
        Self::WheelFromNow,
        Self::LeaseIgnored,
        Self::SnapshotForgets,
        Self::CommandForgotten,
        Self::DeposedDispatches,
        Self::FencingIgnored,
        Self::WildClock,
    ];

    /// The name by which it is asked for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ShiftedInstant => "shifted-instant",
            Self::WheelFromNow => "wheel-from-now",
            Self::LeaseIgnored => "lease-ignored",
            Self::SnapshotForgets => "snapshot-forgets",
            Self::CommandForgotten => "command-forgotten",
            Self::DeposedDispatches => "deposed-dispatches",
            Self::FencingIgnored => "fencing-ignored",
            Self::WildClock => "wild-clock",
        }
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|plant| plant.name() == text)
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

    /// Whether this bug is in.
    #[must_use]
    pub fn has(self, plant: Plant) -> bool {
        cfg!(feature = "planted") && self.0 == Some(plant)
    }
}
