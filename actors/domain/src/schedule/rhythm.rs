//! How the instants of a schedule follow each other, apart from where they begin.

use super::cron::Cron;
use super::evaluation::ClockRules;
use super::{Plan, Schedule};
use crate::timestamp::Span;

/// Schedules of the same rhythm that share an instant share all that come after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rhythm {
    /// Nothing follows.
    Once,
    /// The next is so much later.
    Every(Span),
    /// The next is as an expression has it.
    Cron(ZonedCron),
}

/// An expression in its zone, whose number orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ZonedCron(Cron, usize, ClockRules);

impl Schedule {
    /// The schedule's rhythm.
    pub(crate) fn rhythm(&self) -> Rhythm {
        match self.0 {
            Plan::Never | Plan::Once(_) => Rhythm::Once,
            Plan::Interval { every, .. } => Rhythm::Every(every),
            Plan::Cron { cron, tz, rules } => Rhythm::Cron(ZonedCron(cron, tz as usize, rules)),
        }
    }
}
