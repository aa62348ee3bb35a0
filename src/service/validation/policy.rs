//! Reads how a task behaves when things go wrong.

use std::ops::RangeInclusive;

use escapement_domain::limits::{ATTEMPTS_MAX, FAILURE_THRESHOLD_MAX, RETRY_ON_RANGES_MAX, SPAN_MAX};
use escapement_domain::task::definition::{CircuitBreaker, Misfire, MisfirePolicy, Retry};
use escapement_domain::task::retry_on::{Numbers, RetryOn};
use escapement_domain::timestamp::Span;

use super::fields::{Faults, Field};
use super::nearest::shown;

/// The statuses that a target may answer with.
const HTTP_STATUSES: RangeInclusive<u16> = 100..=599;
/// The exit codes that a program may end with when it fails.
const EXIT_CODES: RangeInclusive<u16> = 1..=255;
/// The most by which a wait may grow each time, in thousandths.
const MULTIPLIER_PER_MILLE_MAX: u32 = 100_000;

/// Reads how failed attempts are made again.
pub(super) fn retry(field: &Field<'_>, faults: &mut Faults) -> Option<(Retry, Option<RetryOn>)> {
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
    let retry_on = fields.read("retry_on", faults, retry_on);
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
    Some((retry, retry_on))
}

/// Reads which failures are retried.
fn retry_on(field: &Field<'_>, faults: &mut Faults) -> Option<RetryOn> {
    let before = faults.len();
    let mut fields = field.object(faults)?;
    let statuses =
        |field: &Field<'_>, faults: &mut Faults| numbers(field, "a status", HTTP_STATUSES, "5xx", faults);
    let codes =
        |field: &Field<'_>, faults: &mut Faults| numbers(field, "an exit code", EXIT_CODES, "75", faults);
    let http_status = fields.read("http_status", faults, statuses).unwrap_or_default();
    let exit_codes = fields.read("exit_codes", faults, codes).unwrap_or_default();
    let mut flag = |name| fields.read(name, faults, Field::boolean).unwrap_or_default();
    let (signal, timeout) = (flag("signal"), flag("timeout"));
    let (connection, other) = (flag("connection"), flag("other"));
    fields.finish("retry_on", faults);
    let on = RetryOn { http_status, exit_codes, signal, timeout, connection, other };
    if on.is_empty() && faults.len() == before {
        let detail = "at least one class of failures is expected; leave retry_on out and every failure is retried, or set max_attempts to 1 and none is";
        faults.add(&field.pointer, detail);
    }
    Some(on)
}

/// Reads numbers and ranges of them: `429`, `"500-599"`, or `"5xx"` for statuses.
fn numbers(
    field: &Field<'_>,
    what: &str,
    allowed: RangeInclusive<u16>,
    example: &str,
    faults: &mut Faults,
) -> Option<Vec<Numbers>> {
    let elements = field.elements(faults)?;
    if elements.len() > RETRY_ON_RANGES_MAX {
        let found = elements.len();
        let detail = format!("at most {RETRY_ON_RANGES_MAX} ranges are allowed; these are {found}");
        faults.add(&field.pointer, detail);
        return None;
    }
    let read = |element: &Field<'_>| {
        let text = element.node.string().unwrap_or_else(|| element.node.text().to_owned());
        let range = range_of(&text).filter(|range| {
            range.first <= range.last && allowed.contains(&range.first) && allowed.contains(&range.last)
        });
        if range.is_none() {
            let (least, most) = (allowed.start(), allowed.end());
            let expected = format!("{what} from {least} to {most}, or a range such as `{least}-{most}`");
            let detail = format!("{expected} or `{example}`, is expected, not {}", shown(&text));
            faults.add(&element.pointer, detail);
        }
        range
    };
    Some(elements.iter().filter_map(read).collect())
}

fn range_of(text: &str) -> Option<Numbers> {
    if let Some(hundred) = text.strip_suffix("xx") {
        let first = hundred.parse::<u16>().ok()?.checked_mul(100)?;
        return Some(Numbers { first, last: first.checked_add(99)? });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(Numbers { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
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
