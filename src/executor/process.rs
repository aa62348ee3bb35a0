//! Programs.
//!
//! The node never starts a program itself but a guardian (see [`super::launcher`]), which outlives neither the node nor
//! this future: the guardian's line to the node is a socket whose other end this future holds, so dropping the future, or
//! the node's death by whatever cause, has the guardian kill everything at once.
//!
//! At its timeout a program has [`GRACE_AT_TIMEOUT`] after a SIGTERM, on a cancel [`GRACE_ON_CANCEL`]; then everything
//! that it started is killed.

use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::ports::{
    AttemptEnd, AttemptFailure, AttemptOrder, Clock, Executor, Finished, OutputSink, OutputStream,
};
use escapement_domain::execution::failure::FailureClass;
use escapement_domain::task::action::{Action, ProcessAction};
use escapement_domain::timestamp::Span;
use futures::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::descriptors;
use super::launcher::{LAUNCH_PROCESS, Launch, Limits, Stop, Told};
use super::output::Transcript;
use super::removal::remove;
use super::user::{ProgramUser, RunAs};
use super::{ExecutorError, failed, failure, items};
use crate::telemetry::traceparent;

/// How long a program may take to end after the SIGTERM that its timeout sends.
const GRACE_AT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a program may take to end after the SIGTERM that a cancel sends.
const GRACE_ON_CANCEL: Duration = Duration::from_secs(10);
/// How long a guardian may take beyond that before it is killed itself.
const GUARDIAN_MARGIN: Duration = Duration::from_secs(5);
/// Programs that are being started at once, for each processor. A thousand that begin together would keep the node from its
/// own work for so long that it lost its lease, and all of them with it.
const STARTING_PER_PROCESSOR: usize = 2;
/// The search path of a program whose task sets none.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Which programs a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessPolicy {
    /// Any; only on a developer's machine.
    Any,
    /// These, by their exact absolute paths; none of them, and the process action is off.
    Listed(Vec<String>),
}

impl ProcessPolicy {
    /// Says whether a program may run here.
    ///
    /// # Errors
    /// A sentence for people that names the key that would allow it.
    pub fn check(&self, program: &str) -> Result<(), String> {
        match self {
            Self::Any if program.starts_with('/') => Ok(()),
            Self::Any => Err(format!("the program must be an absolute path, not `{program}`")),
            Self::Listed(listed) if listed.iter().any(|path| path == program) => Ok(()),
            Self::Listed(listed) if listed.is_empty() => {
                Err("programs do not run on this node: its `execution.process_allow` is empty".into())
            }
            Self::Listed(_) => Err(format!("`execution.process_allow` of this node does not list {program}")),
        }
    }
}

/// How to start this program's launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LauncherCommand {
    /// What stands between the program's name and what the launcher is told.
    pub arguments: Vec<String>,
}

impl Default for LauncherCommand {
    /// `escapement launch-process`.
    fn default() -> Self {
        Self { arguments: vec![LAUNCH_PROCESS.into()] }
    }
}

/// Runs [`Action::Process`].
#[derive(Clone)]
pub struct ProcessExecutor(Arc<Inner>);

struct Inner {
    policy: ProcessPolicy,
    run_as: Option<RunAs>,
    starting: Arc<Semaphore>,
    work: PathBuf,
    output_bytes: usize,
    launcher: LauncherCommand,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ProcessExecutor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ProcessExecutor").field("policy", &self.0.policy).finish_non_exhaustive()
    }
}

impl ProcessExecutor {
    /// Makes the executor of a node, and empties `work`: what an earlier start of the node left there is nobody's. What
    /// cannot be removed stays, with a warning: it is in nobody's way.
    ///
    /// # Errors
    /// [`ExecutorError::Work`] when `work` cannot be made or read, [`ExecutorError::User`] when programs cannot run as
    /// `user` there.
    pub fn new(
        policy: ProcessPolicy,
        user: Option<&ProgramUser>,
        work: PathBuf,
        output_bytes: usize,
        launcher: LauncherCommand,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ExecutorError> {
        let work = prepare(&work).map_err(|source| ExecutorError::Work { path: work, source })?;
        let run_as = user.map(RunAs::find).transpose()?.flatten();
        if let (Some(user), Some(run_as)) = (user, run_as) {
            run_as.check_way(user, &work)?;
        }
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let starting = Arc::new(Semaphore::new(processors * STARTING_PER_PROCESSOR));
        Ok(Self(Arc::new(Inner { policy, run_as, starting, work, output_bytes, launcher, clock })))
    }
}

fn prepare(work: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(work)?;
    for entry in std::fs::read_dir(work)? {
        removed(&entry?.path());
    }
    std::fs::canonicalize(work)
}

/// Removes what a program left, or warns of it.
fn removed(directory: &Path) {
    if let Err(error) = remove(directory) {
        tracing::warn!(directory = %directory.display(), %error, "what a program left cannot be removed; remove it by hand");
    }
}

/// Removes it where that delays nobody else.
async fn removed_aside(directory: PathBuf) {
    let (done, is_done) = oneshot::channel();
    let work = move || {
        removed(&directory);
        let _ = done.send(());
    };
    // Without a thread it stays until the node's next start.
    if std::thread::Builder::new().spawn(work).is_ok() {
        let _ = is_done.await;
    }
}

impl Executor for ProcessExecutor {
    fn run(
        &self,
        order: AttemptOrder,
        output: Arc<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Finished> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let transcript = Transcript::new(output, Arc::clone(&inner.clock), inner.output_bytes);
            let Action::Process(action) = &order.action else {
                return failed("this executor runs programs only").into();
            };
            let refuse = |class, error: String| -> AttemptEnd {
                transcript.system(error.clone());
                failure(class, error).into()
            };
            if let Err(error) = inner.policy.check(&action.program) {
                return refuse(FailureClass::NotAllowed, error).into();
            }
            let attempt = format!("{}-{}-{}", order.execution, order.attempt, order.fencing_token);
            let directory = inner.work.join(attempt);
            let asked = inner.clock.monotonic();
            let place = tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    transcript.system("cancelled before the program was started");
                    return AttemptEnd::NotStarted.into();
                }
                place = Arc::clone(&inner.starting).acquire_owned() => place.ok(),
                () = tokio::time::sleep(order.timeout.into()) => {
                    transcript.system(format!("not started within {}: others are being started", order.timeout));
                    return AttemptEnd::TimedOut.into();
                }
            };
            // Its wait for a place is a part of its time.
            let waited = inner.clock.monotonic().saturating_sub(asked);
            let left = Duration::from(order.timeout).saturating_sub(waited);
            let end = match Attempt::begin(&inner, &order, action, &directory, place, left).await {
                Ok(attempt) => attempt.attend(left, order.timeout, cancel, &transcript).await,
                Err(error) => {
                    let error = format!("the program's guardian cannot be started: {error}");
                    refuse(FailureClass::Other, error).into()
                }
            };
            // The guardian did this, if nobody killed it.
            if directory.exists() {
                removed_aside(directory).await;
            }
            end
        })
    }
}

/// One attempt: its guardian, and the line to it. Dropping it has the guardian kill everything.
struct Attempt {
    guardian: Child,
    tell: OwnedWriteHalf,
    told: Lines<BufReader<OwnedReadHalf>>,
    group: Option<Pid>,
    /// Its place among those that are being started.
    place: Option<OwnedSemaphorePermit>,
}

/// A directory that is removed when this is dropped, unless somebody else has taken it on.
struct Prepared<'a>(Option<&'a Path>);

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if let Some(directory) = self.0 {
            removed(directory);
        }
    }
}

/// Why a program was told to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    TimedOut,
    Cancelled,
}

impl Attempt {
    /// Starts the guardian and tells it what to start.
    async fn begin(
        inner: &Inner,
        order: &AttemptOrder,
        action: &ProcessAction,
        directory: &Path,
        place: Option<OwnedSemaphorePermit>,
        left: Duration,
    ) -> io::Result<Self> {
        let mut prepared = Prepared(Some(directory));
        let run = Launch::working_directory(directory);
        // Not in the background, where it would go on after this was dropped.
        std::fs::create_dir_all(&run)?;
        if let Some(run_as) = inner.run_as {
            [directory, &run].into_iter().try_for_each(|directory| run_as.own(directory))?;
        }
        let (here, there) = UnixStream::pair()?;
        let there = there.into_std()?;
        there.set_nonblocking(false)?;
        let guardian = Command::new("/proc/self/exe")
            .arg0("escapement")
            .args(&inner.launcher.arguments)
            .env_clear()
            .current_dir(directory)
            .stdin(OwnedFd::from(there))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (told, mut tell) = here.into_split();
        let launch = Launch {
            arguments: inner.launcher.arguments.clone(),
            program: action.program.clone(),
            args: action.args.clone(),
            env: environment(order, action, directory),
            stdin: action.stdin.clone(),
            limits: Limits {
                memory: action.limits.memory,
                cpu_seconds: action.limits.cpu_time.map(|time| time.0.div_ceil(1_000).max(1)),
                open_files: action.limits.open_files,
                processes: action.limits.processes,
            },
            open_files: descriptors::given(),
            run_as: inner.run_as,
            directory: directory.to_path_buf(),
            last_resort_ms: millis(left.saturating_add(GRACE_AT_TIMEOUT + GUARDIAN_MARGIN)),
        };
        let mut line = serde_json::to_vec(&launch)?;
        line.push(b'\n');
        tell.write_all(&line).await?;
        // The guardian knows of it now.
        prepared.0 = None;
        Ok(Self { guardian, tell, told: BufReader::new(told).lines(), group: None, place })
    }

    /// Stays until the program has ended and nothing of it is left. `left` is what is left of its timeout.
    async fn attend(
        mut self,
        left: Duration,
        timeout: Span,
        cancel: CancellationToken,
        transcript: &Transcript,
    ) -> Finished {
        let pipes = (self.guardian.stdout.take(), self.guardian.stderr.take());
        let (Some(stdout), Some(stderr)) = pipes else {
            return failed("the program's output is not piped").into();
        };
        let mut copying = Box::pin(futures::future::join(
            transcript.copy(OutputStream::Stdout, stdout),
            transcript.copy(OutputStream::Stderr, stderr),
        ));
        let mut copied = false;
        let mut stopped = None;
        let (mut failed_items, mut usage) = (None, None);
        let mut alarm = Box::pin(tokio::time::sleep(left));
        let last = loop {
            tokio::select! {
                biased;
                word = self.next_word() => match word {
                    Some(Told::Started(group)) => {
                        self.group = Pid::from_raw(group);
                        self.place = None;
                    }
                    Some(Told::Used(used)) => usage = Some(used),
                    Some(Told::FailedItems(text)) => match items::of_file(&text) {
                        Ok(items) => failed_items = items,
                        Err(error) => transcript.system(format!("the failed items are not kept: {error}")),
                    },
                    last => break last,
                },
                () = cancel.cancelled(), if stopped.is_none() => {
                    stopped = Some(Stopped::Cancelled);
                    transcript.system("cancelled: the program is told to end");
                    alarm.set(tokio::time::sleep(GRACE_ON_CANCEL + GUARDIAN_MARGIN));
                    self.stop(GRACE_ON_CANCEL).await;
                }
                () = &mut alarm => match stopped {
                    None => {
                        stopped = Some(Stopped::TimedOut);
                        transcript.system(format!("not done within {timeout}: the program is told to end"));
                        alarm.set(tokio::time::sleep(GRACE_AT_TIMEOUT + GUARDIAN_MARGIN));
                        self.stop(GRACE_AT_TIMEOUT).await;
                    }
                    Some(_) => break None,
                },
                _ = &mut copying, if !copied => copied = true,
            }
        };
        if last.is_none() {
            self.kill().await;
        }
        // Nothing holds the pipes any more, so their ends are near.
        if !copied && tokio::time::timeout(GUARDIAN_MARGIN, copying).await.is_err() {
            transcript.system("the output did not end with the program");
        }
        // Its last word was its last deed; it only needs to be waited for, so that no zombie stays.
        let _ = tokio::time::timeout(GUARDIAN_MARGIN, self.guardian.wait()).await;
        Finished { end: end(stopped, last, failed_items, transcript), usage }
    }

    /// Waits for the guardian's next word; `None` when it went without a last one.
    async fn next_word(&mut self) -> Option<Told> {
        let line = self.told.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    async fn stop(&mut self, grace: Duration) {
        // A guardian that cannot be told is gone or hangs; either shows soon.
        if let Ok(mut line) = serde_json::to_vec(&Stop { grace_ms: millis(grace) }) {
            line.push(b'\n');
            let _ = self.tell.write_all(&line).await;
        }
    }

    /// Kills what can be killed when the guardian does not do it.
    async fn kill(&mut self) {
        if let Some(group) = self.group {
            // The guardian did not wait for the leader, so the group's id was not given to another one.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.guardian.kill().await;
    }
}

fn end(
    stopped: Option<Stopped>,
    last: Option<Told>,
    failed_items: Option<String>,
    transcript: &Transcript,
) -> AttemptEnd {
    let (what, class, result) = match last {
        Some(Told::Exited(code)) => {
            let result = format!(r#"{{"exit_code":{code}}}"#);
            (format!("exit code {code}"), FailureClass::ExitCode(code), Some(result))
        }
        Some(Told::Killed(signal)) => {
            let result = format!(r#"{{"signal":{signal}}}"#);
            (format!("killed by {}", signal_name(signal)), FailureClass::Signal(signal), Some(result))
        }
        Some(Told::Refused(reason)) => (reason, FailureClass::Other, None),
        Some(Told::Missed(why)) => {
            (format!("how the program ended was missed: {why}"), FailureClass::Died, None)
        }
        Some(Told::Started(_) | Told::FailedItems(_) | Told::Used(_)) | None => {
            let what = "the program's guardian went without a word; the program was killed";
            (what.to_owned(), FailureClass::Died, None)
        }
    };
    transcript.system(what.clone());
    match stopped {
        Some(Stopped::TimedOut) => AttemptEnd::TimedOut,
        Some(Stopped::Cancelled) => AttemptEnd::Cancelled,
        None if class == FailureClass::ExitCode(0) => AttemptEnd::Succeeded { result },
        None => AttemptEnd::Failed(AttemptFailure { result, failed_items, ..failure(class, what) }),
    }
}

/// All that a program finds in its environment.
fn environment(
    order: &AttemptOrder,
    action: &ProcessAction,
    directory: &Path,
) -> std::collections::BTreeMap<String, String> {
    let is_own = |name: &str| name.starts_with("ESCAPEMENT_");
    let mut environment = action.env.clone();
    environment.retain(|name, _| !is_own(name));
    environment.entry("PATH".into()).or_insert_with(|| PATH.into());
    let own = [
        ("ESCAPEMENT_IDEMPOTENCY_KEY", order.execution.to_string()),
        ("ESCAPEMENT_TASK_ID", order.task.to_string()),
        ("ESCAPEMENT_EXECUTION_ID", order.execution.to_string()),
        ("ESCAPEMENT_ATTEMPT", order.attempt.to_string()),
        ("ESCAPEMENT_SCHEDULED_AT", order.scheduled_at.to_string()),
        ("ESCAPEMENT_FENCING_TOKEN", order.fencing_token.to_string()),
        ("ESCAPEMENT_TRACEPARENT", traceparent(&order.correlation_id, order.execution, order.attempt)),
    ];
    environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let failed_items = Launch::failed_items(directory).to_string_lossy().into_owned();
    environment.insert("ESCAPEMENT_FAILED_ITEMS_FILE".into(), failed_items);
    if let Some(items) = &order.retry_items {
        environment.insert("ESCAPEMENT_RETRY_ITEMS".into(), items.clone());
    }
    environment
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU, for it used up its processor time",
        25 => "SIGXFSZ",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
