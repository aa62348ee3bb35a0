//! How far the seeds are, and what they came to.
//!
//! The bar goes to the standard error of a terminal. Elsewhere a line goes there at every tenth of the way, so that the output of a
//! script stays readable and a long run shows that it lives.

use std::fmt;
use std::io::{IsTerminal, Write, stderr, stdout};

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
        // Nobody may listen any more.
        let _ = writeln!(stdout(), "{text}");
    }

    /// The end of the bar.
    pub fn finish(&mut self) {
        if self.shown {
            let _ = writeln!(stderr());
        }
    }
}

/// A kind of fault, and how often it came in a run.
type Kind = (&'static str, fn(&Counts) -> u64);

/// Every kind of fault.
const KINDS: [Kind; 21] = [
    ("crashes", |counts| counts.crashes),
    ("crashes in the middle of a write", |counts| counts.torn),
    ("power failures of all nodes", |counts| counts.outages),
    ("freezes longer than an election", |counts| counts.freezes),
    ("shorter freezes", |counts| counts.short_freezes),
    ("changes of the leader", |counts| counts.changes),
    ("cuts one way", |counts| counts.cuts_one_way),
    ("cuts both ways", |counts| counts.cuts_both_ways),
    ("spells of a bad network", |counts| counts.storms),
    ("messages lost", |counts| counts.lost),
    ("messages late", |counts| counts.late),
    ("messages that overtook others", |counts| counts.overtaking),
    ("requests repeated", |counts| counts.repeated),
    ("jumps of clocks", |counts| counts.jumps),
    ("stalls of disks", |counts| counts.stalls),
    ("failed syncs", |counts| counts.failed_syncs),
    ("full disks", |counts| counts.full),
    ("flipped bits", |counts| counts.flips),
    ("lost disks", |counts| counts.lost_disks),
    ("members added or removed", |counts| counts.added + counts.removed),
    ("none of these", |counts| {
        let broken = KINDS[..KINDS.len() - 1].iter().any(|(_, of)| of(counts) > 0);
        u64::from(!broken)
    }),
];

/// What was seen in the seeds in which a kind of fault came.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    times: u64,
    seeds: u64,
    fires: u64,
    violations: u64,
}

/// What the seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that failed.
    pub failed: u64,
    /// Seeds in which too little happened, and nothing that must not be.
    pub uncounted: u64,
    /// Of these, the ones that were asked to be short.
    short: u64,
    seeds: u64,
    fires: u64,
    settled: u64,
    matched: u64,
    matched_soon: u64,
    attempts: u64,
    operations: u64,
    held_up: u64,
    lies: u64,
    entries: u64,
    restores: u64,
    stops: u64,
    failures: u64,
    world_ms: u64,
    lines: [Line; KINDS.len()],
}

impl Summary {
    /// Whether no seed failed, and nearly all count that could.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failed == 0 && (self.uncounted - self.short) * ONE_MAY_NOT_COUNT <= self.seeds
    }

    /// Adds a run in which the program or the checker panicked.
    pub fn add_panic(&mut self) {
        self.seeds += 1;
        self.failed += 1;
    }

    /// The time of the world that went by, in milliseconds.
    #[must_use]
    pub fn world_ms(&self) -> u64 {
        self.world_ms
    }

    /// Adds a run. Of one that does not count, nothing else is added.
    pub fn add(&mut self, verdict: &Verdict) {
        let (counts, violations) = (&verdict.counts, verdict.violations.len() as u64);
        self.seeds += 1;
        self.world_ms += counts.world_ms;
        if violations == 0 && !verdict.shortfalls.is_empty() {
            self.uncounted += 1;
            self.short += u64::from(verdict.was_short);
            return;
        }
        self.failed += u64::from(violations > 0);
        for (sum, more) in [
            (&mut self.fires, verdict.fires),
            (&mut self.settled, verdict.settled),
            (&mut self.matched, verdict.matched),
            (&mut self.matched_soon, verdict.matched_soon),
            (&mut self.attempts, verdict.attempts),
            (&mut self.operations, verdict.operations),
            (&mut self.held_up, verdict.held_up),
            (&mut self.lies, counts.lies),
            (&mut self.entries, counts.entries),
            (&mut self.restores, counts.restores),
            (&mut self.stops, counts.stops),
            (&mut self.failures, counts.failures),
        ] {
            *sum += more;
        }
        for ((_, of), line) in KINDS.iter().zip(&mut self.lines) {
            let times = of(counts);
            if times > 0 {
                line.times += times;
                line.seeds += 1;
                line.fires += verdict.fires;
                line.violations += violations;
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<33} {:>10} {:>8} {:>12} {:>10}",
            "fault", "times", "seeds", "fires", "violations"
        )?;
        for ((name, _), Line { times, seeds, fires, violations }) in KINDS.iter().zip(self.lines) {
            writeln!(formatter, "{name:<33} {times:>10} {seeds:>8} {fires:>12} {violations:>10}")?;
        }
        let minutes = self.world_ms / 60_000;
        writeln!(
            formatter,
            "{} seeds, {} failed, {} do not count; {}.{} simulated hours",
            self.seeds,
            self.failed,
            self.uncounted,
            minutes / 60,
            minutes % 60 * 10 / 60,
        )?;
        writeln!(
            formatter,
            "nodes: {} stops in good order, {} by themselves, {} snapshots restored, {} entries applied",
            self.stops, self.failures, self.restores, self.entries
        )?;
        writeln!(
            formatter,
            "checked: {} fires, {} occurrences settled, {} attempts, {} operations",
            self.fires, self.settled, self.attempts, self.operations
        )?;
        writeln!(
            formatter,
            "by hand: {} changes of pools, limits, queues, breakers and priorities; {} lies of workers",
            self.held_up, self.lies
        )?;
        write!(
            formatter,
            "matched without identifiers: {} instants, {} of them with a majority that was well",
            self.matched, self.matched_soon
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Violation;
    use crate::trace::Trace;

    fn summary(failed: u64, uncounted: u64, good: u64, was_short: bool) -> Summary {
        let violation = Violation { invariant: "lost", detail: "an occurrence".into() };
        let one = |violations: Vec<Violation>, shortfalls: Vec<String>| Verdict {
            violations,
            shortfalls,
            was_short,
            trace: Trace::new(false).digest(),
            counts: Counts::default(),
            settled: 0,
            fires: 0,
            matched: 0,
            matched_soon: 0,
            attempts: 0,
            operations: 0,
            held_up: 0,
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
            let summary = summary(failed, uncounted, good, false);
            assert_eq!(summary.passed(), passed, "{summary}");
            assert_eq!((summary.failed, summary.uncounted), (failed, uncounted));
        }
        assert!(summary(0, 5, 0, true).passed(), "they were to be short");
        assert!(!summary(1, 0, 0, true).passed());
        let mut panicked = summary(0, 0, 9, false);
        panicked.add_panic();
        assert!(!panicked.passed());
    }

    #[test]
    fn what_was_seen_in_a_seed_that_does_not_count_is_in_no_sum() {
        let crashed = |shortfalls: Vec<String>| Verdict {
            violations: Vec::new(),
            shortfalls,
            was_short: false,
            trace: Trace::new(false).digest(),
            counts: Counts { crashes: 3, world_ms: 1_000, ..Counts::default() },
            settled: 5,
            fires: 4,
            matched: 0,
            matched_soon: 0,
            attempts: 4,
            operations: 2,
            held_up: 0,
        };
        let mut summary = Summary::default();
        summary.add(&crashed(Vec::new()));
        summary.add(&crashed(vec!["only 4 fires".to_owned()]));
        let Line { times, seeds, fires, .. } = summary.lines[0];
        assert_eq!((times, seeds, fires, summary.fires, summary.seeds), (3, 1, 4, 4, 2));
        assert_eq!(summary.world_ms(), 2_000, "it went by all the same");
    }
}
