//! The event log of a running node for whoever verifies or replays it elsewhere: where each chain ends, and the blocks.
//!
//! What is told is what is stored, unopened: opening it here would answer for the disk instead of showing it. Invariant: the
//! ends are those of the replicated state at one log index, and everything up to it is on this node's disk.

use escapement_domain::identifier::TenantId;
use escapement_domain::record::Hash;
use escapement_domain::replica::CLUSTER_TENANT;

use super::Service;
use super::caller::Caller;
use super::consistency::PATIENCE;
use super::failure::ServiceError;
use super::history::{HistoryError, StoredBlock};
use crate::audit::KnownChain;
use crate::security::Permission;

/// Bytes of blocks in one answer.
const BLOCK_BYTES_PER_ANSWER: usize = 4 * 1024 * 1024;

/// Where the chains end that the caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chains {
    /// The log index at which they end there.
    pub log_index: u64,
    /// Whether they are those of every tenant.
    pub whole: bool,
    /// The chains.
    pub chains: Vec<KnownChain>,
    /// The hash of the whole state at that log index, if it was asked for.
    pub state_hash: Option<Hash>,
}

impl Service {
    /// Says where chains end: that of the tenant that is named; otherwise, of a cluster-admin, every one, and of others that
    /// of their own tenant. With `state` also the hash of the whole state there, which takes a cluster-admin, and a while
    /// where there are many tasks.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn audit_chains(
        &self,
        caller: &Caller,
        tenant: Option<&str>,
        state: bool,
    ) -> Result<Chains, ServiceError> {
        let all = caller.may(Permission::AuditAllTenants);
        let whole = tenant.is_none() && all.is_ok();
        let only = if whole { None } else { Some(may_audit(caller, tenant)?) };
        if state {
            all?;
        }
        self.settle_read(caller.consistency).await?;
        let (log_index, frozen) = self.parts.machine.freeze();
        let chains: Vec<KnownChain> = (0..)
            .map(TenantId)
            .zip(frozen.tenants())
            .filter(|(_, known)| only.is_none_or(|only| only == &*known.name) && known.head.sequence > 0)
            .map(|(tenant, known)| KnownChain { tenant, name: known.name.clone(), head: known.head })
            .collect();
        if chains.is_empty() && tenant.is_some() {
            return Err(ServiceError::NoSuchTenant);
        }
        self.await_stored(log_index).await?;
        Ok(Chains { log_index, whole, chains, state_hash: state.then(|| frozen.state_hash()) })
    }

    /// The blocks of a tenant that begin at or after the record `from`, as they are stored here; not necessarily all of them.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn audit_blocks(
        &self,
        caller: &Caller,
        tenant: Option<&str>,
        from: u64,
    ) -> Result<Vec<StoredBlock>, ServiceError> {
        let name = may_audit(caller, tenant)?;
        let index = self.settle_read(caller.consistency).await?;
        self.await_stored(index).await?;
        let number = self.tenant_number(name).ok_or(ServiceError::NoSuchTenant)?;
        Ok(self.parts.read_models.blocks(number, from, BLOCK_BYTES_PER_ANSWER)?)
    }

    /// Waits until everything up to `index` is on the disk here.
    async fn await_stored(&self, index: u64) -> Result<(), ServiceError> {
        if !self.parts.read_models.complete() {
            return Err(HistoryError::Incomplete.into());
        }
        self.await_folded(index).await?;
        match tokio::time::timeout(PATIENCE, self.parts.read_models.synced(index)).await {
            Ok(synced) => Ok(synced?),
            Err(_) => Err(ServiceError::Behind),
        }
    }
}

/// Whose events the caller asks for, if they may see them.
pub(super) fn may_audit<'c>(caller: &'c Caller, tenant: Option<&'c str>) -> Result<&'c str, ServiceError> {
    let name = tenant.unwrap_or_else(|| caller.tenant());
    if name != caller.tenant() || name == CLUSTER_TENANT {
        caller.may(Permission::AuditAllTenants)?;
    } else if caller.may(Permission::AuditAllTenants).is_err() {
        caller.may(Permission::Audit)?;
    }
    Ok(name)
}
