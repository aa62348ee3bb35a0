//! The small program between a node and a program that it runs: this very binary, started as `escapement launch-process`.
//!
//! Two of them stand in a row. The *guardian* is the node's child: it starts the program in a process group of its own and
//! waits for it; told to stop it, it asks the whole group to end and waits for all of that. Then it kills whatever the
//! program left behind, also what left the group (orphans come to the guardian, which is their subreaper). The line to the
//! node is the guardian's standard input, a socket: when its other end closes, the node is gone or has let go, and
//! everything is killed at once. No thread of the node and no signal handler is needed for that, and a `kill -9` of the
//! node cannot prevent it.
//!
//! The *starter* is the guardian's child: it becomes the program's user if that is not the node's, asks to be killed with the
//! guardian, takes on the limits, and becomes the program by `exec`. (What these need is done here since code between `fork`
//! and `exec` would be unsafe.)
//!
//! Only a guardian that is itself killed leaves descendants that are not in the program's group; the node then kills the
//! group.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use escapement_domain::execution::usage::Usage;
use escapement_domain::limits::FAILED_ITEMS_BYTES_MAX;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{self, Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};

use super::descriptors;
use super::removal::remove;
use super::user::RunAs;

/// The hidden subcommand.
pub const LAUNCH_PROCESS: &str = "launch-process";
/// What follows the subcommand for the second of the two.
const START: &str = "start";
/// This program, also when its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// How long what was killed may take to be gone before it is asked what else is there, in so many moments.
const MOMENT: Duration = Duration::from_millis(2);
const MOMENTS: u32 = 10;
/// What the program's variables are called while they are on their way: those of this very binary are its own, and the
/// dynamic linker would obey `LD_PRELOAD` before the program's user and limits are taken on.
const ON_ITS_WAY: &str = "_";
/// The exit status of a starter that could not become the program.
const EXIT_NOT_STARTED: i32 = 127;

/// What a guardian is to start; the first line on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    /// What to put between this program's name and [`START`].
    pub(super) arguments: Vec<String>,
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) stdin: Option<String>,
    pub(super) limits: Limits,
    /// How many files it may open to begin with, unless a limit says otherwise.
    pub(super) open_files: Option<u64>,
    /// Who it runs as, if not as whoever the node runs as.
    pub(super) run_as: Option<RunAs>,
    /// Removed with all its contents at the end; the program works in [`Launch::working_directory`].
    pub(super) directory: PathBuf,
    /// When to give up although the node is there and has said nothing.
    pub(super) last_resort_ms: u64,
}

impl Launch {
    pub(super) fn working_directory(directory: &Path) -> PathBuf {
        directory.join("run")
    }

    /// Where the program may write what failed.
    pub(super) fn failed_items(directory: &Path) -> PathBuf {
        directory.join("failed-items")
    }

    /// Where a starter leaves word of why it could not become the program.
    fn refusal(directory: &Path) -> PathBuf {
        directory.join("refusal")
    }
}

/// What the program may use.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Limits {
    pub(super) memory: Option<u64>,
    pub(super) cpu_seconds: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) processes: Option<u64>,
}

/// What a node tells a guardian after the [`Launch`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stop {
    /// How long the program may take to end after a SIGTERM.
    pub(super) grace_ms: u64,
}

/// What a guardian tells its node, a line each. Everything but [`Told::Started`], [`Told::Used`]
/// and [`Told::FailedItems`] is the last word.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    /// The program's process and group.
    Started(i32),
    /// What the program used, with all that it started.
    Used(Usage),
    /// What the program wrote of the items that failed, or the beginning of it.
    FailedItems(String),
    /// It was not started.
    Refused(String),
    /// It was started, and what became of it was missed.
    Missed(String),
    /// It ended with this exit code, and nothing of it is left.
    Exited(i32),
    /// It was ended by this signal, and nothing of it is left.
    Killed(i32),
}

/// Runs as a guardian or starter; the command line calls this for [`LAUNCH_PROCESS`], with the arguments behind it, before
/// it does anything else.
pub fn launch_process(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match arguments.next() {
        None => guard(),
        Some(stage) if stage == START => start(arguments),
        Some(_) => {
            eprintln!("escapement {LAUNCH_PROCESS} is started by a node only");
            ExitCode::from(2)
        }
    }
}

/// What a guardian waits for.
enum Word {
    Stop(Duration),
    NodeGone,
    Ended,
}

fn guard() -> ExitCode {
    let line = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let Ok((mut told, mut heard)) = line.and_then(|line| Ok((line.try_clone()?, BufReader::new(line))))
    else {
        return ExitCode::FAILURE;
    };
    let mut first = String::new();
    let launch: Launch = match heard.read_line(&mut first).map(|_| serde_json::from_str(&first)) {
        Ok(Ok(launch)) => launch,
        // The node was gone before it said anything, or somebody else started this.
        _ => return ExitCode::FAILURE,
    };
    let begun = launch.open_files.map_or(Ok(()), descriptors::begin_with);
    let last = match begun.and_then(|()| spawned(&launch)) {
        Ok(child) => {
            attend(&launch, child, heard, &mut told).unwrap_or_else(|error| Told::Missed(error.to_string()))
        }
        Err(error) => Told::Refused(error.to_string()),
    };
    // What stays is the node's to tell.
    let _ = remove(&launch.directory);
    // If the node is gone, nobody needs to be told.
    let _ = tell(&mut told, &last);
    ExitCode::SUCCESS
}

fn tell(node: &mut UnixStream, word: &Told) -> io::Result<()> {
    let mut line = serde_json::to_string(word)?;
    line.push('\n');
    node.write_all(line.as_bytes())
}

/// Starts the program.
fn spawned(launch: &Launch) -> io::Result<std::process::Child> {
    process::set_child_subreaper(Some(process::getpid()))?;
    starter(launch).spawn()
}

/// Stays until nothing of the program is left.
fn attend(
    launch: &Launch,
    mut child: std::process::Child,
    heard: BufReader<UnixStream>,
    node: &mut UnixStream,
) -> io::Result<Told> {
    // A process id fits, and is not zero.
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::RANGE)?;
    if let (Some(mut stdin), Some(text)) = (child.stdin.take(), launch.stdin.clone()) {
        // A program that does not read its input is none of our business; its end closes the pipe.
        thread(move || drop(stdin.write_all(text.as_bytes())))?;
    }
    let (tell_word, words) = mpsc::channel();
    let ended = tell_word.clone();
    let is_stopping = Arc::new(AtomicBool::new(false));
    let is_polite = Arc::clone(&is_stopping);
    thread(move || {
        await_end(group);
        // Whoever was told to end has time for it, not the leader alone.
        if is_polite.load(Ordering::SeqCst) {
            await_others(group);
        }
        let _ = ended.send(Word::Ended);
    })?;
    thread(move || {
        for line in heard.lines() {
            let Ok(Ok(stop)) = line.map(|line| serde_json::from_str::<Stop>(&line)) else { break };
            let _ = tell_word.send(Word::Stop(Duration::from_millis(stop.grace_ms)));
        }
        let _ = tell_word.send(Word::NodeGone);
    })?;
    // If the node is gone already, the other thread says so.
    let _ = tell(node, &Told::Started(group.as_raw_nonzero().get()));
    let mut patience = Duration::from_millis(launch.last_resort_ms);
    while let Ok(Word::Stop(grace)) = words.recv_timeout(patience) {
        is_stopping.store(true, Ordering::SeqCst);
        let _ = process::kill_process_group(group, Signal::TERM);
        patience = grace;
    }
    let status = kill_all(group)?;
    if let Some(used) = used() {
        let _ = tell(node, &Told::Used(used));
    }
    if let Some(items) = failed_items(launch) {
        let _ = tell(node, &Told::FailedItems(items));
    }
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(EXIT_NOT_STARTED), _) => match left(launch, &Launch::refusal(&launch.directory)) {
            Some(reason) => Told::Refused(reason),
            None => Told::Exited(EXIT_NOT_STARTED),
        },
        (Some(code), _) => Told::Exited(code),
        (None, signal) => Told::Killed(signal.unwrap_or_default()),
    })
}

/// Waits until a child has ended. Left as a zombie, it keeps its id from being given to somebody else's process.
fn await_end(child: Pid) {
    while let Err(Errno::INTR) =
        process::waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    {}
}

/// Waits until all of a group have ended whose leader has: whose parent has ended is a child of this process.
fn await_others(group: Pid) {
    let lives = |child: &Child| child.group == Some(group) && !child.is_zombie;
    while let Ok(children) = children()
        && children.iter().any(lives)
    {
        children.iter().filter(|child| lives(child)).for_each(|child| await_end(child.pid));
    }
}

/// What the program used with all that it started: this process has no other children, and has waited for them all.
fn used() -> Option<Usage> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let millis = |time: TimeVal| u64::try_from(time.num_milliseconds()).unwrap_or(0);
    Some(Usage {
        cpu_ms: millis(usage.user_time() + usage.system_time()),
        // The system counts in KiB.
        peak_memory_bytes: u64::try_from(usage.max_rss()).unwrap_or(0).saturating_mul(1_024),
    })
}

/// Reads what the program wrote of the items that failed.
fn failed_items(launch: &Launch) -> Option<String> {
    left(launch, &Launch::failed_items(&launch.directory)).filter(|text| !text.is_empty())
}

/// Reads a file that the program left, no further than tells that it is too much. Only the program's own: whoever it ran as
/// may have put a way to another one in its place, which the node could read.
fn left(launch: &Launch, path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;
    let is_own = launch.run_as.is_none_or(|run_as| run_as.uid == found.uid() && found.nlink() == 1);
    if !(found.is_file() && is_own) {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FAILED_ITEMS_BYTES_MAX as u64 * 2).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().spawn(work).map(drop)
}

fn starter(launch: &Launch) -> Command {
    let limit = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    let mut command = Command::new(THIS_PROGRAM);
    command
        .arg0("escapement")
        .args(&launch.arguments)
        .arg(START)
        .arg(process::getpid().as_raw_nonzero().to_string())
        .arg(Launch::refusal(&launch.directory))
        .args([
            limit(launch.limits.memory),
            limit(launch.limits.cpu_seconds),
            limit(launch.limits.open_files),
            limit(launch.limits.processes),
            launch.run_as.map_or_else(|| "-".to_owned(), |run_as| run_as.to_string()),
        ])
        .arg(&launch.program)
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (format!("{ON_ITS_WAY}{name}"), value)))
        .current_dir(Launch::working_directory(&launch.directory))
        .stdin(if launch.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .process_group(0);
    command
}

/// Kills the group, and then every other descendant until there is none. Returns how the group's leader ended.
fn kill_all(leader: Pid) -> io::Result<WaitStatus> {
    // The leader is ours and not waited for yet, so the group's id is still its own.
    let _ = process::kill_process_group(leader, Signal::KILL);
    let mut status = None;
    // What was in the group needs a moment to be gone; to look for more costs a look at every process of the machine.
    let mut moments = MOMENTS;
    loop {
        match process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, ended))) if pid == leader => status = Some(ended),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) if moments > 0 => {
                moments -= 1;
                std::thread::park_timeout(MOMENT);
            }
            Ok(None) => {
                // Whose parent died becomes a child of ours: each round reaches one generation further.
                for child in children()? {
                    let _ = process::kill_process(child.pid, Signal::KILL);
                }
                let _ = process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            }
            Err(Errno::CHILD) => break,
            Err(error) => return Err(error.into()),
        }
    }
    status.ok_or_else(|| io::Error::other("the program's end was missed"))
}

/// A child of this process, or one that has become it.
struct Child {
    pid: Pid,
    group: Option<Pid>,
    is_zombie: bool,
}

/// Lists the children of this process.
fn children() -> io::Result<Vec<Child>> {
    let own = process::getpid();
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        // It may have ended since.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // `pid (name) state parent group …`, and a name may hold anything.
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let is_zombie = fields.next() == Some("Z");
        let [parent, group] = [(); 2].map(|()| Pid::from_raw(fields.next()?.parse().ok()?));
        if parent == Some(own) {
            children.push(Child { pid, group, is_zombie });
        }
    }
    Ok(children)
}

fn start(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().unwrap_or_default();
    let (guardian, refusal) = (next(), PathBuf::from(next()));
    let limits =
        [next(), next(), next(), next()].map(|limit| limit.to_str().and_then(|limit| limit.parse().ok()));
    let run_as = next().to_str().and_then(|run_as| run_as.parse().ok());
    let program = next();
    let error = match assume(run_as, limits) {
        Ok(()) => become_program(&guardian, limits, &program, arguments),
        Err(error) => error,
    };
    let reason = format!("{} cannot be started: {error}", program.to_string_lossy());
    // The guardian takes an exit status without a reason for the program's own.
    let _ = std::fs::write(refusal, reason);
    ExitCode::from(u8::try_from(EXIT_NOT_STARTED).unwrap_or(u8::MAX))
}

/// Becomes the program's user. Comes before the request to die with the guardian, which another user's process loses.
fn assume(run_as: Option<RunAs>, [_, _, _, processes]: [Option<u64>; 4]) -> io::Result<()> {
    run_as.map_or(Ok(()), RunAs::assume)?;
    if processes.is_some() && process::geteuid().is_root() {
        let why = "limits.processes binds no program of root; set execution.process_user on this node";
        return Err(io::Error::other(why));
    }
    Ok(())
}

/// Takes on the limits and becomes the program; returns only if that fails.
fn become_program(
    guardian: &OsString,
    limits: [Option<u64>; 4],
    program: &OsString,
    args: impl Iterator<Item = OsString>,
) -> io::Error {
    let parent = || process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
    if let Err(error) = process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have died before it could be asked for.
    if parent().as_deref().map(AsRef::as_ref) != Some(guardian.as_os_str()) {
        return io::Error::other("the guardian is gone");
    }
    if let Err(error) = close_inherited() {
        return error;
    }
    let [memory, cpu_seconds, open_files, processes] = limits;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(variables());
    for (resource, limit, margin) in [
        (Resource::Core, Some(0), 0),
        (Resource::Nofile, open_files, 0),
        (Resource::Nproc, processes, 0),
        // A second between SIGXCPU and SIGKILL.
        (Resource::Cpu, cpu_seconds, 1),
        (Resource::As, memory, 0),
    ] {
        let Some(limit) = limit else { continue };
        let highest = process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let maximum = limit.saturating_add(margin).min(highest);
        let limit = Rlimit { current: Some(limit.min(maximum)), maximum: Some(maximum) };
        if let Err(error) = process::setrlimit(resource, limit) {
            return error.into();
        }
    }
    command.exec()
}

/// The variables of the program.
fn variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.as_bytes().strip_prefix(ON_ITS_WAY.as_bytes())?;
        Some((OsStr::from_bytes(name).to_owned(), value))
    })
}

/// Closes all but the standard three: whatever the node was started with itself comes down to here.
fn close_inherited() -> io::Result<()> {
    let open = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor: &i32| *descriptor > 2);
    // The list's own is closed with it.
    for descriptor in open.collect::<Vec<_>>() {
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Puts this test binary in the place of the program: what its guardians and starters are started with.
    pub(in super::super) const AS_LAUNCHER: [&str; 6] = [
        "executor::launcher::tests::this_binary_as_launcher",
        "--exact",
        "--nocapture",
        "--quiet",
        "--",
        LAUNCH_PROCESS,
    ];

    /// Not a test but what [`AS_LAUNCHER`] runs; does nothing when the tests are run.
    #[test]
    fn this_binary_as_launcher() {
        let mut arguments = std::env::args_os().skip_while(|argument| argument != LAUNCH_PROCESS);
        if arguments.next().is_some() {
            let code = launch_process(arguments);
            let exited_well = format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS);
            std::process::exit(if exited_well { 0 } else { EXIT_NOT_STARTED });
        }
    }
}
