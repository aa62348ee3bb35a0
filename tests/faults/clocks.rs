//! Clocks that jump by an hour, forth and back, on the leader and on a follower.
//!
//! libfaketime moves the wall clock of one process and leaves its monotonic clock alone, as `settimeofday` would.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::campaign::{Campaign, await_calls, skip};
use crate::harness::api::text;
use crate::harness::cluster::{Cluster, Hosts, Settings};
use crate::harness::definitions::{every_second, executions, noop};
use crate::harness::program::ask;
use crate::harness::wait::{now_ms, until};

/// How long a clock is wrong, in ms: long enough for a leader to be replaced.
const WRONG_MS: i64 = 3_000;

/// Nodes whose clocks can be moved.
#[derive(Debug)]
pub(crate) struct Clocks {
    library: PathBuf,
    hands: TempDir,
}

impl Clocks {
    pub(crate) fn new() -> Result<Self, String> {
        let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library = libraries
            .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.exists())
            .ok_or("libfaketime is not installed")?;
        let clocks = Self { library, hands: tempfile::tempdir().map_err(|error| error.to_string())? };
        (1..=3).for_each(|node| clocks.set(node, "+0"));
        Ok(clocks)
    }

    /// Sets how far a node's clock is off.
    pub(crate) fn set(&self, node: u64, offset: &str) {
        // In one step: the node reads it all the time.
        let (next, hand) = (self.hands.path().join("next"), self.hand(node));
        fs::write(&next, format!("{offset}\n")).expect("written");
        fs::rename(next, hand).expect("renamed");
    }

    fn hand(&self, node: u64) -> PathBuf {
        self.hands.path().join(format!("clock-{node}"))
    }
}

impl Hosts for Clocks {
    fn dress(&self, node: u64, mut command: Command) -> Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.hand(node))
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
        command
    }
}

#[test]
fn clocks_jump_by_an_hour_forth_and_back() {
    const NAME: &str = "clocks that jump by an hour";
    let clocks = match Clocks::new() {
        Ok(clocks) => Arc::new(clocks),
        Err(reason) => return skip(NAME, &reason),
    };
    let settings = Settings { hosts: Some(clocks.clone()), ..Settings::default() };
    let mut campaign = Campaign::start(NAME, settings, 25);
    let mut deposed = 0;
    for (leads, offset) in [(true, "+1h"), (false, "-1h"), (true, "-1h"), (false, "+1h")] {
        let led_before = campaign.disturb(|cluster, target| {
            let id = if leads { cluster.leader() } else { cluster.follower() };
            clocks.set(id, offset);
            let back_at = now_ms() + WRONG_MS;
            until("it was wrong for so long", || now_ms() >= back_at);
            await_calls(target, 1);
            let leads_no_more = leads && cluster.leader() != id;
            clocks.set(id, "+0");
            cluster.await_ready();
            cluster.await_caught_up(id);
            leads_no_more
        });
        deposed += usize::from(led_before);
    }
    eprintln!("leaders that stepped down for their clock: {deposed}");
    assert_eq!(deposed, 2, "a leader whose clock jumped leads no more");
    campaign.finish();
}

#[test]
fn a_node_whose_clock_is_off_is_shown_and_leads_nothing_while_another_can() {
    let clocks = match Clocks::new() {
        Ok(clocks) => Arc::new(clocks),
        Err(reason) => return skip("a clock that is off", &reason),
    };
    let settings = Settings { hosts: Some(clocks.clone()), ..Settings::default() };
    let cluster = Cluster::start_with(3, settings);
    let off = cluster.follower();
    clocks.set(off, "+3s");
    let place = usize::try_from(off - 1).expect("small");
    let (api, words) = (cluster.any(), format!("the clock of node {off} is 3"));
    until("its clock is shown as off", || {
        let status = api.get("/api/cluster/status");
        let offset = status["nodes"][place]["clock_offset_ms"].as_i64();
        offset.is_some_and(|offset| (2_500..3_500).contains(&offset))
            && status["warnings"].to_string().contains(&words)
    });
    assert!(ask(&api, &["cluster", "status"], None).expect(0).out.contains(&words));
    let beat = api.create_id(&noop("beat", &every_second()));
    let fires = || executions(&api, &beat).len();
    // Asked to lead, it does not, or not for long; and whoever leads fires on.
    drop(ask(&api, &["cluster", "transfer-leadership", &off.to_string()], None));
    let before = fires();
    until("another leads, and fires", || cluster.leader() != off && fires() >= before + 3);
    assert_ne!(cluster.leader(), off);
    clocks.set(off, "+0");
    until("nothing is shown any more", || api.get("/api/cluster/status")["warnings"] == json!([]));
    cluster.lead(off);
    let before = fires();
    until("it fires", || fires() >= before + 2);
    let mut instants: Vec<String> =
        executions(&api, &beat).iter().map(|one| one["scheduled_at"].to_string()).collect();
    instants.sort_unstable();
    assert!(instants.windows(2).all(|pair| pair[0] != pair[1]), "nothing fires twice: {instants:?}");
}

#[test]
fn fires_of_a_leader_whose_clock_is_ahead_by_less_than_a_second_say_so() {
    let clocks = match Clocks::new() {
        Ok(clocks) => Arc::new(clocks),
        Err(reason) => return skip("a clock that is a little ahead", &reason),
    };
    let settings = Settings { hosts: Some(clocks.clone()), ..Settings::default() };
    let cluster = Cluster::start_with(3, settings);
    let (leader, api) = (cluster.leader(), cluster.any());
    let beat = api.create_id(&noop("beat", &every_second()));
    until("it fires in time", || executions(&api, &beat).iter().any(|one| one["clock_ahead_ms"].is_null()));
    clocks.set(leader, "+0.7");
    let early =
        |one: &Value| one["clock_ahead_ms"].as_i64().is_some_and(|ahead| (500..=750).contains(&ahead));
    let said = || executions(&api, &beat).into_iter().find(early);
    until("a fire says that it came early", || said().is_some());
    let said = said().expect("just seen");
    let (id, at) = (text(&said, "id"), text(&said, "scheduled_at"));
    let told = api.get(&format!("/api/scheduled-tasks/{beat}/explain?at={at}"));
    let words = "early by most nodes' clocks";
    assert!(text(&told["instant"], "explanation").contains(words), "{told}");
    let shown = ask(&api, &["execution", "show", &id], None).expect(0).out;
    assert!(shown.contains("ms ahead of most nodes' clocks"), "{shown}");
    assert_eq!(cluster.leader(), leader, "less than a second is no reason to go");
    clocks.set(leader, "+0");
    let in_time = || executions(&api, &beat).first().is_some_and(|last| last["clock_ahead_ms"].is_null());
    until("its fires are in time again", in_time);
}
