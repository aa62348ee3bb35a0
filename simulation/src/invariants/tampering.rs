//! No invariant is blind: for each of them, what was seen of a good run is altered in ways that it must notice.
//!
//! What others say of the same alteration is not asked. An invariant for which nothing is altered here fails the test.

mod hands;
mod work;

use std::collections::BTreeSet;

use escapement_domain::event::{Event, PauseCause, Placing, RequeueCause, SkipReason};
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::TaskId;
use escapement_domain::record::{Hash, Record};
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::Span;

use self::hands::{
    alter, another, create_in_part, double_where, drop_all, drop_where, grant_after, is_due, is_pool,
    is_step, later, operations, places, read_events, set_capacity, unbegin,
};
use super::{CHECKS, judge, story};
use crate::evidence::{Done, Ended, Evidence, Knowledge, Missing, Wish};
use crate::plants::Planted;
use crate::profile::Profile;
use crate::world;

/// Something to alter; says whether there was anything of the sort.
type Tamper = fn(&mut Evidence) -> bool;
/// What is altered, after the invariant that must notice it.
type Alteration = (&'static str, &'static str, Tamper);

/// What is altered of schedules, commands and records; what is altered of the work that they lead to is in [`work`].
const ALTERATIONS: [Alteration; 62] = [
    ("lost", "an occurrence is not settled", |seen| drop_where(seen, is_due)),
    ("lost", "one that was skipped is not told", |seen| {
        drop_where(seen, |event| {
            matches!(event, Event::TaskSkipped { occurrence: Occurrence::Scheduled(_), .. })
        })
    }),
    ("lost", "what passed before a change is not told", |seen| {
        let paused = places(seen, |event| matches!(event, Event::TaskPaused { .. }));
        paused.into_iter().any(|place| {
            let task = seen.records[place].event.task();
            let mut before = seen.records[..place].iter();
            let last = before.rposition(|one| one.event.task() == task && is_due(&one.event));
            last.map(|last| seen.records.remove(last)).is_some()
        })
    }),
    ("lost", "a task is changed a minute later", |seen| {
        alter(seen, |record| {
            let ends = matches!(record.event, Event::TaskUpdated { .. } | Event::TaskPaused { .. });
            ends.then(|| record.header.at = record.header.at.plus(Span::minutes(1))).is_some()
        })
    }),
    ("lost", "a series begins later than it should", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskCreated { next: Some(next), .. } => later(next),
            _ => false,
        })
    }),
    ("lost", "an execution does not end", |seen| {
        drop_where(seen, |event| matches!(event, Event::TaskCompleted { .. }))
    }),
    ("duplicate", "an occurrence fires twice", |seen| double_where(seen, is_due)),
    ("duplicate", "a grant is made twice", |seen| {
        double_where(seen, |event| matches!(event, Event::TaskStarted { .. }))
    }),
    ("duplicate", "a token is used twice", |seen| {
        let again = seen.attempts.first().cloned();
        seen.attempts.extend(again.clone());
        again.is_some()
    }),
    ("duplicate", "one that was cancelled is granted", |seen| {
        grant_after(seen, |event| matches!(event, Event::TaskCancelled { .. }))
    }),
    ("duplicate", "one that failed for good is granted", |seen| {
        grant_after(seen, |event| matches!(event, Event::TaskFailed { .. }))
    }),
    ("duplicate", "one that waits for its next attempt is granted", |seen| {
        grant_after(seen, |event| matches!(event, Event::TaskRetry { .. }))
    }),
    ("duplicate", "one that waits for an earlier one is granted", |seen| {
        grant_after(seen, |event| matches!(event, Event::TaskScheduled { held: true, .. }))
    }),
    ("duplicate", "one that ran is said not to have begun", unbegin),
    ("early", "the jitter of a task is ignored", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskCreated { definition, .. } => {
                let mut spread = definition.open_definition().expect("a definition");
                spread.jitter = Span::seconds(2);
                *definition = Sealed::definition(&spread);
                true
            }
            _ => false,
        })
    }),
    ("early", "an attempt begins before its instant", |seen| {
        let attempt = seen.attempts.first_mut();
        attempt.map(|attempt| attempt.scheduled_at = attempt.scheduled_at.plus(Span::minutes(5))).is_some()
    }),
    ("early", "everything is settled long before it comes", |seen| {
        seen.committed.values_mut().for_each(|at| *at = at.saturating_sub(20_000));
        true
    }),
    ("late", "everything is settled long after it came", |seen| {
        seen.committed.values_mut().for_each(|at| *at += 20_000);
        true
    }),
    ("late", "everything is settled very late, and a minority is broken", |seen| {
        seen.disturbances.push((0, u64::MAX >> 1));
        seen.committed.values_mut().for_each(|at| *at += 20_000);
        true
    }),
    ("phantom", "an attempt begins without a grant", |seen| {
        seen.attempts.first_mut().map(|attempt| attempt.token += 100_000).is_some()
    }),
    ("phantom", "an attempt begins where it was not granted", |seen| {
        seen.attempts.first_mut().map(|attempt| attempt.node.0 += 100).is_some()
    }),
    ("phantom", "a task fires while it is paused", |seen| {
        let fired = places(seen, is_due).pop();
        fired
            .map(|place| {
                let mut record = seen.records[place].clone();
                if let Event::TaskScheduled { slot, task, .. } = record.event {
                    record.event = Event::TaskPaused { slot, task, cause: PauseCause::Requested };
                }
                seen.records.insert(place, record);
            })
            .is_some()
    }),
    ("phantom", "a task runs by hand, and nobody asked", |seen| {
        operations(
            seen,
            |wish| matches!(wish, Wish::Run(_)),
            |operation| {
                operation.wish = Wish::Read(TaskId(0));
            },
        )
    }),
    ("phantom", "a task fires after it was deleted", |seen| {
        let fired = places(seen, is_due).pop();
        fired
            .map(|place| {
                let mut record = seen.records[place].clone();
                let at = seen.committed_at(&record);
                if let Event::TaskScheduled { slot, task, .. } = record.event {
                    record.event = Event::TaskDeleted { slot, task };
                }
                record.header.log_index = 0;
                seen.records.insert(0, record);
                seen.committed.insert(0, at - 1);
            })
            .is_some()
    }),
    ("heard", "an event does not meet a listener", |seen| {
        drop_where(seen, |event| {
            matches!(event, Event::TaskScheduled { occurrence: Occurrence::Event(_), .. })
        })
    }),
    ("heard", "an event meets a listener twice", |seen| {
        double_where(seen, |event| {
            matches!(event, Event::TaskScheduled { occurrence: Occurrence::Event(_), .. })
        })
    }),
    ("heard", "an event is not handed out", |seen| {
        drop_where(seen, |event| matches!(event, Event::EventHandedOut { up_to: None, .. }))
    }),
    ("followed", "a step is not made", |seen| drop_all(seen, is_step)),
    ("followed", "a step is made twice", |seen| double_where(seen, is_step)),
    ("acknowledged", "a created task is not in the log", |seen| {
        drop_where(seen, |event| matches!(event, Event::TaskCreated { .. }))
    }),
    ("acknowledged", "a task has another definition than was asked for", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskCreated { definition, .. } => another(definition),
            _ => false,
        })
    }),
    ("acknowledged", "an update has another definition than was asked for", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskUpdated { definition, .. } => another(definition),
            _ => false,
        })
    }),
    ("acknowledged", "a pause is not in the log", |seen| {
        drop_all(seen, |event| matches!(event, Event::TaskPaused { .. }))
    }),
    ("acknowledged", "a resumption is not in the log", |seen| {
        drop_all(seen, |event| matches!(event, Event::TaskResumed { .. }))
    }),
    ("acknowledged", "an execution was not told to stop", |seen| {
        drop_all(seen, |event| {
            matches!(event, Event::TaskCancelRequested { .. } | Event::TaskCancelled { .. })
        })
    }),
    ("acknowledged", "a calendar was not put", |seen| {
        drop_all(seen, |event| matches!(event, Event::CalendarPut { .. }))
    }),
    ("acknowledged", "a pool was not put", |seen| drop_all(seen, is_pool)),
    ("acknowledged", "a pool has another capacity", |seen| alter(seen, |record| set_capacity(record, 99))),
    ("acknowledged", "what was refused under a key was carried out", |seen| {
        operations(
            seen,
            |wish| matches!(wish, Wish::Run(_)),
            |operation| {
                operation.key = Some(7);
                operation.knowledge = Knowledge::Refused("no".into());
            },
        )
    }),
    ("acknowledged", "somebody is told that there is no task", |seen| {
        operations(
            seen,
            |wish| matches!(wish, Wish::Pause(_) | Wish::Update(..)),
            |operation| {
                operation.knowledge = Knowledge::Missing(Missing::Task);
            },
        )
    }),
    ("acknowledged", "an operation is carried out twice", |seen| {
        let resumed = places(seen, |event| matches!(event, Event::TaskResumed { .. })).pop();
        resumed
            .map(|place| {
                let mut again = seen.records[place].clone();
                again.header.log_index += 1;
                seen.records.insert(place, again);
            })
            .is_some()
    }),
    ("acknowledged", "a bulk is created in part", create_in_part),
    ("acknowledged", "a priority is not changed", |seen| {
        drop_all(seen, |event| matches!(event, Event::TaskPriorityChanged { .. }))
    }),
    ("acknowledged", "a queue is not paused", |seen| {
        drop_all(seen, |event| matches!(event, Event::Placement(Placing::QueuePaused { .. })))
    }),
    ("acknowledged", "a breaker is not opened by hand", |seen| {
        drop_all(seen, |event| {
            matches!(event, Event::Placement(Placing::BreakerOpened { execution: None, .. }))
        })
    }),
    ("acknowledged", "a limit is not taken away", |seen| {
        drop_all(seen, |event| matches!(event, Event::Placement(Placing::GateDeleted { .. })))
    }),
    ("linearizable", "a read tells of a version that never was", |seen| {
        operations(
            seen,
            |wish| matches!(wish, Wish::Read(_)),
            |operation| {
                if let Knowledge::Done(Done::Task(read)) = &mut operation.knowledge {
                    read.version += 7;
                }
            },
        )
    }),
    ("linearizable", "a write is committed after its answer", |seen| {
        operations(
            seen,
            |wish| matches!(wish, Wish::Update(..)),
            |operation| {
                operation.answered = operation.issued;
            },
        )
    }),
    ("linearizable", "what a client has a key for is committed after its answer", |seen| {
        operations(
            seen,
            |wish| matches!(wish, Wish::Create(_)),
            |operation| {
                if operation.key.is_some() {
                    operation.answered = operation.issued;
                }
            },
        )
    }),
    ("linearizable", "a bulk is committed after its answer", |seen| {
        operations(
            seen,
            |wish| matches!(wish, Wish::CreateAll(_)),
            |operation| {
                operation.answered = operation.issued;
            },
        )
    }),
    ("chain", "a hash is another", |seen| {
        alter(seen, |record| {
            record.hash = Hash::of(b"another");
            true
        })
    }),
    ("chain", "a record is gone", |seen| drop_where(seen, |_| true)),
    ("fold", "the records lead to another state", |seen| {
        drop_all(seen, |event| matches!(event, Event::TaskPaused { .. }))
    }),
    ("matching", "tasks run more often than they were due", |seen| {
        let again: Vec<_> =
            seen.attempts.iter().filter(|attempt| attempt.how == Ended::Succeeded).cloned().collect();
        seen.attempts.extend(again.clone());
        !again.is_empty()
    }),
    ("matching", "what is told to have been taken back when nothing was broken ran twice", |seen| {
        let again: Vec<_> =
            seen.attempts.iter().filter(|attempt| attempt.how == Ended::Succeeded).cloned().collect();
        let tokens: BTreeSet<u64> = again.iter().map(|attempt| attempt.token).collect();
        let with_its_end = |record: Record| {
            let taken_back = match record.event {
                Event::TaskStarted { task, execution, .. } if tokens.contains(&record.header.sequence) => {
                    let cause = RequeueCause::WorkerLost { token: record.header.sequence };
                    Some(Record { event: Event::TaskRequeued { task, execution, cause }, ..record.clone() })
                }
                _ => None,
            };
            [Some(record), taken_back].into_iter().flatten()
        };
        seen.records = std::mem::take(&mut seen.records).into_iter().flat_map(with_its_end).collect();
        seen.attempts.extend(again);
        !tokens.is_empty()
    }),
    ("matching", "nothing ran", |seen| {
        seen.attempts.clear();
        true
    }),
    ("matching", "half of the runs are missing, and no majority was ever well", |seen| {
        seen.without_quorum.push((0, u64::MAX >> 1));
        let half = seen.attempts.len() / 2;
        seen.attempts.truncate(half);
        half > 0
    }),
    ("served", "somebody was told of other records", |seen| {
        read_events(seen, |served| served.first_mut().map(|(_, hash)| hash.0[0] ^= 1).is_some())
    }),
    ("served", "somebody was not told of the last record", |seen| {
        seen.committed.values_mut().for_each(|at| *at = 0);
        read_events(seen, |served| served.len() > 1 && served.pop().is_some())
    }),
    ("justified", "one that nothing holds up waits", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskScheduled { held, .. } => {
                *held = !*held;
                true
            }
            _ => false,
        })
    }),
    ("justified", "a skip has another reason", |seen| {
        alter(seen, |record| match &mut record.event {
            Event::TaskSkipped { reason, .. } if *reason != SkipReason::ByHand => {
                *reason = SkipReason::ByHand;
                true
            }
            _ => false,
        })
    }),
    ("justified", "a run is missed in its grace", |seen| {
        alter(seen, |record| match record.event {
            Event::TaskScheduled { slot, task, occurrence: Occurrence::Scheduled(at), next, .. } => {
                record.event = Event::TaskMissed { slot, task, first: at, last: at, count: 1, next };
                true
            }
            _ => false,
        })
    }),
];

/// Good runs, in which together everything happens that is altered; the later ones are played only for what is left.
const GOOD_RUNS: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn every_invariant_notices_what_breaks_it_and_is_silent_when_nothing_does() {
    let alterations = [&ALTERATIONS[..], &work::ALTERATIONS].concat();
    let altered = |name: &str| alterations.iter().any(|(of, ..)| *of == name);
    let blind: Vec<_> = CHECKS.iter().map(|(name, _)| *name).filter(|name| !altered(name)).collect();
    assert!(blind.is_empty(), "nothing is altered for {blind:?}");
    let mut unnoticed = alterations;
    for seed in GOOD_RUNS {
        if unnoticed.is_empty() {
            break;
        }
        let played = world::run(seed, Profile::Calm, Some(30_000), Planted::NOTHING, false);
        let (seen, _) = played.expect("a runtime");
        assert_eq!(judge(&seen).violations.first().map(ToString::to_string), None);
        unnoticed.retain(|(invariant, _, tamper)| {
            let (_, check) = CHECKS.into_iter().find(|(name, _)| name == invariant).expect("an invariant");
            let mut seen = seen.clone();
            !tamper(&mut seen) || check(&seen, &story::lives(&seen)).is_empty()
        });
    }
    let unnoticed: Vec<_> =
        unnoticed.iter().map(|(invariant, what, _)| format!("{invariant}: {what}")).collect();
    assert!(unnoticed.is_empty(), "what nobody noticed: {unnoticed:#?}");
}
