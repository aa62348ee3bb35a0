//! The program, run to its end; and whether a process has ended.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::api::Api;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_escapement");

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Demands an exit status.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// The output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// A command of the program, without what the surroundings would add.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("ESCAPEMENT_TOKEN").env_remove("ESCAPEMENT_ADDRESS");
    command
}

/// The command behind other words that become it, such as `ip netns exec NAME`.
pub(crate) fn behind(words: &[&str], command: &Command) -> Command {
    let mut behind = Command::new(words[0]);
    behind.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    surrounded(behind, command)
}

/// The command as another program carries it out.
pub(crate) fn by(program: &Path, command: &Command) -> Command {
    let mut other = Command::new(program);
    other.args(command.get_args());
    surrounded(other, command)
}

/// A command with the surroundings of another one.
fn surrounded(mut command: Command, other: &Command) -> Command {
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs the program to its end.
pub(crate) fn escapement(arguments: &[&str]) -> Ran {
    finish(command(arguments), None)
}

/// Runs the program in a directory.
pub(crate) fn escapement_in(directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = command(arguments);
    command.current_dir(directory);
    finish(command, None)
}

/// Runs the program against a node, with something on its standard input.
pub(crate) fn ask(api: &Api, arguments: &[&str], input: Option<&str>) -> Ran {
    finish(command_to(api, arguments), input)
}

/// Runs the program against a node, and shows each line that it prints as it comes; demands that it ends well.
#[track_caller]
pub(crate) fn watch(api: &Api, arguments: &[&str], mut show: impl FnMut(&str)) {
    let mut child = command_to(api, arguments).stdout(Stdio::piped()).spawn().expect("the program starts");
    let printed = BufReader::new(child.stdout.take().expect("piped"));
    printed.lines().for_each(|line| show(&line.expect("UTF-8")));
    assert!(child.wait().expect("waits").success(), "{arguments:?}");
}

fn command_to(api: &Api, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env("ESCAPEMENT_ADDRESS", format!("http://{}", api.address));
    if let Some(token) = &api.token {
        command.env("ESCAPEMENT_TOKEN", token);
    }
    command
}

fn finish(mut command: Command, input: Option<&str>) -> Ran {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A program that reads nothing may have closed it.
    let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Whether a process has not ended yet.
pub(crate) fn lives(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A process that nobody has reaped yet has ended all the same.
    status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
