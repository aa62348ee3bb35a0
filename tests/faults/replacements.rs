//! Nodes whose disks are lost, replaced under new numbers while tasks fall due.

use crate::campaign::Campaign;
use crate::harness::cluster::{Cluster, Settings};
use crate::harness::program::ask;
use crate::harness::wait::until;

/// Repeats a command of the cluster until it is carried out: a leader may have died a moment ago.
#[track_caller]
fn command(cluster: &Cluster, arguments: &[&str]) {
    let mut full = vec!["cluster"];
    full.extend(arguments);
    until(&full.join(" "), || {
        let ran = ask(&cluster.any(), &full, None);
        if ran.code != 0 {
            eprintln!("{}: {}", full.join(" "), ran.err.trim());
        }
        ran.code == 0
    });
}

#[test]
fn a_follower_and_the_leader_are_replaced_by_new_nodes() {
    let mut campaign = Campaign::start("nodes replaced under load", Settings::default(), 25);
    for (new, leads) in [(4, false), (5, true)] {
        campaign.disturb_the_majority(|cluster, _| {
            let old = if leads { cluster.leader() } else { cluster.follower() };
            cluster.kill(old);
            command(cluster, &["remove-node", &old.to_string()]);
            let (api, peer) = cluster.join(new);
            command(cluster, &["add-node", &new.to_string(), "--api", &api, "--peer", &peer]);
            cluster.await_caught_up(new);
            command(cluster, &["promote", &new.to_string()]);
            cluster.await_ready();
        });
        campaign.ask_members();
    }
    campaign.finish();
}
