//! A development node: `escapement dev`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::api::Api;
use super::disk::Disk;
use super::node::Node;
use super::ports::{Permit, free_port};
use super::program::{PROGRAM, command};

/// A development node in a directory of its own.
#[derive(Debug)]
pub(crate) struct Development {
    pub(crate) node: Node,
    pub(crate) address: SocketAddr,
    directory: TempDir,
    _permit: Permit,
}

impl Development {
    /// Starts a node and waits until it is ready.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_as(|command| command)
    }

    /// Starts a node by a command that was changed, and waits until it is ready.
    #[track_caller]
    pub(crate) fn start_as(dress: impl FnOnce(Command) -> Command) -> Self {
        let permit = Permit::of(1);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let node = launch(address, &directory, dress);
        let mut development = Self { node, address, directory, _permit: permit };
        development.node.await_ready();
        development
    }

    /// Starts it again on the same data, where no file may grow beyond so many bytes: a disk that fills up.
    #[track_caller]
    pub(crate) fn restart_bounded(&mut self, file_bytes: u64) {
        let arguments = arguments(self.address, &self.directory);
        // A file too large is an error for the program, not its death by SIGXFSZ.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", file_bytes / 512);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, "sh", PROGRAM]).args(arguments);
        self.node = Node::start(command, self.address, &self.directory.path().join("node.log"));
        self.node.await_ready();
    }

    /// Starts it again on the same data, on a disk that will fail.
    #[track_caller]
    pub(crate) fn restart_on(&mut self, disk: &Disk) {
        self.restart_as(|mut command| {
            disk.slide_under(&mut command);
            command
        });
    }

    /// Starts it again on the same data.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.restart_as(|command| command);
    }

    /// Starts it again on the same data, by a command that was changed.
    #[track_caller]
    pub(crate) fn restart_as(&mut self, dress: impl FnOnce(Command) -> Command) {
        self.node = launch(self.address, &self.directory, dress);
        self.node.await_ready();
    }

    /// Where it keeps everything.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A directory beside its data.
    pub(crate) fn place(&self) -> PathBuf {
        self.directory.path().to_path_buf()
    }

    /// Its API, as its administrator.
    #[track_caller]
    pub(crate) fn api(&self) -> Api {
        let token = fs::read_to_string(self.data().join("admin.token")).expect("a token");
        self.node.api(token.trim())
    }
}

fn arguments(address: SocketAddr, directory: &TempDir) -> [String; 5] {
    let data = directory.path().join("data").display().to_string();
    ["dev".into(), "--listen".into(), address.to_string(), "--data".into(), data]
}

fn launch(address: SocketAddr, directory: &TempDir, dress: impl FnOnce(Command) -> Command) -> Node {
    let arguments = arguments(address, directory);
    let command = command(&arguments.each_ref().map(String::as_str));
    Node::start(dress(command), address, &directory.path().join("node.log"))
}
