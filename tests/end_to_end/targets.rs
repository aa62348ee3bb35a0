//! HTTP targets that misbehave: what they do is told by its class, costs no more than the attempt's time, and never leads to an
//! address that may not be called.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{Api, text};
use crate::harness::definitions::{await_status, call, manual, run, with};
use crate::harness::development::Development;
use crate::harness::notice::notice;
use crate::harness::program::behind;
use crate::harness::raw_target::{RawTarget, read};
use crate::harness::target::Target;
use crate::harness::wait::now_ms;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";

/// Runs a task that calls a URL, with a second attempt for what breaks; returns the execution when it has ended so.
#[track_caller]
fn ended(api: &Api, url: &str, timeout: &str, status: &str) -> Value {
    let retry = json!({ "max_attempts": 2, "initial_delay": "50ms", "jitter": 0,
                        "retry_on": { "connection": true } });
    let task = with(call(url, &manual(), url), json!({ "retry": retry, "timeout": timeout }));
    let id = run(api, &api.create_id(&task));
    await_status(api, &id, status)
}

fn class(execution: &Value) -> &str {
    execution["attempts"][0]["failure"]["class"].as_str().unwrap_or_default()
}

fn reset(mut stream: TcpStream) {
    let mut one = [0];
    // Closing it with a request that was not read resets it.
    let _ = stream.read(&mut one);
    let _ = stream.write_all(format!("{HEAD}{{\"half\":").as_bytes());
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn a_target_that_hangs_or_drips_costs_no_more_than_the_attempts_time() {
    let development = Development::start();
    let api = development.api();
    let hangs = RawTarget::start(|mut stream| while let Ok(1..) = stream.read(&mut [0; 64]) {});
    let drips = RawTarget::start(|mut stream| {
        read(&mut stream);
        let mut sent = stream.write_all(HEAD.as_bytes());
        while sent.is_ok() {
            sent = stream.write_all(b" ");
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    for (target, timeout, ms) in [(hangs, "700ms", 700), (drips, "2500ms", 2_500)] {
        let start = now_ms();
        let ended = ended(&api, &target.url(), timeout, "timed_out");
        let took = now_ms() - start;
        assert!((ms..ms + 2_000).contains(&took), "{took} ms: {ended}");
        assert_eq!((class(&ended), target.connections()), ("timeout", 1), "{ended}");
    }
}

#[test]
fn a_connection_is_used_again_by_the_next_call() {
    let development = Development::start();
    let api = development.api();
    let target = RawTarget::start(|mut stream| {
        while read(&mut stream) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    for _ in 0..2 {
        ended(&api, &target.url(), "20s", "succeeded");
    }
    assert_eq!(target.connections(), 1);
}

#[test]
fn a_target_that_breaks_off_or_answers_garbage_is_a_broken_connection_and_is_called_again() {
    let development = Development::start();
    let api = development.api();
    for target in [
        RawTarget::start(reset),
        RawTarget::saying(format!("{HEAD}{{\"half\":")),
        RawTarget::saying("HTTP/1.1 200 OK\r\nContent-Le"),
        RawTarget::saying("220 mail.example ESMTP\r\n"),
        RawTarget::saying([0xff; 64]),
        RawTarget::saying(""),
    ] {
        let ended = ended(&api, &target.url(), "20s", "failed");
        assert_eq!((class(&ended), target.connections()), ("connection", 2), "{ended}");
        assert!(!text(&ended, "error").is_empty());
    }
}

#[test]
fn a_redirect_is_told_and_never_followed() {
    let (development, other) = (Development::start(), Target::start());
    let api = development.api();
    for to in [other.url("/elsewhere"), "http://169.254.169.254/latest/meta-data/".to_owned()] {
        let answer = format!(
            "HTTP/1.1 307 Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let target = RawTarget::saying(answer);
        let ended = ended(&api, &target.url(), "20s", "failed");
        assert_eq!(ended["attempts"][0]["failure"], json!({ "class": "http_status", "code": 307 }));
        assert!(text(&ended, "error").contains("redirects are not followed"), "{ended}");
        assert_eq!(target.connections(), 1);
    }
    assert!(other.calls().is_empty());
}

#[test]
fn a_body_beyond_the_bound_is_cut_and_an_endless_one_is_read_no_further() {
    let development = Development::start();
    let api = development.api();
    let long = "x".repeat(2 << 20);
    let whole = RawTarget::saying(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()));
    let endless = RawTarget::start(|mut stream| {
        read(&mut stream);
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while sent.is_ok() {
            sent = stream.write_all(b"5\r\nagain\r\n");
        }
    });
    for target in [whole, endless] {
        let ended = ended(&api, &target.url(), "20s", "succeeded");
        let result = &ended["result"];
        assert_eq!((&result["status"], &result["truncated"]), (&json!(200), &json!(true)));
        assert!(result.to_string().len() <= 16 * 1024);
    }
}

/// The development node may call what is listed; the names that it resolves are those of a file that the test writes.
fn named(names: &std::path::Path, allow: &str) -> Option<Development> {
    let mount = format!("mount --bind {} /etc/hosts && exec \"$@\"", names.display());
    let words = ["unshare", "--mount", "sh", "-c", &mount, "sh"];
    let tried = behind(&words, &Command::new("true")).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        notice("SKIPPED: this machine lets nobody put another file in the place of /etc/hosts");
        return None;
    }
    Some(Development::start_as(|mut command| {
        command.env("ESCAPEMENT__EXECUTION__EGRESS_ALLOW", format!("[\"{allow}\"]"));
        behind(&words, &command)
    }))
}

/// What a name resolves to is asked at each connection, and checked there: a name that was good once is no pass.
#[test]
fn a_name_that_comes_to_mean_a_refused_address_is_not_called() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let names = directory.path().join("hosts");
    fs::write(&names, "127.0.0.1 runner.test\n").expect("written");
    let Some(development) = named(&names, "127.0.0.1") else { return };
    let api = development.api();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let target = RawTarget::saying(answer);
    let url = target.url_by("runner.test");
    ended(&api, &url, "20s", "succeeded");
    // The same target, which listens there too.
    for rebound in ["127.0.0.2", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.2"] {
        fs::write(&names, format!("{rebound} runner.test\n")).expect("written");
        let refused = ended(&api, &url, "20s", "failed");
        let error = text(&refused, "error");
        assert!(error.contains("runner.test resolves to") && error.contains("egress_allow"), "{error}");
        assert_eq!((class(&refused), target.connections()), ("other", 1), "{refused}");
    }
    let refused = ended(&api, &target.url_by("127.0.0.2"), "20s", "failed");
    assert!(text(&refused, "error").contains("127.0.0.2 is a loopback address"), "{refused}");
    fs::write(&names, "127.0.0.1 runner.test\n").expect("written");
    ended(&api, &url, "20s", "succeeded");
    assert_eq!(target.connections(), 2);
}
