//! What a client wrote about a task, checked and made into a definition.
//!
//! Pure: the instant and what the workers offer come in as [`Surroundings`]. Every fault is collected, each with a
//! JSON Pointer and a sentence that says what is allowed, so that one answer names them all. Absent on purpose: whether
//! the client may do it, and everything that only the replicated state can say, such as which calendars there are.

mod action;
mod calendar;
mod duration;
mod event;
mod fields;
mod gate;
mod leasing;
mod membership;
mod nearest;
mod occurrence;
mod policy;
#[cfg(test)]
mod tests;
mod trigger;

use std::collections::BTreeMap;

use escapement_domain::codec;
use escapement_domain::identifier::TaskId;
use escapement_domain::limits::{
    DEFINITION_BYTES_MAX, DESCRIPTION_BYTES_MAX, LABEL_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX,
    OPEN_EXECUTIONS_PER_TASK_MAX, PRIORITY_MAX, SPAN_MAX, TIMEOUT_MAX,
};
use escapement_domain::task::definition::{
    CircuitBreaker, Definition, Delivery, Kind, Misfire, Overlap, Retry,
};
use escapement_domain::task::plan::Timetable;
use escapement_domain::task::retry_on::RetryOn;
use escapement_domain::task::rules::{Rules, Timing};
use escapement_domain::timestamp::{Span, Timestamp};

pub use self::action::ProgramsOffered;
pub use self::calendar::{
    CALENDAR_MODES, CALENDAR_NAME_BYTES_MAX, calendar, calendar_name, no_such_calendar,
};
pub(crate) use self::duration::parse as parse_span;
pub use self::event::{Publication, publication};
pub use self::fields::{Fault, Faults};
pub use self::gate::{breaker_state, capacity, limit, pool, priority, queue, target};
pub use self::leasing::{Completion, completion, heartbeat, lease_request, lease_token, progress};
pub use self::membership::{new_node, successor};
pub use self::nearest::guess;
pub use self::occurrence::{BackfillRange, backfill_range, occurrence_change};

use self::fields::{Field, Fields};
use crate::json::Node;

/// The names of the kinds of tasks.
pub const KINDS: [(&str, Kind); 5] = [
    ("test_execution", Kind::TestExecution),
    ("maintenance", Kind::Maintenance),
    ("report", Kind::Report),
    ("alert", Kind::Alert),
    ("generic", Kind::Generic),
];
/// Fields of an answer that may be sent back and mean nothing.
const READ_ONLY: [&str; 10] = [
    "id",
    "tenant",
    "owner",
    "version",
    "pause_reason",
    "failures_in_a_row",
    "created_at",
    "updated_at",
    "next_fire_at",
    "last_execution",
];

/// What the check needs to know of the world.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// Now.
    pub now: Timestamp,
    /// What the task is read for.
    pub purpose: Purpose,
    /// Which programs the workers run.
    pub programs: &'a ProgramsOffered,
}

/// What a task is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To create it.
    Create,
    /// To create it, unless a request under the same key did before: whether its time has passed is for the leader to say, who
    /// knows the key.
    CreateUnderKey,
    /// To replace the definition of one that exists.
    Replace {
        /// The instant of its `once` trigger so far: it may have passed.
        once_at: Option<Timestamp>,
    },
}

/// A task that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The definition.
    pub definition: Definition,
    /// The state that the client asks for, if it said.
    pub state: Option<WantedState>,
}

/// The state that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedState {
    /// It fires.
    Active,
    /// It does not, until it is resumed.
    Paused,
}

/// Checks what a client wrote about a task. `pointer` is where it is in the document; empty for the whole of it.
///
/// # Errors
/// Every fault, at least one.
pub fn check(node: Node<'_>, pointer: &str, surroundings: &Surroundings<'_>) -> Result<Checked, Vec<Fault>> {
    let mut faults = Faults::default();
    let checked = read(&Field::new(node, pointer), surroundings, &mut faults);
    match checked {
        Some(checked) if faults.is_empty() => Ok(checked),
        _ => Err(faults.into_vec()),
    }
}

fn read(field: &Field<'_>, surroundings: &Surroundings<'_>, faults: &mut Faults) -> Option<Checked> {
    let mut fields = field.object(faults)?;
    fields.ignore(&READ_ONLY);
    let name = fields.required("name", faults).and_then(|field| name(&field, faults));
    let trigger =
        fields.required("trigger", faults).and_then(|field| trigger::read(&field, surroundings, faults));
    let action =
        fields.required("action", faults).and_then(|field| action::read(&field, surroundings, faults));
    let inputs = fields.read("inputs", faults, event::inputs);
    let description = fields.read("description", faults, description);
    let kind = fields.read("kind", faults, |field, faults| field.choice(&KINDS, faults));
    let policies = policies(&mut fields, faults);
    let calendars = fields.read("calendars", faults, calendar::calendars);
    let labels = fields.read("labels", faults, labels);
    let bounds = bounds(&mut fields, faults);
    let state = fields.read("state", faults, |field, faults| state(field, surroundings.purpose, faults));
    fields.finish("a task", faults);
    let definition = Definition {
        name: name?,
        description: description.unwrap_or_default(),
        kind: kind.unwrap_or_default(),
        trigger: trigger?,
        action: action?,
        inputs: inputs.unwrap_or_default(),
        timeout: policies.timeout,
        execution_timeout: policies.execution_timeout,
        queue_timeout: policies.queue_timeout,
        retry: policies.retry,
        retry_on: policies.retry_on,
        circuit_breaker: policies.circuit_breaker,
        misfire: policies.misfire,
        overlap: policies.overlap,
        delivery: policies.delivery,
        priority: policies.priority,
        resources: policies.resources,
        jitter: policies.jitter,
        calendars: calendars.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        start_at: bounds.start_at,
        end_at: bounds.end_at,
        max_runs: bounds.max_runs,
        max_concurrent: policies.max_concurrent,
        pause_after_failures: bounds.pause_after_failures,
    };
    fits(&definition, field, faults);
    event::fits_trigger(&definition, field, faults);
    action::fits_timeout(&definition, field, faults);
    if faults.is_empty() && surroundings.purpose == Purpose::Create {
        let fault = without_instant(&definition, &field.pointer, surroundings.now);
        fault.into_iter().for_each(|Fault { pointer, detail }| faults.add(pointer, detail));
    }
    Some(Checked { definition, state: state.flatten() })
}

fn fits(definition: &Definition, field: &Field<'_>, faults: &mut Faults) {
    let bytes = codec::encode(definition).len();
    if bytes > DEFINITION_BYTES_MAX {
        let detail = format!("a definition takes at most {DEFINITION_BYTES_MAX} bytes; this takes {bytes}");
        faults.add(&field.pointer, detail);
    }
}

/// Says why a task will never be due from now on, if it will not; those that need no instant are always sound. `place` is where
/// it is in the document.
#[must_use]
pub fn without_instant(definition: &Definition, place: &str, now: Timestamp) -> Option<Fault> {
    let timing = Rules::of(definition).timing;
    let timetable = Timetable::compile(definition, TaskId(0), now, Vec::new()).ok()?;
    if timing == Timing::Unscheduled || timetable.first(timing, now).is_some() {
        return None;
    }
    let (field, detail) = match definition.end_at {
        Some(end) => (
            "/end_at",
            format!("no instant of the trigger lies between now and {end}; a later one is allowed"),
        ),
        None => ("/trigger", "the trigger names no instant that is to come".to_owned()),
    };
    Some(Fault { pointer: format!("{place}{field}"), detail })
}

fn name(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let passes = |name: &str| !name.trim().is_empty() && !name.chars().any(char::is_control);
    field.text(1..=NAME_BYTES_MAX, passes, " that are not all blank, without control characters,", faults)
}

fn description(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let passes =
        |text: &str| !text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t'));
    field.text(
        0..=DESCRIPTION_BYTES_MAX,
        passes,
        " without control characters but line ends and tabs",
        faults,
    )
}

fn labels(field: &Field<'_>, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    let entries = field.entries(faults)?;
    if entries.len() > LABELS_MAX {
        faults.add(
            &field.pointer,
            format!("at most {LABELS_MAX} labels are allowed; these are {}", entries.len()),
        );
        return None;
    }
    let plain = |text: &str| !text.chars().any(char::is_control);
    let mut labels = BTreeMap::new();
    for (name, value) in entries {
        if !(1..=LABEL_BYTES_MAX).contains(&name.len()) || !plain(&name) || name.contains('=') {
            let allowed =
                format!("a label's name has 1 to {LABEL_BYTES_MAX} bytes without `=` and control characters");
            faults.add(&value.pointer, allowed);
        }
        if let Some(text) = value.text(0..=LABEL_BYTES_MAX, plain, " without control characters", faults) {
            labels.insert(name, text);
        }
    }
    Some(labels)
}

struct Policies {
    timeout: Span,
    execution_timeout: Option<Span>,
    queue_timeout: Option<Span>,
    retry: Retry,
    circuit_breaker: Option<CircuitBreaker>,
    resources: BTreeMap<String, u32>,
    max_concurrent: Option<u32>,
    retry_on: Option<RetryOn>,
    misfire: Misfire,
    overlap: Overlap,
    delivery: Delivery,
    priority: u8,
    jitter: Span,
}

fn policies(fields: &mut Fields<'_>, faults: &mut Faults) -> Policies {
    let overlaps = [
        ("skip", Overlap::Skip),
        ("queue_one", Overlap::QueueOne),
        ("queue_all", Overlap::QueueAll),
        ("cancel_running", Overlap::CancelRunning),
        ("allow", Overlap::Allow),
    ];
    let deliveries = [("at_least_once", Delivery::AtLeastOnce), ("at_most_once", Delivery::AtMostOnce)];
    let timeout = |field: &Field<'_>, faults: &mut Faults| field.span(Span(1)..=TIMEOUT_MAX, faults);
    let timeout = fields.read("timeout", faults, timeout);
    let longer = |field: &Field<'_>, faults: &mut Faults| field.span(Span(1)..=SPAN_MAX, faults);
    let execution_timeout = fields.read("execution_timeout", faults, longer);
    let queue_timeout = fields.read("queue_timeout", faults, longer);
    let (retry, retry_on) = fields.read("retry", faults, policy::retry).unwrap_or((Retry::NONE, None));
    let circuit_breaker = fields.read("circuit_breaker", faults, policy::circuit_breaker);
    let resources = fields.read("resources", faults, gate::resources);
    let most = |field: &Field<'_>, faults: &mut Faults| {
        field.integer(1..=OPEN_EXECUTIONS_PER_TASK_MAX as u64, faults)
    };
    let max_concurrent = fields.read("max_concurrent", faults, most);
    let misfire = fields.read("misfire", faults, policy::misfire);
    let overlap = fields.read("overlap", faults, |field, faults| field.choice(&overlaps, faults));
    let delivery = fields.read("delivery", faults, |field, faults| field.choice(&deliveries, faults));
    let priority =
        |field: &Field<'_>, faults: &mut Faults| field.integer(0..=u64::from(PRIORITY_MAX), faults);
    let priority = fields.read("priority", faults, priority);
    let jitter = fields.read("jitter", faults, |field, faults| field.span(Span::ZERO..=SPAN_MAX, faults));
    Policies {
        timeout: timeout.unwrap_or(Definition::TIMEOUT),
        execution_timeout,
        queue_timeout,
        retry,
        retry_on,
        circuit_breaker,
        resources: resources.unwrap_or_default(),
        max_concurrent: max_concurrent.and_then(|found| u32::try_from(found).ok()),
        misfire: misfire.unwrap_or_default(),
        overlap: overlap.unwrap_or_default(),
        delivery: delivery.unwrap_or_default(),
        priority: priority.and_then(|found| u8::try_from(found).ok()).unwrap_or(Definition::PRIORITY),
        jitter: jitter.unwrap_or(Span::ZERO),
    }
}

struct Bounds {
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    max_runs: Option<u32>,
    pause_after_failures: Option<u32>,
}

fn bounds(fields: &mut Fields<'_>, faults: &mut Faults) -> Bounds {
    let start_at = fields.read("start_at", faults, Field::instant);
    let end_field = fields.take("end_at");
    let end_at = end_field.as_ref().and_then(|field| field.instant(faults));
    let mut count = |name| {
        let most = |field: &Field<'_>, faults: &mut Faults| field.integer(1..=u64::from(u32::MAX), faults);
        fields.read(name, faults, most).and_then(|most| u32::try_from(most).ok())
    };
    let (max_runs, pause_after_failures) = (count("max_runs"), count("pause_after_failures"));
    if let (Some(start), Some(end), Some(field)) = (start_at, end_at, &end_field)
        && start >= end
    {
        faults.add(&field.pointer, format!("an instant after start_at, which is {start}, is allowed"));
    }
    Bounds { start_at, end_at, max_runs, pause_after_failures }
}

/// A task that is read to be replaced may say that it is finished: nobody can ask for that, it is what was answered.
fn state(field: &Field<'_>, purpose: Purpose, faults: &mut Faults) -> Option<Option<WantedState>> {
    let active = ("active", Some(WantedState::Active));
    let paused = ("paused", Some(WantedState::Paused));
    match purpose {
        Purpose::Create | Purpose::CreateUnderKey => field.choice(&[active, paused], faults),
        Purpose::Replace { .. } => field.choice(&[active, paused, ("finished", None)], faults),
    }
}
