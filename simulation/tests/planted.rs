//! The checker sees: every bug that can be planted is found within 500 seeds, by what it breaks, and in a seed in which
//! nothing is found without it.
//!
//! A bug is looked for where it shows soonest; the first seed that finds it ends the search.

#![cfg(feature = "planted")]

use escapement_domain::planted::Bug;
use escapement_simulation::plants::{Plant, Planted};
use escapement_simulation::profile::Profile;
use escapement_simulation::run::{Order, run};

/// The last seed in which a planted bug must be found.
const LAST: u64 = 500;

/// Looks for a bug from seed `from` on, the first that found it when this was written.
#[track_caller]
fn check_found(plant: Plant, profile: Profile, from: u64, by: &[&str]) {
    let planted = Planted::with(plant).expect("the tests are built with the feature");
    let play = |seed, planted| {
        let order = Order { seed, profile, active_ms: Some(60_000), planted, spoken: false };
        run(order).expect("a runtime").violations
    };
    let found = (from..=LAST).map(|seed| (seed, play(seed, planted))).find(|(_, seen)| !seen.is_empty());
    let (seed, seen) = found.unwrap_or_else(|| panic!("{plant} was not found in the seeds {from} to {LAST}"));
    println!("{plant}: {profile} {seed}, by {}", seen[0].invariant);
    let found = seen.iter().any(|violation| by.contains(&violation.invariant));
    assert!(found, "{plant} was found by another invariant than expected: {}", seen[0]);
    let without = play(seed, Planted::NOTHING);
    assert!(without.is_empty(), "{profile} {seed} fails without {plant}, too: {}", without[0]);
}

#[test]
fn an_occurrence_that_fires_again_is_found() {
    check_found(Plant::Program(Bug::RepeatedOccurrence), Profile::Storm, 2, &["lost", "duplicate"]);
}

#[test]
fn entries_that_are_acknowledged_before_they_are_synced_are_found() {
    check_found(
        Plant::EarlyAcknowledgement,
        Profile::Storm,
        229,
        // What was acknowledged and is lost runs again.
        &["agreement", "acknowledged", "convergence", "stopped", "matching"],
    );
}

#[test]
fn a_deposed_leader_that_goes_on_is_found() {
    // It keeps leases alive: work runs beside its successor's, or for a task that was deleted meanwhile.
    check_found(Plant::Program(Bug::DeposedLeader), Profile::Storm, 162, &["overlap", "phantom"]);
}

#[test]
fn a_lease_that_nobody_heeds_is_found() {
    check_found(Plant::Program(Bug::IgnoredLease), Profile::Storm, 91, &["overlap"]);
}

#[test]
fn a_wheel_that_drops_a_timer_is_found() {
    check_found(Plant::Program(Bug::DroppedTimer), Profile::Calm, 1, &["convergence", "late", "lost"]);
}

#[test]
fn a_snapshot_without_its_executions_is_found() {
    check_found(Plant::Program(Bug::ForgetfulSnapshot), Profile::Storm, 1, &["agreement"]);
}

#[test]
fn a_vote_that_is_not_persisted_is_found() {
    check_found(Plant::ForgottenVotes, Profile::Storm, 1, &["agreement", "stopped", "acknowledged"]);
}

#[test]
fn a_wheel_that_is_filled_from_now_is_found() {
    check_found(Plant::Program(Bug::WheelFromNow), Profile::Storm, 1, &["convergence", "lost"]);
}

#[test]
fn an_order_that_a_hash_map_decides_is_found() {
    check_found(Plant::Program(Bug::HashOrder), Profile::Calm, 1, &["agreement"]);
}

#[test]
fn a_command_that_is_forgotten_is_found() {
    check_found(Plant::Program(Bug::ForgottenCommand), Profile::Storm, 9, &["acknowledged", "duplicate"]);
}

#[test]
fn blocks_that_are_lost_at_a_purge_are_found() {
    check_found(Plant::Program(Bug::LostBlocks), Profile::Storm, 2, &["histories", "stopped"]);
}

#[test]
fn a_leader_that_restarts_in_its_old_term_is_found() {
    check_found(Plant::LeaderRestore, Profile::Storm, 1, &["agreement"]);
}

#[test]
fn a_leader_with_a_wild_clock_is_found() {
    check_found(Plant::Program(Bug::WildClock), Profile::Clock, 4, &["early", "late", "convergence"]);
}

#[test]
fn a_step_of_a_chain_that_is_forgotten_is_found() {
    check_found(Plant::Program(Bug::ForgottenStep), Profile::Calm, 3, &["followed"]);
}

#[test]
fn a_read_of_what_a_node_happens_to_have_is_found() {
    check_found(Plant::Program(Bug::StaleRead), Profile::Storm, 1, &["linearizable", "served"]);
}

#[test]
fn damage_that_nobody_looks_for_is_found() {
    check_found(
        Plant::Program(Bug::UncheckedChecksum),
        Profile::Disk,
        3,
        &["histories", "stopped", "agreement", "served"],
    );
}

#[test]
fn a_sync_whose_failure_is_ignored_is_found() {
    check_found(Plant::IgnoredSync, Profile::Disk, 11, &["stopped"]);
}
