//! Snapshots and purging, on real directories.

use std::path::PathBuf;
use std::sync::Arc;

use escapement_raft::{DataDirectory, Group, Options, StartError, TcpTransport};

use crate::cluster::{CLUSTER, Cluster, eventually, options};
use crate::ledger::Ledger;

fn small() -> Options {
    Options { snapshot_entries: 50, log_entries_kept: 10, log_file_bytes: 16 * 1_024, ..options() }
}

fn snapshots(path: PathBuf) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(path.join("snapshots")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// What a late follower needs is gone from the log, so it gets a snapshot and the entries behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::form(3, small()).await;
    cluster.propose("first").await;
    let leader = cluster.leader().await.id;
    let late = cluster.nodes.keys().copied().find(|id| *id != leader).unwrap();
    cluster.stop(late).await;
    // A command larger than a chunk's remainder, so that the snapshot takes several.
    for i in 0..200 {
        cluster.propose(&format!("{i}-{}", "x".repeat(20_000))).await;
    }
    cluster.leader().await.group.trigger_snapshot().await.unwrap();
    let group = &cluster.leader().await.group;
    eventually("the log is purged", || group.status().purged.is_some_and(|purged| purged > 50)).await;
    let node = cluster.restart(late).await;
    eventually("the late node holds everything", || node.ledger.len() == 201).await;
    assert!(node.ledger.restored() >= 1);
    cluster.propose("last").await;
    cluster.agree(202).await;
    cluster.stop_all().await;
}

/// Snapshots are taken by themselves, two are kept, and a restart begins at the newest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_begins_at_the_newest_snapshot() {
    let mut cluster = Cluster::form(1, small()).await;
    for i in 0..300 {
        cluster.propose(&i.to_string()).await;
    }
    let group = cluster.nodes[&1].group.clone();
    eventually("a snapshot by itself", || group.status().snapshot.is_some_and(|index| index > 100)).await;
    eventually("the log is purged", || group.status().purged.is_some_and(|purged| purged > 50)).await;
    drop(group);
    cluster.stop(1).await;
    assert_eq!(snapshots(cluster.path(1)).len(), 2);
    let node = cluster.restart(1).await;
    assert_eq!(node.ledger.restored(), 1);
    eventually("everything is there", || node.ledger.len() == 300).await;
    assert!(node.ledger.entries() < 250);
    cluster.stop_all().await;
}

/// Nothing is purged before what derives from it is on disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_waits_for_what_derives_from_its_entries() {
    let cluster = Cluster::form(1, small()).await;
    let node = &cluster.nodes[&1];
    node.ledger.hold_sync(10);
    for i in 0..200 {
        cluster.propose(&i.to_string()).await;
    }
    assert_eq!(node.group.status().snapshot, None);
    assert_eq!(node.group.status().purged, None);
    node.ledger.hold_sync(u64::MAX);
    node.group.trigger_snapshot().await.unwrap();
    eventually("the log is purged", || node.group.status().purged.is_some_and(|purged| purged > 50)).await;
    cluster.stop_all().await;
}

/// A damaged snapshot is never taken for none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_snapshot_is_named() {
    let mut cluster = Cluster::form(1, small()).await;
    for i in 0..10 {
        cluster.propose(&i.to_string()).await;
    }
    cluster.nodes[&1].group.trigger_snapshot().await.unwrap();
    cluster.stop(1).await;
    let newest = snapshots(cluster.path(1)).pop().unwrap();
    let whole = std::fs::read(&newest).unwrap();
    for at in [3, 7, 40, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&newest, damaged).unwrap();
        let directory = DataDirectory::open(cluster.path(1), CLUSTER, 1).unwrap();
        let transport = TcpTransport::listen(directory.local(), "127.0.0.1:0").await.unwrap();
        let started = Group::start(small(), directory, Ledger::new(), Arc::new(transport)).await;
        let Err(StartError::Failed(failure)) = started else { panic!("it started with byte {at} damaged") };
        let (words, name) = (failure.to_string(), newest.file_stem().unwrap().to_string_lossy().into_owned());
        assert!(words.starts_with(&format!("snapshot failed: snapshot {name} is corrupt: ")), "{words}");
    }
    std::fs::write(&newest, whole).unwrap();
    let node = cluster.restart(1).await;
    eventually("everything is there", || node.ledger.len() == 10).await;
    cluster.stop_all().await;
}

/// A damaged entry of the log is named too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_log_is_named() {
    let mut cluster = Cluster::form(1, options()).await;
    for i in 0..10 {
        cluster.propose(&format!("command {i}")).await;
    }
    cluster.stop(1).await;
    let log = std::fs::read_dir(cluster.path(1).join("raft-log")).unwrap().map(|entry| entry.unwrap().path());
    let file = log.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).min().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(9).position(|window| window == b"command 3").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let directory = DataDirectory::open(cluster.path(1), CLUSTER, 1).unwrap();
    let transport = TcpTransport::listen(directory.local(), "127.0.0.1:0").await.unwrap();
    let started = Group::start(options(), directory, Ledger::new(), Arc::new(transport)).await;
    let Err(StartError::Failed(failure)) = started else { panic!("it started") };
    assert!(failure.to_string().starts_with("log storage failed: opening: "), "{failure}");
}
