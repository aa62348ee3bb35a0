//! Fills the wheel of a new leader from the state: from the last settled instant of every task, never from now.

use std::time::Duration;

use escapement_domain::planted::{self, Bug};
use escapement_domain::task::state::Task;
use tokio::sync::{mpsc, watch};

use super::WheelParts;
use super::timers::Timers;
use crate::machine::Applied;
use crate::ports::Leadership;

/// Chunks of tasks that are filled in before others get their turn.
const FILL: usize = 128;
/// The pause after a barrier that was not reached.
const PAUSE: Duration = Duration::from_millis(20);

/// A filled wheel, and what is applied after it was filled.
pub(super) struct Filled {
    pub(super) timers: Timers,
    pub(super) records: mpsc::UnboundedReceiver<Applied>,
}

/// Fills a wheel from the state, once everything that was ever acknowledged is in it; `None` when this node no longer leads.
pub(super) async fn fill(
    parts: WheelParts,
    leadership: watch::Receiver<Leadership>,
    term: u64,
) -> Option<Filled> {
    let leads = || {
        let present = *leadership.borrow();
        present.leading && present.term == term
    };
    while let Err(error) = parts.log.read_barrier().await {
        tracing::debug!(%error, "the state is not known to be complete yet");
        if !leads() {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let ((tasks, waiting), records) = parts.machine.subscribe(|replica, _| {
        let open = replica.executions().values();
        let waiting: Vec<_> = open.filter(|open| open.waits().next().is_some()).cloned().collect();
        (replica.tasks().clone(), waiting)
    });
    let now = parts.clock.now();
    let mut timers = Timers::new(now);
    // What fell due while nobody led is filled in like everything else.
    let wanted = |task: &&Task| !planted::has(Bug::WheelFromNow) || task.next.is_none_or(|next| next >= now);
    for chunks in tasks.chunks().chunks(FILL) {
        for task in chunks.iter().flat_map(|chunk| chunk.0.iter().flatten()).filter(wanted) {
            timers.arm_task(task);
        }
        tokio::task::yield_now().await;
        if !leads() {
            return None;
        }
    }
    for execution in waiting {
        timers.arm_waits(&execution, true);
    }
    Some(Filled { timers, records })
}
