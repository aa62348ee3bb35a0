//! What became of each instant of a course, once the log is at its end.

use std::collections::BTreeSet;

use escapement_domain::event::SkipReason;
use escapement_domain::identifier::TaskId;
use escapement_domain::task::definition::Misfire;
use escapement_domain::timestamp::Timestamp;

use super::course::{ByHand, Cause, Course, MovedRun, Outcome, Scope};
use super::period::Period;
use super::{Fire, FireReason, FireStatus, ON_TIME, Range, Settled};

/// What became of an instant, why, and what settled it.
type Judged = (FireStatus, Option<FireReason>, Option<Settled>);

/// Hands fires over until no more are wanted. What is to come is bounded by the runs that the task has left.
struct Teller<'a, F> {
    left: Option<u32>,
    take: &'a mut F,
}

impl<F: FnMut(Fire) -> bool> Teller<'_, F> {
    fn has_run_out(&self) -> bool {
        self.left == Some(0)
    }

    fn tell(&mut self, fire: Fire) -> bool {
        if fire.status == FireStatus::Pending {
            if self.has_run_out() {
                return true;
            }
            // What is not going to run costs no run.
            if matches!(fire.reason, None | Some(FireReason::Paused)) {
                self.left = self.left.map(|left| left - 1);
            }
        }
        (self.take)(fire)
    }
}

impl Course {
    /// Tells every instant in the range until `take` wants no more.
    pub(super) fn tell(
        mut self,
        task: TaskId,
        scope: Scope<'_>,
        as_of: Timestamp,
        take: &mut impl FnMut(Fire) -> bool,
    ) -> bool {
        let left = self.max_runs.map(|most| most.saturating_sub(self.runs));
        let mut teller = Teller { left, take };
        let mut moved = self.moved(task, scope.range, as_of).into_iter().peekable();
        let mut told = BTreeSet::new();
        for period in &self.asked.periods {
            let mut before = Timestamp(scope.range.from.0 - 1);
            while let Some(at) = period.next(before, scope.range) {
                before = at;
                while let Some(earlier) = moved.next_if(|moved| moved.at < at) {
                    if !teller.tell(earlier) {
                        return false;
                    }
                }
                let (status, reason, settled) = self.judge(task, period, at, scope, as_of);
                if status == FireStatus::Pending && teller.has_run_out() {
                    break;
                }
                let fire = Fire { at, moved_from: None, task, status, reason, settled };
                // The same instant under two definitions is one: the first of them settled it.
                if told.insert(at) && !teller.tell(fire) {
                    return false;
                }
            }
        }
        let mut outcomes = std::mem::take(&mut self.asked.outcomes);
        outcomes.retain(|at, _| !told.contains(at));
        let unexpected = outcomes.into_iter().map(|(at, (outcome, settled))| {
            let reason = match outcome {
                Outcome::Fired { .. } => None,
                Outcome::Skipped(reason) => Some(FireReason::Skip(reason)),
                Outcome::Moved { to } => Some(FireReason::Moved { to }),
                Outcome::Groundless => Some(FireReason::Groundless),
            };
            Fire {
                at,
                moved_from: None,
                task,
                status: FireStatus::Unexpected,
                reason,
                settled: Some(settled),
            }
        });
        moved.chain(unexpected).all(|fire| teller.tell(fire))
    }

    fn judge(
        &self,
        task: TaskId,
        period: &Period,
        instant: Timestamp,
        scope: Scope<'_>,
        as_of: Timestamp,
    ) -> Judged {
        let due = period.due(task, instant);
        let misfire = period.misfire;
        if let Some((outcome, settled)) = self.asked.outcomes.get(&instant) {
            let (status, reason) = match outcome {
                Outcome::Skipped(reason) => (FireStatus::Skipped, Some(FireReason::Skip(reason.clone()))),
                // It may have been moved again since, or dropped.
                Outcome::Moved { to } => {
                    let moved = self.changed(instant).unwrap_or(FireReason::Moved { to: *to });
                    (FireStatus::Skipped, Some(moved))
                }
                Outcome::Groundless => (FireStatus::Missed, Some(FireReason::Groundless)),
                Outcome::Fired { against: Some(reason), .. } => {
                    (FireStatus::Unexpected, Some(reason.clone()))
                }
                Outcome::Fired { held, .. } => {
                    let paused = self.pause_over(due).is_some();
                    let latest = period.latest(instant);
                    fired(*held, (due, latest), settled.at, misfire, paused)
                }
            };
            return (status, reason, Some(*settled));
        }
        let run = self.asked.passed.range(..=instant).next_back();
        if let Some((_, passed)) = run.filter(|(_, passed)| instant <= passed.last) {
            let (status, reason) = match &passed.cause {
                Cause::Forbidden(name, Some(calendar)) if !period.is_permitted(instant, calendar) => {
                    (FireStatus::Skipped, FireReason::forbidden(name.clone()))
                }
                Cause::Forbidden(..) => (FireStatus::Missed, FireReason::Groundless),
                Cause::Missed if self.pause_over(due).is_some() => (FireStatus::Skipped, FireReason::Paused),
                Cause::Missed => (FireStatus::Missed, FireReason::PassedOver(misfire.policy)),
            };
            return (status, Some(reason), Some(passed.settled));
        }
        let (status, reason) = self.judge_unsettled(period, (instant, due), scope, as_of);
        (status, reason, None)
    }

    fn judge_unsettled(
        &self,
        period: &Period,
        (instant, due): (Timestamp, Timestamp),
        scope: Scope<'_>,
        as_of: Timestamp,
    ) -> (FireStatus, Option<FireReason>) {
        // From here on somebody should have settled it.
        let ready = self.pause_over(due).unwrap_or_else(|| period.latest(instant));
        if period.until.is_some() || ready.plus(period.misfire.grace) < as_of {
            return (FireStatus::Missed, Some(FireReason::Unsettled));
        }
        let paused = self.paused_since.filter(|since| due >= *since).map(|_| FireReason::Paused);
        let forbidden = || period.forbidden_by(instant, scope.calendars).map(FireReason::forbidden);
        (FireStatus::Pending, self.changed(instant).or(paused).or_else(forbidden))
    }

    /// What became of the occurrences that were moved into the range, in the order of the times to which they were.
    fn moved(&self, task: TaskId, range: Range, as_of: Timestamp) -> Vec<Fire> {
        let row = |at: Timestamp, to: Timestamp, (status, reason, settled): Judged| Fire {
            at: to,
            moved_from: Some(at),
            task,
            status,
            reason,
            settled,
        };
        let settled = self.asked.moved.iter().map(|run| row(run.at, run.to, self.judge_run(run)));
        let waiting = self.by_hand.iter().filter_map(|(at, change)| match change {
            // A deleted task owes nothing that comes after.
            ByHand::Move { to, ran: false }
                if range.holds(*to) && self.deleted_at.is_none_or(|deleted| *to <= deleted) =>
            {
                let (status, reason) = self.judge_waiting(*to, as_of);
                Some(row(*at, *to, (status, reason, None)))
            }
            ByHand::Move { .. } | ByHand::Skip => None,
        });
        let mut rows: Vec<Fire> = settled.chain(waiting).collect();
        rows.sort_by_key(|fire| fire.at);
        rows
    }

    fn judge_run(&self, run: &MovedRun) -> Judged {
        let misfire = run.misfire;
        let paused = self.pause_over(run.to).is_some();
        let (status, reason) = match &run.outcome {
            Outcome::Fired { held, .. } => fired(*held, (run.to, run.to), run.settled.at, misfire, paused),
            Outcome::Skipped(SkipReason::Missed) if paused => (FireStatus::Skipped, Some(FireReason::Paused)),
            Outcome::Skipped(SkipReason::Missed) => {
                (FireStatus::Missed, Some(FireReason::PassedOver(misfire.policy)))
            }
            Outcome::Skipped(reason) => (FireStatus::Skipped, Some(FireReason::Skip(reason.clone()))),
            Outcome::Moved { .. } | Outcome::Groundless => {
                (FireStatus::Unexpected, Some(FireReason::Groundless))
            }
        };
        (status, reason, Some(run.settled))
    }

    /// Judges a moved occurrence of which the log says no more, though its time is settled before a deletion.
    fn judge_waiting(&self, to: Timestamp, as_of: Timestamp) -> (FireStatus, Option<FireReason>) {
        let ready = self.pause_over(to).unwrap_or(to);
        if self.deleted_at.is_some() || ready.plus(self.misfire.grace) < as_of {
            return (FireStatus::Missed, Some(FireReason::Unsettled));
        }
        let paused = self.paused_since.is_some_and(|since| since <= to);
        (FireStatus::Pending, paused.then_some(FireReason::Paused))
    }

    /// The end of the pause in which something was due: the end of time if the pause lasts.
    fn pause_over(&self, due: Timestamp) -> Option<Timestamp> {
        let lasting = self.paused_since.map(|since| (since, Timestamp::MAX));
        let mut pauses = self.asked.pauses.iter().copied().chain(lasting);
        pauses.rfind(|(since, until)| *since <= due && due < *until).map(|(_, until)| until)
    }
}

/// Judges a fire by when it was due, and by when it was due at the latest.
fn fired(
    held: bool,
    (due, latest): (Timestamp, Timestamp),
    at: Timestamp,
    misfire: Misfire,
    paused: bool,
) -> (FireStatus, Option<FireReason>) {
    if held {
        (FireStatus::DelayedByOverlap, None)
    } else if at.since(due) <= ON_TIME {
        (FireStatus::OnTime, None)
    } else if paused {
        (FireStatus::Late, Some(FireReason::Paused))
    } else {
        let missed = at.since(latest) > misfire.grace;
        (FireStatus::Late, missed.then_some(FireReason::MadeGood(misfire.policy)))
    }
}
