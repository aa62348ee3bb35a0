//! The event log of a running node, fetched as it is stored there, so that it can be verified and replayed as a stopped
//! node's.
//!
//! Invariant: what was fetched is kept in a directory of its own for as long as it is read, and no longer. Absent on purpose:
//! any judgement on what is fetched, which is the audit's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::ports::Storage as _;
use escapement_actors::projection::put_block;
use escapement_domain::identifier::TenantId;
use escapement_domain::record::{ChainHead, Hash};
use serde::Deserialize;

use super::client::{Client, Request};
use super::failure::Failure;
use super::progress::Progress;
use super::system;
use crate::audit::{Archive, AuditError, Known, KnownChain, unframe_blocks};
use crate::store::{SledStorage, StorageOptions};

/// How long one answer may take: some megabytes, over a slow line.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Where chains end, as a node says.
#[derive(Debug, Deserialize)]
struct Chains {
    all_tenants: bool,
    items: Vec<Chain>,
    state_hash: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Chain {
    tenant: String,
    number: u32,
    seq: u64,
    hash: String,
}

/// What is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// The chain of a tenant.
    Tenant(&'a str),
    /// All that the caller may see.
    Visible,
    /// Everything, and the hash of the node's state.
    State,
}

/// Fetches.
pub(super) async fn fetch(client: &Client, wanted: Wanted<'_>) -> Result<Archive, Failure> {
    let request = Request::get(["api", "audit", "chains"]).timeout(ANSWER_TIMEOUT);
    let request = match wanted {
        Wanted::Tenant(tenant) => request.query("tenant", Some(tenant)),
        Wanted::Visible => request,
        Wanted::State => request.query("state", Some(true)),
    };
    let strange = |detail: String| Failure::stopped(format!("the node's answer makes no sense: {detail}"));
    let chains: Chains = serde_json::from_value(client.ask(&request).await?.json()?)
        .map_err(|error| strange(error.to_string()))?;
    let hash = |text: &str| text.parse::<Hash>().map_err(|()| strange(format!("`{text}` is no hash")));
    let mut known = Vec::with_capacity(chains.items.len());
    for chain in &chains.items {
        let head = ChainHead { sequence: chain.seq, hash: hash(&chain.hash)? };
        known.push(KnownChain { tenant: TenantId(chain.number), name: chain.tenant.as_str().into(), head });
    }
    let state = chains.state_hash.as_deref().map(hash).transpose()?;
    let place = Place::make()?;
    let storage = SledStorage::open(&place.0, &StorageOptions::default()).map_err(AuditError::from)?;
    let mut progress = Progress::new("events fetched");
    let total = known.iter().map(|chain| chain.head.sequence).sum();
    let mut before = 0;
    for chain in &known {
        let mut from = 1;
        while from <= chain.head.sequence {
            progress.show(before + from - 1, total);
            let request = Request::get(["api", "audit", "blocks"])
                .query("tenant", Some(&chain.name))
                .query("from", Some(from))
                .timeout(ANSWER_TIMEOUT);
            let answer = client.ask_for_bytes(&request).await?;
            let blocks =
                unframe_blocks(&answer).ok_or_else(|| strange("a row of blocks is cut off".into()))?;
            let Some((last, _)) = blocks.last().filter(|(last, _)| *last >= from) else { break };
            from = last.saturating_add(1);
            let writes = blocks.into_iter().map(|(first, bytes)| put_block(chain.tenant, first, bytes));
            storage.write(writes.collect())?;
        }
        before += chain.head.sequence;
    }
    progress.show(total, total);
    progress.finish();
    let known = Known { chains: &known, whole: chains.all_tenants, state };
    Ok(Archive::fetched(Arc::new(storage), &known, Box::new(place)))
}

/// A directory that goes with its owner.
struct Place(PathBuf);

impl Place {
    fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("escapement-audit-{}", system::fresh_id()));
        std::fs::create_dir_all(&path).map_err(|error| Failure::file("make the directory", &path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which cleans its temporary directory up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
