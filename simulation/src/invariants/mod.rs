//! What must hold of every run, one file each, judged from outside.
//!
//! They read the records and the witness, never a node. Two more are judged while a run goes on, because they need its
//! nodes: *agreement* (equal chains and states at equal indexes, in the world's ledger) and *convergence* (after
//! healing everything is settled, drained and equal within a bound).

mod acknowledged;
mod chain;
mod duplicate;
mod early;
mod fencing;
mod fold;
mod late;
mod lost;
mod matching;
mod overlap;
mod phantom;
mod story;
mod vacuity;

use self::story::Lives;
use crate::evidence::{Evidence, Violation};

type Check = fn(&Evidence, &Lives) -> Vec<String>;

/// Every invariant that is judged at the end, by name.
const CHECKS: [(&str, Check); 12] = [
    ("lost", lost::check),
    ("duplicate", duplicate::check),
    ("early", early::check),
    ("late", late::check),
    ("phantom", phantom::check),
    ("overlap", overlap::check),
    ("fencing", fencing::check),
    ("acknowledged", acknowledged::check),
    ("chain", chain::check),
    ("fold", fold::check),
    ("matching", matching::check),
    ("vacuity", vacuity::check),
];

/// Judges a run.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    let lives = story::lives(evidence);
    let mut violations = evidence.seen.clone();
    for (invariant, check) in CHECKS {
        let found = check(evidence, &lives);
        violations.extend(found.into_iter().map(|detail| Violation { invariant, detail }));
    }
    violations
}
