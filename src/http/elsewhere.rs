//! A question about history that this node does not have yet is put to the nodes that have it, and one that each node answers for
//! itself to all of them.
//!
//! A node that returned by a snapshot completes its history from its peers. Until it has, it sends such questions on, with
//! the asker's own token, and hands the answer back as it came. A question that was sent on once is not sent on again.
//!
//! Only requests without content are sent on, and changes only under a key of their own, which makes them once however often
//! they arrive.

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, TRANSFER_ENCODING};
use actix_web::{HttpRequest, HttpResponse};
use futures::future::join_all;
use reqwest::{Client, RequestBuilder, Response, redirect, retry};
use serde::Deserialize;

use super::front::CORRELATION_ID;
use super::problem::Problem;
use super::request::IDEMPOTENCY_KEY;
use crate::keepalive::patient;
use crate::service::Service;

/// Says that a request was sent on by a node.
const SENT_ON: &str = "Escapement-Sent-On";
/// How long a connection to a node may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node may take to answer for itself, where the answer does without it.
const GLANCE: Duration = Duration::from_secs(1);

/// Puts questions to other nodes.
pub(super) struct Elsewhere {
    client: Client,
}

impl Elsewhere {
    /// A client for other nodes.
    ///
    /// # Errors
    /// When the system gives no client, as for lack of entropy.
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        // Whoever installed a provider before us chose one that serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = patient(Client::builder())
            .tls_certs_only([])
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT);
        Ok(Self { client: client.build()? })
    }

    /// Another node's answer in the place of one that says that history is missing here; any other as it is.
    pub(super) async fn complete(
        &self,
        service: &Service,
        response: ServiceResponse<BoxBody>,
    ) -> ServiceResponse<BoxBody> {
        let missing = response.response().error().and_then(|error| error.as_error::<Problem>());
        if !missing.is_some_and(Problem::is_incomplete_history) || !may_be_sent_on(response.request()) {
            return response;
        }
        for api in service.apis().await {
            if let Some(answer) = self.ask(&api, response.request()).await {
                let (request, _) = response.into_parts();
                return ServiceResponse::new(request, answer);
            }
        }
        response
    }

    /// The workers outside the cluster that wait on the nodes that answer at once. What was sent on by a node is not asked of
    /// others.
    pub(super) async fn workers(&self, service: &Service, request: &HttpRequest) -> Vec<Arc<str>> {
        if !may_be_sent_on(request) {
            return Vec::new();
        }
        let asked = service.apis().await.into_iter().map(|api| async move {
            let answer = self.asking(&api, request)?.timeout(GLANCE).send().await.ok()?;
            serde_json::from_slice::<Workers>(&answer.bytes().await.ok()?).ok()
        });
        let told = join_all(asked).await.into_iter().flatten().flat_map(|workers| workers.items);
        told.filter(|worker| worker.node.is_none() && worker.running == 0).map(|worker| worker.id).collect()
    }

    /// What a node answers; `None` when it cannot say either.
    async fn ask(&self, api: &str, request: &HttpRequest) -> Option<HttpResponse> {
        match self.asking(api, request)?.send().await {
            Ok(answer) if answer.status() != reqwest::StatusCode::SERVICE_UNAVAILABLE => {
                hand_back(answer).await
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%api, %error, "a node did not answer a question about history");
                None
            }
        }
    }

    /// The same request to another node.
    fn asking(&self, api: &str, request: &HttpRequest) -> Option<RequestBuilder> {
        let url = format!("http://{api}{}", request.uri());
        let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes()).ok()?;
        let mut asked = self.client.request(method, url).header(SENT_ON, "1");
        for name in
            [AUTHORIZATION.as_str(), ACCEPT.as_str(), CORRELATION_ID.as_str(), "traceparent", IDEMPOTENCY_KEY]
        {
            if let Some(value) = request.headers().get(name) {
                asked = asked.header(name, value.as_bytes());
            }
        }
        Some(asked)
    }
}

/// What is read of a list of workers.
#[derive(Deserialize)]
struct Workers {
    items: Vec<Worker>,
}

#[derive(Deserialize)]
struct Worker {
    id: Arc<str>,
    node: Option<u64>,
    running: usize,
}

/// Whether an answer is another node's, which has its problem already.
pub(super) fn is_handed_back(response: &ServiceResponse<BoxBody>) -> bool {
    response.response().extensions().contains::<HandedBack>()
}

/// Marks an answer that came from another node.
struct HandedBack;

fn may_be_sent_on(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let empty = headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
    // A change may be carried out where the answer gets lost, and then be asked of the next node.
    let harmless = request.method().is_safe() || headers.contains_key(IDEMPOTENCY_KEY);
    empty && harmless && !headers.contains_key(TRANSFER_ENCODING) && !headers.contains_key(SENT_ON)
}

async fn hand_back(answer: Response) -> Option<HttpResponse> {
    let status = StatusCode::from_u16(answer.status().as_u16()).ok()?;
    let mut back = HttpResponse::build(status);
    for name in [CONTENT_TYPE, ETAG] {
        if let Some(value) = answer.headers().get(name.as_str()) {
            back.insert_header((name, value.as_bytes()));
        }
    }
    let mut back = back.body(answer.bytes().await.ok()?);
    back.extensions_mut().insert(HandedBack);
    Some(back)
}
