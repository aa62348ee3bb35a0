//! The client against a node of canned answers.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Answers each request with the next of `answers`, one a connection; returns the requests.
async fn node(answers: Vec<&'static str>) -> (Url, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = format!("http://{}/prefix/", listener.local_addr().expect("an address"));
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut bytes = vec![0; 4_096];
            let count = stream.read(&mut bytes).await.expect("read");
            requests.push(String::from_utf8_lossy(&bytes[..count]).into_owned());
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
        requests
    });
    (Url::parse(&address).expect("a URL"), served)
}

fn client(address: Url) -> Client {
    Client::new(&Connection { address, token: Some("secret".into()) }).expect("a client")
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 16\r\nconnection: close\r\n\r\n{\"title\":\"Busy\"}";
const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
const MOVED: &str =
    "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_busy_node_is_asked_again_when_asking_twice_is_safe() {
    let (address, served) = node(vec![BUSY, BUSY, DONE]).await;
    let request = Request::post(["api", "scheduled-tasks", ""]).key("k1").expect("a key").body("{}");
    assert_eq!(client(address).ask(&request).await.expect("done").body, "{}");
    let requests = served.await.expect("served");
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert!(request.starts_with("POST /prefix/api/scheduled-tasks/ HTTP/1.1\r\n"), "{request}");
        assert!(
            request.contains("idempotency-key: k1\r\n")
                && request.contains("authorization: Bearer secret\r\n"),
            "{request}"
        );
        assert!(request.contains("content-type: application/json\r\n"), "{request}");
    }
}

#[tokio::test]
async fn a_busy_node_is_not_asked_again_to_do_something() {
    let (address, served) = node(vec![BUSY]).await;
    let failure = client(address).ask(&Request::post(["api", "x", "run"])).await.expect_err("refused");
    assert_eq!(failure.to_string(), "Busy");
    assert_eq!(served.await.expect("served").len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (address, served) = node(vec![MOVED]).await;
    let failure = client(address).ask(&Request::get(["api"])).await.expect_err("refused");
    assert_eq!(failure.to_string(), "the node answered 302");
    served.await.expect("served");
}

#[tokio::test]
async fn a_node_that_is_down_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let failure =
        client(Url::parse(&address).expect("a URL")).ask(&Request::get(["healthz"])).await.expect_err("down");
    assert_eq!(failure.to_string(), format!("cannot reach {address}: connection refused"));
}

#[test]
fn a_segment_stays_one_segment() {
    let address = Url::parse("http://host").expect("a URL");
    let request =
        Request::get(["api", "a/b?c", ".."]).query("task", Some("1 2")).query("status", None::<&str>);
    assert_eq!(request.url(&address).as_str(), "http://host/api/a%2Fb%3Fc?task=1+2");
}
