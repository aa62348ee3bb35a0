//! The state is a fold over the records: what an audit replays must be what was true.

use escapement_domain::replica::Replica;

use super::story::Lives;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut folded = Replica::default();
    evidence.records.iter().for_each(|record| folded.evolve(record));
    let (expected, found) = (evidence.last.state_hash(), folded.state_hash());
    if expected == found { Vec::new() } else { vec![format!("the records fold to {found}, not {expected}")] }
}
