//! Read models folded from the records that the replicated state publishes, and the event log that they rest on.
//!
//! The [pipeline](Projections::start) appends each record to the [event log](EventLog) and folds it into the models in memory
//! at once; every so often it writes what changed, blocks, rows and checkpoints in one batch, and syncs. Readers on any thread
//! ask memory first and the storage for the rest.
//!
//! Invariants: a read model is a function of the event log, equal byte for byte when it is built again; nothing is folded
//! that the log does not have; a record that differs from the one stored before stops the node.
//! Absent on purpose: current tasks and what may happen next, which are the replicated state's; HTTP; every clock but the
//! ticks that say when to write.

mod block;
mod catch_up;
mod core;
mod event_log;
mod execution;
mod executions;
mod failure;
mod handle;
mod keys;
mod listing;
mod models;
mod output;
mod pipeline;
mod replay;
mod statistics;
mod streams;

#[cfg(test)]
mod tests;

use std::io;

use crate::ports::{Storage, Tree};

pub use block::BLOCK_BYTES_MAX;
pub use event_log::{EventLog, EventPage, Missing, Records, Verification, put_block};
pub use execution::{ATTEMPTS_KEPT, AttemptRow, AttemptWorker, ExecutionRow, Outcome, Progress, Reason};
pub use failure::{Failure, Fault, FaultKind};
pub use handle::{Projections, Pruned};
pub use listing::{ExecutionPage, ExecutionQuery};
pub use models::{Checkpoint, checkpoints};
pub use output::{
    CapturedOutput, LineStream, OUTPUT_BYTES_MAX, OutputCapture, OutputCursor, OutputLine, OutputPage,
};
pub use replay::{Merged, Replayed, Until, merged, merged_from, replay, replay_with};
pub use statistics::Statistics;
pub use streams::StreamPage;

/// Every pair of a tree, in order, read `step` at a time.
pub(crate) fn scan_all(
    storage: &dyn Storage,
    tree: Tree,
    step: usize,
) -> impl Iterator<Item = io::Result<(Vec<u8>, Vec<u8>)>> + '_ {
    let mut from = Some(Vec::new());
    let end = keys::end_of(Vec::new());
    std::iter::from_fn(move || {
        let begin = from.take()?;
        match storage.scan(tree, &begin, &end, step, false) {
            Ok(pairs) => {
                if pairs.len() == step
                    && let Some((last, _)) = pairs.last()
                {
                    let mut next = last.clone();
                    next.push(0);
                    from = Some(next);
                }
                Some(pairs.into_iter().map(Ok).collect::<Vec<_>>())
            }
            Err(error) => Some(vec![Err(error)]),
        }
    })
    .flatten()
}

/// Every pair of a tree, in order: equal on two nodes, and after a rebuild, when the same records were folded.
///
/// # Errors
/// Those of the storage.
pub fn dump(storage: &dyn Storage, tree: Tree) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    scan_all(storage, tree, 1_024).collect()
}
