//! How far the seeds are, and what they came to.
//!
//! The bar goes to the standard error and only to a terminal, so that the output of a script stays readable.

use std::fmt;
use std::io::{IsTerminal, Write, stderr};

use crate::evidence::Counts;
use crate::run::Verdict;

/// Cells of the bar.
const WIDTH: u64 = 40;

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
    seeds: u64,
    settled: u64,
    attempts: u64,
    operations: u64,
    counts: Counts,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, verdict: &Verdict) {
        self.seeds += 1;
        self.failed += u64::from(!verdict.violations.is_empty());
        self.settled += verdict.settled;
        self.attempts += verdict.attempts;
        self.operations += verdict.operations;
        let (sum, more) = (&mut self.counts, &verdict.counts);
        for (sum, more) in [
            (&mut sum.crashes, more.crashes),
            (&mut sum.freezes, more.freezes),
            (&mut sum.cuts, more.cuts),
            (&mut sum.jumps, more.jumps),
            (&mut sum.drains, more.drains),
            (&mut sum.elections, more.elections),
            (&mut sum.wild_leaders, more.wild_leaders),
            (&mut sum.stale, more.stale),
            (&mut sum.duplicates, more.duplicates),
            (&mut sum.dropped, more.dropped),
            (&mut sum.lost, more.lost),
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
            "{} seeds, {} failed; {}.{} simulated hours, {} entries",
            self.seeds,
            self.failed,
            minutes / 60,
            minutes % 60 * 10 / 60,
            counts.entries
        )?;
        writeln!(
            formatter,
            "faults: {} crashes, {} freezes, {} cuts, {} clock jumps, {} drains, {} elections, {} wild leaders",
            counts.crashes,
            counts.freezes,
            counts.cuts,
            counts.jumps,
            counts.drains,
            counts.elections,
            counts.wild_leaders
        )?;
        writeln!(
            formatter,
            "proposals: {} committed by deposed leaders, {} repeated, {} dropped; {} messages lost, {} restores",
            counts.stale, counts.duplicates, counts.dropped, counts.lost, counts.restores
        )?;
        write!(
            formatter,
            "checked: {} occurrences settled, {} attempts, {} operations",
            self.settled, self.attempts, self.operations
        )
    }
}
