//! Whatever is proposed, in whatever order: nothing fires twice, nothing is held twice, and a fold gives the same state.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::bounds::{held_in_bounds, in_time, nothing_idles, paused_for_a_cause, probed_once};
use super::*;
use crate::command::Change;
use crate::execution::state::Occurrence;
use crate::replica::placement::{BreakerState, Gate, next_grant};
use crate::task::definition::CircuitBreaker;

/// The target of every task here.
const TARGET: &str = "builtin";

#[derive(Clone, Debug)]
enum Move {
    Create(u8, u8),
    Pause(u8),
    Resume(u8),
    Update(u8),
    Delete(u8),
    Run(u8),
    Fire(u8, i16),
    Repeat,
    Report(u8, u8),
    StaleReport(u8),
    Cancel(u8),
    Join(u8),
    Lose(u8),
    Waits,
    Continue,
    Change(u8, u8),
    FireMoved(u8),
    MissMoved(u8),
    Backfill(u8, u8),
    CancelBackfill(u8),
    Publish(u8),
    PutGate(u8, u8),
    DeleteGate(u8),
    SetPriority(u8, u8),
    SetBreaker(bool),
    BreakersDue,
    Restore,
    Later(u16),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        1 => (0..6_u8, any::<u8>()).prop_map(|(id, kind)| Move::Create(id, kind)),
        1 => (0..6_u8).prop_map(Move::Pause),
        1 => (0..6_u8).prop_map(Move::Resume),
        1 => (0..6_u8).prop_map(Move::Update),
        1 => (0..6_u8).prop_map(Move::Delete),
        1 => (0..6_u8).prop_map(Move::Run),
        4 => (0..6_u8, -50..400_i16).prop_map(|(id, shift)| Move::Fire(id, shift)),
        2 => Just(Move::Repeat),
        4 => (any::<u8>(), 0..5_u8).prop_map(|(which, how)| Move::Report(which, how)),
        1 => any::<u8>().prop_map(Move::StaleReport),
        1 => any::<u8>().prop_map(Move::Cancel),
        1 => (0..3_u8).prop_map(Move::Join),
        1 => (0..3_u8).prop_map(Move::Lose),
        2 => Just(Move::Waits),
        1 => Just(Move::Continue),
        2 => (0..6_u8, any::<u8>()).prop_map(|(id, how)| Move::Change(id, how)),
        2 => (0..6_u8).prop_map(Move::FireMoved),
        1 => (0..6_u8).prop_map(Move::MissMoved),
        1 => (0..6_u8, 1..6_u8).prop_map(|(id, many)| Move::Backfill(id, many)),
        1 => (0..6_u8).prop_map(Move::CancelBackfill),
        2 => (0..2_u8).prop_map(Move::Publish),
        3 => (0..3_u8, 0..4_u8).prop_map(|(which, capacity)| Move::PutGate(which, capacity)),
        1 => (0..3_u8).prop_map(Move::DeleteGate),
        1 => (any::<u8>(), 0..10_u8).prop_map(|(which, priority)| Move::SetPriority(which, priority)),
        1 => any::<bool>().prop_map(Move::SetBreaker),
        2 => Just(Move::BreakersDue),
        1 => Just(Move::Restore),
        3 => (0..2_000_u16).prop_map(Move::Later),
    ];
    proptest::collection::vec(one, 1..120)
}

fn kind(kind: u8) -> Definition {
    let overlaps =
        [Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll, Overlap::CancelRunning, Overlap::Allow];
    let trigger = match kind & 12 {
        12 => super::events::on_finished(&[("/n", if kind & 2 == 0 { "0" } else { "1.0" })]),
        _ => definition().trigger,
    };
    Definition {
        trigger,
        overlap: overlaps[kind as usize % 5],
        delivery: if kind & 8 == 0 { Delivery::AtLeastOnce } else { Delivery::AtMostOnce },
        retry: Retry { max_attempts: 1 + u32::from(kind % 3), ..Retry::DEFAULT },
        priority: kind % 10,
        resources: (kind & 16 != 0)
            .then(|| ("staging".into(), 1 + u32::from(kind % 2)))
            .into_iter()
            .collect(),
        labels: (kind & 32 != 0).then(|| ("team".into(), "qa".into())).into_iter().collect(),
        max_concurrent: (kind & 64 != 0).then_some(1),
        circuit_breaker: (kind & 128 != 0)
            .then_some(CircuitBreaker { failure_threshold: 2, open_for: Span::seconds(1) }),
        execution_timeout: (kind & 16 != 0).then_some(Span(3_000)),
        queue_timeout: (kind & 32 != 0).then_some(Span(700)),
        pause_after_failures: (kind & 64 != 0).then_some(2),
        ..definition()
    }
}

/// The first instant of a task that has instants.
fn first(definition: &Definition, at: i64) -> Option<i64> {
    Rules::of(definition).listens.is_none().then_some(at)
}

fn gate(which: u8) -> Gate {
    match which {
        0 => Gate::Pool("staging".into()),
        1 => Gate::Label("team=qa".into()),
        _ => Gate::Tenant,
    }
}

struct Player {
    world: World,
    last: Option<Command>,
    starts: u128,
    workers: BTreeMap<u8, Incarnation>,
}

impl Player {
    fn play(&mut self, step: &Move) {
        if matches!(step, Move::Restore) {
            self.world.replica = restored(&self.world.replica);
            return;
        }
        let command = self.command(step);
        if let Some(command) = command {
            self.world.apply(&command);
            self.last = Some(command);
        }
    }

    fn scheduler(&self, request: Request) -> Option<Command> {
        Some(Command { stamp: Timestamp(self.world.now).into(), origin: Origin::Scheduler, request })
    }

    fn pick(&self, which: u8) -> Option<Arc<Execution>> {
        let open = self.world.open();
        (!open.is_empty()).then(|| open[which as usize % open.len()].clone())
    }

    fn command(&mut self, step: &Move) -> Option<Command> {
        self.client_command_of(step)
            .or_else(|| self.scheduler_command_of(step))
            .or_else(|| self.placing_command_of(step))
    }

    /// What a client sends.
    fn client_command_of(&mut self, step: &Move) -> Option<Command> {
        let now = self.world.now;
        let id = |id: u8| TaskId(u128::from(id) + 1);
        match step {
            Move::Create(task, how) => {
                let definition = kind(*how);
                let new = new_task(id(*task).0, &definition, first(&definition, now + 100));
                Some(self.world.client_command("acme", Request::CreateTasks(vec![new])))
            }
            Move::Pause(task) => {
                Some(self.world.client_command("acme", Request::PauseTask { task: id(*task) }))
            }
            Move::Resume(task) => {
                Some(self.world.client_command("acme", Request::ResumeTask { task: id(*task) }))
            }
            Move::Update(task) => {
                let definition = kind(task.wrapping_mul(7));
                let request = Request::UpdateTask {
                    task: id(*task),
                    expected_version: None,
                    rules: Box::new(Rules::of(&definition)),
                    definition: Sealed::definition(&definition),
                    next: first(&definition, now + 50).map(Timestamp),
                };
                Some(self.world.client_command("acme", request))
            }
            Move::Delete(task) => {
                let request = Request::DeleteTask { task: id(*task), expected_version: None };
                Some(self.world.client_command("acme", request))
            }
            Move::Change(task, how) => {
                let at =
                    self.world.replica.task(self.world.replica.tenant_number("acme")?, id(*task))?.next?;
                let to = Timestamp(now + 20 * i64::from(how / 8));
                let change = match how % 4 {
                    0 => Change::Skip,
                    1 => Change::Restore,
                    _ => Change::Move { to },
                };
                let request = Request::ChangeOccurrence { task: id(*task), at, change };
                Some(self.world.client_command("acme", request))
            }
            Move::Backfill(task, many) => {
                let instants = (0..i64::from(*many)).map(|nth| Timestamp(nth * 1_000)).collect();
                let concurrency = u32::from(*many).div_ceil(2);
                let request = Request::Backfill { task: id(*task), instants, concurrency };
                Some(self.world.client_command("acme", request))
            }
            Move::Publish(n) => {
                let payload = Sealed::in_clear(format!(r#"{{"n":{n}}}"#).into_bytes());
                let request = Request::PublishEvent { name: "build.finished".into(), payload };
                Some(self.world.client_command("acme", request))
            }
            Move::CancelBackfill(task) => {
                let (backfill, _) = self.world.replica.backfills_of(id(*task)).next()?;
                let request = Request::CancelBackfill { task: id(*task), backfill };
                Some(self.world.client_command("acme", request))
            }
            Move::Run(task) => Some(self.world.client_command("acme", Request::RunTask { task: id(*task) })),
            Move::Cancel(which) => {
                let execution = self.pick(*which)?.id;
                Some(self.world.client_command("acme", Request::CancelExecution { execution }))
            }
            _ => None,
        }
    }

    /// What the scheduler proposes.
    fn scheduler_command_of(&mut self, step: &Move) -> Option<Command> {
        let id = |id: u8| TaskId(u128::from(id) + 1);
        match step {
            Move::Fire(task, shift) => {
                let tenant = self.world.replica.tenant_number("acme")?;
                let task = self.world.replica.task(tenant, id(*task))?;
                let due = task.next?;
                let item = Due {
                    slot: task.slot,
                    revision: task.revision,
                    due,
                    passed: None,
                    next: Some(Timestamp(due.0 + i64::from(*shift))),
                    next_allowed: Some(Timestamp(due.0 + i64::from(*shift))),
                };
                self.scheduler(Request::Fire(vec![item]))
            }
            Move::FireMoved(task) | Move::MissMoved(task) => {
                let task = self.world.replica.task(self.world.replica.tenant_number("acme")?, id(*task))?;
                let moved = vec![(task.slot, task.next_moved()?.1)];
                let fires = matches!(step, Move::FireMoved(_));
                self.scheduler(if fires { Request::FireMoved(moved) } else { Request::MissMoved(moved) })
            }
            Move::Repeat => self.last.clone(),
            Move::Report(which, how) => {
                let open = self.pick(*which)?;
                let grant = open.grant()?.clone();
                let outcome = match how {
                    0 => AttemptOutcome::Succeeded(None),
                    1 => AttemptOutcome::TimedOut,
                    2 => AttemptOutcome::Cancelled,
                    3 => AttemptOutcome::HandedBack,
                    _ => failed(),
                };
                self.report(&open, grant.token, grant.of_node()?, outcome)
            }
            Move::StaleReport(which) => {
                let open = self.pick(*which)?;
                let grant = open.grant()?.clone();
                self.report(&open, grant.token - 1, grant.of_node()?, AttemptOutcome::Succeeded(None))
            }
            Move::Join(node) => {
                self.starts += 1;
                let incarnation = Incarnation(self.starts);
                self.workers.insert(*node, incarnation);
                let offers = Offers { http: true, builtin: true, programs: Programs::Any };
                let node = NodeId(u64::from(*node));
                self.scheduler(Request::JoinWorker { node, incarnation, slots: 2, offers })
            }
            Move::Lose(node) => {
                let incarnation = *self.workers.get(node)?;
                self.scheduler(Request::LoseWorker { node: NodeId(u64::from(*node)), incarnation })
            }
            Move::Waits => {
                let open = self.world.open();
                let waits = open.iter().flat_map(|open| open.waits().map(|(_, wait)| (open.id, wait)));
                self.scheduler(Request::WaitsOver(waits.collect()))
            }
            Move::Continue => self.scheduler(Request::Continue),
            Move::Later(millis) => {
                self.world.now += i64::from(*millis);
                None
            }
            _ => None,
        }
    }

    /// What somebody does to pools, limits, breakers and priorities, and what the wheel does to breakers.
    fn placing_command_of(&mut self, step: &Move) -> Option<Command> {
        match step {
            Move::PutGate(which, capacity) => {
                let request = Request::PutGate { gate: gate(*which), capacity: u32::from(*capacity) };
                Some(self.world.client_command("acme", request))
            }
            Move::DeleteGate(which) => {
                Some(self.world.client_command("acme", Request::DeleteGate { gate: gate(*which) }))
            }
            Move::SetPriority(which, priority) => {
                let execution = self.pick(*which)?.id;
                let request = Request::SetPriority { execution, priority: *priority };
                Some(self.world.client_command("acme", request))
            }
            Move::SetBreaker(open) => {
                let request = Request::SetBreaker { target: TARGET.into(), open: *open };
                Some(self.world.client_command("acme", request))
            }
            Move::BreakersDue => {
                let open = self.world.replica.queue().breakers().filter_map(|(tenant, target, known)| {
                    match known.state {
                        BreakerState::Open { until: Some(until) } => Some((tenant, target.clone(), until)),
                        _ => None,
                    }
                });
                let due = open.collect();
                self.scheduler(Request::BreakersDue(due))
            }
            _ => None,
        }
    }

    /// Lets everything end that is open: enough of everything, and nobody in the way.
    fn drain(&mut self) {
        self.world.join((NodeId(9), Incarnation(u128::MAX)), 8);
        for step in [Move::PutGate(0, 4), Move::PutGate(1, 1), Move::PutGate(2, 1), Move::SetBreaker(false)] {
            self.play(&step);
        }
        for _ in 0..1_000 {
            let open = self.world.open();
            if open.is_empty() {
                return;
            }
            self.world.now += 600_000;
            self.play(&Move::Waits);
            self.play(&Move::Continue);
            for which in 0..u8::try_from(open.len()).unwrap_or(u8::MAX) {
                self.play(&Move::Report(which, 0));
            }
        }
        let waits = |open: &Arc<Execution>| (open.stage.clone(), self.world.replica.queue().waits_for(open));
        panic!("these wait for ever: {:?}", self.world.open().iter().map(waits).collect::<Vec<_>>());
    }

    fn report(
        &mut self,
        open: &Execution,
        token: u64,
        worker: (NodeId, Incarnation),
        outcome: AttemptOutcome,
    ) -> Option<Command> {
        self.world.reports += 1;
        let at = Timestamp(self.world.now);
        let result = AttemptResult {
            execution: open.id,
            tenant: open.tenant,
            token,
            started_at: at,
            finished_at: at,
            outcome,
            usage: None,
        };
        let sequence = self.world.reports;
        self.scheduler(Request::Report(Report {
            node: worker.0,
            incarnation: worker.1,
            sequence,
            results: vec![result],
        }))
    }
}

/// No occurrence becomes two executions, and no attempt is granted under a token that is not higher.
fn fired_once(world: &World) {
    let mut seen = BTreeSet::new();
    let mut tokens: BTreeMap<ExecutionId, u64> = BTreeMap::new();
    for record in &world.records {
        match &record.event {
            Event::TaskScheduled { task, occurrence, scheduled_at, .. } => {
                // A moved occurrence is the occurrence of its instant.
                let once = match occurrence {
                    Occurrence::Moved(at) => Occurrence::Scheduled(*at),
                    other => *other,
                };
                assert!(seen.insert((*task, once, world_life(world, record))), "fired twice");
                assert!(record.header.at >= *scheduled_at, "fired early");
            }
            Event::TaskStarted { execution, .. } => {
                let before = tokens.insert(*execution, record.header.sequence);
                assert!(before.is_none_or(|before| before < record.header.sequence), "tokens grow");
            }
            _ => {}
        }
    }
}

/// No backfill has more executions open than it may have, and none is left that has nothing to do.
fn backfilled_in_bounds(world: &World) {
    for id in 1..7 {
        for (backfill, running) in world.replica.backfills_of(TaskId(id)) {
            let open = world
                .open()
                .iter()
                .filter(|open| match open.occurrence {
                    Occurrence::Backfill { backfill: other, .. } => other == backfill,
                    _ => false,
                })
                .count();
            assert_eq!(open, running.open as usize);
            assert!(running.open <= running.concurrency && running.open > 0);
        }
    }
}

/// What an open execution was made by is there, and nothing is kept of an event that is done with.
fn events_are_kept(world: &World) {
    let of_event = |open: &&Arc<Execution>| matches!(open.occurrence, Occurrence::Event(_));
    let open = world.open();
    assert!(open.iter().filter(of_event).all(|open| world.replica.cause_of(open).is_some()));
    let kept = world.replica.publications.kept().count();
    assert!(kept <= open.iter().filter(of_event).count(), "{kept} events are kept");
}

/// A task that was deleted and created again under the same name is another task.
fn world_life(world: &World, record: &Record) -> usize {
    world
        .records
        .iter()
        .take_while(|other| !std::ptr::eq(*other, record))
        .filter(|other| {
            matches!(&other.event, Event::TaskCreated { .. }) && other.event.task() == record.event.task()
        })
        .count()
}

/// What workers hold is what executions say, and nobody holds more than their slots.
fn held_once(world: &World) {
    let mut held = 0;
    for (key, worker) in world.replica.workers() {
        assert!(worker.held.len() <= worker.slots as usize);
        for id in &worker.held {
            let grant =
                world.replica.execution(*id).expect("held executions are open").grant().expect("running");
            assert_eq!(grant.of_node(), Some(*key));
            held += 1;
        }
    }
    let running = world.open().iter().filter(|open| open.grant().is_some()).count();
    assert_eq!(held, running);
    let queued =
        world.open().iter().filter(|open| open.stage == crate::execution::state::Stage::Queued).count();
    assert_eq!(world.replica.queue().len(), queued);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_proposed_the_invariants_hold(steps in moves()) {
        let mut player =
            Player { world: World::new(), last: None, starts: 0, workers: BTreeMap::new() };
        let mut held = BTreeMap::new();
        for step in &steps {
            player.play(step);
            held_once(&player.world);
            held = held_in_bounds(&player.world, &held);
            nothing_idles(&player.world);
            let restored = restored(&player.world.replica);
            prop_assert_eq!(
                next_grant(restored.queue(), restored.workers()),
                next_grant(player.world.replica.queue(), player.world.replica.workers())
            );
            backfilled_in_bounds(&player.world);
            events_are_kept(&player.world);
        }
        player.drain();
        held_in_bounds(&player.world, &held);
        fired_once(&player.world);
        probed_once(&player.world);
        in_time(&player.world);
        paused_for_a_cause(&player.world);
        let mut folded = Replica::default();
        player.world.records.iter().for_each(|record| folded.evolve(record));
        prop_assert_eq!(folded.state_hash(), player.world.replica.state_hash());
    }
}
