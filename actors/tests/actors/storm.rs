//! Leaders come and go, workers are cut off, answers are lost, clocks differ: afterwards everything ran, and nothing ran
//! beside itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::ports::{AttemptEnd, AttemptFailure};
use escapement_domain::command::Request;
use escapement_domain::identifier::{ExecutionId, NodeId, TaskId};
use escapement_domain::task::definition::{Definition, Misfire, MisfirePolicy, Overlap, Retry};
use escapement_domain::task::state::Phase;
use escapement_domain::timestamp::Span;

use parking_lot::Mutex;

use crate::cast::{Cast, How, Seen, every, noop, played};
use crate::stage::play;

const TASKS: u128 = 12;
const RUNS: u32 = 20;

/// A small generator, so that a seed is a story.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Every attempt starts once, under a higher token than the one before it, after that one has ended.
fn nothing_ran_beside_itself(seen: &[Seen]) {
    let mut running: BTreeMap<ExecutionId, u64> = BTreeMap::new();
    let mut last: BTreeMap<ExecutionId, u64> = BTreeMap::new();
    for event in seen {
        match event {
            Seen::Started { execution, token, .. } => {
                assert_eq!(running.insert(*execution, *token), None, "{execution} ran beside itself");
                let before = last.insert(*execution, *token);
                assert!(
                    before.is_none_or(|before| before < *token),
                    "{execution} ran again under token {token}"
                );
            }
            Seen::Ended { execution, token, .. } => assert_eq!(running.remove(execution), Some(*token)),
        }
    }
}

fn definition(id: u128) -> Definition {
    let misfire = Misfire { policy: MisfirePolicy::RunAll, grace: Span::minutes(1), window: Span::hours(1) };
    let retry = Retry { max_attempts: 5, initial_delay: Span(500), ..Retry::DEFAULT };
    let overlap = if id.is_multiple_of(3) { Overlap::QueueAll } else { Overlap::Allow };
    let trigger = every(1 + u64::try_from(id % 4).expect("small"));
    let based = if id % 4 == 1 { noop(trigger) } else { played(trigger) };
    Definition { misfire, retry, overlap, max_runs: Some(RUNS), ..based }
}

async fn shake(cast: &Cast, dice: &mut Dice, term: &mut u64) {
    match dice.below(8) {
        0 | 1 => {
            *term += 1;
            cast.lead(1 + dice.below(3), *term);
        }
        2 => {
            cast.directory.cut_off.lock().insert(NodeId(1 + dice.below(3)));
        }
        3 | 4 => cast.directory.cut_off.lock().clear(),
        5 => {
            let (forgetful, lossy, busy) = (dice.below(4), dice.below(4), dice.below(3));
            let delay = Duration::from_millis(dice.below(40));
            for node in cast.nodes.values() {
                node.log.behave(|conduct| {
                    conduct.forgetful = usize::try_from(forgetful).expect("small");
                    conduct.lossy = usize::try_from(lossy).expect("small");
                    conduct.busy = usize::try_from(busy).expect("small");
                    conduct.delay = delay;
                });
            }
        }
        6 => {
            let failed = AttemptEnd::Failed(AttemptFailure::new("no"));
            cast.book.ends.lock().push(failed);
        }
        _ => *cast.book.takes.lock() = Duration::from_millis(dice.below(5_000)),
    }
    tokio::time::sleep(Duration::from_millis(dice.below(900))).await;
}

fn heal(cast: &Cast, term: &mut u64) {
    *term += 1;
    cast.directory.cut_off.lock().clear();
    *cast.book.takes.lock() = Duration::from_millis(100);
    for node in cast.nodes.values() {
        node.log.behave(|conduct| *conduct = crate::stage::Conduct::default());
    }
    cast.lead(2, *term);
}

#[test]
fn whatever_happens_everything_runs_and_nothing_runs_beside_itself() {
    let tally = Arc::new(Mutex::new([0; 4]));
    for seed in 1..=16 {
        let tally = tally.clone();
        play(async move {
            let mut dice = Dice(seed);
            let cast = Cast::new(3, &[1, 2, 3]);
            for id in 1..=TASKS {
                cast.create(id, definition(id)).await;
            }
            for node in cast.nodes.values() {
                // Well within what a leader may be off.
                node.clock.set_wrong_by(i64::try_from(dice.below(400)).expect("small"));
            }
            let mut term = 1;
            for _ in 0..200 {
                shake(&cast, &mut dice, &mut term).await;
            }
            heal(&cast, &mut term);
            let done = || {
                let finished = |id| cast.task(TaskId(id)).is_some_and(|task| task.phase() == Phase::Finished);
                cast.open().is_empty() && (1..=TASKS).all(finished)
            };
            for _ in 0..200 {
                if done() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let runs: Vec<_> = (1..=TASKS).map(|id| cast.task(TaskId(id)).map(|task| task.runs)).collect();
            assert!(done(), "seed {seed}: {runs:?}, {} open", cast.open().len());
            assert_eq!(runs, vec![Some(RUNS); runs.len()], "seed {seed}");
            nothing_ran_beside_itself(&cast.book.seen.lock());
            let killed = cast.book.ends().iter().filter(|(_, how)| *how == How::Killed).count();
            let requests = cast.shared.requests();
            let lost =
                requests.iter().filter(|request| matches!(request, Request::LoseWorker { .. })).count();
            let unanswered: u64 = cast.nodes.values().map(|node| node.wheel.counts().failed).sum();
            let seen = [cast.book.starts().len(), killed, lost, usize::try_from(unanswered).expect("small")];
            tally.lock().iter_mut().zip(seen).for_each(|(sum, seen)| *sum += seen);
        });
    }
    let [starts, killed, lost, unanswered] = *tally.lock();
    let floors = starts > 2_000 && killed > 40 && lost > 5 && unanswered > 300;
    assert!(floors, "{starts} starts, {killed} killed, {lost} workers lost, {unanswered} fires unanswered");
}
