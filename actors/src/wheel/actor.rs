//! The actor that turns the wheel: it hears of leadership and applied entries, sleeps, and proposes.
//!
//! Absent on purpose: what is due and when, which `timers` and `planning` say.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, SpawnHandle, StreamHandler};
use escapement_domain::answer::{Accepted, Answer};
use escapement_domain::command::{Command, Origin, Request};
use escapement_domain::event::Event;
use escapement_domain::identifier::ExecutionId;
use escapement_domain::limits::WAITS_PER_COMMAND_MAX;
use escapement_domain::replica::Replica;
use escapement_domain::task::state::Task;
use escapement_domain::timestamp::{Span, Timestamp};
use futures::stream;
use tokio::sync::watch;

use super::filling::{Filled, fill};
use super::pace::Pace;
use super::planning::{Batch, Planned, catches_up};
use super::replanning;
use super::timers::{Timers, Waiting};
use super::timetables::Timetables;
use super::upkeep::Upkeep;
use super::{WheelCounters, WheelParts};
use crate::intent::SubmitError;
use crate::keeper::Lifeline;
use crate::machine::Applied;
use crate::ports::{Leadership, leadership_changes};

/// Fire commands that may be unanswered at a time.
const FIRES_IN_FLIGHT_MAX: usize = 4;
/// Commands with ended waits that may be unanswered at a time.
const WAITS_IN_FLIGHT_MAX: usize = 2;
/// Tasks that are planned under one look at the state.
const LOOK: usize = 256;
/// The longest sleep, in case wall time jumps.
const SLEEP_MAX: Span = Span::seconds(1);
/// How long a task rests that cannot be planned.
const REST: Span = Span::minutes(1);
/// How long a task rests whose fire was committed and changed nothing.
const STUCK: Span = Span::seconds(1);
/// How often the wheel looks for places while something catches up.
const CATCH_UP_WAIT: Span = Span(10);
/// The shortest and the longest pause after proposals without an answer.
const PAUSES_MS: (u64, u64) = (20, 1_000);

/// See the [module](super).
pub(super) struct WheelActor {
    parts: WheelParts,
    counters: Arc<WheelCounters>,
    leadership: watch::Receiver<Leadership>,
    /// Counts leaderships and fills: what was begun under another number no longer counts.
    epoch: u64,
    turning: Option<Turning>,
    _lifeline: Lifeline,
}

/// The wheel while it turns.
struct Turning {
    term: u64,
    timers: Timers,
    timetables: Timetables,
    upkeep: Upkeep,
    /// Taken from the timers and not planned yet.
    taken: VecDeque<u32>,
    /// Taken, and waiting for a place among what is made good.
    catching_up: VecDeque<u32>,
    pace: Pace,
    fires_in_flight: usize,
    waits_in_flight: usize,
    upkeep_in_flight: bool,
    failures: u32,
    /// On the monotonic clock.
    paused_until: Duration,
    alarm: Option<(Timestamp, SpawnHandle)>,
    records: Option<SpawnHandle>,
}

impl WheelActor {
    pub(super) fn new(parts: WheelParts, counters: Arc<WheelCounters>, lifeline: Lifeline) -> Self {
        let leadership = parts.log.leadership();
        Self { parts, counters, leadership, epoch: 0, turning: None, _lifeline: lifeline }
    }

    fn leads(&self, term: u64) -> bool {
        let leadership = *self.leadership.borrow();
        leadership.leading && leadership.term == term
    }

    fn stop(&mut self, ctx: &mut Context<Self>) {
        self.epoch += 1;
        self.counters.turning.store(false, Ordering::Relaxed);
        if let Some(turning) = self.turning.take() {
            let handles = turning.records.into_iter().chain(turning.alarm.map(|(_, handle)| handle));
            for handle in handles {
                ctx.cancel_future(handle);
            }
        }
    }

    /// Fills the wheel for a term, and turns it from then on.
    fn begin(&mut self, term: u64, ctx: &mut Context<Self>) {
        self.stop(ctx);
        let epoch = self.epoch;
        let filled = fill(self.parts.clone(), self.leadership.clone(), term);
        ctx.spawn(wrap_future(filled).map(move |filled, actor: &mut Self, ctx| {
            if let Some(filled) = filled
                && actor.epoch == epoch
                && actor.leads(term)
            {
                actor.set_going(term, filled, ctx);
            }
        }));
    }

    fn set_going(&mut self, term: u64, filled: Filled, ctx: &mut Context<Self>) {
        let records = ctx.add_stream(stream::unfold(filled.records, |mut records| async move {
            records.recv().await.map(|applied| (applied, records))
        }));
        tracing::info!(term, timers = filled.timers.len(), "the wheel is filled and turns");
        self.turning = Some(Turning {
            term,
            timers: filled.timers,
            timetables: Timetables::default(),
            upkeep: self.parts.machine.read(|replica| Upkeep::new(replica, self.parts.clock.now())),
            taken: VecDeque::new(),
            catching_up: VecDeque::new(),
            pace: Pace::new(self.parts.clock.monotonic()),
            fires_in_flight: 0,
            waits_in_flight: 0,
            upkeep_in_flight: false,
            failures: 0,
            paused_until: Duration::ZERO,
            alarm: None,
            records: Some(records),
        });
        self.counters.turning.store(true, Ordering::Relaxed);
        ctx.spawn(wrap_future(replanning::replan(self.parts.clone(), self.leadership.clone(), term)));
        self.turn(ctx);
    }

    /// Proposes whatever is due, and sleeps until more is.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        let Some(term) = self.turning.as_ref().map(|turning| turning.term) else { return };
        if !self.leads(term) {
            return;
        }
        let paused =
            self.turning.as_ref().is_some_and(|turning| self.parts.clock.monotonic() < turning.paused_until);
        if !paused {
            self.propose_fires(ctx);
            self.propose_waits(ctx);
            self.propose_upkeep(ctx);
        }
        self.set_alarm(ctx);
        if let Some(turning) = &self.turning {
            let timers = turning.timers.len();
            if self.counters.timers.swap(timers, Ordering::Relaxed) != timers {
                self.parts.observer.timers(timers);
            }
        }
    }

    fn propose_fires(&mut self, ctx: &mut Context<Self>) {
        loop {
            let now = self.parts.clock.now();
            let Some(turning) = &mut self.turning else { return };
            if turning.fires_in_flight >= FIRES_IN_FLIGHT_MAX {
                return;
            }
            let Batch { items, tasks, moved } = turning.next_batch(&self.parts, now);
            if !moved.is_empty() {
                turning.fires_in_flight += 1;
                self.propose(Request::FireMoved(moved.clone()), ctx, move |actor, answer, _| {
                    actor.moved_answered(&moved, answer);
                });
            }
            if items.is_empty() {
                return;
            }
            let Some(turning) = &mut self.turning else { return };
            turning.fires_in_flight += 1;
            self.counters.batches.fetch_add(1, Ordering::Relaxed);
            let instants = items.iter().filter(|item| item.passed.is_none()).map(|item| item.due).collect();
            let fire = Fire { tasks, instants };
            self.propose(Request::Fire(items), ctx, move |actor, answer, _| {
                actor.fires_answered(&fire, answer);
            });
        }
    }

    fn propose_waits(&mut self, ctx: &mut Context<Self>) {
        loop {
            let now = self.parts.clock.now();
            let Some(turning) = &mut self.turning else { return };
            if turning.waits_in_flight >= WAITS_IN_FLIGHT_MAX {
                return;
            }
            let timers = &mut turning.timers;
            let waits =
                self.parts.machine.read(|replica| timers.take_waits(now, WAITS_PER_COMMAND_MAX, replica));
            if waits.is_empty() {
                return;
            }
            turning.waits_in_flight += 1;
            self.propose(Request::WaitsOver(waits.clone()), ctx, move |actor, answer, _| {
                actor.waits_answered(&waits, answer);
            });
        }
    }

    fn propose_upkeep(&mut self, ctx: &mut Context<Self>) {
        let now = self.parts.clock.now();
        let Some(turning) = &mut self.turning else { return };
        if turning.upkeep_in_flight {
            return;
        }
        let upkeep = &mut turning.upkeep;
        let Some(request) = self.parts.machine.read(|replica| upkeep.wanted(replica, now)) else { return };
        turning.upkeep_in_flight = true;
        self.propose(request, ctx, |actor, answer, _| {
            actor.note(answer.err());
            if let Some(turning) = &mut actor.turning {
                turning.upkeep_in_flight = false;
            }
        });
    }

    /// Stamps and proposes; `answered` is not called once this node no longer leads in this term.
    fn propose(
        &mut self,
        request: Request,
        ctx: &mut Context<Self>,
        answered: impl FnOnce(&mut Self, Result<Answer, SubmitError>, &mut Context<Self>) + 'static,
    ) {
        let epoch = self.epoch;
        let logged = self.parts.machine.read(|replica| replica.logged());
        let proposed = match self.parts.clocks.stamp(logged) {
            Ok(stamp) => {
                self.parts.log.propose(Command { stamp, origin: Origin::Scheduler, request }.encode())
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        };
        ctx.spawn(wrap_future(proposed).map(move |answer, actor: &mut Self, ctx| {
            if actor.epoch == epoch {
                answered(actor, answer, ctx);
                actor.turn(ctx);
            }
        }));
    }

    fn fires_answered(&mut self, fire: &Fire, answer: Result<Answer, SubmitError>) {
        let still_due = |task: &Task, first| task.next == Some(first);
        let fired = self.give_back(&fire.tasks, &answer, still_due);
        // Where all were skipped, or had been settled before, nothing was late.
        if fired > 0 {
            let now = self.parts.clock.now();
            let lateness: Vec<Span> = fire.instants.iter().map(|instant| now.since(*instant)).collect();
            self.parts.observer.fired(fired, &lateness);
        }
        self.note(answer.err());
    }

    fn moved_answered(&mut self, moved: &[(u32, Timestamp)], answer: Result<Answer, SubmitError>) {
        let still_due = |task: &Task, at| task.next_moved().is_some_and(|(_, first)| first == at);
        self.give_back(moved, &answer, still_due);
        self.note(answer.err());
    }

    /// Gives back the tasks of a fire that was answered, each with what it was about: one that is `still_due` although the fire
    /// was committed rests. Returns how many fired.
    fn give_back(
        &mut self,
        tasks: &[(u32, Timestamp)],
        answer: &Result<Answer, SubmitError>,
        still_due: impl Fn(&Task, Timestamp) -> bool,
    ) -> u32 {
        let now = self.parts.clock.now();
        let Some(turning) = &mut self.turning else { return 0 };
        turning.fires_in_flight -= 1;
        let timers = &mut turning.timers;
        self.parts.machine.read(|replica| {
            for (slot, instant) in tasks {
                let unchanged = replica.tasks().get(*slot).is_some_and(|task| still_due(task, *instant));
                let earliest = if answer.is_ok() && unchanged { now.plus(STUCK) } else { Timestamp::MIN };
                timers.give_back(*slot, replica, earliest);
            }
        });
        let Ok(Answer { outcome: Ok(Accepted::Settled { fired, .. }), .. }) = answer else { return 0 };
        self.counters.fired.fetch_add(u64::from(*fired), Ordering::Relaxed);
        *fired
    }

    fn waits_answered(&mut self, waits: &[Waiting], answer: Result<Answer, SubmitError>) {
        let now = self.parts.clock.now();
        let Some(turning) = &mut self.turning else { return };
        turning.waits_in_flight -= 1;
        let earliest = if answer.is_ok() { now.plus(STUCK) } else { Timestamp::MIN };
        let timers = &mut turning.timers;
        self.parts.machine.read(|replica| timers.give_back_waits(waits, replica, earliest));
        self.note(answer.err());
    }

    /// Pauses after a proposal without an answer, longer each time.
    fn note(&mut self, error: Option<SubmitError>) {
        let Some(turning) = &mut self.turning else { return };
        let Some(error) = error else {
            turning.failures = 0;
            return;
        };
        let (shortest, longest) = PAUSES_MS;
        let pause = (shortest << turning.failures.min(16)).min(longest);
        turning.failures += 1;
        turning.paused_until = self.parts.clock.monotonic() + Duration::from_millis(pause);
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        self.parts.observer.proposal_failed(&error);
        tracing::debug!(%error, pause, "a proposal of the wheel has no answer; the state decides what is still due");
    }

    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let now = self.parts.clock.now();
        let pause = self.turning.as_ref().map_or(Duration::ZERO, |turning| {
            turning.paused_until.saturating_sub(self.parts.clock.monotonic())
        });
        let Some(turning) = &mut self.turning else { return };
        let deadline = turning.timers.next_deadline().unwrap_or(Timestamp::MAX);
        // What is due and was not proposed waits for an answer, which turns the wheel again; or it fell due since the
        // wheel looked, and is looked at again.
        let full =
            turning.fires_in_flight >= FIRES_IN_FLIGHT_MAX || turning.waits_in_flight >= WAITS_IN_FLIGHT_MAX;
        let deadline = if deadline <= now && full { Timestamp::MAX } else { deadline };
        let upkeep = self.parts.machine.read(|replica| turning.upkeep.next(replica));
        let upkeep = upkeep.filter(|_| !turning.upkeep_in_flight);
        let deadline = upkeep.map_or(deadline, |next| deadline.min(next));
        let mut wait = deadline.since(now).0.clamp(1, SLEEP_MAX.0);
        if !turning.catching_up.is_empty() {
            wait = wait.min(CATCH_UP_WAIT.0);
        }
        if !pause.is_zero() {
            wait = u64::try_from(pause.as_millis()).unwrap_or(SLEEP_MAX.0) + 1;
        }
        let wanted = now.plus(Span(wait));
        if let Some((set, handle)) = turning.alarm {
            if set > now && set <= wanted {
                return;
            }
            ctx.cancel_future(handle);
        }
        let handle = ctx.run_later(Duration::from_millis(wait), |actor, ctx| {
            if let Some(turning) = &mut actor.turning {
                turning.alarm = None;
            }
            actor.turn(ctx);
        });
        turning.alarm = Some((wanted, handle));
    }
}

/// What a fire command was about, for when it is answered.
struct Fire {
    tasks: Vec<(u32, Timestamp)>,
    instants: Vec<Timestamp>,
}

impl Turning {
    fn next_batch(&mut self, parts: &WheelParts, now: Timestamp) -> Batch {
        let (mut batch, monotonic) = (Batch::default(), parts.clock.monotonic());
        while batch.room() > 0 && !self.catching_up.is_empty() && self.pace.take(monotonic) {
            let slot = self.catching_up.pop_front();
            parts.machine.read(|replica| slot.map(|slot| self.plan(&mut batch, slot, replica, now)));
        }
        let mut more = true;
        while batch.room() > 0 && (more || !self.taken.is_empty()) {
            if self.taken.is_empty() {
                more = self.timers.take_tasks(now, LOOK.min(batch.room()), &mut self.taken);
            }
            parts.machine.read(|replica| {
                while batch.room() > 0
                    && let Some(slot) = self.taken.pop_front()
                {
                    let late = replica.tasks().get(slot).is_some_and(|task| catches_up(task, now));
                    if late && (!self.catching_up.is_empty() || !self.pace.take(monotonic)) {
                        self.catching_up.push_back(slot);
                    } else {
                        self.plan(&mut batch, slot, replica, now);
                    }
                }
            });
        }
        batch
    }

    fn plan(&mut self, batch: &mut Batch, slot: u32, replica: &Replica, now: Timestamp) {
        match batch.plan(slot, replica, &mut self.timetables, now) {
            Planned::Due => {}
            Planned::NotDue => self.timers.give_back(slot, replica, now.plus(Span(1))),
            Planned::Failed => self.timers.give_back(slot, replica, now.plus(REST)),
        }
    }
}

impl Actor for WheelActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.add_stream(leadership_changes(self.leadership.clone()));
    }
}

impl StreamHandler<Leadership> for WheelActor {
    fn handle(&mut self, leadership: Leadership, ctx: &mut Self::Context) {
        self.parts.observer.leadership(leadership);
        let turning = self.turning.as_ref().is_some_and(|turning| turning.term == leadership.term);
        match leadership.leading {
            true if turning => {}
            true => self.begin(leadership.term, ctx),
            false => self.stop(ctx),
        }
    }

    /// The log ended: the node stops.
    fn finished(&mut self, ctx: &mut Self::Context) {
        self.stop(ctx);
    }
}

impl StreamHandler<Applied> for WheelActor {
    fn handle(&mut self, applied: Applied, ctx: &mut Self::Context) {
        let Some(turning) = &mut self.turning else { return };
        if applied.restored {
            let term = turning.term;
            self.begin(term, ctx);
            return;
        }
        applied.records.iter().for_each(|record| turning.upkeep.breakers.hear(record));
        let slots = applied.records.iter().filter_map(|record| slot_of(&record.event));
        let waits = applied.records.iter().filter_map(|record| waits_of(&record.event));
        let timers = &mut turning.timers;
        self.parts.machine.read(|replica| {
            slots.for_each(|slot| timers.arm_slot(slot, replica));
            for (execution, opened) in waits {
                replica.execution(execution).into_iter().for_each(|open| timers.arm_waits(open, opened));
            }
            timers.drop_stale_waits(replica);
        });
        self.turn(ctx);
    }

    fn finished(&mut self, _: &mut Self::Context) {}
}

/// The slot of the task whose next instant an event may have changed.
fn slot_of(event: &Event) -> Option<u32> {
    match event {
        Event::TaskCreated { slot, .. }
        | Event::TaskUpdated { slot, .. }
        | Event::TaskPaused { slot, .. }
        | Event::TaskResumed { slot, .. }
        | Event::TaskDeleted { slot, .. }
        | Event::TaskScheduled { slot, .. }
        | Event::TaskSkipped { slot, .. }
        | Event::TaskMissed { slot, .. }
        | Event::TaskSuppressed { slot, .. }
        | Event::TaskMoved { slot, .. }
        | Event::TaskOccurrenceChanged { slot, .. }
        | Event::TaskReplanned { slot, .. } => Some(*slot),
        _ => None,
    }
}

/// The execution that waits for something since an event, and whether it was opened by it.
fn waits_of(event: &Event) -> Option<(ExecutionId, bool)> {
    match event {
        Event::TaskScheduled { execution, .. } | Event::TaskReopened { execution, .. } => {
            Some((*execution, true))
        }
        Event::TaskRetry { execution, .. } | Event::TaskRequeued { execution, .. } => {
            Some((*execution, false))
        }
        _ => None,
    }
}
