//! Reads what a task does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use escapement_domain::command::Programs;
use escapement_domain::limits::SPAN_MAX;
use escapement_domain::replica::placement::{Condition, Workers};
use escapement_domain::task::action::{
    Action, Completion, HttpAction, Operation, ProcessAction, ProcessLimits,
};
use escapement_domain::task::definition::Definition;
use escapement_domain::timestamp::Span;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::Surroundings;
use super::fields::{Faults, Field, Fields};
use super::leasing;
use super::nearest::{instead, shown};
use crate::json::Shape;

const AVAILABLE: [&str; 4] = ["http", "process", "queue", "builtin"];
const METHODS: [(&str, &str); 7] = [
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("PATCH", "PATCH"),
    ("DELETE", "DELETE"),
    ("OPTIONS", "OPTIONS"),
];
/// Headers that the connection, or the scheduler itself, sets with every attempt.
const RESERVED_HEADERS: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "expect",
    "idempotency-key",
    "traceparent",
];
const RESERVED_PREFIXES: [&str; 2] = ["escapement-", "proxy-"];
/// Bytes of a URL.
const URL_BYTES_MAX: usize = 8 * 1024;
/// Headers of one call.
const HEADERS_MAX: usize = 64;
/// Bytes of a header's value.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a program's path.
const PATH_BYTES_MAX: usize = 4_096;
/// Which programs tasks may name.
pub(super) const PROGRAMS_ALLOWED: &str = "an absolute path without `..` is expected, such as /usr/bin/true";
/// Arguments, or variables, of a program.
const ARGUMENTS_MAX: usize = 1_024;
/// Bytes that are written to a program.
const STDIN_BYTES_MAX: usize = 128 * 1024;
/// Bytes of one argument: what Linux takes (execve(2), `MAX_ARG_STRLEN`), less the NUL at its end.
const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;
/// Bytes of the name and the value of a variable: the same, less the `=` between them, and a mark before the name with which the
/// guardian is handed it.
const VARIABLE_BYTES_MAX: usize = ARGUMENT_BYTES_MAX - 2;

/// Which programs the workers that are there run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramsOffered {
    /// No worker is there to say.
    Unknown,
    /// Any.
    Any,
    /// These, by one worker or another; none if it is empty.
    Listed(BTreeSet<Arc<str>>),
}

impl ProgramsOffered {
    /// What the workers offer together.
    #[must_use]
    pub fn by(workers: &Workers) -> Self {
        let mut listed = BTreeSet::new();
        let mut present = false;
        for worker in workers.values().filter(|worker| worker.condition != Condition::Lost) {
            present = true;
            match &worker.offers.programs {
                Programs::Any => return Self::Any,
                Programs::Listed(programs) => listed.extend(programs.iter().cloned()),
            }
        }
        if present { Self::Listed(listed) } else { Self::Unknown }
    }
}

/// Reads an action.
pub(super) fn read(
    field: &Field<'_>,
    surroundings: &Surroundings<'_>,
    faults: &mut Faults,
) -> Option<Action> {
    let mut fields = field.object(faults)?;
    let kind = fields.required("type", faults)?;
    let name = kind.string(faults)?;
    let action = match name.as_str() {
        "http" => http(&mut fields, faults).map(Action::Http),
        "process" => process(&mut fields, &kind, surroundings, faults).map(Action::Process),
        "builtin" => builtin(&mut fields, faults),
        "queue" => queue(&mut fields, faults),
        other => {
            faults.add(
                &kind.pointer,
                format!("`{}` is not an action; {}", shown(other), instead(other, &AVAILABLE)),
            );
            return None;
        }
    };
    fields.finish(&format!("an action of type {name}"), faults);
    action
}

fn http(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<HttpAction> {
    let method = fields.read("method", faults, |field, faults| field.choice(&METHODS, faults));
    let url = fields.required("url", faults).and_then(|field| url(&field, faults));
    let headers = fields.read("headers", faults, headers);
    let body = fields.take("body").map(|field| field.node.compact());
    let completion = completion(fields, faults);
    Some(HttpAction {
        method: method.unwrap_or("POST").into(),
        url: url?,
        headers: headers.unwrap_or_default(),
        body,
        completion,
    })
}

fn url(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = field.text(1..=URL_BYTES_MAX, |_| true, "", faults)?;
    match refused_url(&text) {
        Some(detail) => {
            faults.add(&field.pointer, detail);
            None
        }
        None => Some(text),
    }
}

/// Why no task may call a URL.
pub(super) fn refused_url(text: &str) -> Option<String> {
    let what = "an absolute http or https URL such as https://runner.example/suites/7 is expected";
    match Url::parse(text) {
        Err(error) => Some(format!("{what}: {error}")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Some(format!("{what}, not one of scheme `{}`", shown(url.scheme())))
        }
        Ok(_) if !names_host_plainly(text) => {
            Some(format!("{what}; the host stands right behind `://`, which this does not have"))
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) => Some(format!("{what}; this has no host")),
        Ok(_) if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) => {
            Some("white space and control characters are not allowed in a URL".into())
        }
        Ok(_) => None,
    }
}

/// Whether the host stands where everybody looks for it. Clients read `http:host/x` and `http:///host/x` as if it did, and what
/// tells targets apart does not.
fn names_host_plainly(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) && !rest.starts_with(['/', '\\'])
    })
}

/// A target cannot keep silent for longer than its attempt may take.
pub(super) fn fits_timeout(definition: &Definition, field: &Field<'_>, faults: &mut Faults) {
    let Action::Http(HttpAction { completion: Completion::Callback { heartbeat_timeout }, .. }) =
        &definition.action
    else {
        return;
    };
    let (most, found) = (definition.timeout, *heartbeat_timeout);
    if let Some(silence) = found.filter(|silence| *silence > most) {
        let detail = format!(
            "at most the attempt's timeout, which is {most}, is allowed, not {silence}: make one shorter or `timeout` longer"
        );
        faults.add(format!("{}/action/heartbeat_timeout", field.pointer), detail);
    }
}

fn headers(field: &Field<'_>, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    let entries = field.entries(faults)?;
    if entries.len() > HEADERS_MAX {
        faults.add(
            &field.pointer,
            format!("at most {HEADERS_MAX} headers are allowed; these are {}", entries.len()),
        );
        return None;
    }
    let mut headers = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (name, value) in entries {
        let lower = name.to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            faults.add(&value.pointer, format!("`{}` is not the name of a header", shown(&name)));
        } else if RESERVED_HEADERS.contains(&lower.as_str())
            || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        {
            faults.add(&value.pointer, format!("the scheduler sets `{}` itself; leave it out", shown(&name)));
        } else if !seen.insert(lower) {
            faults.add(&value.pointer, format!("the header `{}` is there twice", shown(&name)));
        }
        let passes = |text: &str| HeaderValue::from_str(text).is_ok();
        if let Some(text) = value.text(0..=HEADER_BYTES_MAX, passes, " without control characters", faults) {
            headers.insert(name, text);
        }
    }
    Some(headers)
}

fn completion(fields: &mut Fields<'_>, faults: &mut Faults) -> Completion {
    let choices = [("response", false), ("callback", true)];
    let later = fields.read("completion", faults, |field, faults| field.choice(&choices, faults));
    let silence = fields.take("heartbeat_timeout");
    let allowed = Span::seconds(1)..=SPAN_MAX;
    let heartbeat_timeout = silence.as_ref().and_then(|field| field.span(allowed, faults));
    match (later, silence) {
        (Some(true), _) => Completion::Callback { heartbeat_timeout },
        (_, Some(field)) => {
            faults.add(&field.pointer, "`heartbeat_timeout` goes with the completion `callback` only");
            Completion::Response
        }
        _ => Completion::Response,
    }
}

fn process(
    fields: &mut Fields<'_>,
    kind: &Field<'_>,
    surroundings: &Surroundings<'_>,
    faults: &mut Faults,
) -> Option<ProcessAction> {
    let none_offered = matches!(&surroundings.programs, ProgramsOffered::Listed(listed) if listed.is_empty());
    if none_offered {
        let detail = "no node runs programs: list those that are allowed as execution.process_allow in the configuration";
        faults.add(&kind.pointer, detail);
    }
    let program = fields.required("program", faults).and_then(|field| program(&field, surroundings, faults));
    let args = fields.read("args", faults, arguments);
    let env = fields.read("env", faults, environment);
    let stdin =
        fields.read("stdin", faults, |field, faults| field.text(0..=STDIN_BYTES_MAX, |_| true, "", faults));
    let limits = fields.read("limits", faults, limits);
    Some(ProcessAction {
        program: program?,
        args: args.unwrap_or_default(),
        env: env.unwrap_or_default(),
        stdin,
        limits: limits.unwrap_or_default(),
    })
}

fn program(field: &Field<'_>, surroundings: &Surroundings<'_>, faults: &mut Faults) -> Option<String> {
    let program = field.text(1..=PATH_BYTES_MAX, no_nul, " without NUL", faults)?;
    if !is_program(&program) {
        faults.add(&field.pointer, PROGRAMS_ALLOWED);
        return None;
    }
    if let ProgramsOffered::Listed(listed) = &surroundings.programs
        && !listed.is_empty()
        && !listed.contains(program.as_str())
    {
        let detail = format!(
            "no node runs `{}`: it is not in execution.process_allow of any that is up",
            shown(&program)
        );
        faults.add(&field.pointer, detail);
    }
    Some(program)
}

/// Whether a program can be there, wherever.
pub(super) fn is_program(path: &str) -> bool {
    let sane = path.len() <= PATH_BYTES_MAX && no_nul(path);
    sane && path.starts_with('/') && !path.ends_with('/') && !path.split('/').any(|folder| folder == "..")
}

fn no_nul(text: &str) -> bool {
    !text.contains('\0')
}

fn arguments(field: &Field<'_>, faults: &mut Faults) -> Option<Vec<String>> {
    let elements = field.elements(faults)?;
    if elements.len() > ARGUMENTS_MAX {
        faults.add(
            &field.pointer,
            format!("at most {ARGUMENTS_MAX} arguments are allowed; these are {}", elements.len()),
        );
        return None;
    }
    let text = |field: &Field<'_>, faults: &mut Faults| {
        field.text(0..=ARGUMENT_BYTES_MAX, no_nul, " without NUL", faults)
    };
    Some(elements.iter().filter_map(|element| text(element, faults)).collect())
}

fn environment(field: &Field<'_>, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    let entries = field.entries(faults)?;
    if entries.len() > ARGUMENTS_MAX {
        faults.add(
            &field.pointer,
            format!("at most {ARGUMENTS_MAX} variables are allowed; these are {}", entries.len()),
        );
        return None;
    }
    let mut environment = BTreeMap::new();
    for (name, value) in entries {
        if name.is_empty() || name.contains(['=', '\0']) {
            faults.add(&value.pointer, "a variable's name is not empty and holds neither `=` nor NUL");
        } else if name.starts_with("ESCAPEMENT_") {
            faults.add(&value.pointer, format!("the scheduler sets `{}` itself; leave it out", shown(&name)));
        }
        if let Some(text) = value.text(0..=ARGUMENT_BYTES_MAX, no_nul, " without NUL", faults) {
            let length = name.len() + text.len();
            if length > VARIABLE_BYTES_MAX {
                let detail = format!("name and value take {VARIABLE_BYTES_MAX} bytes at most, not {length}");
                faults.add(&value.pointer, detail);
            }
            environment.insert(name, text);
        }
    }
    Some(environment)
}

fn limits(field: &Field<'_>, faults: &mut Faults) -> Option<ProcessLimits> {
    let mut fields = field.object(faults)?;
    let memory = fields.read("memory", faults, memory);
    let cpu_time =
        fields.read("cpu_time", faults, |field, faults| field.span(Span::seconds(1)..=SPAN_MAX, faults));
    let open_files = fields.read("open_files", faults, |field, faults| field.integer(1..=1_048_576, faults));
    let processes = fields.read("processes", faults, |field, faults| field.integer(1..=1_048_576, faults));
    fields.finish("limits", faults);
    Some(ProcessLimits { memory, cpu_time, open_files, processes })
}

/// Bytes as a number, or as a text with a binary unit.
fn memory(field: &Field<'_>, faults: &mut Faults) -> Option<u64> {
    const MIB: u64 = 1024 * 1024;
    const MOST: u64 = MIB * MIB;
    if field.node.shape() != Shape::Text {
        return field.integer(MIB..=MOST, faults);
    }
    let text = field.string(faults)?;
    let units = [("KiB", 1024), ("MiB", MIB), ("GiB", 1024 * MIB)];
    let read =
        |(unit, size): &(&str, u64)| text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*size);
    let found = units.iter().find_map(read).filter(|bytes| (MIB..=MOST).contains(bytes));
    if found.is_none() {
        let detail = "bytes as a number, or with a unit such as `512MiB`, of at least 1 MiB and at most 1 TiB are expected";
        faults.add(&field.pointer, detail);
    }
    found
}

fn queue(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Action> {
    let queue = fields.required("queue", faults).and_then(|field| leasing::name(&field, faults));
    let payload = fields.take("payload").map(|field| field.node.compact());
    Some(Action::Queue { queue: queue?, payload })
}

fn builtin(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Action> {
    let choices = [("noop", Operation::Noop), ("housekeeping", Operation::Housekeeping)];
    let operation = fields.required("operation", faults).and_then(|field| field.choice(&choices, faults));
    let parameters =
        fields.read("parameters", faults, |field, faults| field.object(faults).map(|_| field.node.compact()));
    Some(Action::Builtin { operation: operation?, parameters })
}
