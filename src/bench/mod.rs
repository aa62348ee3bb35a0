//! `escapement bench`: load on real nodes, and what came of it as one JSON object.
//!
//! Without an address it starts processes of this very program on loopback, loads them, and kills them. Every figure
//! stands beside what the machine allows, measured in the same run: the disk's sync latency and a loopback round trip.
//! Invariants: every loop is bounded; nothing but loopback is contacted unless an address is given; a run that finds an
//! occurrence lost, doubled or early fails. Absent on purpose: knowledge of the nodes' insides; it is a client.

mod creates;
mod fires;
mod idle;
mod lateness;
mod limit;
mod load;
mod memory;
mod nodes;
mod programs;
mod report;
mod running;
mod statistics;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use escapement_domain::limits::SLOTS_MAX;

use self::limit::Limit;
use self::load::Load;
use self::nodes::Nodes;
use self::report::Report;
use crate::command_line::connection::ConnectionOptions;
use crate::command_line::failure::Failure;
use crate::command_line::runtime;
use crate::command_line::screen::{Screen, note};

/// Tasks of one run at most.
const TASKS_MAX: u64 = 10_000_000;
/// Fires a second at most.
const RATE_MAX: u64 = 1_000_000;
/// Seconds of one measurement at most.
const SECONDS_MAX: u64 = 86_400;
/// Connections at most.
const CLIENTS_MAX: u64 = 15_000;

const EXAMPLES: &str = "\
Examples:
  escapement bench fires --tasks 100000
  escapement bench creates --nodes 3 --clients 64
  escapement bench lateness --rate 1000 --seconds 30
  escapement bench memory --tasks 1000000
  escapement bench restart --tasks 1000000
  escapement bench running --tasks 5000
  escapement bench programs --tasks 1000
  escapement bench idle --clients 10000 --seconds 30

Prints one JSON object. `limit` is what the machine allows, measured in the same run on the same data directory: how long \
a 256-byte write and its fdatasync take, and a round trip over loopback. `ratio` is `per_second` divided by what this disk \
would allow one sync after the other (1,000 / fsync_p50_ms): above 1, the log shares syncs among commands. What a bench \
does not measure is null. In `fires`, `per_second`, `p50_ms` and `p99_ms` count from the instant until that many executions can \
be read, which only committed ones can; in `lateness`, the percentiles are of the time from each instant until its first attempt \
began on its worker, which is not before the fire was committed; in `programs`, `seconds` count until all run. `lost` counts occurrences without an execution or acknowledged tasks that are gone, `doubled` \
those with two; if there is any, or a fire came early, or a process is left over when all have ended, the exit status is 1.

Without --address it starts its nodes by itself, in a temporary directory that is removed at the end; with --data the \
directory is kept. ESCAPEMENT_ADDRESS does not count here: load goes to a cluster only when its address is typed.";

/// Put load on nodes and measure them
#[derive(Clone, Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct BenchCommand {
    /// What to measure
    #[arg(value_enum, value_name = "BENCH")]
    bench: Bench,
    /// How many nodes to start
    #[arg(long, default_value = "1", value_parser = parse_nodes)]
    nodes: u64,
    /// How many tasks to create [fires, memory, restart, running, programs]
    #[arg(long, default_value = "100000", value_parser = clap::value_parser!(u64).range(1..=TASKS_MAX))]
    tasks: u64,
    /// How many connections to create tasks over, or to wait on [creates, idle]
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX))]
    clients: u64,
    /// How many fires a second [lateness]
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: u64,
    /// For how long [creates, lateness, idle]
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Where the nodes keep their data [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Tasks due at one instant: from it to the last committed fire
    Fires,
    /// Single creates over many connections
    Creates,
    /// How late fires are under a steady rate
    Lateness,
    /// Resident memory with many tasks
    Memory,
    /// From kill -9 to readiness and the first answer
    Restart,
    /// Attempts at once, each a call that takes ten seconds, and the memory they take
    Running,
    /// Programs at once that take twenty seconds, the memory the node takes, and what is left of them
    Programs,
    /// Workers outside that wait for an empty queue, and what they cost
    Idle,
}

fn parse_nodes(text: &str) -> Result<u64, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 or 3 nodes can be started".into()),
    }
}

impl BenchCommand {
    /// Runs, prints the report, and fails if something was lost, doubled or early.
    pub(crate) fn run(self, connection: &ConnectionOptions, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let own_only = match self.bench {
            Bench::Restart => {
                Some("`bench restart` kills its nodes: it only does that to those that it started")
            }
            Bench::Programs => {
                Some("`bench programs` counts processes: it only can for nodes that it started")
            }
            _ => None,
        };
        if let Some(reason) = own_only.filter(|_| connection.address.is_some()) {
            return Err(Failure::Usage(reason.into()));
        }
        crate::executor::take_all_descriptors();
        let report = runtime()?.block_on(async {
            let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .map_err(|error| Failure::stopped(format!("cannot listen for signals: {error}")))?;
            // Dropping the run kills the nodes that it started.
            tokio::select! {
                report = self.measure(connection) => report,
                _ = tokio::signal::ctrl_c() => Err(Failure::stopped("interrupted")),
                _ = interrupt.recv() => Err(Failure::stopped("interrupted")),
            }
        })?;
        screen.line(&report.to_json())?;
        match report.fault() {
            None => Ok(()),
            Some(fault) => {
                Err(Failure::stopped(fault)
                    .advise("keep the nodes' data with --data and look at `audit export`"))
            }
        }
    }

    async fn measure(&self, connection: &ConnectionOptions) -> Result<Report, Failure> {
        if connection.address.is_some() {
            let load = Load::new(vec![connection.resolve()?])?;
            let limit = match &self.data {
                Some(directory) => Some(Limit::measure(directory).await?),
                None => None,
            };
            return self.measure_on(&load, None, limit).await;
        }
        // What runs at once must find a slot.
        let at_once = matches!(self.bench, Bench::Running | Bench::Programs);
        let slots = at_once.then_some(self.tasks.min(SLOTS_MAX.into()));
        let mut nodes = Nodes::prepare(self.nodes, slots, self.data.as_deref())?;
        let limit = Limit::measure(nodes.directory()).await?;
        note(&format!("starting {} node(s) in {}", self.nodes, nodes.directory().display()));
        nodes.start().await?;
        let load = Load::new(nodes.connections()?)?;
        self.measure_on(&load, Some(&mut nodes), Some(limit)).await
    }

    async fn measure_on(
        &self,
        load: &Load,
        nodes: Option<&mut Nodes>,
        limit: Option<Limit>,
    ) -> Result<Report, Failure> {
        let name = crate::command_line::word(&self.bench);
        let mut report = Report { bench: name, nodes: load.node_count().await?, limit, ..Report::default() };
        let mut own = nodes;
        match self.bench {
            Bench::Fires => fires::measure(load, self.tasks, &mut report).await?,
            Bench::Creates => creates::measure(load, self.clients, self.seconds, &mut report).await?,
            Bench::Lateness => lateness::measure(load, self.rate, self.seconds, &mut report).await?,
            Bench::Running => running::measure(load, self.tasks, own.as_deref(), &mut report).await?,
            Bench::Idle => {
                idle::measure(load, self.clients, self.seconds, own.as_deref(), &mut report).await?;
            }
            Bench::Programs => {
                if let Some(nodes) = own.as_deref() {
                    programs::measure(load, self.tasks, nodes, &mut report).await?;
                }
            }
            Bench::Memory => memory::fill(load, self.tasks, own.as_deref(), &mut report).await?,
            Bench::Restart => {
                memory::fill(load, self.tasks, own.as_deref(), &mut report).await?;
                if let Some(nodes) = own.as_deref_mut() {
                    memory::restart(load, nodes, &mut report).await?;
                }
            }
        }
        if let Some(nodes) = own {
            report.memory_mib = report.memory_mib.or_else(|| nodes.memory_mib());
        }
        report.settle();
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_three_nodes() {
        assert_eq!(parse_nodes("3"), Ok(3));
        for text in ["0", "2", "5", "many"] {
            assert!(parse_nodes(text).is_err(), "{text}");
        }
    }
}
