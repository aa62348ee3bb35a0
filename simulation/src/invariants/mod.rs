//! What must hold of every run, one file each, judged from outside.
//!
//! They read the records, the clients and the witness, never a node. Four more are judged while a run goes on, because
//! they need its nodes: *agreement* (equal records and states at equal entries), *convergence* (after healing everything
//! is settled, drained and equal within a bound), *histories* (every event log verifies and is the one that was seen, and
//! every read model is its fold) and *stopped* (no node gives up without a reason).

mod acknowledged;
mod alone;
mod cancelled;
mod capacity;
mod chain;
mod duplicate;
mod early;
mod effects;
mod fencing;
mod fold;
mod followed;
mod heard;
mod justified;
mod late;
mod linearizable;
mod lost;
mod matching;
mod overlap;
mod phantom;
mod retried;
mod served;
mod standing;
mod story;
#[cfg(test)]
mod tampering;
mod vacuity;

use self::story::Lives;
pub use self::vacuity::{fires, shortfalls};
use crate::evidence::{Evidence, Violation};

type Check = fn(&Evidence, &Lives) -> Vec<String>;

/// Every invariant that is judged at the end, by name.
const CHECKS: [(&str, Check); 20] = [
    ("lost", lost::check),
    ("duplicate", duplicate::check),
    ("early", early::check),
    ("late", late::check),
    ("phantom", phantom::check),
    ("heard", heard::check),
    ("followed", followed::check),
    ("overlap", overlap::check),
    ("fencing", fencing::check),
    ("acknowledged", acknowledged::check),
    ("linearizable", linearizable::check),
    ("capacity", capacity::check),
    ("chain", chain::check),
    ("fold", fold::check),
    ("matching", matching::check),
    ("served", served::check),
    ("justified", justified::check),
    ("alone", alone::check),
    ("retried", retried::check),
    ("cancelled", cancelled::check),
];

/// What came of judging a run.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Instants that were matched with runs without a look at identifiers.
    pub matched: u64,
    /// Of these, the ones during which a majority was well, so that their run had to begin soon.
    pub matched_soon: u64,
}

/// Judges a run.
#[must_use]
pub fn judge(evidence: &Evidence) -> Judgement {
    let lives = story::lives(evidence);
    let mut violations = evidence.seen.clone();
    for (invariant, check) in CHECKS {
        let found = check(evidence, &lives);
        violations.extend(found.into_iter().map(|detail| Violation { invariant, detail }));
    }
    let (matched, matched_soon) = matching::judged(evidence, &lives);
    Judgement { violations, matched, matched_soon }
}
