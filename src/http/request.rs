//! What a handler reads of a request: who asks, the path's identifiers, query parameters, headers and content.
//!
//! As strict as the bodies: a parameter that nobody asked for is a fault, so that a misspelt filter never lists everything.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, IF_MATCH};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use escapement_domain::command::Idempotency;
use escapement_domain::identifier::{CommandId, ExecutionId, TaskId};
use escapement_domain::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use escapement_domain::timestamp::Timestamp;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::front::Shared;
use super::problem::Problem;
use crate::json::{self, Node, Shape};
use crate::security::{Principal, TokenError};
use crate::service::validation::{Faults, guess};
use crate::service::{Caller, Consistency, Service, fingerprint};
use crate::telemetry::CorrelationId;

/// Items of a page, unless the client says.
const LIMIT_DEFAULT: usize = 100;
/// Items of the longest page.
const LIMIT_MAX: usize = 1_000;
/// The header by which a client names its request.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// A request of somebody whose token was checked.
pub(super) struct Call {
    pub(super) service: Service,
    request: HttpRequest,
    principal: Principal,
    correlation_id: Arc<str>,
}

/// A report on an attempt.
pub(super) struct Report {
    /// The request, whoever sent it.
    pub(super) call: Call,
    /// Whether nobody's token was checked: only the target of the attempt reports so, with its lease token.
    pub(super) is_anonymous: bool,
}

/// The content of a request, of bounded length.
pub(super) struct Content(web::Bytes);

impl FromRequest for Content {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = web::Bytes::from_request(request, payload);
        async move { bytes.await.map(Self) }.boxed_local()
    }
}

impl FromRequest for Call {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let extensions = request.extensions();
        let found = (
            request.app_data::<web::Data<Shared>>(),
            extensions.get::<Principal>(),
            extensions.get::<CorrelationId>(),
        );
        ready(match found {
            (Some(shared), Some(principal), Some(correlation)) => Ok(Self {
                service: shared.service.clone(),
                request: request.clone(),
                principal: principal.clone(),
                correlation_id: correlation.as_str().into(),
            }),
            _ => Err(TokenError::Missing.into()),
        })
    }
}

impl FromRequest for Report {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if request.extensions().contains::<Principal>() {
            let call = Call::from_request(request, payload).into_inner();
            return ready(call.map(|call| Self { call, is_anonymous: false }));
        }
        // Nobody: no tenant has its name, and no permission goes with no role.
        let nobody = Principal { subject: String::new(), tenant: String::new(), roles: Vec::new() };
        request.extensions_mut().insert(nobody);
        let call = Call::from_request(request, payload).into_inner();
        ready(call.map(|call| Self { call, is_anonymous: true }))
    }
}

impl Call {
    /// The request that everything which follows goes back to.
    pub(super) fn correlation_id(&self) -> Arc<str> {
        self.correlation_id.clone()
    }

    /// The caller of a read.
    pub(super) fn reader(&self, parameters: &mut Parameters) -> Caller {
        Caller {
            principal: self.principal.clone(),
            correlation_id: self.correlation_id.clone(),
            idempotency: None,
            consistency: parameters.consistency(),
        }
    }

    /// The caller of a change, with the key that they gave it.
    pub(super) fn writer(&self, content: Option<Node<'_>>) -> Result<Caller, Problem> {
        let canonical = content.map_or_else(String::new, Node::canonical);
        let parts =
            [self.request.method().as_str(), self.request.path(), self.request.query_string(), &canonical];
        let idempotency = self
            .idempotency_key()?
            .map(|key| Idempotency { key: key.into(), digest: fingerprint(&self.principal.subject, &parts) });
        Ok(Caller {
            principal: self.principal.clone(),
            correlation_id: self.correlation_id.clone(),
            idempotency,
            consistency: Consistency::Linearizable,
        })
    }

    fn idempotency_key(&self) -> Result<Option<&str>, Problem> {
        let Some(value) = single(self.request.headers(), IDEMPOTENCY_KEY)? else { return Ok(None) };
        let sane = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&value.len())
            && value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if sane {
            return Ok(Some(value));
        }
        let allowed =
            format!("{IDEMPOTENCY_KEY} has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters");
        Err(Problem::bad_header(allowed))
    }

    /// The task that the path names.
    pub(super) fn task(&self) -> Result<TaskId, Problem> {
        self.named("id", "there is no such task: the path names it by its UUID")
    }

    /// The execution that the path names.
    pub(super) fn execution(&self) -> Result<ExecutionId, Problem> {
        self.named("id", "there is no such execution: the path names it by its UUID")
    }

    /// The run that the path names, by the execution that began it.
    pub(super) fn run(&self) -> Result<ExecutionId, Problem> {
        self.named("id", "there is no such run: the path names it by the UUID of the execution that began it")
    }

    /// The node that the path names.
    pub(super) fn node(&self) -> Result<u64, Problem> {
        self.named("id", "there is no such node: the path names it by its number")
    }

    /// The backfill that the path names.
    pub(super) fn backfill(&self) -> Result<CommandId, Problem> {
        self.named("backfill", "there is no such backfill: the path names it by its UUID")
    }

    fn named<T: FromStr>(&self, name: &str, otherwise: &str) -> Result<T, Problem> {
        self.segment(name).parse().map_err(|_| Problem::not_found(otherwise))
    }

    /// What stands in the path where its pattern has this name.
    pub(super) fn segment(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    /// As [`Call::segment`], for names that may hold what a path cannot: `/`, `+` and `%` are still as they were written.
    pub(super) fn text_segment(&self, name: &str) -> String {
        let written = self.segment(name);
        ["%2F", "%2f"]
            .iter()
            .fold(written.to_owned(), |text, slash| text.replace(slash, "/"))
            .replace("%2B", "+")
            .replace("%2b", "+")
            .replace("%25", "%")
    }

    /// The query parameters.
    pub(super) fn parameters(&self) -> Result<Parameters, Problem> {
        Parameters::of(self.request.query_string())
    }

    /// The headers.
    pub(super) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// Reads the content as JSON; nothing is `None`.
    pub(super) fn content<'b>(&self, body: &'b Content) -> Result<Option<Node<'b>>, Problem> {
        if body.0.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let headers = self.request.headers();
        if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(Problem::unsupported("a compressed body is not taken; send it as it is"));
        }
        if let Some(kind) = single(headers, CONTENT_TYPE.as_str())? {
            let mime = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if mime != "application/json" && !(mime.starts_with("application/") && mime.ends_with("+json")) {
                return Err(Problem::unsupported(
                    "the body must be JSON: send Content-Type: application/json",
                ));
            }
        }
        Ok(Some(json::parse(&body.0)?))
    }

    /// Reads the content, which must be there.
    pub(super) fn required_content<'b>(&self, body: &'b Content) -> Result<Node<'b>, Problem> {
        self.content(body)?.ok_or_else(|| {
            Problem::from(json::JsonError {
                line: 1,
                column: 1,
                detail: "a JSON body is required".into(),
                pointer: None,
            })
        })
    }

    /// Demands that there is no content: an empty object and `null` say nothing either.
    pub(super) fn no_content(&self, body: &Content) -> Result<(), Problem> {
        let Some(node) = self.content(body)? else { return Ok(()) };
        let mut faults = Faults::default();
        match (node.shape(), node.entries()) {
            (Shape::Null, _) => {}
            (_, Some(entries)) => {
                for (name, _) in entries {
                    let pointer = format!("/{}", json::escaped(&name));
                    faults.add(pointer, "this call takes no fields");
                }
            }
            (shape, None) => faults.add("", format!("this call takes no body, and not {}", shape.name())),
        }
        if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults.into_vec())) }
    }

    /// The versions that the client would change; `None` for any.
    pub(super) fn if_match(&self) -> Result<Option<Vec<u32>>, Problem> {
        let Some(value) = single(self.request.headers(), IF_MATCH.as_str())? else { return Ok(None) };
        if value.trim() == "*" {
            return Ok(None);
        }
        // Proxies weaken tags when they compress; a version is the same task all the same.
        let version = |tag: &str| {
            let tag = tag.trim();
            tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').parse().ok()
        };
        Ok(Some(value.split(',').filter_map(version).collect()))
    }
}

/// The one value of a header.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name);
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Problem::bad_header(format!("{name} is there more than once")));
    }
    let text = first.map(|value| value.to_str()).transpose();
    text.map_err(|_| Problem::bad_header(format!("{name} is not ASCII")))
}

/// The query parameters that were not read yet.
pub(super) struct Parameters {
    entries: BTreeMap<String, String>,
    known: Vec<&'static str>,
    faults: Faults,
}

impl Parameters {
    fn of(query: &str) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query).map_err(|_| {
            let mut faults = Faults::default();
            faults.add("?", "the query cannot be read");
            Problem::bad_parameters(faults.into_vec())
        })?;
        let (mut entries, mut faults) = (BTreeMap::new(), Faults::default());
        for (name, value) in pairs.into_inner() {
            if entries.contains_key(&name) {
                faults.add(format!("?{name}"), format!("`{name}` is there more than once"));
            }
            entries.insert(name, value);
        }
        Ok(Self { entries, known: Vec::new(), faults })
    }

    /// Takes a parameter.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.entries.remove(name)
    }

    /// Whether a parameter is there that was not taken yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Takes a parameter and reads it.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        read(&text).map_err(|detail| self.faults.add(format!("?{name}"), detail)).ok()
    }

    /// Takes a whole number.
    pub(super) fn number(&mut self, name: &'static str, allowed: RangeInclusive<u64>) -> Option<u64> {
        self.read(name, |text| {
            let found = text.parse().ok().filter(|number| allowed.contains(number));
            found.ok_or_else(|| {
                format!("a whole number from {} to {} is allowed", allowed.start(), allowed.end())
            })
        })
    }

    /// Takes `limit`.
    pub(super) fn limit(&mut self) -> usize {
        let found = self.number("limit", 1..=LIMIT_MAX as u64);
        found.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LIMIT_DEFAULT)
    }

    /// Takes one of some words.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        self.read(name, |text| {
            let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            found.ok_or_else(|| guess(text, &words))
        })
    }

    /// Takes an instant.
    pub(super) fn instant(&mut self, name: &'static str) -> Option<Timestamp> {
        self.read(name, Timestamp::parse)
    }

    /// Takes an instant that must be there.
    pub(super) fn required_instant(&mut self, name: &'static str) -> Option<Timestamp> {
        if !self.entries.contains_key(name) {
            self.refuse(name, format!("`{name}` is required: an instant such as 2026-03-01T02:00:00Z"));
        }
        self.instant(name)
    }

    /// Takes an identifier.
    pub(super) fn id<T: FromStr>(&mut self, name: &'static str) -> Option<T> {
        self.read(name, |text| text.parse().map_err(|_| "a UUID is expected".to_owned()))
    }

    /// Takes `true` or `false`; a name without a value says that it is so.
    pub(super) fn flag(&mut self, name: &'static str) -> bool {
        let said = self.read(name, |text| match text {
            "" | "true" => Ok(true),
            "false" => Ok(false),
            other => Err(guess(other, &["true", "false"])),
        });
        said.unwrap_or(false)
    }

    /// Takes a cursor, which `place` reads.
    pub(super) fn cursor<T>(&mut self, place: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.read("cursor", |text| {
            place(text).ok_or_else(|| "this is not a cursor of this list under these filters".to_owned())
        })
    }

    fn consistency(&mut self) -> Consistency {
        let words = [("linearizable", Consistency::Linearizable), ("local", Consistency::Local)];
        self.choice("consistency", &words).unwrap_or_default()
    }

    /// Notes that a parameter does not go together with another.
    pub(super) fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        self.faults.add(format!("?{name}"), detail);
    }

    /// Counts every parameter that was not taken as a fault.
    ///
    /// # Errors
    /// A [`Problem`] with every fault.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for name in self.entries.keys() {
            self.faults.add(format!("?{name}"), guess(name, &self.known));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::bad_parameters(self.faults.into_vec())) }
    }
}
