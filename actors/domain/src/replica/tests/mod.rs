//! The rules of the replicated state, one claim a test.

mod attendance;
mod backfills;
mod bounds;
mod breakers;
mod calendars;
mod chain_bounds;
mod chain_properties;
mod chain_runs;
mod chains;
mod deadlines;
mod events;
mod exactly_once;
mod failures;
mod fairness;
mod gates;
mod leases;
mod moves;
mod overlap_and_misfire;
mod overrides;
mod placement;
mod properties;
mod replanning;
mod replay;
mod window;

use std::sync::Arc;

use super::Replica;
use crate::answer::{Accepted, Answer, Rejection};
use crate::command::{
    AttemptOutcome, AttemptResult, Client, Command, Due, NewTask, Offers, Origin, Programs, Report, Request,
};
use crate::event::Event;
use crate::execution::failure::Failure;
use crate::execution::state::{Execution, Status};
use crate::execution::waits::Wait;
use crate::identifier::{CommandId, ExecutionId, Incarnation, NodeId, TaskId, TenantId};
use crate::record::Record;
use crate::task::action::{Action, Operation};
use crate::task::definition::{Definition, Delivery, Misfire, Overlap, Retry};
use crate::task::plan::{self, Delay, Timetable};
use crate::task::rules::Rules;
use crate::task::sealed::Sealed;
use crate::task::state::Task;
use crate::task::trigger::Trigger;
use crate::timestamp::{Span, Timestamp};

/// A replica with its log so far: the only test code that touches the signature of `apply`.
pub(super) struct World {
    pub(super) replica: Replica,
    pub(super) records: Vec<Record>,
    pub(super) now: i64,
    index: u64,
    commands: u128,
    reports: u64,
}

pub(super) const WORKER: (NodeId, Incarnation) = (NodeId(1), Incarnation(11));

impl World {
    pub(super) fn new() -> Self {
        Self {
            replica: Replica::default(),
            records: Vec::new(),
            now: 1_000_000,
            index: 0,
            commands: 0,
            reports: 0,
        }
    }

    pub(super) fn with_worker(slots: u32) -> Self {
        let mut world = Self::new();
        world.join(WORKER, slots);
        world
    }

    pub(super) fn apply(&mut self, command: &Command) -> Answer {
        self.index += 1;
        let mut records = Vec::new();
        let answer = self.replica.apply(self.index, command, &mut records);
        self.records.extend(records);
        answer
    }

    pub(super) fn scheduler(&mut self, request: Request) -> Result<Accepted, Rejection> {
        let command = Command { stamp: Timestamp(self.now).into(), origin: Origin::Scheduler, request };
        self.apply(&command).outcome
    }

    pub(super) fn client_command(&mut self, tenant: &str, request: Request) -> Command {
        self.commands += 1;
        let client = Client {
            command: CommandId(self.commands),
            issued_at: Timestamp(self.now),
            idempotency: None,
            tenant: tenant.into(),
            subject: "ann".into(),
            correlation_id: "request".into(),
        };
        Command { stamp: Timestamp(self.now).into(), origin: Origin::Client(client), request }
    }

    pub(super) fn client(&mut self, request: Request) -> Result<Accepted, Rejection> {
        let command = self.client_command("acme", request);
        self.apply(&command).outcome
    }

    pub(super) fn join(&mut self, worker: (NodeId, Incarnation), slots: u32) {
        let offers = Offers { http: true, builtin: true, programs: Programs::Any };
        let request = Request::JoinWorker { node: worker.0, incarnation: worker.1, slots, offers };
        self.scheduler(request).expect("a worker may always join");
    }

    pub(super) fn create(&mut self, id: u128, definition: &Definition, next: Option<i64>) -> TaskId {
        let outcome = self.client(Request::CreateTasks(vec![new_task(id, definition, next)]));
        assert_eq!(outcome, Ok(Accepted::Tasks(vec![Ok(TaskId(id))])));
        TaskId(id)
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.replica.tenant_number("acme").expect("the tenant was heard of")
    }

    pub(super) fn task(&self, id: TaskId) -> &Task {
        self.replica.task(self.tenant(), id).expect("the task exists")
    }

    pub(super) fn due(&self, id: TaskId, due: i64, next: Option<i64>) -> Due {
        let task = self.task(id);
        Due {
            slot: task.slot,
            revision: task.revision,
            due: Timestamp(due),
            passed: None,
            next: next.map(Timestamp),
            next_allowed: next.map(Timestamp),
        }
    }

    pub(super) fn fire(&mut self, id: TaskId, due: i64, next: Option<i64>) -> (u32, u32, u32) {
        let item = self.due(id, due, next);
        self.fire_item(item)
    }

    pub(super) fn fire_item(&mut self, item: Due) -> (u32, u32, u32) {
        match self.scheduler(Request::Fire(vec![item])) {
            Ok(Accepted::Settled { fired, passed_over, ignored }) => (fired, passed_over, ignored),
            other => panic!("a fire is always settled: {other:?}"),
        }
    }

    /// Proposes everything that is due of a task by its definition, and says what ran and how many were passed over.
    pub(super) fn fire_due(&mut self, id: TaskId, definition: &Definition) -> (Vec<i64>, u32) {
        let (records, mut passed_over) = (self.records.len(), 0);
        loop {
            let task = self.task(id);
            let timetable = self.timetable(id, definition);
            let (now, revision) = (Timestamp(self.now), self.replica.revision(task));
            let items = plan::due(task, revision, &timetable, now, Delay::Jittered, 3);
            if items.is_empty() {
                break;
            }
            for item in items {
                let (_, passed, ignored) = self.fire_item(item);
                assert_eq!(ignored, 0, "what the proposer computes is plausible: {item:?}");
                passed_over += passed;
            }
        }
        let ran = self.records[records..].iter().filter_map(|record| match record.event {
            Event::TaskScheduled { scheduled_at, .. } => Some(scheduled_at.0),
            _ => None,
        });
        (ran.collect(), passed_over)
    }

    pub(super) fn timetable(&self, id: TaskId, definition: &Definition) -> Timetable {
        let task = self.task(id);
        Timetable::compile(definition, id, task.created_at, self.replica.calendars().named_by(task))
            .expect("valid")
    }

    pub(super) fn open(&self) -> Vec<Arc<Execution>> {
        self.replica.executions().values().cloned().collect()
    }

    pub(super) fn only_open(&self) -> Arc<Execution> {
        let open = self.open();
        assert_eq!(open.len(), 1, "one open execution");
        open[0].clone()
    }

    pub(super) fn report(
        &mut self,
        execution: ExecutionId,
        outcome: AttemptOutcome,
    ) -> Result<Accepted, Rejection> {
        let grant = self.replica.execution(execution).expect("open").grant().expect("running");
        let (token, worker) = (grant.token, grant.of_node().expect("a node's"));
        self.report_under(execution, token, worker, outcome)
    }

    pub(super) fn report_under(
        &mut self,
        execution: ExecutionId,
        token: u64,
        worker: (NodeId, Incarnation),
        outcome: AttemptOutcome,
    ) -> Result<Accepted, Rejection> {
        self.reports += 1;
        let (at, tenant) = (Timestamp(self.now), self.tenant());
        let result =
            AttemptResult { execution, tenant, token, started_at: at, finished_at: at, outcome, usage: None };
        let (node, incarnation) = worker;
        let report = Report { node, incarnation, sequence: self.reports, results: vec![result] };
        self.scheduler(Request::Report(report))
    }

    /// The names of the events of the last command, without the answers kept for clients.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.records
            .iter()
            .filter(|record| record.header.log_index == self.index)
            .map(|record| record.event.name())
            .filter(|name| *name != "CommandAnswered" && *name != "WorkerReported")
            .collect()
    }

    pub(super) fn count(&self, matches: impl Fn(&Event) -> bool) -> usize {
        self.records.iter().filter(|record| matches(&record.event)).count()
    }
}

pub(super) fn definition() -> Definition {
    let action = Action::Builtin { operation: Operation::Noop, parameters: None };
    let trigger = Trigger::Interval { every: Span::seconds(1), anchor: None };
    Definition { overlap: Overlap::Allow, ..Definition::new("nightly", trigger, action) }
}

pub(super) fn new_task(id: u128, definition: &Definition, next: Option<i64>) -> NewTask {
    NewTask {
        task: TaskId(id),
        rules: Box::new(Rules::of(definition)),
        definition: Sealed::definition(definition),
        created_at: Timestamp(1_000_000),
        next: next.map(Timestamp),
        paused: false,
    }
}

pub(super) fn failed() -> AttemptOutcome {
    AttemptOutcome::Failed(Failure::new("exit code 1"))
}

pub(super) fn status_of_last(world: &World, task: TaskId) -> Option<Status> {
    world.task(task).last_execution.map(|last| last.status)
}

/// The state as it comes back from a snapshot.
pub(super) fn restored(replica: &Replica) -> Replica {
    let mut bytes = Vec::new();
    replica.freeze().write_to(&mut bytes).expect("memory");
    Replica::restore(&mut bytes.as_slice()).expect("sound")
}
