//! Reads what workers outside the cluster send: what they ask of a queue, and what they say of their attempts.

use std::sync::Arc;

use escapement_domain::command::AttemptOutcome;
use escapement_domain::execution::failure::Failure;
use escapement_domain::limits::{
    ERROR_BYTES_MAX, FAILED_ITEMS_BYTES_MAX, LEASE_MAX, LEASE_MIN, LEASES_PER_COMMAND_MAX,
    PROGRESS_BYTES_MAX, RESULT_BYTES_MAX, WORKER_NAME_BYTES_MAX,
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
        let result = fields.read("result", faults, result);
        let error = fields.take("error");
        let said = error.as_ref().and_then(|field| field.text(1..=ERROR_BYTES_MAX, |_| true, "", faults));
        if let (Some(field), Some(true)) = (&error, succeeded) {
            faults.add(&field.pointer, "`error` goes with the outcome `failed` only");
        }
        let failed_items = fields.take("failed_items");
        let items = failed_items.as_ref().and_then(|field| list(field, faults));
        if let (Some(field), Some(true)) = (&failed_items, succeeded) {
            faults.add(&field.pointer, "`failed_items` goes with the outcome `failed` only");
        }
        let outcome = if succeeded? {
            AttemptOutcome::Succeeded(result)
        } else {
            let error = said.unwrap_or_else(|| "its worker says that it failed".into());
            AttemptOutcome::Failed(Failure { result, failed_items: items, ..Failure::new(error) })
        };
        Some(Completion { token: token?, outcome })
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
