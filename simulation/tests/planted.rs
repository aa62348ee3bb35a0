//! The checker sees: every bug that can be planted is found within 500 seeds, and by what it breaks.
//!
//! A bug is looked for where it shows soonest; the first seed that finds it ends the search.

use escapement_domain::planted::Bug;
use escapement_simulation::plants::{Plant, Planted};
use escapement_simulation::profile::Profile;
use escapement_simulation::run::{Order, run};

/// Seeds within which a planted bug must be found.
const SEEDS: u64 = 500;

/// Looks for a bug from seed `from` on.
#[track_caller]
fn check_found(plant: Plant, profile: Profile, from: u64, by: &[&str]) {
    let planted = Planted::with(plant).expect("the tests are built with the feature");
    let play = |seed| {
        let order = Order { seed, profile, active_ms: Some(60_000), planted, spoken: false };
        run(order).expect("a runtime").violations
    };
    let seen = (from..from + SEEDS).map(play).find(|seen| !seen.is_empty());
    let seen = seen.unwrap_or_else(|| panic!("{plant} was not found within {SEEDS} seeds"));
    let found = seen.iter().any(|violation| by.contains(&violation.invariant));
    assert!(found, "{plant} was found by another invariant than expected: {}", seen[0]);
}
