//! The server on a real socket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::SECRET;
use crate::http::{ServeError, serve};
use crate::security::Keys;
use crate::service::testing::TestNode;
use crate::telemetry::Metrics;

fn start(node: &TestNode, address: SocketAddr) -> Result<crate::http::ServerHandle, ServeError> {
    let keys = Keys::from_bytes(SECRET).expect("a key");
    serve(&[address], node.service.clone(), keys, Metrics::new(1), 1)
}

#[actix_web::test]
async fn a_server_answers_until_it_is_stopped_and_its_address_is_its_own() {
    let node = TestNode::start();
    let server = start(&node, ([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = server.addresses()[0];
    let refused = start(&node, address).expect_err("taken");
    assert!(refused.to_string().starts_with(&format!("cannot listen on {address}: ")), "{refused}");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
    server.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[actix_web::test]
async fn a_server_without_an_address_is_refused() {
    let node = TestNode::start();
    tokio::task::yield_now().await;
    let keys = Keys::from_bytes(SECRET).expect("a key");
    let refused = serve(&[], node.service.clone(), keys, Metrics::new(1), 1);
    assert!(matches!(refused, Err(ServeError::NoAddress)));
}
