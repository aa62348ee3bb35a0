//! Whatever is proposed, in whatever order: nothing fires twice, nothing is held twice, and a fold gives the same state.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::bounds::{
    held_in_bounds, in_time, nothing_idles, paused_for_a_cause, probed_once, what_goes_is_told,
};
use super::moves::{Move, QUEUE, TARGET, first, gate, kind, moves};
use super::*;
use crate::command::{Change, LeaseEnd};
use crate::execution::state::{Grant, Occurrence};
use crate::replica::placement::{BreakerState, next_grant};

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
                self.end(&open, &grant, grant.token, outcome)
            }
            Move::StaleReport(which) => {
                let open = self.pick(*which)?;
                let grant = open.grant()?.clone();
                self.end(&open, &grant, grant.token - 1, AttemptOutcome::Succeeded(None))
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

    /// What somebody does to pools, limits, breakers and priorities, what workers outside take, and what the wheel does to
    /// breakers.
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
            Move::Lease(most) => {
                let (queue, worker) = (QUEUE.into(), "w".into());
                let (most, lease, wait) = (u32::from(*most), Span::seconds(9), Span(300));
                let request = Request::Lease { queue, worker, most, lease, wait };
                Some(self.world.client_command("acme", request))
            }
            Move::AttendanceOver => {
                let attended = self.world.replica.queue().attended();
                let over = attended.map(|(tenant, queue, until)| (tenant, queue.clone(), until)).collect();
                self.scheduler(Request::AttendanceOver(over))
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
        for (which, capacity) in [(0, 4), (1, 1), (2, 1), (3, 1)] {
            self.play(&Move::PutGate(which, capacity));
        }
        self.play(&Move::SetBreaker(false));
        for _ in 0..1_000 {
            let open = self.world.open();
            if open.is_empty() {
                return;
            }
            self.world.now += 600_000;
            self.play(&Move::Waits);
            self.play(&Move::AttendanceOver);
            self.play(&Move::Continue);
            self.play(&Move::Lease(100));
            for which in 0..u8::try_from(open.len()).unwrap_or(u8::MAX) {
                self.play(&Move::Report(which, 0));
            }
        }
        let waits = |open: &Arc<Execution>| (open.stage.clone(), self.world.replica.queue().waits_for(open));
        panic!("these wait for ever: {:?}", self.world.open().iter().map(waits).collect::<Vec<_>>());
    }

    /// What is said of an attempt by whoever has it.
    fn end(
        &mut self,
        open: &Execution,
        grant: &Grant,
        token: u64,
        outcome: AttemptOutcome,
    ) -> Option<Command> {
        match grant.of_node() {
            Some(worker) => self.report(open, token, worker, outcome),
            None => self.end_outside(open.id, token, outcome),
        }
    }

    /// What a worker outside says of its attempt, or what is said of one that is silent.
    fn end_outside(
        &mut self,
        execution: ExecutionId,
        token: u64,
        outcome: AttemptOutcome,
    ) -> Option<Command> {
        if matches!(outcome, AttemptOutcome::Succeeded(_) | AttemptOutcome::Failed(_)) {
            let request = Request::CompleteAttempt { execution, token, outcome };
            return Some(self.world.client_command("acme", request));
        }
        let timed_out = outcome == AttemptOutcome::TimedOut;
        self.scheduler(Request::EndLeases(vec![LeaseEnd { execution, token, timed_out }]))
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
    assert_eq!(held + world.replica.leased().count(), running);
    assert!(world.replica.leased().all(|open| open.grant().is_some_and(|grant| grant.of_node().is_none())));
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
            what_goes_is_told(&player.world);
            let restored = restored(&player.world.replica);
            prop_assert_eq!(
                next_grant(restored.queue(), restored.workers()),
                next_grant(player.world.replica.queue(), player.world.replica.workers())
            );
            let next_outside = |replica: &Replica| {
                let tenant = replica.tenant_number("acme")?;
                replica.queue().next_of(tenant, &QUEUE.into())
            };
            prop_assert_eq!(next_outside(&restored), next_outside(&player.world.replica));
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
