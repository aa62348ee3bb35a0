//! What attempts write, followed as it is written by server-sent events, and how long it is kept.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{Api, items, text};
use crate::harness::cluster::{Cluster, Settings};
use crate::harness::definitions::{await_status, execution, manual, noop, run, script, with, worker_of};
use crate::harness::development::Development;
use crate::harness::program::ask;
use crate::harness::wait::{eventually, until};

/// An event: its name, its id and what it says.
type Event = (String, String, Value);

/// A connection on which events come.
struct Follower(BufReader<TcpStream>);

impl Follower {
    fn of(api: &Api, id: &str, more: &str, last_event_id: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(api.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(40))).expect("set");
        let token = api.token.clone().unwrap_or_default();
        let last = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!(
            "GET /api/executions/{id}/logs?follow{more} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        Self(BufReader::new(stream))
    }

    /// Waits for an event; what frames it is left out.
    #[track_caller]
    fn next(&mut self) -> Event {
        let (mut name, mut id) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("an event in time");
            assert!(read > 0, "the stream ended without an end");
            match line.trim_end().split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("id", value)) => id = value.to_owned(),
                Some(("data", value)) => return (name, id, serde_json::from_str(value).expect("JSON")),
                _ => {}
            }
        }
    }

    /// Everything until the end.
    #[track_caller]
    fn rest(&mut self) -> Vec<Event> {
        let mut events = vec![self.next()];
        while events.last().is_some_and(|event| event.0 != "end") {
            events.push(self.next());
        }
        events
    }
}

fn texts(events: &[Event]) -> Vec<String> {
    let lines = events.iter().filter(|event| event.0 == "line" && event.2["stream"] != "system");
    lines.map(|event| text(&event.2, "text")).collect()
}

#[test]
fn a_log_is_followed_through_any_node_across_attempts_and_taken_up_again() {
    let cluster = Cluster::start(3);
    let go = cluster.place().join("go");
    let talk = format!(
        "echo attempt $ESCAPEMENT_ATTEMPT; [ $ESCAPEMENT_ATTEMPT = 2 ] || exit 1
         while [ ! -e {} ]; do sleep 0.05; done; echo last",
        go.display()
    );
    let retry = json!({ "retry": { "max_attempts": 2, "initial_delay": "50ms", "jitter": 0 } });
    let api = cluster.any();
    let id = run(&api, &api.create_id(&with(script("talk", &manual(), &talk), retry)));
    let mut followers: Vec<Follower> =
        cluster.running().iter().map(|&node| Follower::of(&cluster.api(node), &id, "", None)).collect();
    let mut seen: Vec<Vec<Event>> = Vec::new();
    for follower in &mut followers {
        let mut events = vec![follower.next()];
        while texts(&events).last().map(String::as_str) != Some("attempt 2") {
            events.push(follower.next());
        }
        seen.push(events);
    }
    assert_eq!(execution(&api, &id)["status"], "running", "they saw it while it ran");
    fs::write(&go, "").expect("written");
    for (follower, events) in followers.iter_mut().zip(&mut seen) {
        events.extend(follower.rest());
        assert_eq!(texts(events), ["attempt 1", "attempt 2", "last"]);
        assert_eq!(events.last().map(|end| &end.2), Some(&json!({ "status": "succeeded" })));
    }
    let whole = &seen[0];
    for (nth, node) in (0..whole.len() - 1).zip(cluster.running().into_iter().cycle()) {
        let again = Follower::of(&cluster.api(node), &id, "", Some(&whole[nth].1)).rest();
        assert_eq!(again, whole[nth + 1..], "after event {nth}");
    }
    let second = Follower::of(&api, &id, "&attempt=2", None).rest();
    assert_eq!(texts(&second), ["attempt 2", "last"]);
}

/// Output stays on the node that made it: any other one asks for it, and says so when nobody answers.
#[test]
fn a_log_is_read_through_any_node_and_says_when_its_own_does_not_answer() {
    let mut cluster = Cluster::start(3);
    let api = cluster.any();
    let id = run(&api, &api.create_id(&script("talk", &manual(), "echo one; echo two")));
    let ended = await_status(&api, &id, "succeeded");
    let worker = text(&ended["attempts"][0], "worker");
    let read = |api: &Api| items(&api.get(&format!("/api/executions/{id}/logs")));
    for node in cluster.running() {
        let written: Vec<String> = read(&cluster.api(node))
            .iter()
            .filter(|line| line["stream"] == "stdout")
            .map(|line| text(line, "text"))
            .collect();
        assert_eq!(written, ["one", "two"], "through node {node}");
    }
    let node: u64 = worker.trim_start_matches("node-").parse().expect("a node's name");
    cluster.kill(node);
    for other in cluster.running() {
        let api = cluster.api(other);
        let line = eventually("it is read without its node", || {
            let path = format!("/api/executions/{id}/logs");
            let reply = api.send("GET", &path, &[], None);
            (reply.status == 200).then(|| items(&reply.json()))
        });
        assert_eq!((line.len(), &line[0]["stream"]), (1, &json!("system")), "{line:?}");
        let expected = format!("what attempt 1 wrote is on node {node}, which does not answer");
        assert_eq!(text(&line[0], "text"), expected);
    }
}

/// Searches all that is below a directory for a text, to the byte: grep's exit code, 0 if it is there and 1 if not.
fn search(directory: &Path, text: &str) -> Option<i32> {
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").args(["-rasqF", "--", text]).arg(directory);
    grep.status().expect("grep runs").code()
}

/// The same search finds what is replicated, in the log, in the snapshots and in the read models of every node.
#[test]
fn what_a_program_writes_is_on_the_node_that_made_it_and_in_nothing_that_is_replicated() {
    const WRITTEN: [&str; 2] = ["written-85397212652", "warned-85397212652"];
    const MORE: usize = 120;
    let raft = "snapshot_entries = 100\n".into();
    let mut cluster = Cluster::start_with(3, Settings { raft, ..Settings::default() });
    let api = cluster.any();
    // The definition is replicated: nothing of it is what the program writes.
    let talk = "n=$((271828 * 314159)); echo written-$n; echo warned-$n >&2; exit 3";
    let id = run(&api, &api.create_id(&script("named-in-the-log", &manual(), talk)));
    let ended = await_status(&api, &id, "failed");
    let worker = worker_of(&ended).expect("a node");
    (1..=MORE).for_each(|n| drop(api.create(&noop(&format!("number-{n}-of-{MORE}"), &manual()))));
    for node in cluster.running() {
        let api = cluster.api(node);
        let lines = items(&api.get(&format!("/api/executions/{id}/logs")));
        let exported = ask(&api, &["audit", "export", "--format", "jsonl"], None).expect(0).out;
        assert!(exported.contains("named-in-the-log"), "{exported}");
        for written in WRITTEN {
            assert!(lines.iter().any(|line| line["text"] == written), "through node {node}: {lines:?}");
            assert!(!exported.contains(written), "in the export of node {node}");
        }
    }
    for written in WRITTEN {
        until("it is on the disk of its node", || search(&cluster.data(worker), written) == Some(0));
    }
    let last = format!("number-{MORE}-of-{MORE}");
    for node in cluster.running() {
        let data = cluster.data(node);
        for (place, replicated) in
            [("raft-log", &*last), ("store", &*last), ("snapshots", "named-in-the-log")]
        {
            let what = format!("`{replicated}` is in {place} of node {node}");
            until(&what, || search(&data.join(place), replicated) == Some(0));
        }
    }
    for node in cluster.running() {
        cluster.kill(node);
        let data = cluster.data(node);
        // Where it was made it is in the storage as well, but in nothing that goes to others.
        let replicated = || ["raft-log", "snapshots"].map(|place| data.join(place)).to_vec();
        let places = if node == worker { replicated() } else { vec![data.clone()] };
        for (place, written) in places.iter().flat_map(|place| WRITTEN.map(|written| (place, written))) {
            assert_eq!(search(place, written), Some(1), "{written} in {} of node {node}", place.display());
        }
    }
}

#[test]
fn many_follow_and_whoever_goes_away_is_let_go() {
    let development = Development::start();
    let api = development.api();
    let go = development.place().join("go");
    let talk =
        format!("echo first; while [ ! -e {} ]; do echo tick; sleep 0.3; done; seq 1 3000", go.display());
    let id = run(&api, &api.create_id(&script("talk", &manual(), &talk)));
    let descriptors = || {
        let pid = development.node.pid().as_raw_nonzero();
        fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count()
    };
    let mut followers: Vec<Follower> = (0..200).map(|_| Follower::of(&api, &id, "", None)).collect();
    for follower in &mut followers {
        assert_eq!(texts(&[follower.next()]), ["first"]);
    }
    let all = descriptors();
    followers.truncate(10);
    until("the others are let go", || descriptors() + 150 < all);
    fs::write(&go, "").expect("written");
    for follower in &mut followers {
        let mut written = texts(&follower.rest());
        written.retain(|text| text != "tick");
        let expected: Vec<String> = (1..=3_000).map(|n| n.to_string()).collect();
        assert!(written == expected, "each once, in order: {} lines", written.len());
    }
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let cluster = Cluster::start(1);
    let api = cluster.any();
    let id = run(&api, &api.create_id(&script("short", &manual(), "echo hi")));
    await_status(&api, &id, "succeeded");
    let path = format!("/api/executions/{id}/logs");
    for query in ["follow=perhaps", "follow=true&limit=5", "follow=true&cursor=7", "follow=true&from=1"] {
        assert_eq!(api.send("GET", &format!("{path}?{query}"), &[], None).status, 400, "{query}");
    }
    let follow = format!("{path}?follow=true");
    let refused = api.send("GET", &follow, &[("Last-Event-ID", "7")], None).expect(400);
    assert!(text(&refused, "detail").contains("Last-Event-ID"), "{refused}");
    let stranger = cluster.mint("bob", "other", &["admin"]);
    assert_eq!(api.with_token(&stranger).send("GET", &follow, &[], None).status, 404);
    assert_eq!(api.anonymous().send("GET", &follow, &[], None).status, 401);
}

#[test]
fn output_and_executions_are_kept_for_as_long_as_the_node_says() {
    let development = Development::start_as(|mut command| {
        command.env("ESCAPEMENT__EXECUTION__KEEP_OUTPUT", "2s");
        command.env("ESCAPEMENT__EXECUTION__KEEP_EXECUTIONS", "8s");
        command
    });
    let api = development.api();
    let task = api.create_id(&script("short", &manual(), "echo hi"));
    let id = run(&api, &task);
    await_status(&api, &id, "succeeded");
    let logs = || items(&api.get(&format!("/api/executions/{id}/logs")));
    assert!(!logs().is_empty());
    until("its output is gone", || logs().is_empty());
    assert_eq!(execution(&api, &id)["status"], "succeeded", "and it is still there");
    eventually("it is gone", || {
        (api.send("GET", &format!("/api/executions/{id}"), &[], None).status == 404).then_some(())
    });
    let events = items(&api.get(&format!("/api/scheduled-tasks/{task}/events")));
    assert!(events.iter().any(|event| event["type"] == "TaskCompleted"), "the event log keeps what happened");
}
