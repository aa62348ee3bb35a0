//! The API from outside, over a node in memory: one claim a test.

mod bulk;
mod door;
mod executions;
mod openapi;
mod tasks;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service as _, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::from_fn;
use actix_web::{App, test, web};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::time::Duration;

use super::front::{Shared, front_door};
use super::routes;
use crate::security::{Keys, Role};
use crate::service::testing::{NOW, TestNode};
use crate::telemetry::Metrics;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

type Sent = futures::future::LocalBoxFuture<'static, ServiceResponse<BoxBody>>;

/// A node with its API. The only test code that knows how the app is put together.
pub(super) struct Api {
    pub(super) node: TestNode,
    pub(super) metrics: Metrics,
    send: Box<dyn Fn(actix_http::Request) -> Sent>,
    last: RefCell<Option<String>>,
}
