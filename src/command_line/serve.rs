//! `dev` and `server`: the commands that become a node.
//!
//! Absent on purpose: putting a node together, which is the assembly's.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use escapement_domain::identifier::NodeId;

use super::failure::Failure;
use crate::node::{DevOptions, ServerOptions, run_dev, run_server};

const DEV_EXAMPLES: &str = "\
Examples:
  escapement dev
  escapement dev --listen 127.0.0.1:8080 --data /tmp/trial

The first start makes keys in the data directory and writes an administrator's token to admin.token there; commands \
that run in the directory above ./data find it by themselves. Since it is a developer's machine, tasks may call \
loopback addresses and run any program: never expose such a node.";

const SERVER_EXAMPLES: &str = "\
Examples:
  escapement config check cluster.toml
  escapement server --config cluster.toml --node 1
  escapement server --config cluster.toml --node 4 --join     then: escapement cluster add-node 4 …

The nodes of one file form a cluster by themselves only when every listed node answers that it is pristine. A node that \
replaces another gets a new id, starts with --join, and is added by `escapement cluster add-node`. Every key of the file \
can be overridden by the environment: ESCAPEMENT__SECTION__KEY.";

/// Run one node for development, with everything embedded and no configuration
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_long_help = DEV_EXAMPLES)]
pub struct DevCommand {
    /// Where to listen; loopback only
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7070", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// Where to keep everything
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub data: PathBuf,
    /// Listen on another than a loopback address, although any program can be run through this node
    #[arg(long)]
    pub insecure_listen: bool,
}

/// Run one node of a cluster
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_long_help = SERVER_EXAMPLES)]
pub struct ServerCommand {
    /// The cluster's configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Which of its nodes this is
    #[arg(long, value_name = "ID")]
    pub node: u64,
    /// Wait to be added to a running cluster rather than forming one
    #[arg(long)]
    pub join: bool,
}

impl DevCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.check()?;
        let options = DevOptions { listen: self.listen, data: self.data };
        run_dev(&options).map_err(|error| Failure::caused_by(&error))
    }

    /// A node that runs any program for whoever has its token does not listen to the world by accident.
    fn check(&self) -> Result<(), Failure> {
        if self.listen.ip().is_loopback() || self.insecure_listen {
            return Ok(());
        }
        let message = format!("a development node listens on loopback only, not on {}", self.listen);
        Err(Failure::stopped(message)
            .advise("use `escapement server` for others to reach it, or add --insecure-listen"))
    }
}

impl ServerCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = ServerOptions { config: self.config, node: NodeId(self.node), join: self.join };
        run_server(&options).map_err(|error| Failure::caused_by(&error))
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(_) => "a port is missing, such as 127.0.0.1:7070".into(),
        Err(_) => "an address with a port is needed, such as 127.0.0.1:7070".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(listen: &str, insecure_listen: bool, allowed: bool) {
        let command = DevCommand {
            listen: parse_listen(listen).expect("an address"),
            data: "data".into(),
            insecure_listen,
        };
        assert_eq!(command.check().is_ok(), allowed, "{listen}");
    }

    #[test]
    fn a_development_node_stays_on_loopback_unless_told_otherwise() {
        check("127.0.0.1:7070", false, true);
        check("localhost:7070", false, true);
        check("[::1]:7070", false, true);
        check("0.0.0.0:7070", false, false);
        check("192.168.1.4:7070", false, false);
        check("0.0.0.0:7070", true, true);
    }

    #[test]
    fn a_missing_port_is_named() {
        assert!(parse_listen("127.0.0.1").expect_err("no port").contains("port is missing"));
        assert!(parse_listen("here").is_err());
    }
}
