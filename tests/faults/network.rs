//! Hosts of the test's own: a network namespace for each node, joined by a bridge that the test can reach.
//!
//! Needs root and `ip` and `nft`; where a machine lacks one of them, [`Network::new`] says which. What fails after that fails the test. Namespaces are named
//! after the process of the test, removed with it, also in a panic; what a killed run left is swept by the next.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::harness::cluster::Hosts;
use crate::harness::program::behind;

/// What the names of all namespaces here begin with.
const PREFIX: &str = "escapement-";
/// Networks that one process makes.
static NETWORKS: AtomicU8 = AtomicU8::new(0);

/// A network of hosts.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    /// The first three bytes of every address.
    subnet: [u8; 3],
    hosts: u8,
}

impl Network {
    /// Makes hosts numbered from 1, or says why it cannot.
    pub(crate) fn new(hosts: u8) -> Result<Self, String> {
        sweep();
        let process = std::process::id();
        let place = NETWORKS.fetch_add(1, Ordering::Relaxed);
        // Networks of runs beside each other differ in the second or third byte, as long as there are few.
        let subnet = [10, 128 + (process % 97) as u8, (process / 97 % 31) as u8 * 8 + place % 8];
        let network = Self { name: format!("{PREFIX}{process}-{place}"), subnet, hosts };
        network.try_out().map_err(|reason| format!("no network namespaces here: {reason}"))?;
        // What the machine lets us do may not fail half-way: that is no reason to leave tests out.
        network.build().unwrap_or_else(|reason| panic!("the network is not made: {reason}"));
        Ok(network)
    }

    /// Makes the hub with one of each thing that a host needs: the machine lacks none of them, or says which.
    fn try_out(&self) -> Result<(), String> {
        let hub = self.namespace(0);
        run(&format!("ip netns add {hub}"))?;
        run(&format!("ip -n {hub} link add bridge type bridge"))?;
        run(&format!("ip -n {hub} link add tried type veth peer name other"))?;
        run(&format!("ip -n {hub} link del tried"))?;
        run(&format!("ip netns exec {hub} nft add table inet faults"))
    }

    fn build(&self) -> Result<(), String> {
        let hub = self.namespace(0);
        run(&format!("ip -n {hub} link set bridge up"))?;
        for host in 1..=self.hosts {
            let namespace = self.namespace(host);
            run(&format!("ip netns add {namespace}"))?;
            let ends = format!("host{host} type veth peer name eth0 netns {namespace}");
            run(&format!("ip -n {hub} link add {ends}"))?;
            run(&format!("ip -n {hub} link set host{host} master bridge up"))?;
            run(&format!("ip -n {namespace} addr add {}/24 dev eth0", self.host(host)))?;
            run(&format!("ip -n {namespace} link set eth0 up"))?;
            run(&format!("ip -n {namespace} link set lo up"))?;
            run(&format!("ip netns exec {namespace} nft add table inet faults"))?;
            let chain = "faults cut { type filter hook input priority 0 ; }";
            run(&format!("ip netns exec {namespace} nft add chain inet {chain}"))?;
        }
        let (outside, address) = (self.outside(), self.test());
        run(&format!("ip link add {outside} type veth peer name test netns {hub}"))?;
        run(&format!("ip -n {hub} link set test master bridge up"))?;
        run(&format!("ip addr add {address}/24 dev {outside}"))?;
        run(&format!("ip link set {outside} up"))
    }

    /// The address of the test itself.
    pub(crate) fn test(&self) -> IpAddr {
        self.host(254)
    }

    /// What one host sends does not reach another one any more: one way.
    #[track_caller]
    pub(crate) fn cut(&self, from: u64, to: u64) {
        let drop = format!("add rule inet faults cut ip saddr {} drop", self.address(from));
        self.nft(to, &drop);
    }

    /// What the test sends does not reach a host any more: neither requests nor what its targets answer.
    #[track_caller]
    pub(crate) fn cut_from_test(&self, to: u64) {
        self.nft(to, &format!("add rule inet faults cut ip saddr {} drop", self.test()));
    }

    /// Everything reaches everybody again.
    #[track_caller]
    pub(crate) fn heal(&self) {
        (1..=self.hosts).for_each(|host| self.nft(host.into(), "flush chain inet faults cut"));
    }

    #[track_caller]
    fn nft(&self, host: u64, rule: &str) {
        let namespace = self.namespace(u8::try_from(host).expect("few hosts"));
        run(&format!("ip netns exec {namespace} nft {rule}")).expect("the rule is set");
    }

    fn namespace(&self, host: u8) -> String {
        format!("{}-{host}", self.name)
    }

    /// The test's end of its own link; a name of at most 15 bytes.
    fn outside(&self) -> String {
        let [_, second, third] = self.subnet;
        format!("esc-{second}-{third}")
    }

    fn host(&self, host: u8) -> IpAddr {
        let [first, second, third] = self.subnet;
        Ipv4Addr::new(first, second, third, host).into()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The links end with their namespaces. Nothing is left to do about one that was never made.
        (0..=self.hosts).for_each(|host| drop(run(&format!("ip netns del {}", self.namespace(host)))));
    }
}

impl Hosts for Network {
    fn address(&self, node: u64) -> IpAddr {
        self.host(u8::try_from(node).expect("few hosts"))
    }

    /// Runs it in the node's namespace, as the same process: `ip` becomes the program.
    fn dress(&self, node: u64, command: Command) -> Command {
        let namespace = self.namespace(u8::try_from(node).expect("few hosts"));
        behind(&["ip", "netns", "exec", &namespace], &command)
    }
}

/// Removes the namespaces of runs that were killed.
fn sweep() {
    let Ok(list) = output("ip netns list") else { return };
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another run may sweep at the same time.
            drop(run(&format!("ip netns del {name}")));
        }
    }
}

/// Runs a command line of words without quotes.
pub(crate) fn run(line: &str) -> Result<(), String> {
    output(line).map(drop)
}

fn output(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap_or_default()).args(words).output();
    let output = output.map_err(|error| format!("`{line}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = format!("`{line}`: ");
    let _ = write!(said, "{}", String::from_utf8_lossy(&output.stderr).trim());
    Err(said)
}
