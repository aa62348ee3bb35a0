//! Nodes come and go under load, and what would lose the quorum is refused with its reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use escapement_raft::{ChangeError, Formation, Group, Options, form};

use crate::cluster::{Cluster, Node, eventually, options};

/// Proposes at whichever of the groups leads until it is told to stop; counts what was acknowledged.
fn load(groups: Vec<Group>, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let number = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        let mut acknowledged = 0;
        while !stop.load(Ordering::Relaxed) {
            let leader = groups.iter().find(|group| group.leadership().borrow().leading);
            let command = format!("load-{}", number.fetch_add(1, Ordering::Relaxed));
            match leader {
                Some(leader) if leader.propose(Bytes::from(command)).await.is_ok() => acknowledged += 1,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        acknowledged
    })
}

/// A learner catches up, votes, and outlives the node that formed the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_added_and_promoted_and_the_first_is_removed_under_load() {
    let mut cluster = Cluster::form(3, options()).await;
    let first = cluster.leader().await.id;
    let fourth = cluster.start_apart(4).await.address.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let groups: Vec<Group> = cluster.nodes.values().map(|node| node.group.clone()).collect();
    let loads: Vec<_> = (0..8).map(|_| load(groups.clone(), stop.clone())).collect();
    let joining = &cluster.nodes[&4];
    let other = cluster.nodes.keys().copied().find(|id| *id != first && *id != 4).unwrap();
    let admin = &cluster.nodes[&other].group;

    admin.add_learner(4, fourth.clone()).await.unwrap();
    admin.add_learner(4, fourth).await.unwrap();
    form(&joining.group, &*joining.transport, &Formation::Join).await.unwrap();
    eventually("the leader sees the learner's progress", || {
        let status = cluster.nodes[&first].group.status();
        status.members.get(&4).is_some_and(|member| !member.voter && member.matched.is_some())
    })
    .await;
    admin.promote(4).await.unwrap();
    eventually("node 4 votes", || joining.ledger.voters().contains(&4)).await;

    admin.remove_node(first).await.unwrap();
    eventually("node 4 sees the removal", || !joining.ledger.voters().contains(&first)).await;
    assert!(!cluster.nodes[&first].leads());
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for load in loads {
        acknowledged += load.await.unwrap() as usize;
    }
    cluster.stop(first).await;
    cluster.propose("after").await;
    cluster.agree(acknowledged + 1).await;
    assert!(matches!(
        cluster.nodes[&4].group.remove_node(first).await,
        Err(ChangeError::UnknownNode { node }) if node == first
    ));
    cluster.stop_all().await;
}

/// What would lose the quorum is refused before anything is written, even when the one that is missing answered a
/// moment ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_would_lose_the_quorum_is_refused() {
    let mut cluster = Cluster::form(3, options()).await;
    cluster.propose("one").await;
    let leader = cluster.leader().await.id;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    let group = cluster.nodes[&leader].group.clone();
    cluster.stop(others[0]).await;
    // Without the living follower, one of two would be left.
    match group.remove_node(others[1]).await.unwrap_err() {
        ChangeError::QuorumAtRisk { reachable, needed, .. } => {
            assert_eq!((reachable, needed), ([leader].into(), 2));
        }
        other => panic!("{other}"),
    }
    let unknown = group.remove_node(9).await.unwrap_err();
    assert_eq!(unknown, ChangeError::UnknownNode { node: 9 });
    let unknown = group.transfer_leadership(Some(9)).await.unwrap_err();
    assert_eq!(unknown, ChangeError::UnknownNode { node: 9 });
    // The dead one may go: the two that live are a majority before and after.
    group.remove_node(others[0]).await.unwrap();
    cluster.propose("two").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_voter_and_a_lagging_learner_stay_as_they_are() {
    let options = Options { promote_lag: 3, ..options() };
    let mut cluster = Cluster::form(1, options).await;
    for i in 0..20 {
        cluster.propose(&i.to_string()).await;
    }
    let group = cluster.nodes[&1].group.clone();
    assert_eq!(group.remove_node(1).await.unwrap_err(), ChangeError::LastVoter { node: 1 });
    let address = cluster.start_apart(2).await.address.clone();
    group.add_learner(2, address).await.unwrap();
    eventually("the learner catches up", || cluster.nodes[&2].ledger.len() == 20).await;
    let not_voter = group.transfer_leadership(Some(2)).await.unwrap_err();
    assert_eq!(not_voter, ChangeError::NotVoter { node: 2 });
    cluster.stop(2).await;
    for i in 0..20 {
        cluster.propose(&i.to_string()).await;
    }
    match group.promote(2).await.unwrap_err() {
        ChangeError::Lagging { node: 2, lag, allowed: 3 } => assert!(lag >= 20),
        other => panic!("{other}"),
    }
    cluster.restart(2).await;
    eventually("the learner catches up", || cluster.nodes[&2].ledger.len() == 40).await;
    group.promote(2).await.unwrap();
    group.remove_node(1).await.unwrap();
    eventually("node 2 leads", || cluster.nodes[&2].leads()).await;
    cluster.stop(1).await;
    cluster.propose("alone").await;
    cluster.stop_all().await;
}

/// The disk is the node: its id is refused to another disk, even after the node was removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_never_taken_by_another_disk() {
    let mut cluster = Cluster::form(3, options()).await;
    cluster.propose("one").await;
    let leader = cluster.leader().await.id;
    let lost = cluster.nodes.keys().copied().find(|id| *id != leader).unwrap();
    let group = cluster.nodes[&leader].group.clone();
    cluster.stop(lost).await;
    std::fs::rename(cluster.path(lost), cluster.path(90)).unwrap();
    let node = Node::start(lost, cluster.path(91), &cluster.listened(lost), cluster.options.clone()).await;
    let words = format!("disk lost: remove node {lost} and add it under a new id");
    let mut addresses: std::collections::BTreeMap<_, _> =
        cluster.nodes.iter().map(|(id, node)| (*id, node.address.clone())).collect();
    addresses.insert(lost, node.address.clone());
    let refused = form(&node.group, &*node.transport, &Formation::Together(addresses)).await.unwrap_err();
    assert!(refused.to_string().ends_with(&words), "{refused}");
    let refused = group.add_learner(lost, node.address.clone()).await.unwrap_err();
    assert_eq!(refused, ChangeError::DiskLost { node: lost });
    assert_eq!(refused.to_string(), words);
    group.remove_node(lost).await.unwrap();
    let refused = group.add_learner(lost, node.address.clone()).await.unwrap_err();
    assert_eq!(refused, ChangeError::DiskLost { node: lost });
    node.stop().await;
    cluster.stop_all().await;
}
