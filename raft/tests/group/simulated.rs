//! The whole group on one thread, in time that stands still until everybody waits.

use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::in_memory::InMemory;

/// Minutes of elections and proposals take no minutes. Dropping the set is the crash of every node.
#[test]
#[expect(clippy::disallowed_methods, reason = "it compares paused time with the clock on the wall")]
fn minutes_pass_in_seconds_on_one_seeded_thread() {
    escapement_raft::runtime::seed(7);
    let started = Instant::now();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let world = LocalSet::new();
    world.block_on(&runtime, async {
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
    drop(world);
    assert!(started.elapsed() < Duration::from_secs(60));
}
