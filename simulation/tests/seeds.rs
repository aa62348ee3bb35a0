//! Without a planted bug every seed passes, and a seed is one run and no other, in whatever process.
//!
//! Short worlds, since an unoptimised build is slow; the long ones are the program's.

use std::process::Command;

use escapement_simulation::plants::Planted;
use escapement_simulation::profile::Profile;
use escapement_simulation::run::{Order, run};

#[track_caller]
fn check_passes(profile: Profile) {
    for seed in 1..=2 {
        let planted = Planted::NOTHING;
        let order = Order { seed, profile, active_ms: Some(30_000), planted, spoken: false };
        let verdict = run(order).expect("a runtime");
        assert!(verdict.violations.is_empty(), "seed {seed} ({profile}): {}", verdict.violations[0]);
        assert!(verdict.settled > 5, "seed {seed} ({profile}) fired something");
    }
}

#[test]
fn calm_seeds_pass() {
    check_passes(Profile::Calm);
}

#[test]
fn storm_seeds_pass() {
    check_passes(Profile::Storm);
}

#[test]
fn disk_seeds_pass() {
    check_passes(Profile::Disk);
}

#[test]
fn clock_seeds_pass() {
    check_passes(Profile::Clock);
}

#[test]
fn membership_seeds_pass() {
    check_passes(Profile::Membership);
}

#[test]
fn herd_seeds_pass() {
    check_passes(Profile::Herd);
}

/// Everything that a process says of a seed, every message and every record of it.
fn told(seed: &str) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_escapement-simulation"))
        .args(["--seeds", seed, "--profile", "storm", "--active", "20", "--trace"])
        .output()
        .expect("the simulator runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

#[test]
fn a_seed_is_the_same_run_byte_for_byte_in_two_processes() {
    let first = told("7");
    assert!(first == told("7"), "two processes differ");
    assert!(first != told("8"), "two seeds are two runs");
    assert!(first.len() > 100_000, "it tells of everything");
}
