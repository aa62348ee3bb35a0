//! Calls of a small target on loopback, written by hand so that every byte of a request can be looked at.

use std::collections::BTreeMap;

use escapement_actors::ports::OutputStream;
use escapement_domain::identifier::NodeId;
use escapement_domain::timestamp::Span;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::super::egress::Cidr;
use super::super::fixtures::{Drawn, Lines, clock, order};
use super::*;

/// A target that gives every connection the same answer and closes it; tells each request, whole.
struct Target {
    url: String,
    requests: mpsc::UnboundedReceiver<String>,
}

impl Target {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}/suites/7", listener.local_addr().expect("address"));
        let (tell, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if connection.read_buf(&mut request).await.expect("read") == 0 {
                        break;
                    }
                }
                // The client may have hung up, and the test may be over.
                let _ = tell.send(String::from_utf8_lossy(&request).into_owned());
                let _ = connection.write_all(&answer).await;
            }
        });
        Self { url, requests }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().expect("a number"))
}

fn respond(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn post(url: &str) -> HttpAction {
    HttpAction {
        method: "POST".into(),
        url: url.into(),
        headers: BTreeMap::new(),
        body: Some(r#"{"a":1}"#.into()),
        completion: escapement_domain::task::action::Completion::Response,
    }
}

fn callbacks() -> Callbacks {
    Callbacks::new(NodeId(3), "http://n3:7070", clock(), Arc::new(Drawn))
}

fn executor(allow: impl IntoIterator<Item = Cidr>) -> HttpExecutor {
    HttpExecutor::new(EgressRule::new(allow), callbacks(), clock()).expect("a client")
}

async fn run(action: HttpAction) -> (AttemptEnd, Vec<String>) {
    let lines = Lines::new();
    let end = executor(Cidr::LOOPBACK)
        .run(order(Action::Http(action)), lines.clone(), CancellationToken::new())
        .await
        .end;
    (end, lines.of(OutputStream::System))
}

/// What an answer comes to: `ok` or the error, and the result.
#[track_caller]
fn check(answer: String, expected_error: &str, expected_result: &str) -> impl Future<Output = ()> {
    let (expected_error, expected_result) = (expected_error.to_owned(), expected_result.to_owned());
    async move {
        let target = Target::answering(answer).await;
        let (error, result) = match run(post(&target.url)).await.0 {
            AttemptEnd::Succeeded { result } => ("ok".to_owned(), result),
            AttemptEnd::Failed(AttemptFailure { error, result, .. }) => (error, result),
            other => panic!("{other:?}"),
        };
        assert_eq!((error, result), (expected_error, Some(expected_result)));
    }
}

#[tokio::test]
async fn the_target_is_told_who_calls_and_why() {
    let mut target = Target::answering(respond("200 OK", "")).await;
    let mut action = post(&format!("{}?key=secret", target.url));
    action.headers = [
        ("X-Mine", "1"),
        ("IDEMPOTENCY-KEY", "forged"),
        ("Escapement-Anything", "forged"),
        ("Host", "other"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let (end, lines) = run(action).await;
    assert!(matches!(end, AttemptEnd::Succeeded { .. }), "{end:?}");
    let request = target.requests.recv().await.expect("a request");
    for line in [
        "POST /suites/7?key=secret HTTP/1.1",
        "idempotency-key: 00000000-0000-0000-0000-000000000002",
        "escapement-task-id: 00000000-0000-0000-0000-000000000001",
        "escapement-execution-id: 00000000-0000-0000-0000-000000000002",
        "escapement-attempt: 2",
        "escapement-scheduled-at: 2023-11-14T22:13:20.000Z",
        "escapement-fencing-token: 77",
        "content-type: application/json",
        "x-mine: 1",
        r#"{"a":1}"#,
    ] {
        assert!(request.lines().any(|found| found == line), "no `{line}` in\n{request}");
    }
    assert!(request.contains("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{request}");
    assert!(!request.contains("forged") && !request.contains("other"), "{request}");
    let call = lines.iter().find(|line| line.starts_with("POST http://127.0.0.1:")).expect("a line");
    assert!(call.ends_with("/suites/7"), "a query may hold a secret: {call}");
    assert_eq!(lines.last().expect("a line"), "200 OK after 0 ms, 0 bytes");
}

#[tokio::test]
async fn the_status_decides_and_the_body_is_the_result() {
    check(respond("200 OK", r#"{"x": 1.50}"#), "ok", r#"{"status":200,"body":{"x": 1.50}}"#).await;
    check(respond("204 No Content", ""), "ok", r#"{"status":204,"body":null}"#).await;
    check(respond("200 OK", "two\n\"lines\""), "ok", r#"{"status":200,"body":"two\n\"lines\""}"#).await;
    let refused = "the target answered 503 Service Unavailable";
    check(respond("503 Service Unavailable", "busy"), refused, r#"{"status":503,"body":"busy"}"#).await;
}

/// Its execution is shown in lists, to any client: what one of them could not read is told as a string.
#[tokio::test]
async fn a_body_that_is_not_json_for_everybody_is_a_string() {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for nasty in [&*deep, r#""\ud800""#, "1e999", r#"{"a":1,"a":2}"#, "[NaN]", "\u{feff}{}"] {
        let as_string = format!(r#"{{"status":200,"body":{}}}"#, serde_json::Value::from(nasty));
        check(respond("200 OK", nasty), "ok", &as_string).await;
    }
}

#[tokio::test]
async fn a_redirect_is_reported_and_not_followed() {
    let answer =
        "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_owned();
    let error = "the target answered 302 Found; redirects are not followed";
    check(answer, error, r#"{"status":302,"body":null}"#).await;
}

#[tokio::test]
async fn a_long_body_is_cut_and_reading_stops() {
    // Endless: it promises more than it ever sends, and the call returns all the same.
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".to_vec();
    answer.extend(std::iter::repeat_n(b'\n', 5 * RESULT_BYTES_MAX));
    let target = Target::answering(answer).await;
    let AttemptEnd::Succeeded { result: Some(result) } = run(post(&target.url)).await.0 else {
        panic!("no result")
    };
    assert!(result.len() <= RESULT_BYTES_MAX, "{} bytes", result.len());
    assert!(result.len() > RESULT_BYTES_MAX - 100, "{} bytes", result.len());
    let result: serde_json::Value = serde_json::from_str(&result).expect("JSON");
    assert_eq!(result["truncated"], true);
}

#[tokio::test]
async fn private_targets_are_refused_by_address_and_by_name() {
    let target = Target::answering(respond("200 OK", "")).await;
    let port = target.url.rsplit(':').next().expect("a port").to_owned();
    let executor = executor([]);
    for host in ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "0x7f.1"] {
        let action = Action::Http(post(&format!("http://{host}:{port}")));
        let AttemptEnd::Failed(AttemptFailure { error, .. }) =
            executor.run(order(action), Lines::new(), CancellationToken::new()).await.end
        else {
            panic!("{host} was called")
        };
        assert!(
            error.contains("is a loopback address") && error.contains("`execution.egress_allow`"),
            "{host}: {error}"
        );
        assert!(host != "localhost" || error.starts_with("localhost resolves to "), "{error}");
    }
    let mut target = target;
    assert!(target.requests.try_recv().is_err(), "nothing was sent");
}

#[tokio::test]
async fn a_listed_name_is_reached() {
    let target = Target::answering(respond("200 OK", "1")).await;
    let (end, _) = run(post(&target.url.replace("127.0.0.1", "localhost"))).await;
    assert_eq!(end, AttemptEnd::Succeeded { result: Some(r#"{"status":200,"body":1}"#.into()) });
}

/// How a failure is told that an answer comes to.
async fn failure_of(answer: String) -> AttemptFailure {
    let target = Target::answering(answer).await;
    match run(post(&target.url)).await.0 {
        AttemptEnd::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failure_is_told_by_its_class() {
    let busy = failure_of(respond("503 Service Unavailable", "")).await;
    assert_eq!(busy.class, FailureClass::HttpStatus(503));
    assert_eq!(failure_of(respond("302 Found", "")).await.class, FailureClass::HttpStatus(302));
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_owned();
    assert_eq!(failure_of(half).await.class, FailureClass::Connection);
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("loopback").local_addr().expect("address");
    for (url, class) in [
        (format!("http://{closed}/"), FailureClass::Unconnected),
        ("http://169.254.169.254/".into(), FailureClass::NotAllowed),
        ("ftp://example.com/".into(), FailureClass::Other),
    ] {
        let AttemptEnd::Failed(failure) = run(post(&url)).await.0 else { panic!("{url} was called") };
        assert_eq!(failure.class, class, "{url}");
    }
}

#[tokio::test]
async fn a_target_says_how_long_it_is_to_be_left_alone() {
    let asked = |value: &str| {
        let answer =
            format!("HTTP/1.1 429 Too Many Requests\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        async move { failure_of(answer).await.retry_after }
    };
    assert_eq!(asked("7").await, Some(Span::seconds(7)));
    assert_eq!(asked("Fri, 15 Jan 2027 08:00:30 GMT").await, Some(Span::seconds(30)));
    assert_eq!(asked("Fri, 15 Jan 2027 07:00:00 GMT").await, Some(Span::ZERO), "it has passed");
    assert_eq!(asked("99999999999").await, Some(RETRY_AFTER_MAX));
    assert_eq!(asked("soon").await, None);
    assert_eq!(failure_of(respond("429 Too Many Requests", "")).await.retry_after, None);
}

#[tokio::test]
async fn what_failed_is_read_from_an_answer_and_told_to_the_next_call() {
    let answer = respond("422 Unprocessable Content", r#"{"failed_items":["a", 7]}"#);
    assert_eq!(failure_of(answer).await.failed_items.as_deref(), Some(r#"["a", 7]"#));
    let told = |action: HttpAction| async move {
        let mut target = Target::answering(respond("200 OK", "")).await;
        let action = Action::Http(HttpAction { url: target.url.clone(), ..action });
        let order = AttemptOrder { retry_items: Some(r#"["a", 7]"#.into()), ..order(action) };
        let lines = Lines::new();
        let end = executor(Cidr::LOOPBACK).run(order, lines.clone(), CancellationToken::new()).await.end;
        assert!(matches!(end, AttemptEnd::Succeeded { .. }), "{end:?}");
        let request = target.requests.recv().await.expect("a request");
        let body = request.split_once("\r\n\r\n").expect("a body").1.to_owned();
        (body, lines.of(OutputStream::System)[0].clone())
    };
    let (body, _) = told(post("")).await;
    assert_eq!(body, r#"{"a":1,"retry_items":["a", 7]}"#);
    let (body, _) = told(HttpAction { body: None, ..post("") }).await;
    assert_eq!(body, r#"{"retry_items":["a", 7]}"#);
    let (body, said) = told(HttpAction { body: Some("[1]".into()), ..post("") }).await;
    assert!(body == "[1]" && said.contains("not a JSON object"), "{said}");
    let (body, said) = told(HttpAction { method: "GET".into(), body: None, ..post("") }).await;
    assert!(body.is_empty() && said.contains("not told"), "{said}");
}

#[tokio::test]
async fn a_silent_target_times_out_and_a_cancel_ends_the_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}/", listener.local_addr().expect("address"));
    let silent = AttemptOrder { timeout: Span(50), ..order(Action::Http(post(&url))) };
    let end = executor(Cidr::LOOPBACK).run(silent, Lines::new(), CancellationToken::new()).await.end;
    assert_eq!(end, AttemptEnd::TimedOut);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}/", listener.local_addr().expect("address"));
    let cancel = CancellationToken::new();
    let call = executor(Cidr::LOOPBACK).run(order(Action::Http(post(&url))), Lines::new(), cancel.clone());
    let call = tokio::spawn(call);
    let _connection = listener.accept().await.expect("a connection");
    cancel.cancel();
    assert_eq!(call.await.expect("no panic").end, AttemptEnd::Cancelled);
}

#[tokio::test]
async fn what_cannot_be_called_says_why() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("loopback").local_addr().expect("address");
    for (url, expected) in [
        (
            format!("http://{closed}/"),
            "the target could not be connected to: Connection refused (os error 111)",
        ),
        ("ftp://example.com/".into(), "a URL must begin with http:// or https://, not ftp:"),
        ("nonsense".into(), "the URL cannot be read: relative URL without a base"),
    ] {
        let AttemptEnd::Failed(AttemptFailure { error, .. }) = run(post(&url)).await.0 else {
            panic!("{url} was called")
        };
        assert_eq!(error, expected);
    }
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let target = Target::answering(answer).await;
    let AttemptEnd::Failed(AttemptFailure { error, .. }) = run(post(&target.url)).await.0 else {
        panic!("half a body is no answer")
    };
    assert!(error.starts_with("200 OK came back, but its body could not be read: "), "{error}");
}
