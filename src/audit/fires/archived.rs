//! The instants of an archive's tenants: a stopped node's log gives the same account as a running node's.

use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::timestamp::Timestamp;

use super::ledger::Ledger;
use super::{Fire, Range};
use crate::audit::archive::{Archive, AuditError};

/// Records between two words about the progress.
const PROGRESS_EVERY: u64 = 1_000;
/// Instants that one account tells at most: a hundred bytes each.
const FIRES_MAX: usize = 5_000_000;

/// What is asked of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiresOptions {
    /// Which instants.
    pub range: Range,
    /// Only those of this tenant.
    pub tenant: Option<String>,
    /// Only those of this task.
    pub task: Option<TaskId>,
}

/// The instants of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantFires {
    /// Its name.
    pub tenant: String,
    /// Its instants, in order.
    pub fires: Vec<Fire>,
}

/// Says what became of every instant in a range, as of the last event of the whole log; with that moment. `progress` hears now
/// and then how many records of how many were looked at.
///
/// # Errors
/// [`AuditError::Broken`] at the first record that is not what it was, [`AuditError::Unaccountable`], or
/// [`AuditError::NoSuchTenant`].
pub fn archived_fires(
    archive: &Archive,
    options: &FiresOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Timestamp, Vec<TenantFires>), AuditError> {
    let log = archive.log();
    let only = options.tenant.as_deref().map(|name| archive.number(name)).transpose()?;
    let heads = log.heads();
    let total = heads.values().map(|head| head.sequence).sum();
    let (mut done, mut as_of, mut ledgers) = (0, Timestamp::MIN, Vec::new());
    for tenant in heads.into_keys() {
        let mut ledger = Ledger::new(options.range, options.task, FIRES_MAX);
        for record in log.walk_from(tenant, 1) {
            let record = record.map_err(|fault| archive.broken(fault))?;
            ledger.take(&record)?;
            done += 1;
            if done % PROGRESS_EVERY == 0 {
                progress(done, total);
            }
        }
        as_of = as_of.max(ledger.last());
        if tenant != TenantId::CLUSTER && only.is_none_or(|only| only == tenant) {
            ledgers.push((archive.name(tenant), ledger));
        }
    }
    progress(total, total);
    let close = |(tenant, ledger): (String, Ledger)| Ok(TenantFires { tenant, fires: ledger.close(as_of)? });
    Ok((as_of, ledgers.into_iter().map(close).collect::<Result<_, AuditError>>()?))
}
