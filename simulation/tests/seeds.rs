//! Without a planted bug every seed passes, and a seed is one run and no other.

use escapement_simulation::plants::Planted;
use escapement_simulation::profile::Profile;
use escapement_simulation::run::{Order, Verdict, run};

fn play(seed: u64, profile: Profile) -> Verdict {
    run(Order { seed, profile, active_ms: Some(60_000), planted: Planted::NOTHING, spoken: false })
}

#[track_caller]
fn check_passes(profile: Profile) {
    for seed in 1..=5 {
        let verdict = play(seed, profile);
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
fn clock_seeds_pass() {
    check_passes(Profile::Clock);
}

#[test]
fn herd_seeds_pass() {
    check_passes(Profile::Herd);
}

#[test]
fn a_seed_leaves_the_same_trace_every_time() {
    for profile in Profile::ALL {
        assert_eq!(play(7, profile).trace, play(7, profile).trace, "{profile}");
        assert_ne!(play(7, profile).trace, play(8, profile).trace, "{profile}");
    }
}
