//! Definitions as clients write them: every trigger, policy and delivery, drawn from the run's generator.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::calendar::{Calendar, CalendarMode, Window};
use escapement_domain::task::action::{Action, Completion, HttpAction, ProcessAction, ProcessLimits};
use escapement_domain::task::definition::{
    CircuitBreaker, Definition, Delivery, Kind, Misfire, MisfirePolicy, Overlap, Retry,
};
use escapement_domain::task::trigger::{AfterCondition, Dst, IfPast, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};

use crate::chance::Chance;

/// The calendar that some tasks name, whether it is there or not.
pub const CALENDAR: &str = "quiet";
/// The pool of which some tasks ask for shares, whether it is there or not.
pub const POOL: &str = "shared";
/// The queue from which workers outside the cluster lease.
pub const QUEUE: &str = "suites";
/// A label that some tasks bear, as limits name it.
pub const LABEL: (&str, &str) = ("suite", "nightly");
/// The event to which some tasks listen.
pub const EVENT: &str = "build.finished";
/// The place in its payload that some of them look at, and what they may find there.
pub const SIDE: (&str, u64) = ("side", 3);
/// The program that only some nodes run.
pub const RARE_PROGRAM: &str = "/bin/rare";
/// How long an attempt takes at most where others wait for it, in ms.
pub const HELD_UP_MS: u64 = 400;

/// Draws a definition, as somebody would write it at `now`.
pub fn draw(chance: &mut Chance, now: Timestamp, aligned: bool) -> Definition {
    let trigger = trigger(chance, now, aligned);
    let overlap = overlap(chance);
    let plain = chance.per_mille(300);
    let takes = match chance.below(20) {
        0 => chance.between(3_000, 14_000),
        1..=4 => chance.between(600, 2_500),
        _ => chance.between(5, 400),
    };
    let queues = overlap == Overlap::QueueAll || overlap == Overlap::QueueOne;
    // What holds up others, of its task or of its tenant, is short.
    let shares = !plain && chance.per_mille(250);
    let takes = if queues || aligned || shares { takes.min(HELD_UP_MS) } else { takes };
    let fails = if plain { 0 } else { chance.pick(&[0, 100, 300, 700]) };
    let claims = if shares { claims(chance) } else { Claims::default() };
    // Only a target that fails often enough opens its breaker.
    let fails = if shares && claims.circuit_breaker.is_none() { fails.min(300) } else { fails };
    let mut definition = Definition {
        name: "simulated".into(),
        description: String::new(),
        kind: Kind::Generic,
        trigger,
        action: action(chance, Behaviour { takes_ms: takes, fails_per_mille: fails }),
        inputs: BTreeMap::new(),
        timeout: if chance.per_mille(60) { Span::seconds(1) } else { Span::minutes(5) },
        execution_timeout: None,
        queue_timeout: None,
        retry_on: None,
        retry: if plain { Retry::NONE } else { retry(chance) },
        circuit_breaker: claims.circuit_breaker,
        misfire: misfire(chance),
        overlap: if plain { Overlap::Allow } else { overlap },
        delivery: if chance.per_mille(300) { Delivery::AtMostOnce } else { Delivery::AtLeastOnce },
        priority: u8::try_from(chance.below(10)).unwrap_or(0),
        resources: claims.resources,
        jitter: if chance.per_mille(150) { Span(chance.between(1, 1_500)) } else { Span::ZERO },
        calendars: if chance.per_mille(120) { vec![CALENDAR.to_owned()] } else { Vec::new() },
        labels: claims.labels,
        start_at: chance.per_mille(80).then(|| now.plus(Span(chance.between(1_000, 30_000)))),
        end_at: chance.per_mille(80).then(|| now.plus(Span(chance.between(60_000, 200_000)))),
        pause_after_failures: None,
        max_runs: chance.per_mille(80).then(|| u32::try_from(chance.between(1, 12)).unwrap_or(1)),
        max_concurrent: claims.max_concurrent,
    };
    if matches!(definition.trigger, Trigger::Event { .. }) {
        definition.calendars.clear();
        definition.jitter = Span::ZERO;
    }
    definition
}

/// Draws a definition that runs only when somebody asks for it.
pub fn draw_idle(chance: &mut Chance, now: Timestamp) -> Definition {
    Definition { trigger: Trigger::Manual, ..draw(chance, now, false) }
}

/// Draws a definition that [`is_plain`], and that makes good whatever it missed.
pub fn draw_plain(chance: &mut Chance, now: Timestamp) -> Definition {
    let anchor = chance.per_mille(500).then(|| Timestamp(now.0 + chance.around(60_000)));
    let behaviour = Behaviour { takes_ms: chance.between(5, HELD_UP_MS), fails_per_mille: 0 };
    Definition {
        trigger: Trigger::Interval { every: Span(chance.between(3_000, 15_000)), anchor },
        action: call(behaviour),
        timeout: Span::minutes(5),
        retry: Retry::NONE,
        circuit_breaker: None,
        misfire: Misfire {
            policy: MisfirePolicy::RunAll,
            grace: Span::minutes(10),
            window: Span::minutes(10),
        },
        overlap: Overlap::Allow,
        delivery: Delivery::AtLeastOnce,
        resources: BTreeMap::new(),
        labels: BTreeMap::new(),
        jitter: Span::ZERO,
        calendars: Vec::new(),
        start_at: None,
        end_at: None,
        max_runs: None,
        max_concurrent: None,
        ..draw(chance, now, false)
    }
}

/// Lets a definition run after some of these tasks, now and then.
pub fn let_follow(definition: &mut Definition, chance: &mut Chance, tasks: &[TaskId]) {
    if tasks.is_empty() || !chance.per_mille(200) {
        return;
    }
    let some = (0..chance.between(1, 3)).map(|_| tasks[chance.index(tasks.len())]);
    let tasks = some.collect::<BTreeSet<_>>().into_iter().collect();
    let condition =
        chance.pick(&[AfterCondition::AllSucceeded, AfterCondition::AllDone, AfterCondition::AnyFailed]);
    definition.trigger = Trigger::After { tasks, condition };
    definition.calendars.clear();
    definition.jitter = Span::ZERO;
    (definition.start_at, definition.end_at) = (None, None);
}

/// What a definition asks of others.
#[derive(Default)]
struct Claims {
    resources: BTreeMap<String, u32>,
    circuit_breaker: Option<CircuitBreaker>,
    max_concurrent: Option<u32>,
    labels: BTreeMap<String, String>,
}

fn claims(chance: &mut Chance) -> Claims {
    let some = |chance: &mut Chance, most| u32::try_from(chance.between(1, most)).unwrap_or(1);
    Claims {
        resources: chance.per_mille(600).then(|| (POOL.to_owned(), some(chance, 2))).into_iter().collect(),
        circuit_breaker: chance.per_mille(500).then(|| CircuitBreaker {
            failure_threshold: 1 + some(chance, 3),
            open_for: Span(chance.between(200, 1_500)),
        }),
        max_concurrent: chance.per_mille(300).then(|| some(chance, 2)),
        labels: chance.per_mille(400).then(|| (LABEL.0.into(), LABEL.1.into())).into_iter().collect(),
    }
}

fn trigger(chance: &mut Chance, now: Timestamp, aligned: bool) -> Trigger {
    if aligned && chance.per_mille(800) {
        let every = Span::seconds(chance.pick(&[10, 20, 30]));
        return Trigger::Interval { every, anchor: Some(Timestamp(0)) };
    }
    match chance.below(12) {
        0..=3 => {
            let anchor = chance.per_mille(500).then(|| Timestamp(now.0 + chance.around(60_000)));
            Trigger::Interval { every: Span(chance.between(2_000, 25_000)), anchor }
        }
        4..=6 => {
            let expression = chance.pick(&[
                "*/5 * * * * *",
                "*/20 * * * * *",
                "7,31 * * * * *",
                "* * * * *",
                "*/2 * * * *",
            ]);
            let timezone = chance.pick(&["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]);
            Trigger::Cron { expression: expression.into(), timezone: timezone.into(), dst: Dst::default() }
        }
        7 | 8 => {
            let past = chance.per_mille(250);
            let at = if past {
                now.minus(Span(chance.between(1, 20_000)))
            } else {
                now.plus(Span(chance.between(500, 60_000)))
            };
            Trigger::Once { at, if_past: IfPast::Run }
        }
        9 | 10 => {
            let (place, sides) = SIDE;
            let side = chance.per_mille(600).then(|| (format!("/{place}"), chance.below(sides).to_string()));
            Trigger::Event { name: EVENT.into(), filter: side.into_iter().collect() }
        }
        _ => Trigger::Manual,
    }
}

/// Draws a calendar with a window of some minutes of every day, about now.
pub fn draw_calendar(chance: &mut Chance, now: Timestamp) -> Calendar {
    let minute = |at: i64| u16::try_from(at.rem_euclid(24 * 60)).unwrap_or(0);
    let from = now.0.div_euclid(60_000) + chance.around(3);
    let length = i64::from(u8::try_from(chance.between(1, 3)).unwrap_or(1));
    let window =
        Window { weekly: false, from: minute(from), to: minute(from + length), timezone: Some("UTC".into()) };
    let mode = if chance.per_mille(800) { CalendarMode::Exclude } else { CalendarMode::Only };
    Calendar { description: String::new(), mode, timezone: None, days: Vec::new(), windows: vec![window] }
}

fn overlap(chance: &mut Chance) -> Overlap {
    chance.pick(&[
        Overlap::Skip,
        Overlap::QueueOne,
        Overlap::QueueAll,
        Overlap::CancelRunning,
        Overlap::Allow,
    ])
}

fn misfire(chance: &mut Chance) -> Misfire {
    let policy = chance.pick(&[MisfirePolicy::Skip, MisfirePolicy::RunLatest, MisfirePolicy::RunAll]);
    let grace = Span(chance.pick(&[1_000, 4_000, 60_000]));
    let window = Span(chance.pick(&[10_000, 30_000, 120_000]));
    Misfire { policy, grace, window }
}

fn retry(chance: &mut Chance) -> Retry {
    Retry {
        max_attempts: u32::try_from(chance.between(1, 4)).unwrap_or(1),
        initial_delay: Span(chance.between(0, 1_500)),
        multiplier_per_mille: 2_000,
        max_delay: Span::seconds(5),
        jitter_per_mille: 200,
    }
}

/// What a target does with a call, written into the call itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Behaviour {
    /// How long an attempt takes, in ms.
    pub takes_ms: u64,
    /// How many of a thousand attempts fail.
    pub fails_per_mille: u64,
}

/// How long an execution may hold up the next one of its task, in ms.
#[must_use]
pub fn holds_up_ms(retry: &Retry) -> u64 {
    let attempts = u64::from(retry.max_attempts);
    attempts * HELD_UP_MS + attempts.saturating_sub(1) * retry.max_delay.0
}

impl Behaviour {
    /// What an action says of its target.
    #[must_use]
    pub fn of(action: &Action) -> Self {
        let text = match action {
            Action::Http(call) => call.body.as_deref(),
            Action::Process(process) => process.stdin.as_deref(),
            Action::Queue { payload, .. } => payload.as_deref(),
            Action::Builtin { .. } => None,
        };
        Self::of_text(text.unwrap_or_default())
    }

    /// What a text says of its target.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let mut numbers = text.trim_matches('"').split(',').filter_map(|number| number.parse().ok());
        let mut next = || numbers.next().unwrap_or(0);
        Self { takes_ms: next(), fails_per_mille: next() }
    }

    fn text(self) -> Option<String> {
        Some(format!("{},{}", self.takes_ms, self.fails_per_mille))
    }
}

fn action(chance: &mut Chance, behaviour: Behaviour) -> Action {
    if chance.per_mille(150) {
        return Action::Process(ProcessAction {
            program: RARE_PROGRAM.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            stdin: behaviour.text(),
            limits: ProcessLimits::default(),
        });
    }
    if chance.per_mille(150) {
        // JSON text, as the API would hand it in.
        let payload = behaviour.text().map(|text| format!("\"{text}\""));
        return Action::Queue { queue: QUEUE.into(), payload };
    }
    call(behaviour)
}

fn call(behaviour: Behaviour) -> Action {
    Action::Http(HttpAction {
        method: "POST".into(),
        url: "https://target.example/".into(),
        headers: BTreeMap::new(),
        body: behaviour.text(),
        completion: Completion::Response,
    })
}

/// Whether somebody outside can tell what must run without knowing what happened to its workers and neighbours: it
/// recurs, never fails, never waits for another run of itself, and is made again when its worker is lost.
#[must_use]
pub fn is_plain(definition: &Definition) -> bool {
    let behaviour = Behaviour::of(&definition.action);
    matches!(definition.trigger, Trigger::Cron { .. } | Trigger::Interval { .. })
        && !matches!(definition.action, Action::Queue { .. })
        && behaviour.fails_per_mille == 0
        && Span(behaviour.takes_ms) < definition.timeout
        && definition.overlap == Overlap::Allow
        && definition.delivery == Delivery::AtLeastOnce
        && definition.jitter == Span::ZERO
        && definition.max_runs.is_none()
        && definition.calendars.is_empty()
        && definition.resources.is_empty()
        && definition.circuit_breaker.is_none()
        && definition.max_concurrent.is_none()
        && definition.labels.is_empty()
}

/// Whether a task runs for every instant, however long nobody was there to run it.
#[must_use]
pub fn makes_good(definition: &Definition) -> bool {
    let Misfire { policy, window, .. } = definition.misfire;
    policy == MisfirePolicy::RunAll && window >= Span::minutes(10)
}
