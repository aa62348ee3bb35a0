//! The program's command line: what people type, what they see, and the exit status that scripts hold on to.
//!
//! One file a group of commands. Each asks a node over HTTP, or works on files without one; `dev` and `server` become
//! a node. Invariants: exit status 0 done, 1 refused or failed with the reason on standard error, 2 wrong usage;
//! standard output carries the answer only. Absent on purpose: rules of tasks and schedules, which are the domain's.

mod audit;
mod backfill;
mod breaker;
mod calendar;
pub(crate) mod client;
mod cluster;
mod configuration;
pub(crate) mod connection;
mod document;
mod event_stream;
mod events;
mod execution;
mod explanation;
pub(crate) mod failure;
mod fetching;
mod fires;
mod forecast;
mod gate;
mod listing;
mod logs;
mod occurrence;
mod problem;
pub(crate) mod progress;
mod publication;
mod run;
mod schedule;
pub(crate) mod screen;
mod serve;
pub(crate) mod system;
mod table;
mod task;
mod token;
mod vectors;
mod zone;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::timestamp::Timestamp;

use self::client::Client;
use self::connection::ConnectionOptions;
use self::failure::Failure;
use self::screen::Screen;
use self::zone::Zone;
use crate::bench::BenchCommand;

pub use self::serve::{DevCommand, ServerCommand};

const GETTING_STARTED: &str = "\
Escapement fires every task exactly once, on a Raft-replicated event log.

Start a node, in one terminal:
  escapement dev

Ask it things, in another, in the same directory:
  escapement task create -f - <<'END'
  { \"name\": \"hello\",
    \"trigger\": {\"type\": \"cron\", \"expression\": \"* * * * *\"},
    \"action\": {\"type\": \"builtin\", \"operation\": \"noop\"} }
  END
  escapement task list
  escapement execution list

Without a node:
  escapement schedule preview --cron '0 2 * * 1-5' --timezone Europe/Berlin

`escapement help` lists every command; `escapement help task create` teaches one.
";

const EXAMPLES: &str = "\
Examples:
  escapement dev                          a node on http://127.0.0.1:7070
  escapement task create -f task.json     create a task
  escapement task list --output json      the API's answer, for scripts
  escapement --address http://10.0.0.7:7070 cluster status

Exit status: 0 done, 1 refused or failed (the reason is on standard error), 2 wrong usage.";

/// A scheduler that fires every task exactly once
#[derive(Debug, Parser)]
#[command(name = "escapement", version, after_long_help = EXAMPLES, max_term_width = 110)]
pub struct CommandLine {
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(DevCommand),
    Server(ServerCommand),
    /// Check a configuration
    #[command(subcommand)]
    Config(configuration::ConfigCommand),
    /// Make tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Create, read, change and run tasks
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Make, read and delete calendars, which narrow the schedules of tasks
    #[command(subcommand)]
    Calendar(calendar::CalendarCommand),
    /// Make, read and delete pools, of which tasks hold shares while they run
    #[command(subcommand)]
    Pool(gate::PoolCommand),
    /// Limit how many executions with a label, of a queue or of the tenant run at once
    #[command(subcommand)]
    Limit(gate::LimitCommand),
    /// Look at circuit breakers, open and close them
    #[command(subcommand)]
    Breaker(breaker::BreakerCommand),
    /// Look at queues, pause and resume them
    #[command(subcommand)]
    Queue(breaker::QueueCommand),
    /// Say that something happened, for the tasks that listen to it
    #[command(subcommand)]
    Event(publication::EventCommand),
    /// Look at executions, cancel, retry and hasten them
    #[command(subcommand)]
    Execution(execution::ExecutionCommand),
    /// Look at runs of chains, cancel and retry them as wholes
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Try schedules out, without a node, and look at the load to come
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Look at the cluster and change its membership
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Export, verify and replay the event log, and prove schedules by it
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    Bench(BenchCommand),
}

/// Carries out a command line and returns the exit status.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    let program = arguments.next();
    if arguments.peek().is_some_and(|first| first == crate::executor::LAUNCH_PROCESS) {
        return crate::executor::launch_process(arguments.skip(1));
    }
    let parsed = match CommandLine::try_parse_from(program.into_iter().chain(arguments)) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help that nobody reads to the end is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match parsed.carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.told() {
                // Where standard error cannot be written only the exit status is left.
                let _ = io::stderr().write_all(text.as_bytes());
            }
            failure.exit_code()
        }
    }
}

impl CommandLine {
    fn carry_out(self) -> Result<(), Failure> {
        let mut out = io::stdout();
        let mut screen = Screen { out: &mut out, output: self.connection.output, zone: Zone::of_terminal() };
        match self.command {
            None => screen.text(GETTING_STARTED),
            Some(Command::Dev(command)) => command.run(),
            Some(Command::Server(command)) => command.run(),
            Some(Command::Config(command)) => command.run(&mut screen),
            Some(Command::Token(command)) => command.run(&mut screen),
            Some(Command::Schedule(command)) => command.run(&self.connection, &mut screen),
            Some(Command::Bench(command)) => command.run(&self.connection, &mut screen),
            Some(Command::Audit(command)) => command.run(&self.connection, &mut screen),
            Some(Command::Task(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
            Some(Command::Calendar(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
            Some(Command::Pool(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
            Some(Command::Limit(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
            Some(Command::Breaker(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
            Some(Command::Queue(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
            Some(Command::Event(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
            Some(Command::Execution(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
            Some(Command::Run(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
            Some(Command::Cluster(command)) => {
                ask(&self.connection, async |client| command.run(&client, &mut screen).await)
            }
        }
    }
}

/// Runs what asks a node.
fn ask<T>(
    options: &ConnectionOptions,
    work: impl AsyncFnOnce(Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let connection = options.resolve()?;
    runtime()?.block_on(async { work(Client::new(&connection)?).await })
}

/// One thread is enough for a client.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::stopped(format!("cannot start: {error}")))
}

/// The word for a value, as it is typed and as the API has it.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn parse_instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
}

fn parse_task(text: &str) -> Result<TaskId, String> {
    text.parse().map_err(|_| "a task's id is a UUID, as `escapement task list` shows it".into())
}

fn parse_execution(text: &str) -> Result<ExecutionId, String> {
    text.parse().map_err(|_| "an execution's id is a UUID, as `escapement execution list` shows it".into())
}

#[cfg(test)]
mod tests;
