//! Plans every task anew when this leader's zone data is newer than that by which they were planned.
//!
//! The next instants travel in the log like all others, so replicas with different zone data agree. What was planned by
//! newer data stays: a leader with older data only says that it plans by them from now on, so that the next one with newer
//! data plans anew what came in between. Absent on purpose: deciding, and tasks that are due already, which are settled as
//! they were planned.

use std::time::Duration;

use escapement_domain::command::{Command, Origin, Replanned, Request};
use escapement_domain::limits::REPLANS_PER_COMMAND_MAX;
use escapement_domain::replica::Replica;
use escapement_domain::task::plan::Timetable;
use escapement_domain::task::rules::Timing;
use escapement_domain::task::state::Task;
use tokio::sync::watch;

use super::WheelParts;
use crate::ports::Leadership;

/// The pause after a proposal without an answer.
const PAUSE: Duration = Duration::from_millis(200);
/// Tasks that are looked at before others get their turn.
const LOOK: u32 = 256;

/// Plans every task anew if this node's zone data is newer, for as long as it leads in `term`.
pub(super) async fn replan(parts: WheelParts, leadership: watch::Receiver<Leadership>, term: u64) {
    let leads = || {
        let present = *leadership.borrow();
        present.leading && present.term == term
    };
    let adopted = parts.machine.read(|replica| replica.zone_data().clone());
    if adopted == parts.zone_data {
        return;
    }
    let is_newer = *parts.zone_data > *adopted;
    let (mut from, mut changed) = (0, 0);
    while is_newer && let Some((items, next)) = parts.machine.read(|replica| look(replica, from)) {
        changed += items.len();
        if !items.is_empty() && !proposed(&parts, &Request::Replan(items), &leads).await {
            return;
        }
        from = next;
        tokio::task::yield_now().await;
    }
    let version = parts.zone_data.clone();
    if !proposed(&parts, &Request::AdoptZoneData { version }, &leads).await {
        return;
    }
    if !is_newer {
        tracing::warn!(from = %adopted, to = %parts.zone_data, "this leader plans by older zone data than the one before it");
    } else if changed > 0 || !adopted.is_empty() {
        tracing::info!(from = %adopted, to = %parts.zone_data, changed, "tasks are planned anew by newer zone data");
    }
}

/// What changes among the tasks from a slot on, and the slot to go on from; `None` beyond the last.
fn look(replica: &Replica, from: u32) -> Option<(Vec<Replanned>, u32)> {
    const _: () = assert!(LOOK as usize <= REPLANS_PER_COMMAND_MAX, "one look fits into a command");
    if from >= replica.tasks().slots() {
        return None;
    }
    let next = from.saturating_add(LOOK);
    let tasks = (from..next).filter_map(|slot| replica.tasks().get(slot));
    Some((tasks.filter_map(|task| anew(task, replica)).collect(), next))
}

fn anew(task: &Task, replica: &Replica) -> Option<Replanned> {
    let before = task.next.filter(|_| task.rules.timing == Timing::Recurring)?;
    let timetable = match Timetable::of(task, replica.calendars().named_by(task)) {
        Ok(timetable) => timetable,
        Err(error) => {
            tracing::error!(task = %task.id, %error, "a task cannot be planned anew");
            return None;
        }
    };
    let next = timetable.next_after(task.settled.max(task.updated_at));
    let (slot, revision) = (task.slot, replica.revision(task));
    (next != Some(before)).then_some(Replanned { slot, revision, before, next })
}

/// Proposes until there is an answer; says whether there is one.
async fn proposed(parts: &WheelParts, request: &Request, leads: &impl Fn() -> bool) -> bool {
    while leads() {
        let logged = parts.machine.read(Replica::logged);
        if let Ok(stamp) = parts.clocks.stamp(logged) {
            let command = Command { stamp, origin: Origin::Scheduler, request: request.clone() };
            if parts.log.propose(command.encode()).await.is_ok() {
                return true;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}
