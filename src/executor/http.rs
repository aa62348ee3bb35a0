//! Calls of URLs.
//!
//! One pooled client for the node, without proxy, redirects or retries of its own: what was decided is called once, and
//! whatever comes back is reported. The response is read up to a bound and no further.
//!
//! With the completion `callback` an attempt whose target answers 202 goes on until the target says how it ended.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use escapement_actors::ports::{
    AttemptEnd, AttemptFailure, AttemptOrder, Clock, Executor, Finished, OutputSink,
};
use escapement_actors::projection::OUTPUT_BYTES_MAX;
use escapement_domain::execution::failure::FailureClass;
use escapement_domain::limits::{RESULT_BYTES_MAX, RETRY_AFTER_MAX};
use escapement_domain::task::action::{Action, Completion, HttpAction};
use escapement_domain::timestamp::{Span, Timestamp};
use futures::future::BoxFuture;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect, retry};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::callbacks::{Callbacks, Expected};
use super::egress::{CheckedResolver, EgressRefused, EgressRule};
use super::output::Transcript;
use super::{ExecutorError, failed, failure, items};
use crate::json;
use crate::keepalive::patient;
use crate::telemetry::traceparent;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept without use.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that are kept without use for each host.
const IDLE_PER_HOST_MAX: usize = 32;
/// How long a target that reports later may take to say that it stopped.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a result that are not the body.
const RESULT_ENVELOPE_BYTES: usize = 64;

/// Headers that the connection needs; a task cannot set them.
const CONNECTION_HEADERS: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];

/// Runs [`Action::Http`].
#[derive(Clone)]
pub struct HttpExecutor {
    client: Client,
    egress: EgressRule,
    callbacks: Callbacks,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for HttpExecutor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HttpExecutor").field("egress", &self.egress).finish_non_exhaustive()
    }
}

impl HttpExecutor {
    /// Makes the executor of a node, and its client.
    ///
    /// # Errors
    /// [`ExecutorError::Client`] when the client cannot be made.
    pub fn new(
        egress: EgressRule,
        callbacks: Callbacks,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ExecutorError> {
        // Whoever installed a provider before us chose one that serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            patient(Client::builder())
                .user_agent(concat!("escapement/", env!("CARGO_PKG_VERSION")))
                .no_proxy()
                .referer(false)
                .redirect(redirect::Policy::none())
                .retry(retry::never())
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
                .dns_resolver(CheckedResolver::new(egress.clone()))
        };
        let client = builder().build().or_else(|error| {
            // A machine without certificates can still call `http`; `https` then fails with the reason.
            tracing::warn!(%error, "no certificates of this machine are usable: https targets will be refused");
            builder().tls_certs_only([]).build().map_err(ExecutorError::Client)
        })?;
        Ok(Self { client, egress, callbacks, clock })
    }

    /// Calls the target, and stays until the attempt has ended: with the answer, or with the silence of a target that would
    /// report later.
    async fn attempt(
        &self,
        order: &AttemptOrder,
        action: &HttpAction,
        expected: Option<&Expected>,
        transcript: &Transcript,
    ) -> AttemptEnd {
        let expected = match self.call(order, action, expected, transcript).await {
            Answer::End(end) => return end,
            Answer::Later(expected) => expected,
        };
        transcript.system("the target reports later");
        expected.answered();
        expected.silent().await;
        transcript.system("nothing was heard of the target for too long");
        AttemptEnd::TimedOut
    }

    async fn call<'e>(
        &self,
        order: &AttemptOrder,
        action: &HttpAction,
        expected: Option<&'e Expected>,
        transcript: &Transcript,
    ) -> Answer<'e> {
        let (method, url) = match self.target(action) {
            Ok(target) => target,
            Err((class, error)) => return refuse(transcript, class, error).into(),
        };
        let body = body(order, action, &method, transcript);
        let headers = match headers(order, action, expected, body.is_some(), transcript) {
            Ok(headers) => headers,
            Err(error) => return refuse(transcript, FailureClass::Other, error).into(),
        };
        transcript.system(format!("{method} {}", shown(&url)));
        let started = self.clock.monotonic();
        let mut request = self.client.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let (class, error) = explain(error);
                return refuse(transcript, class, error).into();
            }
        };
        let status = response.status();
        let retry_after = self.retry_after(response.headers());
        let body = match Body::read(response).await {
            Ok(body) => body,
            Err(error) => {
                let (class, error) = explain(error);
                let error = format!("{status} came back, but its body could not be read: {error}");
                return refuse(transcript, class, error).into();
            }
        };
        let took = self.clock.monotonic().saturating_sub(started).as_millis();
        transcript.system(format!("{status} after {took} ms, {}", body.size()));
        match expected {
            Some(expected) if status == StatusCode::ACCEPTED => return Answer::Later(expected),
            _ if status.is_success() => {
                return AttemptEnd::Succeeded { result: Some(body.into_result(status)) }.into();
            }
            _ => {}
        }
        if let Some(wait) = retry_after {
            transcript.system(format!("the target asks to be left alone for {wait}"));
        }
        let not_followed = if status.is_redirection() { "; redirects are not followed" } else { "" };
        let error = format!("the target answered {status}{not_followed}");
        AttemptEnd::Failed(AttemptFailure {
            retry_after,
            failed_items: body.failed_items(transcript),
            result: Some(body.into_result(status)),
            ..failure(FailureClass::HttpStatus(status.as_u16()), error)
        })
        .into()
    }

    /// How long the target asks to be left alone: in seconds, or until an instant of the wall clock.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Span> {
        let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            // More seconds than a span holds are too many all the same.
            let most = RETRY_AFTER_MAX.0 / 1_000;
            return Some(Span::seconds(most.min(seconds)));
        }
        let until = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let until = Timestamp(i64::try_from(until.as_millis()).ok()?);
        Some(until.since(self.clock.now()).min(RETRY_AFTER_MAX))
    }

    fn target(&self, action: &HttpAction) -> Result<(Method, Url), (FailureClass, String)> {
        let (method, url, host) = target_of(action).map_err(|error| (FailureClass::Other, error))?;
        // A name is checked when it is resolved; an address is never resolved.
        if let Ok(address) = host.parse::<IpAddr>() {
            self.egress.check(address).map_err(|refused| (FailureClass::NotAllowed, refused.to_string()))?;
        }
        Ok((method, url))
    }
}

impl Executor for HttpExecutor {
    fn run(
        &self,
        order: AttemptOrder,
        output: Arc<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Finished> {
        let executor = self.clone();
        let transcript = Transcript::new(output, Arc::clone(&self.clock), OUTPUT_BYTES_MAX);
        Box::pin(async move {
            let Action::Http(action) = &order.action else {
                return failed("this executor calls URLs only").into();
            };
            let (expected, ended) = match action.completion {
                Completion::Response => (None, None),
                Completion::Callback { heartbeat_timeout } => {
                    let (expected, ended) = executor.callbacks.expect(&order, heartbeat_timeout);
                    (Some(expected), Some(ended))
                }
            };
            let mut ended = Box::pin(reported(ended, &transcript));
            let end = tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    // Whoever says that it works is told to stop, and may say that it has.
                    if expected.as_ref().is_some_and(Expected::stop) {
                        transcript.system("cancelled: the target is told to stop with its next sign of life");
                        tokio::time::timeout(CANCEL_PATIENCE, ended).await.unwrap_or(AttemptEnd::Cancelled)
                    } else {
                        transcript.system("cancelled: the call is given up");
                        AttemptEnd::Cancelled
                    }
                }
                end = &mut ended => end,
                end = executor.attempt(&order, action, expected.as_ref(), &transcript) => end,
                () = tokio::time::sleep(order.timeout.into()) => {
                    let missing = if expected.is_some() { "end" } else { "answer" };
                    transcript.system(format!("no {missing} within {}", order.timeout));
                    AttemptEnd::TimedOut
                }
            };
            end.into()
        })
    }
}

/// What came of a call.
enum Answer<'e> {
    /// The end of the attempt.
    End(AttemptEnd),
    /// The word that it will be reported.
    Later(&'e Expected),
}

impl From<AttemptEnd> for Answer<'_> {
    fn from(end: AttemptEnd) -> Self {
        Self::End(end)
    }
}

/// The end that a target reports; never, if none is expected.
async fn reported(ended: Option<oneshot::Receiver<AttemptEnd>>, transcript: &Transcript) -> AttemptEnd {
    if let Some(ended) = ended
        && let Ok(end) = ended.await
    {
        transcript.system("the target has reported the end");
        return end;
    }
    std::future::pending().await
}

fn refuse(transcript: &Transcript, class: FailureClass, error: String) -> AttemptEnd {
    transcript.system(error.clone());
    failure(class, error).into()
}

/// The body of an attempt: the task's, with the items that are to be done again if there are some.
fn body(
    order: &AttemptOrder,
    action: &HttpAction,
    method: &Method,
    transcript: &Transcript,
) -> Option<String> {
    let Some(items) = &order.retry_items else { return action.body.clone() };
    let takes_one = action.body.is_some() || matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    let body = items::in_body(action.body.as_deref(), items).filter(|_| takes_one);
    if body.is_none() {
        transcript.system("the items that failed before are not told: the task's body is not a JSON object");
    }
    body.or_else(|| action.body.clone())
}

/// The headers of an attempt: the task's, then the scheduler's own, which win.
fn headers(
    order: &AttemptOrder,
    action: &HttpAction,
    expected: Option<&Expected>,
    has_body: bool,
    transcript: &Transcript,
) -> Result<HeaderMap, String> {
    let own = [
        ("idempotency-key", order.execution.to_string()),
        ("escapement-task-id", order.task.to_string()),
        ("escapement-execution-id", order.execution.to_string()),
        ("escapement-attempt", order.attempt.to_string()),
        ("escapement-scheduled-at", order.scheduled_at.to_string()),
        ("escapement-fencing-token", order.fencing_token.to_string()),
        ("traceparent", traceparent(&order.correlation_id, order.execution, order.attempt)),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in &action.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is not the name of a header"))?;
        let is_own =
            own.iter().any(|(own, _)| *own == name.as_str()) || name.as_str().starts_with("escapement-");
        let is_connection = CONNECTION_HEADERS.contains(&name) || name.as_str().starts_with("proxy-");
        if is_own || is_connection {
            transcript.system(format!("the task's header {name} is not sent: the scheduler sets it"));
            continue;
        }
        let value: HeaderValue =
            value.parse().map_err(|_| format!("the value of the header {name} cannot be sent"))?;
        headers.append(name, value);
    }
    if has_body {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    let later = expected.map(|expected| {
        [
            ("escapement-lease-token", expected.token().to_string()),
            ("escapement-callback-url", expected.url()),
        ]
    });
    for (name, value) in own.into_iter().chain(later.into_iter().flatten()) {
        let value = HeaderValue::from_str(&value).map_err(|_| format!("the header {name} cannot be sent"))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

/// The method and the URL of an action, and its host without brackets.
fn target_of(action: &HttpAction) -> Result<(Method, Url, String), String> {
    let method = action.method.parse().map_err(|_| format!("`{}` is not an HTTP method", action.method))?;
    let url: Url = action.url.parse().map_err(|error| format!("the URL cannot be read: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("a URL must begin with http:// or https://, not {}:", url.scheme()));
    }
    let host = url.host_str().ok_or("the URL names no host")?.trim_matches(['[', ']']).to_owned();
    Ok((method, url, host))
}

/// A URL without what may be secret in it: user, password, query and fragment.
fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

/// Says in one sentence why there is no response, and what sort of failure that is.
fn explain(error: reqwest::Error) -> (FailureClass, String) {
    let error = error.without_url();
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<EgressRefused>() {
            return (FailureClass::NotAllowed, refused.to_string());
        }
        causes.push(error.to_string());
        cause = error.source();
    }
    let what = match () {
        () if error.is_connect() && error.is_timeout() => "the target could not be connected to in time",
        () if error.is_connect() => "the target could not be connected to",
        // Nothing here bounds a call but the end of its connection: its time is up when the target is taken to be gone.
        () if error.is_timeout() || error.is_body() || error.is_decode() => "the connection broke",
        () => "the call failed",
    };
    let class = match () {
        () if error.is_builder() => FailureClass::Other,
        () if error.is_connect() => FailureClass::Unconnected,
        () => FailureClass::Connection,
    };
    match causes.pop() {
        Some(root) => (class, format!("{what}: {root}")),
        None => (class, what.to_owned()),
    }
}

/// The beginning of a response's body.
struct Body {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl Body {
    /// Reads a body until its end or until there is more than a result keeps.
    async fn read(mut response: Response) -> Result<Self, reqwest::Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            let room = RESULT_BYTES_MAX - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return Ok(Self { bytes, is_whole: false });
            }
        }
        Ok(Self { bytes, is_whole: true })
    }

    fn size(&self) -> String {
        if self.is_whole {
            format!("{} bytes", self.bytes.len())
        } else {
            format!("more than {} bytes", self.bytes.len())
        }
    }

    /// JSON text of the items that the body names as failed.
    fn failed_items(&self, transcript: &Transcript) -> Option<String> {
        if self.is_whole {
            return items::of_response(&self.bytes);
        }
        transcript.system("the body is too long to look for failed_items in it");
        None
    }

    /// Returns JSON text of status and body, in at most [`RESULT_BYTES_MAX`] bytes: a JSON body as it came, anything else
    /// as a string. Read as strictly as what clients send: what it lets through, everybody can read who asks for it.
    fn into_result(self, status: StatusCode) -> String {
        let status = status.as_u16();
        let room = RESULT_BYTES_MAX - RESULT_ENVELOPE_BYTES;
        if self.bytes.is_empty() && self.is_whole {
            return format!(r#"{{"status":{status},"body":null}}"#);
        }
        let fits = self.is_whole && self.bytes.len() <= room;
        if fits && let Ok(json) = json::parse(&self.bytes) {
            return format!(r#"{{"status":{status},"body":{}}}"#, json.text());
        }
        let text = String::from_utf8_lossy(&self.bytes);
        let (string, cut) = json_string(&text, room);
        let truncated = if cut || !self.is_whole { r#","truncated":true"# } else { "" };
        format!(r#"{{"status":{status},"body":{string}{truncated}}}"#)
    }
}

/// Returns `text` as a JSON string of at most `room` bytes, and whether that took cutting it.
fn json_string(text: &str, room: usize) -> (String, bool) {
    let mut string = String::from("\"");
    for character in text.chars() {
        let encoded = serde_json::Value::from(character.to_string()).to_string();
        let inner = &encoded[1..encoded.len() - 1];
        if string.len() + inner.len() + 1 > room {
            string.push('"');
            return (string, true);
        }
        string.push_str(inner);
    }
    string.push('"');
    (string, false)
}

#[cfg(test)]
mod tests;
