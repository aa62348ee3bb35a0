//! Reads how a task behaves when things go wrong.

use escapement_domain::limits::{ATTEMPTS_MAX, FAILURE_THRESHOLD_MAX, SPAN_MAX};
use escapement_domain::task::definition::{CircuitBreaker, Misfire, MisfirePolicy, Retry};
use escapement_domain::timestamp::Span;

use super::fields::{Faults, Field};

/// The most by which a wait may grow each time, in thousandths.
const MULTIPLIER_PER_MILLE_MAX: u32 = 100_000;

/// Reads how failed attempts are made again.
pub(super) fn retry(field: &Field<'_>, faults: &mut Faults) -> Option<Retry> {
    let mut fields = field.object(faults)?;
    let attempts =
        |field: &Field<'_>, faults: &mut Faults| field.integer(1..=u64::from(ATTEMPTS_MAX), faults);
    let span = |field: &Field<'_>, faults: &mut Faults| field.span(Span::ZERO..=SPAN_MAX, faults);
    let max_attempts = fields.read("max_attempts", faults, attempts);
    let initial_delay = fields.read("initial_delay", faults, span);
    let multiplier =
        |field: &Field<'_>, faults: &mut Faults| field.per_mille(1_000..=MULTIPLIER_PER_MILLE_MAX, faults);
    let multiplier = fields.read("multiplier", faults, multiplier);
    let max_delay = fields.read("max_delay", faults, span);
    let jitter = fields.read("jitter", faults, |field, faults| field.per_mille(0..=1_000, faults));
    fields.finish("retry", faults);
    let retry = Retry {
        max_attempts: max_attempts
            .and_then(|most| u32::try_from(most).ok())
            .unwrap_or(Retry::DEFAULT.max_attempts),
        initial_delay: initial_delay.unwrap_or(Retry::DEFAULT.initial_delay),
        multiplier_per_mille: multiplier.unwrap_or(Retry::DEFAULT.multiplier_per_mille),
        max_delay: max_delay.unwrap_or(Retry::DEFAULT.max_delay),
        jitter_per_mille: jitter.unwrap_or(Retry::DEFAULT.jitter_per_mille),
    };
    if let Some(wait) = initial_delay.filter(|wait| *wait > retry.max_delay) {
        let detail = format!("at most max_delay, which is {}, is allowed, not {wait}", retry.max_delay);
        faults.add(format!("{}/initial_delay", field.pointer), detail);
    }
    if let (Some(most), None) = (max_delay.filter(|most| *most < retry.initial_delay), initial_delay) {
        let detail =
            format!("at least initial_delay, which is {}, is allowed, not {most}", retry.initial_delay);
        faults.add(format!("{}/max_delay", field.pointer), detail);
    }
    Some(retry)
}

/// Reads what happens to instants that nobody fired in time.
pub(super) fn misfire(field: &Field<'_>, faults: &mut Faults) -> Option<Misfire> {
    let mut fields = field.object(faults)?;
    let policies = [
        ("skip", MisfirePolicy::Skip),
        ("run_latest", MisfirePolicy::RunLatest),
        ("run_all", MisfirePolicy::RunAll),
    ];
    let span = |field: &Field<'_>, faults: &mut Faults| field.span(Span::ZERO..=SPAN_MAX, faults);
    let policy = fields.read("policy", faults, |field, faults| field.choice(&policies, faults));
    let grace = fields.read("grace", faults, span);
    let window = fields.read("window", faults, span);
    fields.finish("misfire", faults);
    let default = Misfire::default();
    Some(Misfire {
        policy: policy.unwrap_or(default.policy),
        grace: grace.unwrap_or(default.grace),
        window: window.unwrap_or(default.window),
    })
}

/// Reads when to stop calling a target that keeps failing.
pub(super) fn circuit_breaker(field: &Field<'_>, faults: &mut Faults) -> Option<CircuitBreaker> {
    let mut fields = field.object(faults)?;
    let threshold =
        |field: &Field<'_>, faults: &mut Faults| field.integer(1..=u64::from(FAILURE_THRESHOLD_MAX), faults);
    let span = |field: &Field<'_>, faults: &mut Faults| field.span(Span(1)..=SPAN_MAX, faults);
    let failure_threshold = fields.read("failure_threshold", faults, threshold);
    let open_for = fields.read("open_for", faults, span);
    fields.finish("circuit_breaker", faults);
    let default = CircuitBreaker::DEFAULT;
    Some(CircuitBreaker {
        failure_threshold: failure_threshold
            .and_then(|found| u32::try_from(found).ok())
            .unwrap_or(default.failure_threshold),
        open_for: open_for.unwrap_or(default.open_for),
    })
}
