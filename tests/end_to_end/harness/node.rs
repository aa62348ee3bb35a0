//! One process of the program that stays up, and every way to disturb it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::api::Api;
use super::program::behind;
use super::wait::{until, within};

/// Lines of a node's log that are shown when a test fails.
const LINES_SHOWN: usize = 40;

/// What a process begins with that is to die with the thread that starts it.
const MORTAL: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// A running node; killed with everything in its process group when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    child: Option<Child>,
    api: SocketAddr,
    log: PathBuf,
}

impl Node {
    /// Starts a node; what it prints goes to the end of `log`.
    pub(crate) fn start(command: Command, api: SocketAddr, log: &Path) -> Self {
        let mut command = mortal(command);
        let open = || File::options().create(true).append(true).open(log).expect("the log opens");
        let child = command
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .process_group(0)
            .spawn()
            .expect("the program starts");
        Self { child: Some(child), api, log: log.to_path_buf() }
    }

    /// Its API, as somebody.
    pub(crate) fn api(&self, token: &str) -> Api {
        Api { address: self.api, token: Some(token.into()) }
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub(crate) fn await_ready(&mut self) {
        let api = Api { address: self.api, token: None };
        until(&format!("{} is ready", self.api), || {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().expect("waits")
            {
                panic!("the node ended with {status}:\n{}", self.printed());
            }
            api.try_send("GET", "/readyz", &[], None).is_ok_and(|reply| reply.status == 200)
        });
    }

    /// What it printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// Asks it to end and returns its exit code, after at most so long.
    #[track_caller]
    pub(crate) fn terminate(&mut self, patience: Duration) -> Option<i32> {
        self.ask_to_end();
        self.await_end(patience)
    }

    /// Waits until it ended by itself, and returns its exit code.
    #[track_caller]
    pub(crate) fn await_end(&mut self, patience: Duration) -> Option<i32> {
        let status = self.await_status(patience);
        assert_eq!(status.signal(), None, "it ended by itself:\n{}", self.printed());
        status.code()
    }

    /// Waits until it was killed from elsewhere.
    #[track_caller]
    pub(crate) fn await_death(&mut self, patience: Duration) {
        let status = self.await_status(patience);
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it was killed:\n{}", self.printed());
    }

    #[track_caller]
    fn await_status(&mut self, patience: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        within(patience, "the node ended", || child.try_wait().expect("waits"))
    }

    /// Stops its clock, without its knowing.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end, without waiting.
    pub(crate) fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the signal is sent");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }
}

/// The command of a process that is left over by no test, not even by one that is killed itself, where the machine can do
/// that.
fn mortal(command: Command) -> Command {
    static CAN: LazyLock<bool> = LazyLock::new(|| {
        let tried = behind(&MORTAL, &Command::new("true")).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    });
    if *CAN { behind(&MORTAL, &command) } else { command }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing is left to do about a process that is gone.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let printed = self.printed();
            let lines: Vec<&str> = printed.lines().collect();
            let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
            eprintln!("--- {} printed last:\n{shown}", self.log.display());
        }
    }
}
