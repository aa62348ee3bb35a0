//! No two attempts of one execution run at the same time under valid leases: whoever writes a file from both gets
//! neither.
//!
//! While a node is frozen, nothing on it runs; once it thaws it has a moment to notice that its lease is over.

use std::collections::BTreeMap;

use super::story::Lives;
use crate::evidence::{Attempt, Evidence};

/// How long a node that thaws may take to kill what it must not run any more, in ms.
const NOTICED_WITHIN_MS: u64 = 250;

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut by_execution: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for attempt in &evidence.attempts {
        by_execution.entry(attempt.execution).or_default().push(attempt);
    }
    let mut found = Vec::new();
    for (execution, mut attempts) in by_execution {
        attempts.sort_by_key(|attempt| (attempt.started, attempt.token));
        for (place, first) in attempts.iter().enumerate() {
            for second in &attempts[place + 1..] {
                if ran_until(evidence, first) > second.started {
                    found.push(format!(
                        "execution {execution} ran on {} until {} ms ({:?}) and on {} from {} ms",
                        first.node, first.ended, first.how, second.node, second.started
                    ));
                }
            }
        }
    }
    found
}

/// When an attempt ran last: before its node froze, if it was over as soon as the node thawed.
pub(super) fn ran_until(evidence: &Evidence, attempt: &Attempt) -> u64 {
    let spans = evidence.frozen.iter().filter(|(node, ..)| *node == attempt.node);
    let mut covering = spans.filter(|(_, since, until)| {
        *since >= attempt.started && *since <= attempt.ended && attempt.ended <= *until + NOTICED_WITHIN_MS
    });
    covering.next().map_or(attempt.ended, |(_, since, _)| *since)
}
