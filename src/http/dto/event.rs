//! A record of the event log, and where chains of them end.

use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::KnownChain;
use crate::audit::json::AuditEvent;

/// An event in its place: numbered for its tenant, and chained by hash to the one before it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Event {
    /// Its place in its tenant's chain, from 1.
    seq: u64,
    /// The index of the log entry that led to it.
    log_index: u64,
    /// When the leader stamped it.
    at: String,
    /// By how many milliseconds its clock was then ahead of most nodes', below zero if behind; absent where nothing of the kind
    /// was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<i32>,
    /// Whose it is.
    tenant: String,
    /// Who wanted it.
    actor: String,
    /// The request, or execution, that it goes back to.
    correlation_id: String,
    /// What happened.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The facts.
    data: serde_json::Value,
    /// Its hash in hexadecimal digits.
    hash: String,
    /// The hash of the one before it.
    previous_hash: String,
}

impl From<AuditEvent> for Event {
    fn from(event: AuditEvent) -> Self {
        Self {
            seq: event.seq,
            log_index: event.log_index,
            at: event.at,
            clock_ahead_ms: event.clock_ahead_ms,
            tenant: event.tenant,
            actor: event.actor,
            correlation_id: event.correlation_id,
            kind: event.kind,
            data: event.data,
            hash: event.hash,
            previous_hash: event.previous_hash,
        }
    }
}

/// Where chains of events end.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Chains {
    /// The index of the log entry at which they end there.
    pub(in crate::http) log_index: u64,
    /// Whether they are those of every tenant, on which a replay of the state rests.
    pub(in crate::http) all_tenants: bool,
    /// The chains.
    pub(in crate::http) items: Vec<Chain>,
    /// The hash of the whole state at `log_index`, if `state=true` asked for it.
    #[schema(required = true)]
    pub(in crate::http) state_hash: Option<String>,
    /// Always null: there is one page.
    pub(in crate::http) next_cursor: Option<String>,
}

/// Where a tenant's chain of events ends.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Chain {
    /// Whose it is.
    tenant: String,
    /// The tenant's number, which its events carry.
    number: u32,
    /// The `seq` of the last event.
    seq: u64,
    /// The hash of the last event, which covers all before it.
    hash: String,
}

impl From<KnownChain> for Chain {
    fn from(chain: KnownChain) -> Self {
        Self {
            tenant: chain.name.as_ref().to_owned(),
            number: chain.tenant.0,
            seq: chain.head.sequence,
            hash: chain.head.hash.to_string(),
        }
    }
}
