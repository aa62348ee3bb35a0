//! The API from outside, over a node in memory: one claim a test.

mod bulk;
mod calendars;
mod door;
mod elsewhere;
mod executions;
mod explain;
mod fires;
mod forecast;
mod gates;
mod leasing;
mod occurrences;
mod openapi;
mod publications;
mod runs;
mod server;
mod tasks;

use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::middleware::from_fn;
use actix_web::{App, test, web};
use serde_json::{Value, json};

use super::elsewhere::Elsewhere;
use super::front::{Shared, front_door};
use super::routes;
use crate::security::{Keys, Role};
use crate::service::testing::TestNode;
use crate::telemetry::Metrics;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A node with its API. The only test code that knows how the app is put together.
pub(super) struct Api {
    pub(super) node: TestNode,
    shared: web::Data<Shared>,
}

/// One request.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    method: Method,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    body: Option<Vec<u8>>,
}

/// What was answered.
pub(super) struct Reply {
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) text: String,
}

impl Api {
    pub(super) fn start() -> Self {
        let node = TestNode::start();
        let keys = Keys::from_bytes(SECRET).expect("a key");
        let shared = Shared {
            service: node.service.clone(),
            keys,
            metrics: Metrics::new(1),
            elsewhere: Elsewhere::new().expect("a client"),
        };
        Self { node, shared: web::Data::new(shared) }
    }

    /// A token of somebody.
    pub(super) fn token(&self, subject: &str, tenant: &str, roles: &[Role]) -> String {
        let life = Duration::from_secs(3_600);
        self.shared.keys.mint(subject, tenant, roles, life, self.node.service.now()).expect("minted")
    }

    /// Sends a request as it is.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Reply {
        // An actor that was never polled cannot be dropped.
        tokio::task::yield_now().await;
        let app = App::new().app_data(self.shared.clone()).configure(routes::configure);
        let app = test::init_service(app.wrap(from_fn(front_door))).await;
        let mut request = test::TestRequest::with_uri(ask.path).method(ask.method);
        for (name, value) in &ask.headers {
            request = request.append_header((*name, value.as_str()));
        }
        if let Some(body) = ask.body {
            request = request.set_payload(body);
        }
        let response = test::call_service(&app, request.to_request()).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = test::read_body(response).await;
        Reply { status, headers, text: String::from_utf8(body.to_vec()).expect("UTF-8") }
    }

    /// Sends a request as the tenant's administrator `ada`, who is also the cluster's.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Reply {
        let token = self.token("ada", "acme", &[Role::Admin, Role::ClusterAdmin]);
        self.send(ask.token(&token)).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.ask(Ask::of(Method::GET, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask(Ask::of(Method::POST, path).json(body)).await
    }

    /// Creates a task and returns it.
    pub(super) async fn create(&self, task: Value) -> Value {
        self.post("/api/scheduled-tasks/", &task).await.expect(201)
    }
}

impl<'a> Ask<'a> {
    pub(super) fn of(method: Method, path: &'a str) -> Self {
        Self { method, path, headers: Vec::new(), body: None }
    }

    pub(super) fn header(mut self, name: &'a str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(super) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").bytes(body.to_string().into_bytes())
    }

    pub(super) fn bytes(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self
    }
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    /// Demands a status and returns the body.
    #[track_caller]
    pub(super) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { serde_json::from_str(&self.text).expect("JSON") }
    }

    /// Demands a problem, and returns the pointers of its fields.
    #[track_caller]
    pub(super) fn problem(&self, status: u16, code: &str) -> Vec<String> {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{body}");
        assert_eq!((&body["code"], &body["status"]), (&json!(code), &json!(status)), "{body}");
        for field in ["type", "title", "detail", "correlation_id"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {body}");
        }
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().expect("a pointer").to_owned()).collect()
    }
}

/// A task that does nothing, by hand only.
pub(super) fn manual(name: &str) -> Value {
    json!({ "name": name, "trigger": { "type": "manual" }, "action": { "type": "builtin", "operation": "noop" } })
}

/// A task that does nothing, every so often.
pub(super) fn interval(name: &str, every: &str) -> Value {
    with(manual(name), json!({ "trigger": { "type": "interval", "every": every } }))
}

/// The task with further fields.
pub(super) fn with(mut task: Value, fields: Value) -> Value {
    let (Value::Object(into), Value::Object(fields)) = (&mut task, fields) else {
        panic!("both are objects")
    };
    into.extend(fields);
    task
}

/// A field that must be a text.
#[track_caller]
pub(super) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("`{field}` is a text in {value}")).to_owned()
}

/// The items of a list.
#[track_caller]
pub(super) fn items(list: &Value) -> &[Value] {
    list["items"].as_array().unwrap_or_else(|| panic!("`items` is a list in {list}"))
}
