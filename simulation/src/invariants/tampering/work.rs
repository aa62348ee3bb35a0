//! What is altered of the work itself: grants and what they are held up by, attempts, what becomes of them.

use std::sync::Arc;

use escapement_domain::event::{Event, GiveUpCause, Placing, ReleaseCause};

use escapement_domain::identifier::ExecutionId;
use escapement_domain::record::Record;

use super::Alteration;
use super::hands::{alter, drop_all, is_limit, later, places, set_capacity, stopped};
use crate::evidence::Ended;
use crate::profile::{LEASE_MS, STOPPED_WITHIN_MS};

/// What is altered, and which invariant must notice.
pub(super) const ALTERATIONS: [Alteration; 21] = [
    ("overlap", "two attempts of an execution meet", |seen| {
        let again = seen.attempts.iter().find(|attempt| attempt.ended > attempt.started + 1).cloned();
        seen.attempts.extend(again.clone().map(|mut again| {
            again.token += 1;
            again
        }));
        again.is_some()
    }),
    ("fencing", "a result counts that nobody saw", |seen| {
        seen.attempts.iter_mut().filter(|attempt| attempt.how == Ended::Succeeded).for_each(|attempt| {
            attempt.how = Ended::Failed;
        });
        true
    }),
    ("fencing", "a result counts under an older token", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskCompleted { ended, .. } => {
                ended.token -= 1;
                true
            }
            _ => false,
        })
    }),
    ("capacity", "a pool is too small for what was granted", |seen| {
        alter(seen, |record| set_capacity(record, 0))
    }),
    ("capacity", "a task may not run at all", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskCreated { rules, .. } => match &mut rules.claims {
                Some(claims) if claims.max_concurrent.is_some() => {
                    Arc::make_mut(claims).max_concurrent = Some(0);
                    true
                }
                _ => false,
            },
            _ => false,
        })
    }),
    ("capacity", "a target is called though it was not called again", |seen| {
        drop_all(seen, |event| {
            matches!(
                event,
                Event::Placement(Placing::BreakerHalfOpened { .. } | Placing::BreakerClosed { .. })
            )
        })
    }),
    ("capacity", "a breaker does not open", |seen| {
        drop_all(seen, |event| matches!(event, Event::Placement(Placing::BreakerOpened { .. })))
    }),
    ("capacity", "a target is tried too early", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::Placement(Placing::BreakerOpened { until: Some(until), .. }) => later(until),
            _ => false,
        })
    }),
    ("capacity", "a limit on a label is too small for what was granted", |seen| {
        alter(seen, |record| is_limit(&record.event, "label") && set_capacity(record, 0))
    }),
    ("capacity", "a limit on a queue is too small for what was granted", |seen| {
        alter(seen, |record| is_limit(&record.event, "queue") && set_capacity(record, 0))
    }),
    ("capacity", "a limit on a tenant is too small for what was granted", |seen| {
        alter(seen, |record| is_limit(&record.event, "tenant") && set_capacity(record, 0))
    }),
    ("capacity", "something is granted of a queue that is paused", |seen| {
        drop_all(seen, |event| matches!(event, Event::Placement(Placing::QueueResumed { .. })))
    }),
    ("alone", "runs of a task meet that may not", |seen| {
        seen.attempts.iter_mut().for_each(|attempt| attempt.ended += 60_000);
        true
    }),
    ("alone", "one is let go too early", |seen| {
        // With the one that was let go another one goes, for the same reason.
        let released = places(seen, |event| matches!(event, Event::TaskReleased { .. }));
        let beside = released.into_iter().rev().find_map(|place| {
            let Event::TaskReleased { task, execution, cause } = seen.records[place].event else {
                return None;
            };
            let later = seen.records[place..].iter().find_map(|record| match record.event {
                Event::TaskReleased { task: of, execution: other, .. }
                    if of == task && other != execution =>
                {
                    Some(other)
                }
                _ => None,
            });
            let scheduled = |record: &Record| matches!(record.event, Event::TaskScheduled { .. });
            let waits = |other: &ExecutionId| {
                let before = seen.records[..place].iter().filter(|record| scheduled(record));
                before.filter_map(|record| record.event.execution()).any(|known| known == *other)
            };
            later.filter(waits).map(|other| (place, Event::TaskReleased { task, execution: other, cause }))
        });
        let Some((place, event)) = beside else { return false };
        let record = Record { event, ..seen.records[place].clone() };
        seen.records.insert(place + 1, record);
        true
    }),
    ("alone", "one is let go for the end of another one than did end", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskReleased { execution, cause, .. } => {
                *cause = ReleaseCause::Ended { earlier: *execution };
                true
            }
            _ => false,
        })
    }),
    ("alone", "one is said to be let go by a change of its task that there was not", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskReleased { cause: cause @ ReleaseCause::Ended { .. }, .. } => {
                *cause = ReleaseCause::OverlapAllowed;
                true
            }
            _ => false,
        })
    }),
    ("retried", "an attempt comes before its time", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskRetry { until, .. } => later(until),
            _ => false,
        })
    }),
    ("retried", "a target is not spared between two attempts", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskRetry { until, .. } => {
                *until = record.header.at;
                true
            }
            _ => false,
        })
    }),
    ("retried", "one is given up too early", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskRetry { task, execution, ended, .. } => {
                record.event = Event::TaskFailed {
                    task: *task,
                    execution: *execution,
                    ended: ended.clone(),
                    result: None,
                    cause: GiveUpCause::AttemptsUsedUp,
                };
                true
            }
            _ => false,
        })
    }),
    ("cancelled", "one runs on for a while when it was told to stop", |seen| {
        stopped(seen, |attempt| attempt.ended += STOPPED_WITHIN_MS + 1)
    }),
    ("cancelled", "one begins long after it was told to stop", |seen| {
        stopped(seen, |attempt| attempt.started = attempt.ended + LEASE_MS + 1)
    }),
];
