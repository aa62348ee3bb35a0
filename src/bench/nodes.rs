//! The nodes under load: processes of this very program on loopback, each with a directory of its own.
//!
//! Invariant: no process and no temporary directory outlives [`Nodes`]. Absent on purpose: anything that reaches into
//! a node; `kill -9` and a new start are all that is done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Url;

use crate::command_line::client::{Client, Request};
use crate::command_line::connection::Connection;
use crate::command_line::failure::Failure;
use crate::command_line::system::{self, Stopwatch};
use crate::security::{Keys, Role, random_secret, write_secret};

/// How long a start may take; a large state has to be read first.
const START_MAX: Duration = Duration::from_secs(300);
/// How often to look whether a node is ready.
const POLL: Duration = Duration::from_millis(10);
/// Bytes of a node's log that are shown when it does not start.
const LOG_TAIL_BYTES: usize = 2_000;
/// For how long the token of a run is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(2 * 86_400);
/// Clock ticks a second, in which Linux tells processor times on every architecture that it runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Whose tasks they are.
const TENANT: &str = "bench";

/// One node.
#[derive(Debug)]
struct Node {
    address: String,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

/// The nodes of one run.
#[derive(Debug)]
pub(super) struct Nodes {
    directory: PathBuf,
    temporary: bool,
    nodes: Vec<Node>,
}

impl Nodes {
    /// Lays out directories, ports and the configuration of `count` nodes, with so many slots each if it is not left to them.
    pub(super) fn prepare(count: u64, slots: Option<u64>, data: Option<&Path>) -> Result<Self, Failure> {
        let made = match data {
            Some(data) => data.to_owned(),
            None => std::env::temp_dir().join(format!("escapement-bench-{}", system::fresh_id())),
        };
        fs::create_dir_all(&made).map_err(|error| Failure::file("make the directory", &made, &error))?;
        let directory = fs::canonicalize(&made).map_err(|error| Failure::file("find", &made, &error))?;
        let mut nodes = Self { directory, temporary: data.is_none(), nodes: Vec::new() };
        let ports = free_ports(usize::try_from(count * 2).unwrap_or(2))?;
        match (count, slots) {
            (1, None) => nodes.lay_out_dev(ports[0]),
            _ => nodes.lay_out_cluster(&ports, slots)?,
        }
        Ok(nodes)
    }

    fn lay_out_dev(&mut self, port: u16) {
        let data = self.directory.join("1").display().to_string();
        self.push(
            1,
            port,
            vec!["dev".into(), "--listen".into(), format!("127.0.0.1:{port}"), "--data".into(), data],
        );
    }

    fn lay_out_cluster(&mut self, ports: &[u16], slots: Option<u64>) -> Result<(), Failure> {
        let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        let key = self.key_file();
        let secret = random_secret(&system::RandomBits);
        write_secret(&key, secret.as_bytes()).map_err(|error| Failure::file("write", &key, &error))?;
        let config = self.directory.join("cluster.toml");
        let mut text =
            format!("[cluster]\nname = \"bench\"\n\n[security]\njwt_key_file = {}\n", quoted(&key));
        if let Some(slots) = slots {
            text.push_str(&format!("\n[execution]\nslots = {slots}\negress_allow = [\"127.0.0.0/8\"]\n"));
            text.push_str(&format!("process_allow = [\"{}\"]\n", super::programs::PROGRAM));
        }
        for (id, pair) in (1..).zip(ports.chunks_exact(2)) {
            let data = quoted(&self.directory.join(id.to_string()));
            text.push_str(&format!(
                "\n[[node]]\nid = {id}\napi = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\ndata = {data}\n",
                pair[0], pair[1]
            ));
            let arguments = ["server", "--config", &config.display().to_string(), "--node", &id.to_string()];
            self.push(id, pair[0], arguments.map(Into::into).to_vec());
        }
        fs::write(&config, text).map_err(|error| Failure::file("write", &config, &error))
    }

    fn push(&mut self, id: u64, port: u16, arguments: Vec<String>) {
        let log = self.directory.join(format!("node-{id}.log"));
        self.nodes.push(Node { address: format!("http://127.0.0.1:{port}"), arguments, log, process: None });
    }

    fn key_file(&self) -> PathBuf {
        self.directory.join("jwt.key")
    }

    /// Where the nodes keep their data.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts every node and waits until each is ready.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            node.start()?;
        }
        for node in &mut self.nodes {
            node.wait_until_ready().await?;
        }
        Ok(())
    }

    /// Kills every node at once, as a power cut would.
    pub(super) fn kill(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                // It can only have ended by itself.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }

    /// How to reach each node, as an administrator.
    pub(super) fn connections(&self) -> Result<Vec<Connection>, Failure> {
        let token = self.token()?;
        let connection =
            |node: &Node| Ok(Connection { address: url(&node.address)?, token: Some(token.clone()) });
        self.nodes.iter().map(connection).collect()
    }

    fn token(&self) -> Result<String, Failure> {
        if !self.key_file().exists() {
            let path = self.directory.join("1").join("admin.token");
            let token = fs::read_to_string(&path)
                .map_err(|error| Failure::file("read the token in", &path, &error))?;
            return Ok(token.trim().to_owned());
        }
        let keys = Keys::load(&self.key_file()).map_err(Failure::stopped)?;
        keys.mint("bench", TENANT, &[Role::Admin, Role::ClusterAdmin], TOKEN_LIFETIME, system::now())
            .map_err(Failure::stopped)
    }

    /// Returns the resident memory of all nodes.
    pub(super) fn memory_mib(&self) -> Option<f64> {
        let processes = self.nodes.iter().map(|node| node.process.as_ref());
        processes.map(|process| resident_mib(process?.id())).sum()
    }

    /// Counts what the nodes have started, and that started in its turn, as long as anything of it is there: zombies, too.
    pub(super) fn descendants(&self) -> u64 {
        let nodes: Vec<u32> =
            self.nodes.iter().filter_map(|node| Some(node.process.as_ref()?.id())).collect();
        descendants(&nodes, &parents())
    }

    /// Returns the processor time that all nodes have used.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        let processes = self.nodes.iter().map(|node| node.process.as_ref());
        processes.map(|process| cpu_seconds(process?.id())).sum()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.kill();
        if self.temporary {
            // What stays is in the system's temporary directory.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

impl Node {
    fn start(&mut self) -> Result<(), Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::stopped(format!("cannot find this program: {error}")))?;
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|error| Failure::file("write", &self.log, &error))?;
        let process =
            Command::new(&program).args(&self.arguments).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        self.process = Some(process.map_err(|error| Failure::file("start", &program, &error))?);
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let client = Client::new(&Connection { address: url(&self.address)?, token: None })?;
        let request = Request::get(["readyz"]).timeout(Duration::from_secs(1));
        let waited = Stopwatch::start();
        while waited.elapsed() < START_MAX {
            if client.ask_once(&request).await.is_ok_and(|(status, ..)| status.is_success()) {
                return Ok(());
            }
            if let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) {
                return Err(self.failed(&format!("ended with {status}")));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self.failed(&format!("was not ready within {} s", START_MAX.as_secs())))
    }

    /// A node that is not there, with the end of what it logged.
    fn failed(&self, what: &str) -> Failure {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned();
        Failure::stopped(format!(
            "the node at {} {what}; its log ends with:\n{}",
            self.address,
            tail.trim_end()
        ))
    }
}

fn url(address: &str) -> Result<Url, Failure> {
    Url::parse(address).map_err(|error| Failure::stopped(format!("{address}: {error}")))
}

/// Asks the system for ports that are free now.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let bound: std::io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let ports =
        bound.and_then(|bound| bound.iter().map(|listener| Ok(listener.local_addr()?.port())).collect());
    ports.map_err(|error| Failure::stopped(format!("no free port on loopback: {error}")))
}

/// Reads a process's time in user and system mode from /proc (proc_pid_stat(5), fields 14 and 15).
fn cpu_seconds(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// Reads who started whom from /proc (proc_pid_stat(5), field 4).
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |entry: fs::DirEntry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((process, parent))
    };
    entries.filter_map(parent).collect()
}

fn descendants(of: &[u32], parents: &BTreeMap<u32, u32>) -> u64 {
    let mut family: BTreeSet<u32> = of.iter().copied().collect();
    loop {
        let before = family.len();
        let children = parents.iter().filter(|(_, parent)| family.contains(parent));
        let children: Vec<u32> = children.map(|(process, _)| *process).collect();
        family.extend(children);
        if family.len() == before {
            return (before - of.len()) as u64;
        }
    }
}

/// Reads a process's resident set from /proc.
fn resident_mib(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ() {
        let mut ports = free_ports(6).expect("free ports");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }

    #[test]
    fn this_process_takes_memory_and_time() {
        assert!(cpu_seconds(std::process::id()).is_some_and(|seconds| seconds >= 0.0));
        assert_eq!(cpu_seconds(u32::MAX), None);
        assert!(resident_mib(std::process::id()).expect("a figure") > 0.5);
        assert_eq!(resident_mib(u32::MAX), None);
    }

    #[test]
    fn the_children_of_children_count_and_nobody_elses() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (6, 9)]);
        assert_eq!(descendants(&[2], &parents), 2);
        assert_eq!(descendants(&[2, 9], &parents), 3);
        assert_eq!(descendants(&[6], &parents), 0);
        assert!(super::parents().contains_key(&std::process::id()));
    }

    #[test]
    fn three_nodes_get_one_configuration_and_a_key() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let nodes = Nodes::prepare(3, None, Some(directory.path())).expect("prepared");
        let text = fs::read_to_string(directory.path().join("cluster.toml")).expect("written");
        let config: toml::Table = text.parse().expect("TOML");
        assert_eq!(config["node"].as_array().map(Vec::len), Some(3));
        let connections = nodes.connections().expect("connections");
        assert_eq!(connections.len(), 3);
        let keys = Keys::load(&nodes.key_file()).expect("a key");
        let token = connections[0].token.as_deref().expect("a token");
        let principal = keys.verify(token, system::now()).expect("accepted");
        assert_eq!(principal.roles, [Role::Admin, Role::ClusterAdmin]);
    }

    #[test]
    fn a_temporary_directory_goes_with_its_nodes() {
        let nodes = Nodes::prepare(1, None, None).expect("prepared");
        let directory = nodes.directory().to_owned();
        assert!(directory.exists());
        drop(nodes);
        assert!(!directory.exists());
    }
}
