//! Links that take 200 ms each way and lose 5 % of what they carry.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use crate::campaign::Campaign;
use crate::harness::cluster::{Hosts, Settings};
use crate::harness::ports::free_port;
use crate::harness::wait::until;
use crate::proxy::Proxy;

/// Elections that such links can hold: a vote takes 400 ms there and back, and more if it is lost.
const RAFT: &str = "heartbeat = \"900ms\"\nelection = [\"3s\", \"6s\"]\n";
/// How long tasks fall due; the tail is long.
const SECONDS: i64 = 15;

/// Nodes that listen elsewhere than where the others find them.
#[derive(Debug, Default)]
struct Behind(Mutex<BTreeMap<u64, SocketAddr>>);

impl Hosts for Behind {
    fn dress(&self, node: u64, mut command: Command) -> Command {
        if let Some(address) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&node) {
            command.env(format!("ESCAPEMENT__NODE__{node}__PEER"), address.to_string());
        }
        command
    }
}

#[test]
fn links_are_slow_and_lossy() {
    let behind = Arc::new(Behind::default());
    let settings = Settings { raft: RAFT.into(), hosts: Some(behind.clone()), ..Settings::default() };
    let mut campaign = Campaign::start("200 ms and 5 % loss on every link", settings, SECONDS);
    campaign.disturb_throughout();
    // The members know each other by addresses at which, from now on, the bad links begin.
    (1..=3).for_each(|id| campaign.cluster.kill(id));
    let mut links = Vec::new();
    for id in 1..=3 {
        let listens = SocketAddr::from(([127, 0, 0, 1], free_port()));
        behind.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, listens);
        links.push(Proxy::start(campaign.cluster.peer(id), listens, id));
        campaign.cluster.start_again(id);
    }
    campaign.cluster.await_ready();
    until("everything has fallen due", || !campaign.goes_on());
    let losses: Vec<(usize, usize)> = links.iter().map(Proxy::losses).collect();
    eprintln!("lost parts, and connections that broke, by link: {losses:?}");
    assert!(losses.iter().all(|(lost, _)| *lost > 0), "{losses:?}");
    campaign.finish();
}
