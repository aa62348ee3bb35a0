//! The whole group on one thread, in time that stands still until everybody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use escapement_raft::{Address, Lane, MemoryNetwork, Message, Passage, Weather};
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::cluster::{eventually, options};
use crate::in_memory::InMemory;

/// Runs a world of paused time on this thread, from a seed.
fn simulate(seed: u64, world: impl Future<Output = ()>) {
    escapement_raft::runtime::seed(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, world);
}

/// Minutes of elections and proposals take no minutes. Dropping the set is the crash of every node.
#[test]
#[expect(clippy::disallowed_methods, reason = "it compares paused time with the clock on the wall")]
fn minutes_pass_in_seconds_on_one_seeded_thread() {
    let started = Instant::now();
    simulate(7, async {
        let begun = tokio::time::Instant::now();
        let cluster = InMemory::form().await;
        for disk in &cluster.disks {
            disk.set_sync(Duration::from_millis(3));
        }
        let mut command = 0;
        while begun.elapsed() < Duration::from_secs(120) {
            let leader = cluster.leader(&[0, 1, 2]);
            if let Some(leader) = leader {
                cluster.network.isolate(leader as u64 + 1, [1, 2, 3]);
            }
            let others: Vec<usize> = (0..3).filter(|at| Some(*at) != leader).collect();
            for _ in 0..10 {
                command += 1;
                cluster.propose(&others, &command.to_string()).await;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            cluster.network.heal();
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let first = cluster.nodes[0].1.commands();
        assert!(first.len() >= command);
        assert!(cluster.nodes.iter().all(|(_, ledger)| ledger.commands() == first));
    });
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// Nothing arrives at one node; what it sends does.
#[derive(Default)]
struct Deaf(AtomicU64);

impl Weather for Deaf {
    fn passage(&self, _from: u64, to: u64, _lane: Lane, _message: Message) -> Passage {
        if to == self.0.load(Ordering::Relaxed) { Passage::Lost } else { Passage::After(Duration::ZERO) }
    }
}

/// A leader that all hear and that hears nobody is replaced; with a follower that is deaf all goes on.
#[test]
#[expect(clippy::disallowed_methods, reason = "it measures the time that stands still")]
fn a_leader_that_hears_nobody_is_replaced_though_all_hear_it() {
    simulate(5, async {
        let deaf = Arc::new(Deaf::default());
        let cluster = InMemory::form_on(MemoryNetwork::under(deaf.clone())).await;
        cluster.propose(&[0, 1, 2], "before").await;
        let old = cluster.leader(&[0, 1, 2]).expect("it has committed");
        deaf.0.store(old as u64 + 1, Ordering::Relaxed);
        let others: Vec<usize> = (0..3).filter(|at| *at != old).collect();
        let begun = tokio::time::Instant::now();
        cluster.propose(&others, "meanwhile").await;
        let took = begun.elapsed();
        assert!(took < options().election_max * 8, "{took:?}");
        deaf.0.store(0, Ordering::Relaxed);
        eventually("it has heard", || cluster.nodes[old].1.contains("meanwhile")).await;
        let new = cluster.leader(&[0, 1, 2]).expect("somebody leads");
        let follower = (0..3).find(|at| *at != new).expect("there are three");
        deaf.0.store(follower as u64 + 1, Ordering::Relaxed);
        for nth in 0..200 {
            cluster.propose(&[new], &format!("beside a deaf follower {nth}")).await;
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(cluster.leader(&[0, 1, 2]), Some(new), "nothing was wrong with it");
    });
}

/// A leader dies when everybody knows that a fifth voter comes, and before anybody knows that it has come.
#[test]
fn a_change_that_its_leader_left_half_made_is_finished_by_the_next_one() {
    simulate(11, async {
        let mut cluster = InMemory::form().await;
        let leader = loop {
            sleep(Duration::from_millis(10)).await;
            if let Some(leader) = cluster.leader(&[0, 1, 2]) {
                break leader;
            }
        };
        cluster.add_disk();
        let (joining, ledger, _transport) = cluster.start(4).await;
        let group = cluster.nodes[leader].0.clone();
        cluster.nodes.push((joining, ledger));
        let place = Address { api: "api-4".to_owned(), peer: "node-4".to_owned() };
        group.add_learner(4, place).await.unwrap();
        for disk in &cluster.disks {
            disk.set_sync(Duration::from_millis(20));
        }
        let promotion = tokio::task::spawn_local(async move { group.promote(4).await });
        let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        while !others.iter().all(|at| cluster.nodes[*at].0.status().changing) {
            sleep(Duration::from_millis(1)).await;
        }
        cluster.network.isolate(leader as u64 + 1, [1, 2, 3, 4]);
        promotion.abort();
        let finished = async {
            loop {
                sleep(Duration::from_millis(50)).await;
                let next = cluster.leader(&others);
                if next.is_some_and(|next| !cluster.nodes[next].0.status().changing) {
                    break cluster.nodes[next.unwrap()].0.status();
                }
            }
        };
        let status = tokio::time::timeout(Duration::from_secs(20), finished).await.expect("it is finished");
        assert!(status.members[&4].voter);
    });
}
