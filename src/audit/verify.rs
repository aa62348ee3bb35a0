//! Verifying the event log of a stopped node: every chain for itself, then the chains against each other.
//!
//! A chain alone cannot tell that its end was cut off. The events of one log entry are counted over all tenants, though: where
//! one of them is missing between others, a chain has lost its end.

use escapement_actors::projection::merged;
use escapement_domain::identifier::TenantId;
use escapement_domain::record::ChainHead;

use super::stopped::{AuditError, StoppedNode};

/// What a verification found to be sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Each tenant's chain.
    pub tenants: Vec<VerifiedTenant>,
    /// Events in all of them.
    pub events: u64,
    /// The log index of the last event.
    pub log_index: u64,
}

/// A chain that was found to be sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTenant {
    /// The tenant's name.
    pub name: String,
    /// Its number.
    pub tenant: TenantId,
    /// Its last event: how many there are, and the hash that covers them all.
    pub head: ChainHead,
}

/// Verifies every chain of a stopped node. `progress` hears now and then how many records of how many are done; each is read
/// twice.
///
/// # Errors
/// [`AuditError::Broken`] names the first record of a chain that was changed, is missing or out of order;
/// [`AuditError::CutOff`] an event whose chain has lost its end.
pub fn verify(node: &StoppedNode, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, AuditError> {
    let heads = node.log().heads();
    let total = 2 * heads.values().map(|head| head.sequence).sum::<u64>();
    let mut verified = Verified::default();
    for (tenant, head) in heads {
        let mut verification = node.log().verification(tenant, Some(head));
        while verification.step().map_err(|fault| node.broken(fault))? {
            progress(verified.events + verification.verified().sequence, total);
        }
        verified.events += verification.verified().sequence;
        let name = node.name(tenant);
        verified.tenants.push(VerifiedTenant { name, tenant, head: verification.verified() });
    }
    verified.log_index = verify_entries(node, verified.events, progress)?;
    progress(total, total);
    Ok(verified)
}

/// Holds that the events of each log entry are all there; returns the index of the last entry.
fn verify_entries(
    node: &StoppedNode,
    events: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, AuditError> {
    const PROGRESS_EVERY: u64 = 1_000;
    let (mut entry, mut next_ordinal, mut done) = (0, 0, 0);
    for record in merged(node.log()).map_err(|fault| node.broken(fault))? {
        let record = record.map_err(|fault| node.broken(fault))?;
        let (log_index, ordinal) = (record.header.log_index, record.header.ordinal);
        if log_index != entry {
            (entry, next_ordinal) = (log_index, 0);
        }
        if ordinal != next_ordinal {
            return Err(AuditError::CutOff { log_index, ordinal: next_ordinal });
        }
        next_ordinal += 1;
        done += 1;
        if done % PROGRESS_EVERY == 0 {
            progress(events + done, 2 * events);
        }
    }
    Ok(entry)
}
