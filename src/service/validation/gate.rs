//! Reads pools and limits, and the shares of pools that tasks ask for.
//!
//! What is called how, and how much there may be of it: what no task can name is refused, since it would hold nothing up. Whether a
//! pool is there is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::limits::{
    CAPACITY_MAX, LABEL_BYTES_MAX, PRIORITY_MAX, RESOURCES_PER_TASK_MAX, WORKER_NAME_BYTES_MAX,
};
use escapement_domain::replica::placement::Gate;
use escapement_domain::task::claims;

use super::calendar::{CALENDAR_NAME_BYTES_MAX, NAMES_ALLOWED, is_name, name_of};
use super::fields::{Fault, Faults, Field};
use super::nearest::{instead, shown};
use super::{action, leasing};
use crate::json::Node;

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
    match kind {
        "label" => match name.split_once('=') {
            Some((label, value)) if is_label(label, value) => Ok(Gate::Label(name.into())),
            _ => wrong(format!(
                "the limit on a label is named `label=value`, such as `team=qa`, each of at most {LABEL_BYTES_MAX} bytes \
                 without control characters"
            )),
        },
        "queue" => queue(name).map(Gate::Queue),
        "tenant" if name == tenant => Ok(Gate::Tenant),
        "tenant" => wrong(format!("the limit on the whole tenant is named as it is: `{}`", shown(tenant))),
        other => wrong(format!("`{}` is not a kind of limits; {}", shown(other), instead(other, &KINDS))),
    }
}

fn is_label(name: &str, value: &str) -> bool {
    let plain = |text: &str| text.len() <= LABEL_BYTES_MAX && !text.chars().any(char::is_control);
    !name.is_empty() && plain(name) && plain(value)
}

/// The name of a queue.
///
/// # Errors
/// What is allowed.
pub fn queue(name: &str) -> Result<Arc<str>, Fault> {
    if (1..=WORKER_NAME_BYTES_MAX).contains(&name.len()) && leasing::is_name(name) {
        return Ok(name.into());
    }
    let allowed = leasing::NAMES_ALLOWED;
    wrong(format!("a queue's name has 1 to {WORKER_NAME_BYTES_MAX} bytes{allowed}"))
}

/// The target of a breaker, such as `http:runner.example`.
///
/// # Errors
/// What is allowed.
pub fn target(name: &str) -> Result<Arc<str>, Fault> {
    match name.split_once(':') {
        Some(("http", host)) => {
            let url = format!("http://{host}/");
            if let Some(detail) = action::refused_url(&url) {
                return wrong(format!(
                    "`http:` is followed by a host, such as `runner.example:8080`: {detail}"
                ));
            }
            // The port that one scheme stands for may be told of the other.
            if claims::host(&url) != host && claims::host(&format!("https://{host}/")) != host {
                let told = "by its host, in lower case, with its port if the URLs have one";
                return wrong(format!(
                    "the target of HTTP calls is told {told}: `http:{}`",
                    claims::host(&url)
                ));
            }
        }
        Some(("process", program)) if !action::is_program(program) => {
            return wrong(format!("`process:` is followed by a program: {}", action::PROGRAMS_ALLOWED));
        }
        Some(("queue", name)) => drop(queue(name)?),
        Some(("process", _)) => {}
        None if name == "builtin" => {}
        _ => {
            let sorts = "`http:` and a host, `process:` and a program, `queue:` and a queue, or `builtin`";
            return wrong(format!("a target is {sorts}"));
        }
    }
    Ok(name.into())
}

fn wrong<T>(detail: String) -> Result<T, Fault> {
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
            ("queue", "", "1 to 128 bytes"),
            ("queue", "a b", "without spaces"),
            ("queue", "a/b", "without spaces and `/`"),
            ("label", "team=q\u{7}a", "without control characters"),
            ("label", "te\nam=qa", "without control characters"),
        ] {
            let fault = limit(kind, name, "acme").expect_err("wrong");
            assert!(fault.detail.contains(detail), "{}", fault.detail);
        }
    }

    #[test]
    fn a_target_is_of_a_sort() {
        for name in [
            "http:runner.example:8080",
            "http:[::1]:9",
            "process:/usr/bin/true",
            "process:/opt/a:b",
            "queue:ios",
            "queue:a:b%",
            "builtin",
        ] {
            assert_eq!(target(name), Ok(name.into()));
        }
        for name in ["", "http", "runner.example", "ftp:x", "builtin:", "builtin:noop"] {
            assert!(target(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_no_task_can_call_is_no_target() {
        for (name, allowed) in [
            ("http:", "followed by a host"),
            ("http:Runner.example", "`http:runner.example`"),
            ("http:runner.example/suites", "`http:runner.example`"),
            ("http:ann@runner.example", "`http:runner.example`"),
            ("http:a b", "followed by a host"),
            ("process:", "an absolute path"),
            ("process:true", "an absolute path"),
            ("process:/usr/../bin/true", "an absolute path"),
            ("queue:", "1 to 128 bytes"),
            ("queue:a/b", "without spaces and `/`"),
        ] {
            let fault = target(name).expect_err(name);
            assert!(fault.detail.contains(allowed), "{name}: {}", fault.detail);
        }
    }
}
