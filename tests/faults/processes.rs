//! Processes that die and freeze: the leader, again and again.

use crate::campaign::{Campaign, await_calls};
use crate::harness::cluster::Settings;
use crate::harness::wait::{now_ms, until};

/// How long a leader is frozen, in ms: longer than an election, and longer than the lease of what it holds.
const FROZEN_MS: [i64; 2] = [1_500, 6_500];

#[test]
fn the_leader_is_killed_again_and_again() {
    let mut campaign = Campaign::start("kill -9 of the leader", Settings::default(), 25);
    let mut kills = 0;
    while campaign.goes_on() || kills < 3 {
        campaign.disturb(|cluster, target| {
            let leader = cluster.leader();
            cluster.kill(leader);
            await_calls(target, 40);
            cluster.start_again(leader);
            cluster.await_ready();
        });
        kills += 1;
    }
    campaign.finish();
}

#[test]
fn the_leader_is_frozen_again_and_again() {
    let mut campaign = Campaign::start("SIGSTOP of the leader", Settings::default(), 25);
    for (freezes, frozen_ms) in FROZEN_MS.into_iter().cycle().enumerate() {
        if !campaign.goes_on() && freezes >= FROZEN_MS.len() {
            break;
        }
        let frozen = campaign.disturb(|cluster, target| {
            let (leader, since) = (cluster.leader(), now_ms());
            cluster.node(leader).freeze();
            until("it was frozen for so long", || now_ms() >= since + frozen_ms);
            await_calls(target, 1);
            cluster.node(leader).thaw();
            let frozen = (leader, since, now_ms());
            cluster.await_ready();
            cluster.await_caught_up(leader);
            frozen
        });
        campaign.frozen.push(frozen);
    }
    campaign.finish();
}
