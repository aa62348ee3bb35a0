//! The checker sees: every planted bug is found, and nothing is found where none is.
//!
//! Short worlds, so that an unoptimised build is through in a minute.

use escapement_simulation::plants::{Plant, Planted};
use escapement_simulation::profile::Profile;
use escapement_simulation::run::{Order, Verdict, run};

/// Seeds within which a planted bug must be found.
const SEEDS: u64 = 500;
/// How long clients and faults go on, in ms.
const ACTIVE_MS: u64 = 60_000;

fn play(seed: u64, profile: Profile, planted: Planted) -> Verdict {
    run(Order { seed, profile, active_ms: Some(ACTIVE_MS), planted, spoken: false })
}

#[track_caller]
fn check_found(plant: Plant, profile: Profile, by: &[&str]) {
    let planted = Planted::with(plant).expect("the tests are built with the feature");
    let seen = (1..=SEEDS).find_map(|seed| play(seed, profile, planted).violations.into_iter().next());
    let seen = seen.unwrap_or_else(|| panic!("{plant} was not found within {SEEDS} seeds"));
    assert!(by.contains(&seen.invariant), "{plant} was found by another invariant than expected: {seen}");
}

#[test]
fn an_occurrence_that_fires_twice_under_a_shifted_instant_is_found() {
    check_found(Plant::ShiftedInstant, Profile::Calm, &["lost"]);
}

#[test]
fn a_wheel_that_is_filled_from_now_is_found() {
    check_found(Plant::WheelFromNow, Profile::Storm, &["lost"]);
}

#[test]
fn a_lease_that_nobody_heeds_is_found() {
    check_found(Plant::LeaseIgnored, Profile::Storm, &["overlap", "phantom"]);
}

#[test]
fn a_snapshot_without_its_executions_is_found() {
    check_found(Plant::SnapshotForgets, Profile::Storm, &["agreement"]);
}

#[test]
fn a_command_whose_id_is_forgotten_is_found() {
    check_found(Plant::CommandForgotten, Profile::Storm, &["acknowledged", "phantom", "lost"]);
}

#[test]
fn a_deposed_leader_that_goes_on_dispatching_is_found() {
    check_found(Plant::DeposedDispatches, Profile::Storm, &["overlap"]);
}

#[test]
fn a_result_under_a_forged_token_is_found() {
    check_found(Plant::FencingIgnored, Profile::Storm, &["fencing", "overlap"]);
}

#[test]
fn a_leader_with_a_wild_clock_is_found() {
    check_found(Plant::WildClock, Profile::Clock, &["early", "late", "convergence"]);
}
