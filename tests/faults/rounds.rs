//! One node, killed two hundred times while clients write: what it acknowledged is there, and every chain verifies.
//!
//! Beside what clients write some tasks fire every second, so that it also fires and reports while it dies; the checker
//! judges all of it at the end.

use std::time::{Duration, Instant};

use escapement_simulation::chance::Chance;

use crate::campaign::{await_drained, pause};
use crate::evidence::Case;
use crate::harness::api::Api;
use crate::harness::cluster::{Cluster, Settings};
use crate::harness::definitions::{manual, noop};
use crate::harness::program::escapement;
use crate::harness::target::Target;
use crate::harness::wait::{now_ms, until};
use crate::load::Load;

const ROUNDS: usize = 200;
/// Entries after which a snapshot is made: it dies while it makes them too, and has little to catch up with.
const SNAPSHOT_ENTRIES: usize = 100;
/// Acknowledgements after which the node may die.
const ACKNOWLEDGED: usize = 3;
/// The pause of a client between two writes.
const PAUSE: Duration = Duration::from_millis(5);
/// Tasks that fire every second.
const BEATS: usize = 2;
/// How much longer it lives at most, in ms.
const LIVES_MS: u64 = 60;

#[test]
fn a_node_killed_200_times_while_clients_write_forgets_nothing() {
    let (epoch, began) = (now_ms() - 60_000, Instant::now());
    let raft = format!("snapshot_entries = {SNAPSHOT_ENTRIES}\n");
    let mut cluster = Cluster::start_with(1, Settings { raft, ..Settings::default() });
    let target = Target::start();
    let mut load = Load::new(vec![cluster.api(1)], epoch);
    let mut chance = Chance::new(epoch.unsigned_abs());
    let beats = load.create_beats(&target, BEATS);
    load.start_writing(PAUSE, |number| noop(&format!("written-{number}"), &manual()));
    load.start_editors(&target);
    let mut checked = 0;
    for _ in 0..ROUNDS {
        let goal = load.acknowledged() + ACKNOWLEDGED;
        until("some are acknowledged", || load.acknowledged() >= goal);
        let dies_at = Instant::now() + Duration::from_millis(chance.below(LIVES_MS));
        while Instant::now() < dies_at {
            std::hint::spin_loop();
        }
        cluster.kill(1);
        let data = cluster.data(1).display().to_string();
        escapement(&["audit", "verify", "--data", &data]).expect(0);
        cluster.start_again(1);
        cluster.await_ready();
        checked = check_there(&cluster.api(1), &load, checked);
    }
    let operations = load.stop();
    let api = cluster.api(1);
    check_there(&api, &load, 0);
    let quiesced = now_ms() - 1;
    pause(&api, &beats);
    await_drained(&api);
    let drained = now_ms();
    assert_eq!(cluster.terminate(1), Some(0));
    let verdict = Case {
        epoch,
        quiesced,
        drained,
        data: vec![cluster.data(1)],
        operations,
        calls: target.calls(),
        disturbances: vec![(epoch, quiesced)],
        without_quorum: vec![(epoch, quiesced)],
        frozen: Vec::new(),
    }
    .judge();
    verdict.tell("kill -9 while writing, 200 rounds", began, ROUNDS);
}

/// Demands every task that was acknowledged from a place on; returns where the next look begins.
#[track_caller]
fn check_there(api: &Api, load: &Load, from: usize) -> usize {
    let acknowledged = load.acknowledged_tasks();
    for task in &acknowledged[from..] {
        api.get(&format!("/api/scheduled-tasks/{task}"));
    }
    acknowledged.len()
}
