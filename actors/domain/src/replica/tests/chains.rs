//! A task runs after others: once in each run, as soon as it is certain, or is skipped with the reason.

use super::*;
use crate::event::SkipReason;
use crate::execution::state::Occurrence;
use crate::task::trigger::AfterCondition::{self, AllDone, AllSucceeded, AnyFailed};

pub(super) fn after(tasks: &[u128], condition: AfterCondition) -> Definition {
    let tasks = tasks.iter().copied().map(TaskId).collect();
    Definition { trigger: Trigger::After { tasks, condition }, ..definition() }
}

pub(super) fn by_hand() -> Definition {
    Definition { trigger: Trigger::Manual, ..definition() }
}

/// A world in which each task runs after those before it.
pub(super) fn chain(links: &[(u128, &[u128], AfterCondition)]) -> World {
    let mut world = World::with_worker(64);
    for (task, tasks, condition) in links {
        let definition = if tasks.is_empty() { by_hand() } else { after(tasks, *condition) };
        world.create(*task, &definition, None);
    }
    world
}

impl World {
    pub(super) fn run(&mut self, task: u128) -> ExecutionId {
        self.now += 1_000;
        match self.client(Request::RunTask { task: TaskId(task) }) {
            Ok(Accepted::Execution { execution, .. }) => execution,
            other => panic!("a run by hand begins: {other:?}"),
        }
    }

    /// The open execution of a task within a run.
    pub(super) fn open_in(&self, run: ExecutionId, task: u128) -> ExecutionId {
        let of_run = |open: &&Arc<Execution>| open.task == TaskId(task) && open.run() == run;
        self.replica.executions().values().find(of_run).unwrap_or_else(|| panic!("{task} is open")).id
    }

    pub(super) fn succeed(&mut self, run: ExecutionId, task: u128) {
        let execution = self.open_in(run, task);
        self.report(execution, AttemptOutcome::Succeeded(None)).expect("heard");
    }

    pub(super) fn fail(&mut self, run: ExecutionId, task: u128) {
        let execution = self.open_in(run, task);
        self.report(execution, failed()).expect("heard");
    }

    /// The tasks that began within a run after others, in order.
    pub(super) fn began(&self, run: ExecutionId) -> Vec<u128> {
        let of_run = |record: &Record| match record.event {
            Event::TaskScheduled { task, occurrence: Occurrence::After { run: of, .. }, .. } if of == run => {
                Some(task.0)
            }
            _ => None,
        };
        self.records.iter().filter_map(of_run).collect()
    }

    /// The tasks that were skipped within a run, in order, with the reasons.
    pub(super) fn skipped(&self, run: ExecutionId) -> Vec<(u128, SkipReason)> {
        let of_run =
            |record: &Record| match &record.event {
                Event::TaskSkipped {
                    task, reason, occurrence: Occurrence::After { run: of, .. }, ..
                } if *of == run => Some((task.0, reason.clone())),
                _ => None,
            };
        self.records.iter().filter_map(of_run).collect()
    }

    /// Nothing of the world is open, and the state keeps nothing of its runs.
    pub(super) fn is_over(&self) {
        assert!(self.open().is_empty(), "nothing is open");
        assert!(self.replica.chains().is_idle(), "nothing of a run is left: {:?}", self.replica.chains());
        let mut folded = Replica::default();
        self.records.iter().for_each(|record| folded.evolve(record));
        assert_eq!(folded.state_hash(), self.replica.state_hash(), "the records give the same state");
    }
}

pub(super) fn unsuccessful(task: u128, status: Status) -> SkipReason {
    SkipReason::Unsuccessful { task: TaskId(task), status }
}

#[test]
fn each_condition_begins_or_skips_as_soon_as_it_is_certain() {
    let links: [(u128, &[u128], AfterCondition); 5] = [
        (1, &[], AllDone),
        (2, &[1], AllSucceeded),
        (3, &[1], AllDone),
        (4, &[1], AnyFailed),
        (5, &[1, 3], AllSucceeded),
    ];
    let mut world = chain(&links);
    let run = world.run(1);
    world.succeed(run, 1);
    assert_eq!((world.began(run), world.skipped(run)), (vec![2, 3], vec![(4, SkipReason::NoneFailed)]));
    world.fail(run, 3);
    assert_eq!(world.skipped(run)[1], (5, unsuccessful(3, Status::Failed)));
    world.succeed(run, 2);
    world.is_over();

    let run = world.run(1);
    world.fail(run, 1);
    let because = unsuccessful(1, Status::Failed);
    assert_eq!(
        (world.began(run), world.skipped(run)),
        (vec![3, 4], vec![(2, because.clone()), (5, because)])
    );
    world.succeed(run, 3);
    world.succeed(run, 4);
    world.is_over();
}

#[test]
fn a_failure_is_followed_at_once_and_only_once() {
    let mut world =
        chain(&[(1, &[], AllDone), (2, &[1], AllDone), (3, &[1], AllDone), (4, &[2, 3], AnyFailed)]);
    let run = world.run(1);
    world.succeed(run, 1);
    world.fail(run, 2);
    assert_eq!(world.began(run), [2, 3, 4], "before the other has ended");
    world.fail(run, 3);
    assert_eq!(world.began(run), [2, 3, 4]);
    world.succeed(run, 4);
    world.is_over();
}

#[test]
fn two_runs_of_a_diamond_keep_apart() {
    let mut world =
        chain(&[(1, &[], AllDone), (2, &[1], AllDone), (3, &[1], AllDone), (4, &[2, 3], AllSucceeded)]);
    let (first, second) = (world.run(1), world.run(1));
    world.succeed(first, 1);
    world.succeed(second, 1);
    world.succeed(first, 2);
    world.succeed(second, 3);
    assert_eq!((world.began(first), world.began(second)), (vec![2, 3], vec![2, 3]));
    world.succeed(second, 2);
    assert_eq!((world.began(first), world.began(second)), (vec![2, 3], vec![2, 3, 4]));
    world.fail(first, 3);
    assert_eq!(world.skipped(first), [(4, unsuccessful(3, Status::Failed))]);
    world.succeed(second, 4);
    world.is_over();
}

#[test]
fn a_skip_is_an_end_for_those_that_follow() {
    let mut world = chain(&[
        (1, &[], AllDone),
        (2, &[1], AllSucceeded),
        (3, &[2], AllSucceeded),
        (4, &[3], AllDone),
        (5, &[3], AnyFailed),
    ]);
    let run = world.run(1);
    world.fail(run, 1);
    assert_eq!(
        world.skipped(run),
        [
            (2, unsuccessful(1, Status::Failed)),
            (3, unsuccessful(2, Status::Skipped)),
            (5, SkipReason::NoneFailed),
        ]
    );
    assert_eq!(world.began(run), [4]);
    world.succeed(run, 4);
    world.is_over();
}

#[test]
fn a_step_follows_its_overlap_policy_and_its_pause() {
    let mut world = chain(&[(1, &[], AllDone)]);
    world.create(2, &Definition { overlap: Overlap::Skip, ..after(&[1], AllSucceeded) }, None);
    world.create(3, &after(&[1], AllSucceeded), None);
    world.client(Request::PauseTask { task: TaskId(3) }).expect("paused");
    let (first, second) = (world.run(1), world.run(1));
    world.succeed(first, 1);
    world.succeed(second, 1);
    assert_eq!((world.began(first), world.skipped(first)), (vec![2], vec![(3, SkipReason::Paused)]));
    let both = vec![(2, SkipReason::Overlap), (3, SkipReason::Paused)];
    assert_eq!((world.began(second), world.skipped(second)), (vec![], both));
    world.succeed(first, 2);
    world.is_over();
}

#[test]
fn a_step_run_by_hand_begins_a_run_in_which_what_waits_for_it_alone_follows() {
    let mut world = chain(&[
        (1, &[], AllDone),
        (2, &[1], AllSucceeded),
        (3, &[2], AllSucceeded),
        (4, &[1, 3], AllSucceeded),
    ]);
    let run = world.run(2);
    world.succeed(run, 2);
    assert_eq!(world.began(run), [3]);
    world.succeed(run, 3);
    assert_eq!((world.began(run), world.skipped(run)), (vec![3], vec![]), "the last waits for another, too");
    world.is_over();
}

#[test]
fn what_waits_for_several_chains_begins_runs_of_its_own() {
    let links: [(u128, &[u128], AfterCondition); 6] = [
        (1, &[], AllDone),
        (2, &[], AllDone),
        (3, &[1, 2], AllSucceeded),
        (4, &[1, 2], AllDone),
        (5, &[1, 2], AnyFailed),
        (6, &[3], AllSucceeded),
    ];
    let mut world = chain(&links);
    let joined = |world: &World, of: u128| {
        let is = |event: &Event| {
            let Event::TaskScheduled { task, occurrence: Occurrence::Joined { .. }, .. } = event else {
                return false;
            };
            *task == TaskId(of)
        };
        world.count(is)
    };
    let ended = |world: &mut World, task: u128, outcome: AttemptOutcome| {
        let run = world.run(task);
        world.report(run, outcome).expect("heard");
    };
    let success = || AttemptOutcome::Succeeded(None);
    ended(&mut world, 1, success());
    ended(&mut world, 1, failed());
    ended(&mut world, 2, success());
    assert_eq!([3, 4, 5].map(|task| joined(&world, task)), [0, 1, 1], "the latest end of 1 is a failure");
    ended(&mut world, 1, success());
    assert_eq!([3, 4, 5].map(|task| joined(&world, task)), [1, 1, 1], "that of 2 was not counted by it yet");
    ended(&mut world, 2, failed());
    assert_eq!([3, 4, 5].map(|task| joined(&world, task)), [1, 2, 2], "and is used up now");
    let of_three = world.open().iter().find(|open| open.task == TaskId(3)).expect("open").clone();
    assert_eq!(of_three.run(), of_three.id);
    world.report(of_three.id, success()).expect("heard");
    assert_eq!(world.began(of_three.id), [6], "what follows it belongs to its run");
}

#[test]
fn what_follows_goes_back_to_the_request_that_began_the_run_and_is_nobodys_doing() {
    let mut world = chain(&[(1, &[], AllDone), (2, &[1], AllSucceeded), (3, &[2], AllSucceeded)]);
    let run = world.run(1);
    world.fail(run, 1);
    let told = |task: u128| {
        let of_task = |record: &&Record| matches!(record.event, Event::TaskSkipped { task: of, .. } if of == TaskId(task));
        let header = &world.records.iter().find(of_task).expect("skipped").header;
        (header.correlation_id.to_string(), header.actor.to_string())
    };
    assert_eq!([told(2), told(3)], [(); 2].map(|()| ("request".to_string(), String::new())));
}

#[test]
fn a_run_of_a_schedule_goes_back_to_its_first_execution() {
    let mut world = World::with_worker(4);
    world.create(1, &definition(), Some(1_000_100));
    world.create(2, &after(&[1], AllSucceeded), None);
    world.now = 1_000_100;
    world.fire(TaskId(1), 1_000_100, Some(1_001_100));
    let run = world.only_open().id;
    world.succeed(run, 1);
    assert_eq!(*world.only_open().correlation_id, *run.to_string());
}

#[test]
fn a_step_is_told_how_the_others_ended() {
    let mut world = chain(&[(1, &[], AllDone), (2, &[1], AllSucceeded), (3, &[1, 2], AllDone)]);
    let run = world.run(1);
    let result = Some(Sealed::in_clear(br#"{"build":7}"#.to_vec()));
    world.report(run, AttemptOutcome::Succeeded(result)).expect("heard");
    world.fail(run, 2);
    let cause = world.replica.cause_of(&world.only_open()).expect("it follows others");
    let task = |task: u128| format!("\"{}\":{{\"execution_id\":", TaskId(task));
    assert!(cause.starts_with(&format!("{{\"tasks\":{{{}\"{run}\"", task(1))), "{cause}");
    assert!(cause.contains(r#""status":"succeeded","result":{"build":7}}"#), "{cause}");
    assert!(cause.contains(&task(2)) && cause.contains(r#""status":"failed","result":null}"#), "{cause}");
}

#[test]
fn a_snapshot_in_mid_run_goes_on_the_same() {
    let mut world =
        chain(&[(1, &[], AllDone), (2, &[1], AllDone), (3, &[1], AllDone), (4, &[2, 3], AllDone)]);
    let run = world.run(1);
    world.succeed(run, 1);
    world.succeed(run, 2);
    let mut bytes = Vec::new();
    world.replica.freeze().write_to(&mut bytes).expect("memory");
    let restored = Replica::restore(&mut bytes.as_slice()).expect("readable");
    assert_eq!(restored.state_hash(), world.replica.state_hash());
    world.replica = restored;
    world.succeed(run, 3);
    assert_eq!(world.began(run), [2, 3, 4]);
    world.succeed(run, 4);
    world.is_over();
}

#[test]
fn more_steps_than_one_command_may_begin_are_continued() {
    let mut world = World::with_worker(64);
    world.create(1, &by_hand(), None);
    for wide in 0..64 {
        world.create(100 + wide, &after(&[1], AllSucceeded), None);
    }
    let runs: Vec<ExecutionId> = (0..9).map(|_| world.run(1)).collect();
    let (at, tenant) = (Timestamp(world.now), world.tenant());
    let result = |run: &ExecutionId| AttemptResult {
        execution: *run,
        tenant,
        token: world.replica.execution(*run).expect("open").grant().expect("running").token,
        started_at: at,
        finished_at: at,
        outcome: AttemptOutcome::Succeeded(None),
        usage: None,
    };
    let results = runs.iter().map(result).collect();
    let report = Report { node: WORKER.0, incarnation: WORKER.1, sequence: 1, results };
    world.scheduler(Request::Report(report)).expect("heard");
    let begun = |world: &World| runs.iter().map(|run| world.began(*run).len()).sum::<usize>();
    assert_eq!(begun(&world), crate::limits::STEPS_PER_COMMAND_MAX);
    assert!(world.replica.left_over());
    world.scheduler(Request::Continue).expect("goes on");
    assert_eq!(begun(&world), 9 * 64);
}

#[test]
fn a_task_that_comes_to_wait_for_nothing_is_due_no_more() {
    let mut world = chain(&[(1, &[], AllDone), (2, &[1], AllSucceeded)]);
    let run = world.run(1);
    let (rules, sealed) = (Box::new(Rules::of(&by_hand())), Sealed::definition(&by_hand()));
    let update = Request::UpdateTask {
        task: TaskId(2),
        expected_version: None,
        rules,
        definition: sealed,
        next: None,
    };
    world.client(update).expect("updated");
    world.succeed(run, 1);
    assert_eq!(world.began(run), []);
    world.is_over();
}
