//! The HTTP client of the command line: one question, one answer, and a bounded number of repetitions where asking
//! twice changes nothing.
//!
//! Invariant: a request that could do something twice is sent once. Absent on purpose: redirects, cookies, and any
//! understanding of what is asked.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::connection::{Connection, is_loopback};
use super::event_stream::EventStream;
use super::failure::Failure;
use super::problem::Problem;
use super::system;
use crate::keepalive::patient;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is repeated that a node was too busy for.
const REPETITIONS_MAX: u32 = 4;
/// The longest wait that a node may ask for before a repetition.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// What is asked. Built by the functions that name a method, then completed.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: Option<String>,
    idempotent: bool,
    timeout: Duration,
}

/// What was answered, with a status of success.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) body: String,
}

impl Request {
    fn new<T: AsRef<str>>(method: Method, idempotent: bool, path: impl IntoIterator<Item = T>) -> Self {
        let path = path.into_iter().map(|segment| segment.as_ref().to_owned()).collect();
        let (query, headers, body) = (Vec::new(), HeaderMap::new(), None);
        Self { method, path, query, headers, body, idempotent, timeout: ANSWER_TIMEOUT }
    }

    /// Reads.
    pub(crate) fn get<T: AsRef<str>>(path: impl IntoIterator<Item = T>) -> Self {
        Self::new(Method::GET, true, path)
    }

    /// Replaces.
    pub(crate) fn put<T: AsRef<str>>(path: impl IntoIterator<Item = T>) -> Self {
        Self::new(Method::PUT, true, path)
    }

    /// Changes a part.
    pub(crate) fn patch<T: AsRef<str>>(path: impl IntoIterator<Item = T>) -> Self {
        Self::new(Method::PATCH, true, path)
    }

    /// Removes.
    pub(crate) fn delete<T: AsRef<str>>(path: impl IntoIterator<Item = T>) -> Self {
        Self::new(Method::DELETE, true, path)
    }

    /// Does something, once.
    pub(crate) fn post<T: AsRef<str>>(path: impl IntoIterator<Item = T>) -> Self {
        Self::new(Method::POST, false, path)
    }

    /// Says that doing it twice is doing it once.
    pub(crate) fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Gives the request a name of its own.
    pub(crate) fn keyed(self) -> Result<Self, Failure> {
        self.key(&system::fresh_id().to_string())
    }

    /// Names the request, so that its repetition is known for one.
    pub(crate) fn key(self, key: &str) -> Result<Self, Failure> {
        Ok(self.header("idempotency-key", key)?.idempotent())
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Self, Failure> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            Failure::Usage(format!(
                "{name} cannot be sent: it holds a line break or another control character"
            ))
        })?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    /// Adds a parameter, if it is given.
    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Sends a JSON text.
    pub(crate) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Waits so long for the answer.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn url(&self, address: &Url) -> Url {
        let mut url = address.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

impl Answer {
    /// Reads the answer as JSON.
    ///
    /// # Errors
    /// [`Failure::Stopped`], when something else than a node answered.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.body).map_err(|error| {
            Failure::stopped(format!("the answer is not JSON: {error}"))
                .advise("is --address that of an Escapement node?")
        })
    }
}

/// Asks one node.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: Url,
}

impl Client {
    /// Makes a client for a node.
    ///
    /// # Errors
    /// [`Failure`], when the token cannot be sent or the system offers no TLS.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        // A second installation is refused, which leaves the first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(token) = &connection.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                Failure::Usage("the token holds a line break or another control character".into())
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let builder = patient(reqwest::Client::builder())
            .default_headers(headers)
            .connect_timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        let builder = if is_loopback(&connection.address) { builder.no_proxy() } else { builder };
        let http = builder
            .build()
            .map_err(|error| Failure::stopped(format!("cannot start an HTTP client: {error}")))?;
        Ok(Self { http, address: connection.address.clone() })
    }

    /// Returns a client of another node of the same cluster, by the address that the cluster tells of it.
    pub(crate) fn at(&self, api: &str) -> Option<Self> {
        let address = Url::parse(&format!("{}://{api}", self.address.scheme())).ok()?;
        Some(Self { http: self.http.clone(), address })
    }

    /// Asks, and asks again if the node was busy and asking twice is safe.
    ///
    /// # Errors
    /// [`Failure`], for whatever is not a success.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        Ok(Answer { body: text(&self.ask_for_bytes(request).await?) })
    }

    /// As [`Client::ask`], for an answer that is no text.
    ///
    /// # Errors
    /// [`Failure`], for whatever is not a success.
    pub(crate) async fn ask_for_bytes(&self, request: &Request) -> Result<Bytes, Failure> {
        let mut repetitions = 0;
        loop {
            let (status, wait, body) = self.send(request).await?;
            if status.is_success() {
                return Ok(body);
            }
            let busy = status == StatusCode::SERVICE_UNAVAILABLE
                && request.idempotent
                && repetitions < REPETITIONS_MAX;
            match wait.filter(|_| busy) {
                Some(wait) => tokio::time::sleep(wait.min(RETRY_AFTER_MAX)).await,
                None => return Err(Failure::Refused(Box::new(Problem::read(status.as_u16(), &text(&body))))),
            }
            repetitions += 1;
        }
    }

    /// Asks once; an answer that is not a success is an answer.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] and [`Failure::NoAnswer`].
    pub(crate) async fn ask_once(
        &self,
        request: &Request,
    ) -> Result<(StatusCode, Option<Duration>, String), Failure> {
        let (status, wait, body) = self.send(request).await?;
        Ok((status, wait, text(&body)))
    }

    /// Opens a stream of events, whose head alone has to come in time.
    ///
    /// # Errors
    /// [`Failure`], for whatever is not a success.
    pub(super) async fn open(&self, request: &Request) -> Result<EventStream, Failure> {
        let opening = self.builder(request).send();
        let Ok(response) = tokio::time::timeout(request.timeout, opening).await else {
            let address = self.address.as_str().trim_end_matches('/').to_owned();
            return Err(Failure::NoAnswer { address, reason: "it took too long".into() });
        };
        let response = response.map_err(|error| self.failure(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(EventStream::new(response));
        }
        let body = response.bytes().await.map_err(|error| self.failure(&error))?;
        Err(Failure::Refused(Box::new(Problem::read(status.as_u16(), &text(&body)))))
    }

    fn builder(&self, request: &Request) -> reqwest::RequestBuilder {
        let url = request.url(&self.address);
        let builder = self.http.request(request.method.clone(), url).headers(request.headers.clone());
        match &request.body {
            Some(body) => builder.header(CONTENT_TYPE, "application/json").body(body.clone()),
            None => builder,
        }
    }

    async fn send(&self, request: &Request) -> Result<(StatusCode, Option<Duration>, Bytes), Failure> {
        let sending = self.builder(request).timeout(request.timeout).send();
        let response = sending.await.map_err(|error| self.failure(&error))?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.bytes().await.map_err(|error| self.failure(&error))?;
        Ok((status, wait.map(Duration::from_secs), body))
    }

    fn failure(&self, error: &reqwest::Error) -> Failure {
        let address = self.address.as_str().trim_end_matches('/').to_owned();
        if error.is_timeout() && !error.is_connect() {
            return Failure::NoAnswer { address, reason: "it took too long".into() };
        }
        let reason = root_of(error);
        match error.is_connect() {
            true => Failure::Unreachable { address, reason },
            false => Failure::NoAnswer { address, reason },
        }
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// The innermost cause, which is what the operating system said.
fn root_of(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".into();
    }
    let mut cause = error.source();
    let mut text = "the connection failed".to_owned();
    while let Some(inner) = cause {
        text = match inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(std::io::ErrorKind::ConnectionRefused) => "connection refused".into(),
            _ => inner.to_string(),
        };
        cause = inner.source();
    }
    text
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
