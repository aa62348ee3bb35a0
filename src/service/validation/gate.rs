//! Reads pools and limits, and the shares of pools that tasks ask for.
//!
//! What is called how, and how much there may be of it. Whether a pool is there is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::limits::{CAPACITY_MAX, LABEL_BYTES_MAX, PRIORITY_MAX, RESOURCES_PER_TASK_MAX};
use escapement_domain::replica::placement::Gate;

use super::calendar::{CALENDAR_NAME_BYTES_MAX, NAMES_ALLOWED, is_name, name_of};
use super::fields::{Fault, Faults, Field};
use super::nearest::{instead, shown};
use crate::service::json::Node;

/// Bytes of a queue's name or a target.
const TARGET_BYTES_MAX: usize = 1_024;
/// The kinds of limits.
const KINDS: [&str; 3] = ["label", "queue", "tenant"];
/// What is answered of a pool or a limit, may be sent back, and means nothing.
const READ_ONLY: [&str; 13] = [
    "name",
    "kind",
    "held",
    "held_by",
    "running",
    "running_by",
    "waiting",
    "waiting_by",
    "tasks",
    "version",
    "updated_at",
    "key",
    "tenant",
];

/// The pool of a name.
///
/// # Errors
/// What is allowed.
pub fn pool(name: &str) -> Result<Gate, Fault> {
    name_of("a pool", name).map(|()| Gate::Pool(name.into()))
}

/// The limit of a kind and a name; `tenant` is whose it would be.
///
/// # Errors
/// What is allowed.
pub fn limit(kind: &str, name: &str, tenant: &str) -> Result<Gate, Fault> {
    let wrong = |detail: String| Err(Fault { pointer: String::new(), detail });
    match kind {
        "label" => match name.split_once('=') {
            Some((label, value)) if !label.is_empty() && value.len().max(label.len()) <= LABEL_BYTES_MAX => {
                Ok(Gate::Label(name.into()))
            }
            _ => wrong("the limit on a label is named `label=value`, such as `team=qa`".into()),
        },
        "queue" => queue(name).map(Gate::Queue),
        "tenant" if name == tenant => Ok(Gate::Tenant),
        "tenant" => wrong(format!("the limit on the whole tenant is named as it is: `{}`", shown(tenant))),
        other => wrong(format!("`{}` is not a kind of limits; {}", shown(other), instead(other, &KINDS))),
    }
}

/// The name of a queue.
///
/// # Errors
/// What is allowed.
pub fn queue(name: &str) -> Result<Arc<str>, Fault> {
    named("a queue's name", name)
}

/// The target of a breaker, such as `http:runner.example`.
///
/// # Errors
/// What is allowed.
pub fn target(name: &str) -> Result<Arc<str>, Fault> {
    let sort = name.split_once(':').map_or(name, |(sort, _)| sort);
    if matches!(sort, "http" | "process" | "queue") && sort != name || name == "builtin" {
        return named("a target", name);
    }
    let detail =
        "a target is `http:` and a host, `process:` and a program, `queue:` and a queue, or `builtin`";
    Err(Fault { pointer: String::new(), detail: detail.into() })
}

fn named(what: &str, name: &str) -> Result<Arc<str>, Fault> {
    if (1..=TARGET_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(name.into());
    }
    let detail = format!("{what} has 1 to {TARGET_BYTES_MAX} bytes without control characters");
    Err(Fault { pointer: String::new(), detail })
}

/// Reads a pool's capacity, or a limit's, from the field that has it.
///
/// # Errors
/// Every fault, at least one.
pub fn capacity(node: Node<'_>, name: &'static str, of: &str) -> Result<u32, Vec<Fault>> {
    let number =
        one(node, name, of, &READ_ONLY, |field, faults| field.integer(0..=u64::from(CAPACITY_MAX), faults))?;
    Ok(u32::try_from(number).unwrap_or(CAPACITY_MAX))
}

/// Reads a priority.
///
/// # Errors
/// Every fault, at least one.
pub fn priority(node: Node<'_>) -> Result<u8, Vec<Fault>> {
    let number = one(node, "priority", "a change of an execution", &[], |field, faults| {
        field.integer(0..=u64::from(PRIORITY_MAX), faults)
    })?;
    Ok(u8::try_from(number).unwrap_or(PRIORITY_MAX))
}

/// Reads whether a breaker is to be open.
///
/// # Errors
/// Every fault, at least one.
pub fn breaker_state(node: Node<'_>) -> Result<bool, Vec<Fault>> {
    let ignored = ["key", "failures", "open_until", "probe", "changed_at", "waiting"];
    one(node, "state", "a breaker", &ignored, |field, faults| {
        field.choice(&[("open", true), ("closed", false)], faults)
    })
}

/// Reads an object that has one field.
fn one<T>(
    node: Node<'_>,
    name: &'static str,
    of: &str,
    ignored: &[&str],
    read: impl FnOnce(&Field<'_>, &mut Faults) -> Option<T>,
) -> Result<T, Vec<Fault>> {
    let mut faults = Faults::default();
    let mut value = None;
    if let Some(mut fields) = Field::new(node, "").object(&mut faults) {
        fields.ignore(ignored);
        value = fields.required(name, &mut faults).and_then(|field| read(&field, &mut faults));
        fields.finish(of, &mut faults);
    }
    value.filter(|_| faults.is_empty()).ok_or_else(|| faults.into_vec())
}

/// Reads the shares of pools that a task asks for.
pub(super) fn resources(field: &Field<'_>, faults: &mut Faults) -> Option<BTreeMap<String, u32>> {
    let entries = field.entries(faults)?;
    let (count, most) = (entries.len(), RESOURCES_PER_TASK_MAX);
    if count > most {
        faults.add(&field.pointer, format!("at most {most} pools are allowed; these are {count}"));
        return None;
    }
    let mut resources = BTreeMap::new();
    for (name, share) in entries {
        if name.len() > CALENDAR_NAME_BYTES_MAX || !is_name(&name) {
            let allowed =
                format!("a pool's name has 1 to {CALENDAR_NAME_BYTES_MAX} {NAMES_ALLOWED} and no others");
            faults.add(&share.pointer, allowed);
        }
        if let Some(share) = share.integer(1..=u64::from(CAPACITY_MAX), faults) {
            resources.insert(name, u32::try_from(share).unwrap_or(CAPACITY_MAX));
        }
    }
    Some(resources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_by_its_kind() {
        assert_eq!(limit("label", "team=qa", "acme"), Ok(Gate::Label("team=qa".into())));
        assert_eq!(limit("queue", "ios", "acme"), Ok(Gate::Queue("ios".into())));
        assert_eq!(limit("tenant", "acme", "acme"), Ok(Gate::Tenant));
        for (kind, name, detail) in [
            ("label", "team", "`team=qa`"),
            ("tenant", "other", "`acme`"),
            ("tennant", "acme", "did you mean `tenant`?"),
            ("queue", "", "1 to 1024 bytes"),
        ] {
            let fault = limit(kind, name, "acme").expect_err("wrong");
            assert!(fault.detail.contains(detail), "{}", fault.detail);
        }
    }

    #[test]
    fn a_target_is_of_a_sort() {
        for name in ["http:runner.example:8080", "process:/usr/bin/true", "queue:ios", "builtin"] {
            assert_eq!(target(name), Ok(name.into()));
        }
        for name in ["", "http", "runner.example", "ftp:x"] {
            assert!(target(name).is_err(), "{name}");
        }
    }
}
