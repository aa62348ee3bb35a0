//! Links that are cut, one way and both ways, between nodes that all still reach the target and their clients.

use std::sync::Arc;

use crate::campaign::{Campaign, await_calls, skip};
use crate::harness::cluster::{Cluster, Settings};
use crate::harness::target::Target;
use crate::harness::wait::{now_ms, until};
use crate::network::Network;

/// How long a link is cut, in ms: longer than an election, and longer than the leases of what a node holds.
const CUT_MS: [i64; 2] = [1_500, 7_000];

/// A leader that is cut off for so long, in ms, is one no more.
const LONG_MS: i64 = 5_000;

/// Which links of the leader are cut: `(from, to)`.
type Links = fn(leader: u64, other: u64) -> Vec<(u64, u64)>;

/// Cuts the leader's links again and again.
#[track_caller]
fn check(name: &'static str, links: &[Links]) {
    let network = match Network::new(3) {
        Ok(network) => Arc::new(network),
        Err(reason) => return skip(name, &reason),
    };
    let target = Target::start_at(network.test());
    let settings = Settings { hosts: Some(network.clone()), ..Settings::default() };
    let mut campaign = Campaign::begin(name, Cluster::start_with(3, settings), target, 25);
    let mut changes = 0;
    let faults: Vec<(Links, i64)> =
        CUT_MS.into_iter().flat_map(|cut_ms| links.iter().map(move |links| (*links, cut_ms))).collect();
    for (cuts, &(links, cut_ms)) in faults.iter().cycle().enumerate() {
        if !campaign.goes_on() && cuts >= faults.len() {
            break;
        }
        let changed = campaign.disturb(|cluster, target| {
            let leader = cluster.leader();
            for other in (1..=3).filter(|other| *other != leader) {
                links(leader, other).into_iter().for_each(|(from, to)| network.cut(from, to));
            }
            let heal_at = now_ms() + cut_ms;
            until("it was cut for so long", || now_ms() >= heal_at);
            await_calls(target, 1);
            let changed = || {
                let others = (1..=3).filter(|other| *other != leader);
                others.filter_map(|other| cluster.said_by(other)).any(|said| said != leader)
            };
            if cut_ms >= LONG_MS {
                until("another one leads than who was cut off for so long", changed);
            }
            let changed = changed();
            network.heal();
            cluster.await_ready();
            cluster.await_caught_up(leader);
            changed
        });
        changes += usize::from(changed);
    }
    assert!(changes > 0, "the links were cut: {changes}");
    campaign.finish();
}

#[test]
fn the_leader_is_cut_off_both_ways() {
    check("two-way partitions of the leader", &[|leader, other| vec![(leader, other), (other, leader)]]);
}

#[test]
fn the_leader_is_heard_and_hears_not_or_hears_and_is_not_heard() {
    check(
        "one-way partitions of the leader",
        &[|leader, other| vec![(leader, other)], |leader, other| vec![(other, leader)]],
    );
}
