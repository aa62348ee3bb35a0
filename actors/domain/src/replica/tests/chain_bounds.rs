//! What a chain may be: no cycle, nothing unknown, nothing without bound; and nobody is deleted whom others wait for.

use super::chains::{after, by_hand, chain};
use super::*;
use crate::limits::{CHAIN_DEPTH_MAX, CHAIN_TASKS_MAX, SUCCESSORS_PER_TASK_MAX};
use crate::task::trigger::AfterCondition::AllDone;

fn create(world: &mut World, task: u128, tasks: &[u128]) -> Result<TaskId, Rejection> {
    let new = new_task(task, &after(tasks, AllDone), None);
    match world.client(Request::CreateTasks(vec![new])) {
        Ok(Accepted::Tasks(mut answers)) => answers.remove(0),
        other => panic!("one answer: {other:?}"),
    }
}

fn update(world: &mut World, task: u128, tasks: &[u128]) -> Result<Accepted, Rejection> {
    let definition = after(tasks, AllDone);
    let (rules, sealed) = (Box::new(Rules::of(&definition)), Sealed::definition(&definition));
    let task = TaskId(task);
    world.client(Request::UpdateTask { task, expected_version: None, rules, definition: sealed, next: None })
}

fn ids(tasks: &[u128]) -> Vec<TaskId> {
    tasks.iter().copied().map(TaskId).collect()
}

#[test]
fn a_task_waits_only_for_tasks_of_its_tenant() {
    let mut world = chain(&[(1, &[], AllDone)]);
    assert_eq!(create(&mut world, 2, &[1, 7, 8]), Err(Rejection::MissingTasks { tasks: ids(&[7, 8]) }));
    let foreign =
        world.client_command("other", Request::CreateTasks(vec![new_task(9, &after(&[1], AllDone), None)]));
    let missing = Rejection::MissingTasks { tasks: ids(&[1]) };
    assert_eq!(world.apply(&foreign).outcome, Ok(Accepted::Tasks(vec![Err(missing)])));
}

#[test]
fn a_cycle_is_refused_with_the_way_around_it() {
    let mut world = chain(&[(1, &[], AllDone), (2, &[1], AllDone), (3, &[2], AllDone), (4, &[1], AllDone)]);
    let way = |tasks| Err(Rejection::ChainCycle { tasks: ids(tasks) });
    assert_eq!(update(&mut world, 1, &[3]), way(&[1, 2, 3, 1]));
    assert_eq!(update(&mut world, 2, &[2]), way(&[2, 2]));
    assert_eq!(update(&mut world, 2, &[1, 3]), way(&[2, 3, 2]));
    assert!(update(&mut world, 2, &[4]).is_ok());
    assert!(update(&mut world, 2, &[1]).is_ok(), "a task can be given what it has");
    let told = Rejection::ChainCycle { tasks: ids(&[1, 2, 1]) }.to_string();
    assert_eq!(told.matches(" → ").count(), 2);
}

#[test]
fn a_chain_is_neither_wider_nor_larger_nor_deeper_than_allowed() {
    let mut world = chain(&[(1, &[], AllDone)]);
    let many = |answer, limit: usize| {
        let too_many = matches!(answer, Err(Rejection::TooMany { limit: at, .. }) if at == limit as u64);
        assert!(too_many, "{answer:?} names {limit}");
    };
    for wide in 0..SUCCESSORS_PER_TASK_MAX as u128 {
        create(&mut world, 100 + wide, &[1]).expect("within bounds");
    }
    many(create(&mut world, 99, &[1]), SUCCESSORS_PER_TASK_MAX);

    let mut world = chain(&[(1, &[], AllDone)]);
    for next in 2..=CHAIN_DEPTH_MAX as u128 {
        create(&mut world, next, &[next - 1]).expect("within bounds");
    }
    many(create(&mut world, 65, &[64]), CHAIN_DEPTH_MAX);
    world.create(500, &by_hand(), None);
    let deeper = update(&mut world, 1, &[500]);
    assert!(matches!(deeper, Err(Rejection::TooMany { .. })), "from the front, too: {deeper:?}");

    let mut world = chain(&[(1, &[], AllDone)]);
    for next in 0..CHAIN_TASKS_MAX as u128 - 1 {
        let before = if next < 4 { 1 } else { 100 + (next - 4) / 63 };
        create(&mut world, 100 + next, &[before]).expect("within bounds");
    }
    many(create(&mut world, 99, &[150]), CHAIN_TASKS_MAX);
}

#[test]
fn a_task_that_others_wait_for_is_not_deleted() {
    let mut world = chain(&[(1, &[], AllDone), (2, &[1], AllDone), (3, &[1], AllDone)]);
    let delete = |world: &mut World, task| {
        world.client(Request::DeleteTask { task: TaskId(task), expected_version: None })
    };
    assert_eq!(delete(&mut world, 1), Err(Rejection::TaskAwaited { tasks: ids(&[2, 3]) }));
    delete(&mut world, 2).expect("nobody waits for it");
    delete(&mut world, 3).expect("nobody waits for it");
    delete(&mut world, 1).expect("nobody waits for it any more");
}

#[test]
fn a_bulk_counts_together_and_keeps_what_it_waits_for() {
    let mut world = chain(&[(1, &[], AllDone)]);
    let stage = |world: &mut World, bulk: u128, many: u128| {
        let tasks =
            (0..many).map(|task| new_task(bulk * 10_000 + task, &after(&[1], AllDone), None)).collect();
        let bulk = CommandId(bulk);
        world.client(Request::StageTasks { bulk, part: 0, tasks }).expect("staged");
        world.client(Request::CommitStaged { bulk, parts: 1 })
    };
    let refused = stage(&mut world, 500, 65);
    assert!(matches!(refused, Err(Rejection::TooMany { limit: 64, .. })), "{refused:?}");
    assert!(!world.replica.chains().graph().is_awaited(world.tenant(), TaskId(1)), "nothing is left of it");
    stage(&mut world, 501, 64).expect("within bounds");
    assert_eq!(world.replica.chains().graph().successors(world.tenant(), TaskId(1)).count(), 64);
}
