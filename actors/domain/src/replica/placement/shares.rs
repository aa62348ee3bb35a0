//! Fair shares: of the tenants that wait at a priority, who is next, and when a lower priority has waited enough.
//!
//! A tenant's standing is what it runs at a priority, then when it was served last there: whoever runs the least goes first,
//! so that slots, not grants, are shared, and equals go round. A tenant that had nothing there joins at the end of the round.
//! No clock is read: what passes is counted in grants.

use serde::{Deserialize, Serialize};

use crate::limits::PRIORITY_MAX;

/// How many priorities there are.
pub(super) const LEVELS: usize = PRIORITY_MAX as usize + 1;
/// How many grants may pass a priority over, or the eldest at a gate, before it gets the next one.
pub const PASSED_MAX: u32 = 100;

/// How a tenant stands among others at one priority; the least goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share {
    /// What it runs.
    pub(super) running: u32,
    /// When it was served last, or joined: a number of the round, never the same for two tenants.
    pub(super) since: u64,
}

/// By level, the highest priority first: grants to higher priorities since its last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Passed([u32; LEVELS]);

impl Passed {
    /// Notes a grant at a level; `waiting` says how many wait at each.
    pub(super) fn granted(&mut self, level: u8, waiting: &[usize; LEVELS]) {
        let level = usize::from(level);
        for (passed, waiting) in self.0.iter_mut().zip(waiting).skip(level + 1) {
            *passed = if *waiting == 0 { 0 } else { (*passed + 1).min(PASSED_MAX) };
        }
        self.0[level] = 0;
    }

    /// The level whose turn it is, of those of which something may go.
    pub(super) fn level(&self, may_go: impl Fn(usize) -> bool) -> Option<usize> {
        let overdue = (0..LEVELS).find(|level| self.0[*level] >= PASSED_MAX && may_go(*level));
        overdue.or_else(|| (0..LEVELS).find(|level| may_go(*level)))
    }

    /// Whether it says no more than that nothing was passed over.
    pub(super) fn is_nothing(&self) -> bool {
        self.0.iter().all(|passed| *passed == 0)
    }
}

/// The rounds of the tenants and what was passed over, by priority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rounds {
    /// Counts grants and arrivals.
    clock: u64,
    pub(super) passed: Passed,
}

impl Rounds {
    /// The place at the end of the round.
    pub(super) fn last(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}
