//! Proposals: many in few entries, in order, bounded.

use bytes::Bytes;
use escapement_raft::{Options, ProposeError, limits};

use crate::cluster::{Cluster, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposals_share_few_entries_and_keep_their_order() {
    let cluster = Cluster::form(1, options()).await;
    let node = &cluster.nodes[&1];
    let callers = (0..200).map(|caller| {
        let group = node.group.clone();
        tokio::spawn(async move {
            for turn in 0..10 {
                group.propose(Bytes::from(format!("{caller}-{turn}"))).await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(node.ledger.len(), 2_000);
    assert!(node.ledger.entries() < 1_000, "{} entries", node.ledger.entries());
    let commands = node.ledger.commands();
    let place = |command: String| commands.iter().position(|held| held == command.as_bytes()).unwrap();
    for caller in [0, 99, 199] {
        let places: Vec<usize> = (0..10).map(|turn| place(format!("{caller}-{turn}"))).collect();
        assert!(places.is_sorted());
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_holds_no_more_than_it_may() {
    let cluster = Cluster::form(1, options()).await;
    let group = &cluster.nodes[&1].group;
    let big = |bytes: usize| Bytes::from(vec![7; bytes]);
    let refused = group.propose(big(limits::ENTRY_BYTES_MAX + 1)).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { limit: limits::ENTRY_BYTES_MAX, .. })));
    let largest = (0..20).map(|_| group.propose(big(limits::ENTRY_BYTES_MAX)));
    let committed = futures::future::try_join_all(largest).await.unwrap();
    let mut indexes: Vec<u64> = committed.iter().map(|committed| committed.index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 20);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once() {
    let options = Options { queue_commands: 4, entries_in_flight: 1, ..options() };
    let cluster = Cluster::form(1, options).await;
    let group = &cluster.nodes[&1].group;
    let many = (0..500).map(|i| group.propose(Bytes::from(i.to_string())));
    let results = futures::future::join_all(many).await;
    let busy = results.iter().filter(|result| matches!(result, Err(ProposeError::Busy))).count();
    let committed = results.iter().filter(|result| result.is_ok()).count();
    assert!(busy > 0 && committed > 0 && busy + committed == 500, "{busy} busy, {committed} committed");
    assert_eq!(cluster.nodes[&1].ledger.len(), committed);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::form(3, options()).await;
    let leader = cluster.leader().await.id;
    let follower = cluster.nodes.values().find(|node| node.id != leader).unwrap();
    let refused = follower.group.propose(Bytes::from_static(b"x")).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { leader: Some(named) }) if named == leader));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_the_application_does_not_know_stops_the_node_with_a_word() {
    let cluster = Cluster::form(1, options()).await;
    let group = &cluster.nodes[&1].group;
    let refused = group.propose(Bytes::from_static(b"unknown")).await;
    assert!(matches!(refused, Err(ProposeError::Storage(_) | ProposeError::Unknown { .. })), "{refused:?}");
    assert_eq!(group.failed().await.to_string(), "state machine failed: it is of another version");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_application_stops_the_node_with_a_word() {
    let cluster = Cluster::form(1, options()).await;
    let group = &cluster.nodes[&1].group;
    let refused = group.propose(Bytes::from_static(b"panic")).await;
    assert!(matches!(refused, Err(ProposeError::Storage(_) | ProposeError::Unknown { .. })), "{refused:?}");
    let failure = group.failed().await.to_string();
    assert!(failure.starts_with("state machine failed: it panicked while applying entry"), "{failure}");
    let refused = group.propose(Bytes::from_static(b"x")).await;
    assert!(matches!(refused, Err(ProposeError::Storage(_))), "{refused:?}");
    cluster.stop_all().await;
}
