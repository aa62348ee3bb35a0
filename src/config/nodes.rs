//! The nodes of a cluster, each of which must be its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use escapement_domain::identifier::NodeId;
use reqwest::Url;

use super::document::Section;
use super::fault::{Faults, Place};
use super::sections::Reader;

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its id, never used again for another disk.
    pub id: NodeId,
    /// Where it serves the HTTP API and the dashboard.
    pub api: SocketAddr,
    /// Where it serves the other nodes.
    pub peer: SocketAddr,
    /// Its directory.
    pub data: PathBuf,
    /// Where targets that report later find its API, or that of any node of the cluster.
    pub public_url: String,
}

/// Reads the nodes, by ascending id.
pub(super) fn read(sections: &[Section], directory: &Path, faults: &mut Faults) -> Vec<NodeConfig> {
    if sections.is_empty() {
        faults.add(&Place::File, "node", "is missing: must be one section [[node]] for each node");
    }
    let mut nodes: Vec<NodeConfig> =
        sections.iter().filter_map(|section| read_one(section, directory, faults)).collect();
    nodes.sort_by_key(|node| node.id);
    refuse_shared(sections, faults);
    nodes
}

fn read_one(section: &Section, directory: &Path, faults: &mut Faults) -> Option<NodeConfig> {
    let mut reader = Reader { section, faults };
    let id = reader
        .required("id", "a whole number from 1 on", |entry| entry.number().filter(|id| *id > 0).map(NodeId));
    let address = "an address and a port, such as 10.0.0.1:7070 or [fd00::1]:7070";
    let parse = |text: &str| text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    let api = reader.required("api", address, |entry| entry.text().and_then(parse));
    let reachable = "an address and a port that the other nodes reach, such as 10.0.0.1:7170";
    let peer = reader.required("peer", reachable, |entry| {
        entry.text().and_then(parse).filter(|address| !address.ip().is_unspecified())
    });
    let data = reader.required("data", "a directory", |entry| {
        entry.text().filter(|path| !path.is_empty()).map(|path| directory.join(path))
    });
    let allowed = "an http or https URL without query, such as https://scheduler.example";
    let given = reader.given("public_url", allowed, |entry| entry.text().and_then(public_url));
    let (api, peer): (SocketAddr, SocketAddr) = (api?, peer?);
    // One that serves on every address is found under that on which its peers find it.
    let host = if api.ip().is_unspecified() { peer.ip() } else { api.ip() };
    let public_url = given.unwrap_or_else(|| format!("http://{}", SocketAddr::new(host, api.port())));
    Some(NodeConfig { id: id?, api, peer, data: data?, public_url })
}

fn public_url(text: &str) -> Option<String> {
    let url: Url = text.parse().ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    is_plain.then(|| text.trim_end_matches('/').to_owned())
}

/// Names every id, address and directory that two nodes share.
fn refuse_shared(sections: &[Section], faults: &mut Faults) {
    let mut seen: BTreeMap<(&str, String), (&Place, &str)> = BTreeMap::new();
    for section in sections {
        for key in ["id", "api", "peer", "data"] {
            let Some(entry) = section.get(key) else { continue };
            let (kind, value) = match key {
                "id" => ("id", entry.shown.clone()),
                "data" => ("data", normal(entry.text().unwrap_or(&entry.shown)).display().to_string()),
                _ => ("address", entry.text().unwrap_or(&entry.shown).to_owned()),
            };
            match seen.get(&(kind, value.clone())) {
                Some((place, as_key)) => {
                    let place = match place {
                        Place::Line(line) => format!("in line {line}"),
                        Place::Variable(name) => format!("in {name}"),
                        Place::File => "elsewhere".to_owned(),
                    };
                    let problem = format!(
                        "must be this node's own; found {}, which is node.{as_key} {place}",
                        entry.shown
                    );
                    faults.add(&entry.place, section.key(key), problem);
                }
                None => drop(seen.insert((kind, value), (&entry.place, key))),
            }
        }
    }
}

/// Removes what does not change where a path leads: `./` and doubled or trailing slashes.
fn normal(path: &str) -> PathBuf {
    Path::new(path).components().filter(|component| *component != Component::CurDir).collect()
}
