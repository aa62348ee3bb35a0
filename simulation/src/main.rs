//! The simulator's command line: runs seeds, shows how far it is, and says how to replay what failed.

use std::ops::RangeInclusive;
use std::process::ExitCode;

use clap::Parser;
use escapement_simulation::plants::{Plant, Planted};
use escapement_simulation::profile::Profile;
use escapement_simulation::progress::{Progress, Summary};
use escapement_simulation::run::{Order, run};
use tracing_subscriber::EnvFilter;

/// Runs a whole cluster under seeded faults in virtual time, and judges what was seen from outside.
#[derive(Debug, Parser)]
#[command(name = "escapement-simulation", version)]
struct Arguments {
    /// Which seeds: one (7), or a range with both ends (1..1000).
    #[arg(long, value_parser = seeds)]
    seeds: Option<RangeInclusive<u64>>,
    /// How rough: calm, storm, disk, clock, membership or herd; each seed its own if absent.
    #[arg(long)]
    profile: Option<Profile>,
    /// Writes out every happening.
    #[arg(long)]
    trace: bool,
    /// Puts a bug in, in a build with the feature `planted`.
    #[arg(long)]
    plant: Option<Plant>,
    /// Lists the bugs that can be put in.
    #[arg(long)]
    plants: bool,
    /// How many seconds of the world clients and faults go on.
    #[arg(long)]
    active: Option<u64>,
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number =
        |part: &str| part.trim_start_matches('=').parse().map_err(|_| format!("`{part}` is no seed"));
    match text.split_once("..") {
        Some((first, last)) => Ok(number(first)?..=number(last)?),
        None => number(text).map(|seed| seed..=seed),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What the nodes themselves say, for whoever follows one seed: ESCAPEMENT_LOG=openraft=debug, say.
    let told = EnvFilter::try_from_env("ESCAPEMENT_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(told).without_time().init();
    if arguments.plants {
        Plant::ALL.into_iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let planted = match arguments.plant.map(Planted::with) {
        None => Planted::NOTHING,
        Some(Some(planted)) => planted,
        Some(None) => {
            eprintln!("this build has no bugs to plant: build it with `--features planted`");
            return ExitCode::from(2);
        }
    };
    let seeds = arguments.seeds.clone().unwrap_or(1..=100);
    let mut progress = Progress::new(seeds.clone().count() as u64);
    let mut summary = Summary::default();
    for seed in seeds {
        let profile = arguments.profile.unwrap_or_else(|| Profile::of_seed(seed));
        let active_ms = arguments.active.map(|seconds| seconds * 1_000);
        let verdict = match run(Order { seed, profile, active_ms, planted, spoken: arguments.trace }) {
            Ok(verdict) => verdict,
            Err(error) => {
                eprintln!("seed {seed} cannot be run: {error}");
                return ExitCode::FAILURE;
            }
        };
        summary.add(&verdict);
        if let Some(first) = verdict.violations.first() {
            let more = verdict.violations.len() - 1;
            let plant = arguments.plant.map(|plant| format!(" --plant {plant}")).unwrap_or_default();
            let active = arguments.active.map(|seconds| format!(" --active {seconds}")).unwrap_or_default();
            let features = if arguments.plant.is_some() { " --features planted" } else { "" };
            progress.line(&format!(
                "seed {seed} ({profile}) {first} (and {more} more); replay: cargo run --release -p \
                 escapement-simulation{features} -- --seeds {seed} --profile {profile}{plant}{active} --trace"
            ));
            if arguments.trace {
                verdict.violations.iter().for_each(|violation| println!("{violation}"));
            }
        }
        if arguments.trace {
            println!("trace {}", verdict.trace);
        }
        progress.step(summary.failed);
    }
    progress.finish();
    println!("{summary}");
    if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
