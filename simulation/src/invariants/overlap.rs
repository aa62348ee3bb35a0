//! No two attempts of one execution run at the same time: whoever writes a file from both gets neither.

use std::collections::BTreeMap;

use super::story::Lives;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut by_execution: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for attempt in &evidence.attempts {
        by_execution.entry(attempt.execution).or_default().push(attempt);
    }
    let mut found = Vec::new();
    for (execution, mut attempts) in by_execution {
        attempts.sort_by_key(|attempt| (attempt.started, attempt.token));
        for pair in attempts.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            if first.ended > second.started {
                found.push(format!(
                    "execution {execution} ran on {} until {} ms ({:?}) and on {} from {} ms",
                    first.node, first.ended, first.how, second.node, second.started
                ));
            }
        }
    }
    found
}
