//! Whatever hangs together and however its executions end: each step of each run is decided once in a round, none is left out,
//! nothing is kept of what is over, and the records give the same state.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::chains::{after, by_hand};
use super::*;
use crate::event::Chaining;
use crate::execution::state::Occurrence;
use crate::task::trigger::AfterCondition;

const TASKS: u128 = 6;

#[derive(Clone, Debug)]
enum Move {
    Run(u8),
    End(u8, u8),
    CancelRun(u8),
    Cancel(u8),
    RetryRun(u8),
    Retry(u8),
    Pause(u8),
    Resume(u8),
    Restore,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (0..6_u8).prop_map(Move::Run),
        12 => (any::<u8>(), 0..4_u8).prop_map(|(which, how)| Move::End(which, how)),
        1 => any::<u8>().prop_map(Move::CancelRun),
        1 => any::<u8>().prop_map(Move::Cancel),
        2 => any::<u8>().prop_map(Move::RetryRun),
        2 => any::<u8>().prop_map(Move::Retry),
        1 => (0..6_u8).prop_map(Move::Pause),
        1 => (0..6_u8).prop_map(Move::Resume),
        1 => Just(Move::Restore),
    ];
    proptest::collection::vec(one, 1..80)
}

/// Tasks of which each runs after some of those before it, or after none.
fn world(links: &[(u8, u8)]) -> World {
    let mut world = World::with_worker(500);
    for (task, (awaited, condition)) in (1..=TASKS).zip(links) {
        let before: Vec<u128> = (1..task).filter(|before| awaited & (1 << (before - 1)) != 0).collect();
        let condition = AfterCondition::ALL[usize::from(*condition) % 3];
        let definition = if before.is_empty() { by_hand() } else { after(&before, condition) };
        world.create(task, &definition, None);
    }
    world
}

fn runs(world: &World) -> Vec<ExecutionId> {
    let begun = |record: &Record| match &record.event {
        Event::TaskScheduled { execution, occurrence, .. } if occurrence.run_of(*execution) == *execution => {
            Some(*execution)
        }
        _ => None,
    };
    world.records.iter().filter_map(begun).collect()
}

fn end(world: &mut World, which: u8, how: u8) {
    let open = world.open();
    let Some(open) = open.get(usize::from(which) % open.len().max(1)) else { return };
    let outcome = match how {
        0 => failed(),
        1 => AttemptOutcome::Cancelled,
        _ => AttemptOutcome::Succeeded(None),
    };
    world.report(open.id, outcome).expect("heard");
}

fn play(world: &mut World, one: &Move) {
    let runs = runs(world);
    let of = |which: u8| runs.get(usize::from(which) % runs.len().max(1)).copied();
    let task = |id: u8| TaskId(u128::from(id) % TASKS + 1);
    match *one {
        Move::Run(id) => drop(world.run(task(id).0)),
        Move::End(which, how) => end(world, which, how),
        Move::CancelRun(which) => {
            if let Some(run) = of(which) {
                drop(world.client(Request::CancelRun { run }));
            }
        }
        Move::Cancel(which) => {
            let open = world.open();
            if let Some(open) = open.get(usize::from(which) % open.len().max(1)) {
                drop(world.client(Request::CancelExecution { execution: open.id }));
            }
        }
        Move::RetryRun(which) => {
            if let Some(run) = of(which) {
                drop(world.retry_run(run));
            }
        }
        Move::Retry(which) => {
            let Some(run) = of(which) else { return };
            let steps = world.recalled(run).steps;
            let step = steps[usize::from(which) % steps.len()].ended.task;
            drop(world.retry(run, step.0, true));
        }
        Move::Pause(id) => drop(world.client(Request::PauseTask { task: task(id) })),
        Move::Resume(id) => drop(world.client(Request::ResumeTask { task: task(id) })),
        Move::Restore => {
            let mut bytes = Vec::new();
            world.replica.freeze().write_to(&mut bytes).expect("memory");
            let restored = Replica::restore(&mut bytes.as_slice()).expect("readable");
            assert_eq!(restored.state_hash(), world.replica.state_hash());
            world.replica = restored;
        }
    }
}

/// How often each step was decided in each round of each run.
fn decisions(world: &World) -> BTreeMap<(Occurrence, TaskId), usize> {
    let mut decided = BTreeMap::new();
    for record in &world.records {
        if let Event::TaskScheduled { task, occurrence, .. } | Event::TaskSkipped { task, occurrence, .. } =
            &record.event
        {
            *decided.entry((*occurrence, *task)).or_default() += 1;
        }
    }
    decided
}

fn check(world: &World) {
    let decided = decisions(world);
    assert!(decided.values().all(|often| *often == 1), "each occurrence once: {decided:?}");
    let cancelled: BTreeSet<ExecutionId> = world
        .records
        .iter()
        .filter_map(|record| match record.event {
            Event::Chain(Chaining::RunCancelled { run, .. }) => Some(run),
            _ => None,
        })
        .collect();
    for run in runs(world).into_iter().filter(|run| !cancelled.contains(run)) {
        let recalled = world.recalled(run);
        let members = world.replica.chains().graph().members(world.tenant(), recalled.task);
        let reached: BTreeSet<TaskId> = recalled.steps.iter().map(|step| step.ended.task).collect();
        assert_eq!(reached, members, "each step of the run is decided");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn each_step_of_each_run_is_decided_once(
        links in proptest::collection::vec((any::<u8>(), 0..3_u8), TASKS as usize),
        moves in moves(),
    ) {
        let mut world = world(&links);
        for one in &moves {
            play(&mut world, one);
        }
        while !world.open().is_empty() {
            end(&mut world, 0, 2);
        }
        check(&world);
        world.is_over();
    }
}
