//! Nodes of a `cluster.toml`, started, killed and started again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use escapement::security::{Keys, Role};
use escapement_domain::timestamp::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use super::api::Api;
use super::disk::Disk;
use super::node::Node;
use super::ports::{Permit, free_port};
use super::program::{ask, command, escapement};
use super::wait::{eventually, now_ms, until};

/// The secret of every cluster here.
const SECRET: &str = "a secret of more than thirty-two bytes, for tests only";
/// How long a node may take to find out that it cannot go on, and to end.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// What a test may set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Lines for the section `[raft]`.
    pub(crate) raft: String,
    /// Attempts at once on a node.
    pub(crate) slots: Option<u32>,
    /// Where the nodes run, if not just on this host.
    pub(crate) hosts: Option<Arc<dyn Hosts>>,
}

/// Where nodes run, and how they are started there.
pub(crate) trait Hosts: fmt::Debug + Send + Sync {
    /// The address of a node's host.
    fn address(&self, _node: u64) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    /// Makes of a command one that runs on a node's host.
    fn dress(&self, node: u64, command: Command) -> Command;
}

#[derive(Clone, Copy, Debug)]
struct Member {
    api: SocketAddr,
    peer: SocketAddr,
}

/// Nodes of one file.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: BTreeMap<u64, Node>,
    /// Nodes whose processes were killed, or ended by themselves, each with when that was known, in ms since 1970.
    deaths: Vec<(u64, i64)>,
    members: BTreeMap<u64, Member>,
    settings: Settings,
    directory: TempDir,
    token: String,
    _permit: Permit,
}

impl Cluster {
    /// Starts so many nodes and waits until all of them are ready.
    #[track_caller]
    pub(crate) fn start(size: u64) -> Self {
        Self::start_with(size, Settings::default())
    }

    /// Starts nodes with settings.
    #[track_caller]
    pub(crate) fn start_with(size: u64, settings: Settings) -> Self {
        let permit = Permit::of(usize::try_from(size).expect("few") + 1);
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("jwt.key"), SECRET).expect("written");
        let members = (1..=size).map(|id| (id, Member::new(&settings, id))).collect();
        let (nodes, token) = (BTreeMap::new(), String::new());
        let mut cluster =
            Self { nodes, deaths: Vec::new(), members, settings, directory, token, _permit: permit };
        cluster.token = cluster.mint("ann", "acme", &["admin", "cluster-admin"]);
        cluster.write_configuration();
        for id in 1..=size {
            cluster.launch(id, &[], None);
        }
        cluster.await_ready();
        cluster
    }

    fn write_configuration(&self) {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let mut text = "[cluster]\nname = \"end-to-end\"\n".to_owned();
        for (id, Member { api, peer }) in &self.members {
            let data = path(&format!("data-{id}"));
            text += &format!("[[node]]\nid = {id}\napi = \"{api}\"\npeer = \"{peer}\"\ndata = \"{data}\"\n");
        }
        let (raft, slots) = (&self.settings.raft, self.settings.slots.unwrap_or(256));
        text += &format!("[raft]\n{raft}");
        if !raft.contains("election") {
            text += "heartbeat = \"50ms\"\nelection = [\"200ms\", \"400ms\"]\n";
        }
        text += &format!("[security]\njwt_key_file = \"{}\"\n", path("jwt.key"));
        text += &format!("[execution]\nslots = {slots}\nprocess_allow = [\"/bin/sh\", \"/bin/echo\"]\n");
        // Where the nodes are is where the target is.
        let targets = if self.members.values().all(|member| member.api.ip().is_loopback()) {
            "127.0.0.0/8"
        } else {
            "10.0.0.0/8"
        };
        text += &format!("egress_allow = [\"{targets}\"]\n");
        fs::write(self.configuration(), text).expect("written");
    }

    fn launch(&mut self, id: u64, options: &[&str], disk: Option<&Disk>) {
        let (configuration, number) = (self.configuration().display().to_string(), id.to_string());
        let mut arguments = vec!["server", "--config", &configuration, "--node", &number];
        arguments.extend(options);
        let log = self.directory.path().join(format!("node-{id}.log"));
        let mut command = command(&arguments);
        if let Some(disk) = disk {
            disk.slide_under(&mut command);
        }
        if let Some(hosts) = &self.settings.hosts {
            command = hosts.dress(id, command);
        }
        self.nodes.insert(id, Node::start(command, self.members[&id].api, &log));
    }

    /// The configuration's file.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.directory.path().join("cluster.toml")
    }

    /// A node's data directory.
    pub(crate) fn data(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("data-{id}"))
    }

    /// Where the other nodes find a node.
    pub(crate) fn peer(&self, id: u64) -> SocketAddr {
        self.members[&id].peer
    }

    /// A directory beside the nodes' data.
    pub(crate) fn place(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until every node that runs is ready.
    #[track_caller]
    pub(crate) fn await_ready(&mut self) {
        self.nodes.values_mut().filter(|node| node.runs()).for_each(Node::await_ready);
    }

    /// Kills a node as a power cut would.
    pub(crate) fn kill(&mut self, id: u64) {
        self.node_mut(id).kill();
        self.deaths.push((id, now_ms()));
    }

    /// Starts a node that was killed, without waiting for it.
    pub(crate) fn start_again(&mut self, id: u64) {
        self.launch(id, &[], None);
    }

    /// Starts a node that was stopped on a disk that will fail, without waiting for it.
    pub(crate) fn start_again_on(&mut self, id: u64, disk: &Disk) {
        self.launch(id, &[], Some(disk));
    }

    /// Waits until a node ended by itself, and returns its exit code.
    #[track_caller]
    pub(crate) fn await_end(&mut self, id: u64) -> Option<i32> {
        let code = self.node_mut(id).await_end(ENDS_WITHIN);
        self.deaths.push((id, now_ms()));
        code
    }

    /// Which nodes died, each with when that was known, in ms since 1970: before they were started again.
    pub(crate) fn deaths(&self) -> &[(u64, i64)] {
        &self.deaths
    }

    /// Starts a node that waits to be added, and returns its two addresses.
    pub(crate) fn join(&mut self, id: u64) -> (String, String) {
        let member = Member::new(&self.settings, id);
        self.members.insert(id, member);
        self.write_configuration();
        self.launch(id, &["--join"], None);
        (member.api.to_string(), member.peer.to_string())
    }

    /// Asks a node to end and returns its exit code.
    #[track_caller]
    pub(crate) fn terminate(&mut self, id: u64) -> Option<i32> {
        self.node_mut(id).terminate(Duration::from_secs(12))
    }

    /// Makes a node the leader.
    #[track_caller]
    pub(crate) fn lead(&self, id: u64) {
        until(&format!("node {id} leads"), || {
            // Refused while it is behind.
            self.leader() == id
                || ask(&self.any(), &["cluster", "transfer-leadership", &id.to_string()], None).code == 0
                    && self.leader() == id
        });
    }

    /// Asks all nodes that run to end at once, and returns their exit codes.
    #[track_caller]
    pub(crate) fn terminate_all(&mut self, patience: Duration) -> Vec<Option<i32>> {
        self.nodes.values().filter(|node| node.runs()).for_each(Node::ask_to_end);
        let running = self.nodes.values_mut().filter(|node| node.runs());
        running.map(|node| node.await_end(patience)).collect()
    }

    /// A node.
    #[track_caller]
    pub(crate) fn node(&self, id: u64) -> &Node {
        self.nodes.get(&id).unwrap_or_else(|| panic!("node {id}"))
    }

    #[track_caller]
    fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("node {id}"))
    }

    /// Mints a token with the program.
    #[track_caller]
    pub(crate) fn mint(&self, subject: &str, tenant: &str, roles: &[&str]) -> String {
        let key = self.directory.path().join("jwt.key").display().to_string();
        let mut arguments = vec![
            "token",
            "mint",
            "--key-file",
            &key,
            "--subject",
            subject,
            "--tenant",
            tenant,
            "--ttl",
            "12h",
        ];
        roles.iter().for_each(|role| arguments.extend(["--role", role]));
        escapement(&arguments).expect(0).out.trim().to_owned()
    }

    /// Makes a token that was good until an hour ago.
    pub(crate) fn expired_token(&self) -> String {
        let keys = Keys::load(&self.directory.path().join("jwt.key")).expect("a key");
        let then = Timestamp(now_ms() - 7_200_000);
        let token = keys.mint("ann", "acme", &[Role::Admin], Duration::from_secs(3_600), then);
        token.expect("minted")
    }

    /// A node's API, as the administrator of acme and of the cluster.
    #[track_caller]
    pub(crate) fn api(&self, id: u64) -> Api {
        self.node(id).api(&self.token)
    }

    /// The API of some node that runs.
    #[track_caller]
    pub(crate) fn any(&self) -> Api {
        let (&id, _) = self.nodes.iter().find(|(_, node)| node.runs()).expect("a node runs");
        self.api(id)
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.runs()).map(|(&id, _)| id).collect()
    }

    /// Waits until all nodes that run agree on a leader that runs, and returns it.
    #[track_caller]
    pub(crate) fn leader(&self) -> u64 {
        eventually("the nodes agree on a leader", || {
            let running = self.running();
            let mut said: Vec<u64> = running.iter().filter_map(|&id| self.said_by(id)).collect();
            let all = said.len() == running.len();
            said.dedup();
            said.first().copied().filter(|leader| all && said.len() == 1 && running.contains(leader))
        })
    }

    /// Who leads, as a node believes.
    pub(crate) fn said_by(&self, id: u64) -> Option<u64> {
        let path = "/api/cluster/status?consistency=local";
        let reply = self.api(id).try_send("GET", path, &[], None).ok()?;
        if reply.status == 200 { reply.json()["leader"].as_u64() } else { None }
    }

    /// A node that runs and does not lead.
    #[track_caller]
    pub(crate) fn follower(&self) -> u64 {
        let leader = self.leader();
        self.running().into_iter().find(|&id| id != leader).expect("a follower")
    }

    /// What a node says of the cluster.
    #[track_caller]
    pub(crate) fn status(&self, id: u64) -> Value {
        self.api(id).get("/api/cluster/status")
    }

    /// Waits until a node has applied what another one has applied now.
    #[track_caller]
    pub(crate) fn await_caught_up(&self, id: u64) {
        let leader = self.leader();
        let goal = applied(&self.status(leader), leader).expect("the leader is in its own list");
        until(&format!("node {id} has applied {goal}"), || {
            let reply = self.api(id).try_send("GET", "/api/cluster/status?consistency=local", &[], None);
            reply.is_ok_and(|reply| reply.status == 200 && applied(&reply.json(), id) >= Some(goal))
        });
    }
}

impl Member {
    fn new(settings: &Settings, id: u64) -> Self {
        let host = settings.hosts.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), |hosts| hosts.address(id));
        Self { api: (host, free_port()).into(), peer: (host, free_port()).into() }
    }
}

/// The index that a node has applied, by an answer on the cluster's status.
pub(crate) fn applied(status: &Value, id: u64) -> Option<u64> {
    let nodes = status["nodes"].as_array()?;
    nodes.iter().find(|node| node["id"] == id)?["applied"].as_u64()
}
