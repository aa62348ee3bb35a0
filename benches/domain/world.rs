//! A replica with a worker and many tasks, and the commands that move it.

use std::collections::BTreeMap;

use escapement_domain::answer::Accepted;
use escapement_domain::command::{
    AttemptOutcome, AttemptResult, Client, Command, Due, NewTask, Offers, Origin, Programs, Report, Request,
};
use escapement_domain::event::Event;
use escapement_domain::identifier::{CommandId, Incarnation, NodeId, TaskId};
use escapement_domain::record::Record;
use escapement_domain::replica::Replica;
use escapement_domain::task::action::{Action, Operation};
use escapement_domain::task::definition::{Definition, Overlap};
use escapement_domain::task::rules::Rules;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::trigger::Trigger;
use escapement_domain::timestamp::{Span, Timestamp};

/// Tasks that one create command carries here.
pub(crate) const CREATED_AT_ONCE: usize = 512;
/// The instant at which the world begins.
const BEGIN: i64 = 1_800_000_000_000;

const WORKER: (NodeId, Incarnation) = (NodeId(1), Incarnation(11));

/// A replica, where its log ends, and what time it is there.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) replica: Replica,
    pub(crate) now: i64,
    index: u64,
    commands: u128,
    reports: u64,
}

impl World {
    /// A world with a worker that has so many slots.
    pub(crate) fn new(slots: u32) -> Self {
        let mut world = Self { replica: Replica::default(), now: BEGIN, index: 0, commands: 0, reports: 0 };
        let offers = Offers { http: true, builtin: true, programs: Programs::Any };
        let join = Request::JoinWorker { node: WORKER.0, incarnation: WORKER.1, slots, offers };
        let join = world.scheduler(join);
        world.apply(&join);
        world
    }

    /// A world with so many no-op tasks, all of them due in a second.
    pub(crate) fn with_tasks(slots: u32, tasks: usize) -> Self {
        let mut world = Self::new(slots);
        for first in (0..tasks).step_by(CREATED_AT_ONCE) {
            let create = world.create(first, CREATED_AT_ONCE.min(tasks - first));
            world.apply(&create);
        }
        world.now += 1_000;
        world
    }

    /// Applies a command and returns its records.
    pub(crate) fn apply(&mut self, command: &Command) -> Vec<Record> {
        self.index += 1;
        let mut records = Vec::new();
        let answer = self.replica.apply(self.index, command, &mut records);
        assert!(answer.outcome.is_ok(), "{answer:?}");
        records
    }

    /// A command of the scheduler.
    pub(crate) fn scheduler(&self, request: Request) -> Command {
        Command { stamp: Timestamp(self.now).into(), origin: Origin::Scheduler, request }
    }

    /// A command that creates no-op tasks, numbered from `first`.
    pub(crate) fn create(&mut self, first: usize, count: usize) -> Command {
        self.commands += 1;
        let client = Client {
            command: CommandId(self.commands),
            issued_at: Timestamp(self.now),
            idempotency: None,
            tenant: "acme".into(),
            subject: "bench".into(),
            correlation_id: "00000000000000000000000000000001".into(),
        };
        let tasks = (first..first + count).map(|number| new_task(number, BEGIN + 1_000)).collect();
        Command {
            stamp: Timestamp(self.now).into(),
            origin: Origin::Client(client),
            request: Request::CreateTasks(tasks),
        }
    }

    /// A command that fires the tasks in the slots from `first`, each with its next instant a second later.
    pub(crate) fn fire(&self, first: u32, count: u32) -> Command {
        let due = |slot| {
            let task = self.replica.tasks().get(slot)?;
            let due = task.next?;
            let next = Some(Timestamp(due.0 + 1_000));
            Some(Due { slot, revision: task.revision, due, passed: None, next, next_allowed: next })
        };
        self.scheduler(Request::Fire((first..first + count).filter_map(due).collect()))
    }

    /// A command that reports the success of what runs, at most so many.
    pub(crate) fn report(&mut self, count: usize) -> Command {
        self.reports += 1;
        let at = Timestamp(self.now);
        let results = self
            .replica
            .executions()
            .values()
            .filter_map(|execution| {
                let token = execution.grant()?.token;
                let outcome = AttemptOutcome::Succeeded(None);
                let (execution, tenant) = (execution.id, execution.tenant);
                Some(AttemptResult {
                    execution,
                    tenant,
                    token,
                    started_at: at,
                    finished_at: at,
                    outcome,
                    usage: None,
                })
            })
            .take(count)
            .collect();
        let report = Report { node: WORKER.0, incarnation: WORKER.1, sequence: self.reports, results };
        self.scheduler(Request::Report(report))
    }

    /// How many occurrences a fire command settled, for a check that a measurement measured something.
    pub(crate) fn fired(&mut self, command: &Command) -> u32 {
        self.index += 1;
        match self.replica.apply(self.index, command, &mut Vec::new()).outcome {
            Ok(Accepted::Settled { fired, .. }) => fired,
            other => panic!("a fire is always settled: {other:?}"),
        }
    }
}

/// A definition as people write them, of usual size.
pub(crate) fn definition(number: usize) -> Definition {
    let trigger = Trigger::Interval { every: Span::seconds(1), anchor: None };
    let action = Action::Builtin { operation: Operation::Noop, parameters: None };
    Definition {
        overlap: Overlap::Allow,
        labels: BTreeMap::from([("team".into(), "qa".into())]),
        ..Definition::new(format!("nightly-{number}"), trigger, action)
    }
}

fn new_task(number: usize, next: i64) -> NewTask {
    let definition = definition(number);
    let task = TaskId::from_parts(BEGIN.cast_unsigned(), (number as u128) << 64);
    let (rules, sealed) = (Box::new(Rules::of(&definition)), Sealed::definition(&definition));
    NewTask {
        task,
        rules,
        definition: sealed,
        created_at: Timestamp(BEGIN),
        next: Some(Timestamp(next)),
        paused: false,
    }
}

/// Events as a batch of fires leaves them.
pub(crate) fn records() -> Vec<Record> {
    let mut world = World::with_tasks(4_096, 1_024);
    let fire = world.fire(0, 1_024);
    let records = world.apply(&fire);
    assert!(records.iter().any(|record| matches!(record.event, Event::TaskStarted { .. })));
    records
}
