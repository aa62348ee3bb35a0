//! The simulator's command line: runs seeds, shows how far it is, and says how to replay what failed.

use std::io::{Write, stdout};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use escapement_simulation::plants::{Plant, Planted};
use escapement_simulation::profile::Profile;
use escapement_simulation::progress::{Progress, Summary};
use escapement_simulation::run::{Order, run};
use escapement_simulation::watchdog::Watchdog;
use tracing_subscriber::EnvFilter;

/// The longest that clients and faults may be asked to go on, in seconds: a day.
const ACTIVE_MAX: u64 = 86_400;

/// Runs a whole cluster under seeded faults in virtual time, and judges what was seen from outside.
#[derive(Debug, Parser)]
#[command(name = "escapement-simulation", version)]
struct Arguments {
    /// Which seeds: one (7), or a range with both ends (1..1000); 1..100 if absent.
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
    /// How many seconds of the world clients and faults go on; 120 if absent.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=ACTIVE_MAX))]
    active: Option<u64>,
    /// Runs the seeds that ever failed.
    #[arg(long, conflicts_with_all = ["seeds", "profile", "active"])]
    failed: bool,
    /// Prints a digest of each seed's trace: the same in every process.
    #[arg(long)]
    digests: bool,
}

/// One run to make.
#[derive(Clone, Copy, Debug)]
struct Asked {
    seed: u64,
    profile: Profile,
    active: Option<u64>,
}

/// Seeds that ever failed: one a line, with its profile and perhaps its length in seconds.
const FAILED: &str = include_str!("../failed-seeds.txt");

fn failed() -> Result<Vec<Asked>, String> {
    let lines = FAILED.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        let fault = |what: &str| format!("failed-seeds.txt: `{line}` {what}");
        let number = |word: &str| word.parse().map_err(|_| fault("is no number"));
        let seed = number(words.next().unwrap_or_default())?;
        let profile = words.next().ok_or_else(|| fault("has no profile"))?.parse()?;
        Ok(Asked { seed, profile, active: words.next().map(number).transpose()? })
    };
    lines.map(read).collect()
}

impl Arguments {
    /// The runs to make, and how many they are.
    fn asked(&self) -> Result<(u64, Box<dyn Iterator<Item = Asked>>), String> {
        if self.failed {
            let all = failed()?;
            return Ok((all.len() as u64, Box::new(all.into_iter())));
        }
        let seeds = self.seeds.clone().unwrap_or(1..=100);
        let count = (seeds.end() - seeds.start()).saturating_add(1);
        let (profile, active) = (self.profile, self.active);
        let of = move |seed| profile.unwrap_or_else(|| Profile::of_seed(seed));
        Ok((count, Box::new(seeds.map(move |seed| Asked { seed, profile: of(seed), active }))))
    }

    fn replay(&self, asked: Asked) -> String {
        let Asked { seed, profile, active } = asked;
        let plant = self.plant.map(|plant| format!(" --plant {plant}")).unwrap_or_default();
        let active = active.map(|seconds| format!(" --active {seconds}")).unwrap_or_default();
        let features = if self.plant.is_some() { " --features planted" } else { "" };
        format!(
            "cargo run --release -p escapement-simulation{features} -- --seeds {seed} --profile \
             {profile}{plant}{active} --trace"
        )
    }
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number =
        |part: &str| part.trim_start_matches('=').parse().map_err(|_| format!("`{part}` is no seed"));
    match text.split_once("..") {
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("there is no seed from {first} to {last}: the smaller one comes first"));
            }
            Ok(first..=last)
        }
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
    let began = now();
    match play(&arguments) {
        Ok(summary) => {
            // Nobody may listen any more; the exit code tells all the same.
            let _ = writeln!(stdout(), "{summary}");
            // Two runs of the same seeds are to say the same on the standard output.
            let speed = u128::from(summary.world_ms()) / began.elapsed().as_millis().max(1);
            eprintln!("{speed} simulated seconds a second, on one core");
            if summary.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// How long a seed may take of real time: it takes a second or two, and an unoptimised build a minute.
const SEED_ENDS_WITHIN: Duration = Duration::from_secs(600);

/// Panics so far, on any thread: one in a task of a node goes no further than the task.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn count_panics() {
    let tell = take_hook();
    set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        tell(panic);
    }));
}

/// The time of whoever waits for the seeds, which no seed sees.
#[expect(clippy::disallowed_methods, reason = "the speed is told to people")]
fn now() -> Instant {
    Instant::now()
}

fn play(arguments: &Arguments) -> Result<Summary, String> {
    count_panics();
    let planted = match arguments.plant.map(Planted::with) {
        None => Planted::NOTHING,
        Some(Some(planted)) => planted,
        Some(None) => {
            return Err("this build has no bugs to plant: build it with `--features planted`".into());
        }
    };
    let (count, all) = arguments.asked()?;
    let watchdog = Watchdog::start(SEED_ENDS_WITHIN, |told| {
        println!("{told}");
        std::process::exit(1);
    });
    let mut progress = Progress::new(count);
    let mut summary = Summary::default();
    for asked in all {
        let Asked { seed, profile, active } = asked;
        let active_ms = active.map(|seconds| seconds * 1_000);
        let order = Order { seed, profile, active_ms, planted, spoken: arguments.trace };
        let replay = arguments.replay(asked);
        watchdog.begin(&format!("seed {seed} ({profile}) does not end; replay: {replay}"));
        let before = PANICS.load(Ordering::Relaxed);
        let played = catch_unwind(AssertUnwindSafe(|| run(order)));
        watchdog.end();
        let verdict = match played {
            Ok(verdict) if PANICS.load(Ordering::Relaxed) == before => verdict,
            _ => {
                summary.add_panic();
                progress.line(&format!("seed {seed} ({profile}) panicked, as told above; replay: {replay}"));
                progress.step(summary.failed);
                continue;
            }
        };
        let verdict = verdict.map_err(|error| format!("seed {seed} cannot be run: {error}"))?;
        summary.add(&verdict);
        if let Some(first) = verdict.violations.first() {
            let more = verdict.violations.len() - 1;
            progress.line(&format!("seed {seed} ({profile}) {first} (and {more} more); replay: {replay}"));
            if arguments.trace {
                verdict.violations.iter().for_each(|violation| progress.line(&violation.to_string()));
            }
        } else if !verdict.shortfalls.is_empty() {
            let why = verdict.shortfalls.join(", ");
            progress.line(&format!("seed {seed} ({profile}) does not count: {why}; replay: {replay}"));
        }
        if arguments.trace || arguments.digests {
            progress.line(&format!("seed {seed} ({profile}): trace {}", verdict.trace));
        }
        progress.step(summary.failed);
    }
    progress.finish();
    Ok(summary)
}
