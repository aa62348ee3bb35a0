//! Reads what workers outside the cluster send: what they ask of a queue, and what they say of their attempts.

use std::sync::Arc;

use escapement_domain::command::AttemptOutcome;
use escapement_domain::execution::failure::{Failure, FailureClass};
use escapement_domain::limits::{
    ERROR_BYTES_MAX, FAILED_ITEMS_BYTES_MAX, LEASE_MAX, LEASE_MIN, LEASES_PER_COMMAND_MAX,
    PROGRESS_BYTES_MAX, RESULT_BYTES_MAX, RETRY_AFTER_MAX, WORKER_NAME_BYTES_MAX,
};
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::Span;

use super::fields::{Fault, Faults, Field, Fields};
use super::gate;
use crate::executor::LeaseToken;
use crate::json::Node;
use crate::service::leasing::{LeaseRequest, ProgressReport};

/// How long a lease holds unless the worker says.
const LEASE_DEFAULT: Span = Span::minutes(1);
/// The longest that a worker may wait for work in one call.
const WAIT_MAX: Span = Span::minutes(1);
/// The field that shows who has an attempt.
const LEASE_TOKEN: &str = "lease_token";
/// A token that no attempt has: it is refused as a stale one is.
const NO_TOKEN: u64 = 0;

/// What sort of failure a worker may say it was; some have a code beside it.
const CLASSES: [(&str, FailureClass); 6] = [
    ("http_status", FailureClass::HttpStatus(0)),
    ("exit_code", FailureClass::ExitCode(0)),
    ("signal", FailureClass::Signal(0)),
    ("timeout", FailureClass::TimedOut),
    ("connection", FailureClass::Connection),
    ("other", FailureClass::Other),
];

/// The end of an attempt, as a worker tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The fencing token under which it has the attempt.
    pub token: u64,
    /// How it ended.
    pub outcome: AttemptOutcome,
}

/// Reads what a worker asks of a queue.
///
/// # Errors
/// Every fault, at least one.
pub fn lease_request(queue: &str, node: Node<'_>) -> Result<LeaseRequest, Vec<Fault>> {
    read(node, "a lease", |fields, faults| {
        let queue = gate::queue(queue).map_err(|fault| faults.add(&fault.pointer, fault.detail));
        let worker = fields.required("worker", faults).and_then(|field| name(&field, faults));
        let most = LEASES_PER_COMMAND_MAX as u64;
        let most = fields.read("max", faults, |field, faults| field.integer(1..=most, faults));
        let lease = fields.read("lease", faults, |field, faults| field.span(LEASE_MIN..=LEASE_MAX, faults));
        let wait = fields.read("wait", faults, |field, faults| field.span(Span::ZERO..=WAIT_MAX, faults));
        Some(LeaseRequest {
            queue: queue.ok()?,
            worker: worker?.into(),
            most: most.and_then(|most| u32::try_from(most).ok()).unwrap_or(1),
            lease: lease.unwrap_or(LEASE_DEFAULT),
            wait: wait.unwrap_or(Span::ZERO),
        })
    })
}

/// Reads the token of a sign of life.
///
/// # Errors
/// Every fault, at least one.
pub fn heartbeat(node: Node<'_>) -> Result<u64, Vec<Fault>> {
    read(node, "a heartbeat", token)
}

/// The lease token by which a target shows itself, if there is one.
#[must_use]
pub fn lease_token(node: Node<'_>) -> Option<LeaseToken> {
    let entries = node.entries()?;
    let (_, token) = entries.into_iter().find(|(name, _)| name == LEASE_TOKEN)?;
    Field::new(token, "").string(&mut Faults::default())?.parse().ok()
}

/// Reads how far an attempt is, and the token.
///
/// # Errors
/// Every fault, at least one.
pub fn progress(node: Node<'_>) -> Result<(u64, ProgressReport), Vec<Fault>> {
    read(node, "a progress report", |fields, faults| {
        let token = token(fields, faults);
        let percent = fields.read("percent", faults, |field, faults| field.integer(0..=100, faults));
        let message = fields.read("message", faults, |field, faults| {
            field.text(0..=PROGRESS_BYTES_MAX, |_| true, "", faults)
        });
        if percent.is_none() && message.is_none() && faults.is_empty() {
            faults.add("", "`percent` or `message` is required");
        }
        let percent = percent.and_then(|percent| u8::try_from(percent).ok());
        Some((token?, ProgressReport { percent, message: message.map(Arc::from) }))
    })
}

/// Reads the end of an attempt.
///
/// # Errors
/// Every fault, at least one.
pub fn completion(node: Node<'_>) -> Result<Completion, Vec<Fault>> {
    read(node, "a completion", |fields, faults| {
        let token = token(fields, faults);
        let outcomes = [("succeeded", true), ("failed", false)];
        let succeeded = fields.required("outcome", faults).and_then(|field| field.choice(&outcomes, faults));
        let kept = fields.take("result");
        let result = kept.as_ref().and_then(|field| result(field, faults));
        let failure = failure(fields, succeeded == Some(true), faults);
        if let (Some(kept), FailureClass::TimedOut) = (&kept, failure.class) {
            faults.add(&kept.pointer, "of an attempt that ended by a `timeout` no result is kept");
        }
        let outcome = if succeeded? {
            AttemptOutcome::Succeeded(result)
        } else {
            AttemptOutcome::Failed(Failure { result, ..failure })
        };
        Some(Completion { token: token?, outcome })
    })
}

/// Reads what goes with the outcome `failed`, and only with it.
fn failure(fields: &mut Fields<'_>, succeeded: bool, faults: &mut Faults) -> Failure {
    let mut take = |name, faults: &mut Faults| {
        let field = fields.take(name)?;
        if succeeded {
            faults.add(&field.pointer, format!("`{name}` goes with the outcome `failed` only"));
        }
        Some(field)
    };
    let error = take("error", faults);
    let error = error.and_then(|field| field.text(1..=ERROR_BYTES_MAX, |_| true, "", faults));
    let class = take("failure", faults).and_then(|field| class(&field, faults));
    let retry_after = take("retry_after", faults);
    let retry_after = retry_after.and_then(|field| field.span(Span::ZERO..=RETRY_AFTER_MAX, faults));
    let failed_items = take("failed_items", faults).and_then(|field| list(&field, faults));
    Failure {
        error: error.map_or_else(|| "its worker says that it failed".into(), Arc::from),
        result: None,
        class: class.unwrap_or(FailureClass::Other),
        retry_after,
        failed_items,
    }
}

/// Reads what sort of failure it was, as executions tell it.
fn class(field: &Field<'_>, faults: &mut Faults) -> Option<FailureClass> {
    let mut fields = field.object(faults)?;
    let class = fields.required("class", faults).and_then(|field| field.choice(&CLASSES, faults));
    let codes = match class {
        Some(FailureClass::HttpStatus(_)) => Some(100..=599),
        Some(FailureClass::ExitCode(_)) => Some(1..=255),
        Some(FailureClass::Signal(_)) => Some(1..=64),
        _ => None,
    };
    let code = match codes {
        Some(codes) => fields.required("code", faults).and_then(|field| field.integer(codes, faults)),
        None => {
            if let Some(code) = fields.take("code").filter(|_| class.is_some()) {
                let allowed = "`code` goes with the classes `http_status`, `exit_code` and `signal` only";
                faults.add(&code.pointer, allowed);
            }
            None
        }
    };
    fields.finish("a failure", faults);
    let code = code.and_then(|code| u16::try_from(code).ok());
    Some(match class? {
        FailureClass::HttpStatus(_) => FailureClass::HttpStatus(code?),
        FailureClass::ExitCode(_) => FailureClass::ExitCode(code?.into()),
        FailureClass::Signal(_) => FailureClass::Signal(code?.into()),
        without => without,
    })
}

/// What workers and queues may be called, beside how long.
pub(super) const NAMES_ALLOWED: &str = " of printable ASCII without spaces and `/`";

/// Whether workers and queues may be called so, as far as its length goes.
pub(super) fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

/// Reads what a worker or a queue is called.
pub(super) fn name(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    field.text(1..=WORKER_NAME_BYTES_MAX, is_name, NAMES_ALLOWED, faults)
}

fn result(field: &Field<'_>, faults: &mut Faults) -> Option<Sealed> {
    bounded(field, RESULT_BYTES_MAX, faults)
}

/// A list of anything; an empty one says as much as none.
fn list(field: &Field<'_>, faults: &mut Faults) -> Option<Sealed> {
    let items = field.elements(faults)?;
    if items.is_empty() { None } else { bounded(field, FAILED_ITEMS_BYTES_MAX, faults) }
}

fn bounded(field: &Field<'_>, most: usize, faults: &mut Faults) -> Option<Sealed> {
    let text = field.node.compact();
    if text.len() <= most {
        return Some(Sealed::in_clear(text.into_bytes()));
    }
    faults.add(&field.pointer, format!("at most {most} bytes of JSON are kept; this has {}", text.len()));
    None
}

fn token(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<u64> {
    let text = fields.required(LEASE_TOKEN, faults)?.string(faults)?;
    // What cannot be a token is as stale as any other: only who has the attempt knows what one looks like.
    Some(text.parse().unwrap_or(NO_TOKEN))
}

/// Reads an object of which every field is known; `of` says what it is.
pub(super) fn read<T>(
    node: Node<'_>,
    of: &str,
    read: impl FnOnce(&mut Fields<'_>, &mut Faults) -> Option<T>,
) -> Result<T, Vec<Fault>> {
    let mut faults = Faults::default();
    let found = Field::new(node, "").object(&mut faults).and_then(|mut fields| {
        let found = read(&mut fields, &mut faults);
        fields.finish(of, &mut faults);
        found
    });
    found.filter(|_| faults.is_empty()).ok_or_else(|| faults.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn read(fields: &str) -> Result<AttemptOutcome, Vec<String>> {
        let text = format!(r#"{{"lease_token": "7", {fields}}}"#);
        let node = json::parse(text.as_bytes()).expect("JSON");
        let completion = completion(node).map(|completion| completion.outcome);
        completion.map_err(|faults| faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[track_caller]
    fn check_class(failure: &str, class: FailureClass) {
        let outcome = read(&format!(r#""outcome": "failed", "failure": {failure}, "retry_after": "5m""#));
        let Ok(AttemptOutcome::Failed(failure)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((failure.class, failure.retry_after), (class, Some(Span::minutes(5))));
    }

    #[test]
    fn a_worker_says_what_sort_of_failure_it_was() {
        check_class(r#"{"class": "http_status", "code": 503}"#, FailureClass::HttpStatus(503));
        check_class(r#"{"class": "exit_code", "code": 75}"#, FailureClass::ExitCode(75));
        check_class(r#"{"class": "signal", "code": 9}"#, FailureClass::Signal(9));
        check_class(r#"{"class": "timeout"}"#, FailureClass::TimedOut);
        check_class(r#"{"class": "connection", "code": null}"#, FailureClass::Connection);
        let said_nothing = read(r#""outcome": "failed""#);
        let Ok(AttemptOutcome::Failed(failure)) = said_nothing else { panic!("{said_nothing:?}") };
        assert_eq!((failure.class, failure.retry_after), (FailureClass::Other, None));
    }

    #[test]
    fn what_makes_no_sense_of_a_failure_is_named() {
        for (fields, place) in [
            (r#""outcome": "failed", "failure": "timeout""#, "/failure"),
            (r#""outcome": "failed", "failure": {"class": "tired"}"#, "/failure/class"),
            (r#""outcome": "failed", "failure": {"code": 5}"#, "/failure/class"),
            (r#""outcome": "failed", "failure": {"class": "exit_code"}"#, "/failure/code"),
            (r#""outcome": "failed", "failure": {"class": "exit_code", "code": 0}"#, "/failure/code"),
            (r#""outcome": "failed", "failure": {"class": "http_status", "code": 600}"#, "/failure/code"),
            (r#""outcome": "failed", "failure": {"class": "timeout", "code": 5}"#, "/failure/code"),
            (r#""outcome": "failed", "failure": {"class": "other", "why": 5}"#, "/failure/why"),
            (r#""outcome": "failed", "failure": {"class": "timeout"}, "result": 5"#, "/result"),
            (r#""outcome": "failed", "retry_after": "25h""#, "/retry_after"),
            (r#""outcome": "succeeded", "failure": {"class": "other"}"#, "/failure"),
            (r#""outcome": "succeeded", "retry_after": "1s""#, "/retry_after"),
            (r#""outcome": "succeeded", "error": "no""#, "/error"),
            (r#""outcome": "succeeded", "failed_items": ["a"]"#, "/failed_items"),
        ] {
            assert_eq!(read(fields), Err(vec![place.to_owned()]), "{fields}");
        }
    }
}
