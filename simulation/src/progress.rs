//! How far the seeds are, and what they came to.
//!
//! The bar goes to the standard error of a terminal. Elsewhere a line goes there at every tenth of the way, so that the output of a
//! script stays readable and a long run shows that it lives.

use std::fmt;
use std::io::{IsTerminal, Write, stderr};

use crate::evidence::Counts;
use crate::run::Verdict;

/// Cells of the bar.
const WIDTH: u64 = 40;
/// Seeds from which on a run is long enough to be followed without a terminal.
const LONG: u64 = 100;
/// Of so many seeds one may not count; of fewer, none.
const ONE_MAY_NOT_COUNT: u64 = 100;

/// A bar that fills.
#[derive(Debug)]
pub struct Progress {
    done: u64,
    total: u64,
    shown: bool,
}

impl Progress {
    /// A bar for so many seeds.
    #[must_use]
    pub fn new(total: u64) -> Self {
        Self { done: 0, total: total.max(1), shown: stderr().is_terminal() }
    }

    /// One more is done.
    pub fn step(&mut self, failed: u64) {
        self.done += 1;
        if self.shown {
            let full = usize::try_from(self.done * WIDTH / self.total).unwrap_or(0);
            let empty = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(full);
            let bar = format!("{}{}", "#".repeat(full), "-".repeat(empty));
            // A bar that cannot be shown is no reason to stop.
            let _ = write!(stderr(), "\r[{bar}] {}/{} seeds, {failed} failed ", self.done, self.total);
        } else if self.total >= LONG && self.done * 10 / self.total > (self.done - 1) * 10 / self.total {
            let _ = writeln!(stderr(), "{}/{} seeds, {failed} failed", self.done, self.total);
        }
    }

    /// A line above the bar.
    pub fn line(&mut self, text: &str) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
        println!("{text}");
    }

    /// The end of the bar.
    pub fn finish(&mut self) {
        if self.shown {
            let _ = writeln!(stderr());
        }
    }
}

/// What the seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that failed.
    pub failed: u64,
    /// Seeds in which too little happened, and nothing that must not be.
    pub uncounted: u64,
    seeds: u64,
    settled: u64,
    attempts: u64,
    operations: u64,
    counts: Counts,
}

impl Summary {
    /// Whether no seed failed, and nearly all count.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failed == 0 && self.uncounted * ONE_MAY_NOT_COUNT <= self.seeds
    }

    /// Adds a run.
    pub fn add(&mut self, verdict: &Verdict) {
        self.seeds += 1;
        let failed = !verdict.violations.is_empty();
        self.failed += u64::from(failed);
        self.uncounted += u64::from(!failed && !verdict.shortfalls.is_empty());
        self.settled += verdict.settled;
        self.attempts += verdict.attempts;
        self.operations += verdict.operations;
        let (sum, more) = (&mut self.counts, &verdict.counts);
        for (sum, more) in [
            (&mut sum.crashes, more.crashes),
            (&mut sum.torn, more.torn),
            (&mut sum.freezes, more.freezes),
            (&mut sum.cuts, more.cuts),
            (&mut sum.storms, more.storms),
            (&mut sum.lost, more.lost),
            (&mut sum.repeated, more.repeated),
            (&mut sum.jumps, more.jumps),
            (&mut sum.stalls, more.stalls),
            (&mut sum.failed_syncs, more.failed_syncs),
            (&mut sum.full, more.full),
            (&mut sum.flips, more.flips),
            (&mut sum.lost_disks, more.lost_disks),
            (&mut sum.stops, more.stops),
            (&mut sum.failures, more.failures),
            (&mut sum.added, more.added),
            (&mut sum.removed, more.removed),
            (&mut sum.elections, more.elections),
            (&mut sum.restores, more.restores),
            (&mut sum.entries, more.entries),
            (&mut sum.world_ms, more.world_ms),
        ] {
            *sum += more;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let minutes = counts.world_ms / 60_000;
        writeln!(
            formatter,
            "{} seeds, {} failed, {} do not count; {}.{} simulated hours, {} entries",
            self.seeds,
            self.failed,
            self.uncounted,
            minutes / 60,
            minutes % 60 * 10 / 60,
            counts.entries
        )?;
        writeln!(
            formatter,
            "nodes: {} crashes ({} tore a write), {} freezes, {} stops in good order, {} by themselves, {} elections",
            counts.crashes, counts.torn, counts.freezes, counts.stops, counts.failures, counts.elections
        )?;
        writeln!(
            formatter,
            "network: {} cuts, {} storms, {} messages lost, {} repeated; clocks: {} jumps",
            counts.cuts, counts.storms, counts.lost, counts.repeated, counts.jumps
        )?;
        writeln!(
            formatter,
            "disks: {} stalls, {} failed syncs, {} full, {} flipped bits, {} lost",
            counts.stalls, counts.failed_syncs, counts.full, counts.flips, counts.lost_disks
        )?;
        writeln!(
            formatter,
            "members: {} added, {} removed, {} snapshots restored",
            counts.added, counts.removed, counts.restores
        )?;
        write!(
            formatter,
            "checked: {} occurrences settled, {} attempts, {} operations",
            self.settled, self.attempts, self.operations
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Violation;
    use crate::trace::Trace;

    fn summary(failed: u64, uncounted: u64, good: u64) -> Summary {
        let violation = Violation { invariant: "lost", detail: "an occurrence".into() };
        let one = |violations: Vec<Violation>, shortfalls: Vec<String>| Verdict {
            violations,
            shortfalls,
            trace: Trace::new(false).digest(),
            counts: Counts::default(),
            settled: 0,
            attempts: 0,
            operations: 0,
        };
        let short = vec!["only 3 fires".to_owned()];
        let mut summary = Summary::default();
        (0..failed).for_each(|_| summary.add(&one(vec![violation.clone()], short.clone())));
        (0..uncounted).for_each(|_| summary.add(&one(Vec::new(), short.clone())));
        (0..good).for_each(|_| summary.add(&one(Vec::new(), Vec::new())));
        summary
    }

    #[test]
    fn few_seeds_may_not_count_and_none_may_fail() {
        for (failed, uncounted, good, passed) in
            [(0, 0, 1, true), (0, 1, 99, true), (0, 1, 98, false), (0, 1, 0, false), (1, 0, 999, false)]
        {
            let summary = summary(failed, uncounted, good);
            assert_eq!(summary.passed(), passed, "{summary}");
            assert_eq!((summary.failed, summary.uncounted), (failed, uncounted));
        }
    }
}
