//! Verifying an event log: every chain for itself, then the chains against each other.
//!
//! A chain alone cannot tell that its end was cut off. The events of one log entry are counted over all tenants, though: where
//! one of them is missing between others, a chain has lost its end. Where only some tenants' events are at hand, the ends are
//! those that the replicated state knows.

use escapement_actors::projection::merged;
use escapement_domain::identifier::TenantId;
use escapement_domain::record::{ChainHead, Record};

use super::archive::{Archive, AuditError};

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

/// Verifies the chains of an archive, or that of one tenant. `progress` hears now and then how many records of how many are
/// done; where every tenant's are there, each is read twice.
///
/// # Errors
/// [`AuditError::Broken`] names the first record of a chain that was changed, is missing or out of order;
/// [`AuditError::CutOff`] an event whose chain has lost its end. [`AuditError::NoSuchTenant`].
pub fn verify(
    archive: &Archive,
    tenant: Option<&str>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, AuditError> {
    let only = tenant.map(|name| archive.number(name)).transpose()?;
    let mut heads = archive.log().heads();
    heads.retain(|tenant, _| only.is_none_or(|only| only == *tenant));
    let together = archive.whole() && only.is_none();
    let records = heads.values().map(|head| head.sequence).sum::<u64>();
    let total = if together { 2 * records } else { records };
    let mut verified = Verified::default();
    for (tenant, head) in heads {
        let mut verification = archive.log().verification(tenant, Some(head));
        let mut log_index = 0;
        let mut last = |record: &Record| log_index = record.header.log_index;
        while verification.step_with(&mut last).map_err(|fault| archive.broken(fault))? {
            progress(verified.events + verification.verified().sequence, total);
        }
        verified.events += verification.verified().sequence;
        verified.log_index = verified.log_index.max(log_index);
        let name = archive.name(tenant);
        verified.tenants.push(VerifiedTenant { name, tenant, head: verification.verified() });
    }
    if together {
        verify_entries(archive, verified.events, progress)?;
    }
    progress(total, total);
    Ok(verified)
}

/// Holds that the events of each log entry are all there.
fn verify_entries(
    archive: &Archive,
    events: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), AuditError> {
    const PROGRESS_EVERY: u64 = 1_000;
    let (mut entry, mut next_ordinal, mut done) = (0, 0, 0);
    for record in merged(archive.log()).map_err(|fault| archive.broken(fault))? {
        let record = record.map_err(|fault| archive.broken(fault))?;
        let (log_index, ordinal) = (record.header.log_index, record.header.ordinal);
        if log_index != entry {
            (entry, next_ordinal) = (log_index, 0);
        }
        if ordinal != next_ordinal {
            return Err(cut_off(archive, log_index, next_ordinal));
        }
        next_ordinal += 1;
        done += 1;
        if done % PROGRESS_EVERY == 0 {
            progress(events + done, 2 * events);
        }
    }
    Ok(())
}

/// Names the chains to which a missing event can belong: those that end before it. Any other goes on behind it without a gap.
fn cut_off(archive: &Archive, log_index: u64, ordinal: u32) -> AuditError {
    let ends_before = |tenant: TenantId| {
        let head = archive.log().head(tenant).sequence;
        let last = match archive.log().record(tenant, head) {
            Ok(last) => last.map_or((0, 0), |last| (last.header.log_index, last.header.ordinal)),
            Err(fault) => return Err(archive.broken(fault)),
        };
        Ok((last < (log_index, ordinal)).then(|| (archive.name(tenant), head + 1)))
    };
    match archive.named().filter_map(|tenant| ends_before(tenant).transpose()).collect() {
        Ok(ends) => AuditError::CutOff { log_index, ordinal, ends },
        Err(fault) => fault,
    }
}
