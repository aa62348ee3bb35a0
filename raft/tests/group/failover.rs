//! Leaders die, disks come back, and whatever was acknowledged is there.

use std::time::Duration;

use bytes::Bytes;
use escapement_raft::{Group, MemoryNetwork, Options, ProposeError, ReadError};

use crate::cluster::{Cluster, eventually, options};
use crate::in_memory::InMemory;
use crate::ledger::Ledger;

/// Three nodes over TCP: the leader dies twice, everyone restarts from disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_the_leader_and_a_restart() {
    let mut cluster = Cluster::form(3, options()).await;
    for i in 0..20 {
        cluster.propose(&format!("a{i}")).await;
    }
    let first = cluster.leader().await.id;
    cluster.stop(first).await;
    for i in 0..20 {
        cluster.propose(&format!("b{i}")).await;
    }
    cluster.restart(first).await;
    cluster.agree(40).await;
    for id in [1, 2, 3] {
        cluster.stop(id).await;
    }
    for id in [1, 2, 3] {
        cluster.restart(id).await;
    }
    let answer = cluster.propose("last").await.answer;
    assert_eq!(answer, Bytes::from_static(b"41"));
    cluster.agree(41).await;
    let ledger = &cluster.nodes[&2].ledger;
    assert!((0..20).all(|i| ledger.contains(&format!("a{i}")) && ledger.contains(&format!("b{i}"))));
    cluster.stop_all().await;
}

/// A follower proves a read through the leader, and a lone survivor proves none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_barrier_on_any_node_covers_what_was_acknowledged_before() {
    let mut cluster = Cluster::form(3, options()).await;
    for i in 0..10 {
        let committed = cluster.propose(&format!("c{i}")).await;
        for node in cluster.nodes.values() {
            let index = node.group.read_barrier().await.unwrap();
            assert!(index >= committed.index && node.ledger.len() > i);
        }
    }
    let leader = cluster.leader().await.id;
    for id in [1, 2, 3] {
        if id != leader {
            cluster.stop(id).await;
        }
    }
    let alone = &cluster.nodes[&leader].group;
    assert!(matches!(alone.read_barrier().await, Err(ReadError::NotLeader { .. })));
    let refused = alone.propose(Bytes::from_static(b"alone")).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { leader: None } | ProposeError::Unknown { .. })));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_and_back() {
    let cluster = Cluster::form(3, options()).await;
    cluster.propose("before").await;
    let old = cluster.leader().await.id;
    let new = cluster.nodes.keys().copied().find(|id| *id != old).unwrap();
    // Asked of any node, it reaches the leader.
    cluster.nodes[&new].group.transfer_leadership(Some(new)).await.unwrap();
    eventually("the chosen node leads", || cluster.nodes[&new].leads()).await;
    cluster.propose("after").await;
    cluster.nodes[&old].group.transfer_leadership(None).await.unwrap();
    eventually("another node leads", || !cluster.nodes[&new].leads()).await;
    cluster.propose("last").await;
    cluster.agree(3).await;
    cluster.stop_all().await;
}

/// Cut off, the old leader acknowledges nothing; healed, everyone agrees; a failed sync stops its node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_acknowledges_nothing() {
    let cluster = InMemory::form().await;
    cluster.propose(&[0, 1, 2], "one").await;
    let old = cluster.leader(&[0, 1, 2]).unwrap();
    cluster.network.isolate(old as u64 + 1, [1, 2, 3]);
    let lost = cluster.nodes[old].0.propose(Bytes::from_static(b"lost")).await;
    assert!(lost.is_err(), "{lost:?}");
    let others: Vec<usize> = (0..3).filter(|at| *at != old).collect();
    cluster.propose(&others, "two").await;
    cluster.network.heal();
    cluster.propose(&[0, 1, 2], "three").await;
    eventually("all hold it", || cluster.nodes.iter().all(|(_, ledger)| ledger.contains("three"))).await;
    assert!(cluster.nodes.iter().all(|(_, ledger)| ledger.commands() == cluster.nodes[0].1.commands()));

    let broken = cluster.leader(&[0, 1, 2]).unwrap();
    cluster.disks[broken].fail_syncs();
    let refused = cluster.nodes[broken].0.propose(Bytes::from_static(b"never")).await;
    assert!(matches!(refused, Err(ProposeError::Storage(_) | ProposeError::Unknown { .. })), "{refused:?}");
    let failure = cluster.nodes[broken].0.failed().await;
    assert!(failure.to_string().starts_with("log storage failed"), "{failure}");
    let refused = cluster.nodes[broken].0.propose(Bytes::from_static(b"never")).await;
    assert!(matches!(refused, Err(ProposeError::Storage(_))), "{refused:?}");
    let others: Vec<usize> = (0..3).filter(|at| *at != broken).collect();
    cluster.propose(&others, "four").await;
    for (group, _) in &cluster.nodes {
        group.shutdown().await;
    }
}

/// A snapshot whose sync fails ends its node as any other failed sync does, whether it was made or received.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_synced_ends_its_node() {
    let small = Options { snapshot_entries: 50, log_entries_kept: 10, ..options() };
    let mut cluster = InMemory::form_with(MemoryNetwork::new(), small).await;
    cluster.propose(&[0, 1, 2], "first").await;
    let leader = cluster.leader(&[0, 1, 2]).unwrap();
    let late = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|at| *at != late).collect();
    cluster.nodes[late].0.shutdown().await;
    for i in 0..200 {
        cluster.propose(&others, &i.to_string()).await;
    }
    for at in &others {
        let group = &cluster.nodes[*at].0;
        group.trigger_snapshot().await.unwrap();
        eventually("the log is purged", || group.status().purged.is_some_and(|purged| purged > 50)).await;
    }
    cluster.disks[late].crash(0);
    cluster.disks[late].fail_snapshot_syncs();
    let (group, ledger, transport) = cluster.start(late as u64 + 1).await;
    let failure = failure_of(&group).await;
    assert!(failure.starts_with("snapshot failed"), "it was received: {failure}");
    assert_eq!(ledger.restored(), 0, "what is not synced is not taken");
    group.shutdown().await;
    cluster.disks[late].crash(0);
    drop(transport);
    let (group, ledger, _transport) = cluster.start(late as u64 + 1).await;
    eventually("it holds everything", || ledger.len() == 201).await;
    cluster.nodes[late] = (group, ledger);

    let broken = others[0];
    cluster.disks[broken].fail_snapshot_syncs();
    cluster.propose(&[0, 1, 2], "one more").await;
    eventually("it is there", || cluster.nodes[broken].1.contains("one more")).await;
    // The node ends before it can answer, or just after.
    drop(cluster.nodes[broken].0.trigger_snapshot().await);
    let failure = failure_of(&cluster.nodes[broken].0).await;
    assert!(failure.starts_with("snapshot failed"), "it was made: {failure}");
    for (group, _) in &cluster.nodes {
        group.shutdown().await;
    }
}

/// Waits until a node ends by itself, and returns what it says.
async fn failure_of(group: &Group) -> String {
    let failed = tokio::time::timeout(Duration::from_secs(60), group.failed()).await;
    failed.expect("it ends").to_string()
}

/// A disk that forgets what was not synced keeps what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_every_node_loses_nothing_acknowledged() {
    let mut cluster = InMemory::form().await;
    for i in 0..20 {
        cluster.propose(&[0, 1, 2], &format!("c{i}")).await;
    }
    for (group, _) in cluster.nodes.drain(..) {
        group.shutdown().await;
    }
    for disk in &cluster.disks {
        disk.crash(0);
    }
    let mut transports = Vec::new();
    for id in 1..=3 {
        let (group, ledger, transport) = cluster.start(id).await;
        cluster.nodes.push((group, ledger));
        transports.push(transport);
    }
    cluster.propose(&[0, 1, 2], "after").await;
    let holds = |ledger: &Ledger| (0..20).all(|i| ledger.contains(&format!("c{i}")));
    eventually("all hold it", || cluster.nodes.iter().all(|(_, ledger)| holds(ledger))).await;
    for (group, _) in &cluster.nodes {
        group.shutdown().await;
    }
}
