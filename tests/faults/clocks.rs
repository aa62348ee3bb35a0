//! Clocks that jump by an hour, forth and back, on the leader and on a follower.
//!
//! libfaketime moves the wall clock of one process and leaves its monotonic clock alone, as `settimeofday` would.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::campaign::{Campaign, await_calls, skip};
use crate::harness::cluster::{Hosts, Settings};
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
