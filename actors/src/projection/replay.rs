//! The replicated state made again from the event log alone.
//!
//! The chains of all tenants are merged by log index and ordinal, each record is verified on the way, and folded as the
//! replicas do. At the same point the hash is that of the live replica, bit for bit.

use std::collections::BTreeMap;

use escapement_domain::identifier::TenantId;
use escapement_domain::record::Record;
use escapement_domain::replica::Replica;
use escapement_domain::timestamp::Timestamp;

use super::event_log::{EventLog, Records};
use super::failure::Fault;

/// Where a replay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Behind this record of this tenant.
    Record {
        /// Whose.
        tenant: TenantId,
        /// Its sequence.
        sequence: u64,
    },
    /// Behind the records of this log entry.
    LogIndex(u64),
    /// Behind what was stamped at or before this instant.
    Instant(Timestamp),
}

/// What a replay made.
#[derive(Debug)]
pub struct Replayed {
    /// The state.
    pub replica: Replica,
    /// How many records led to it.
    pub records: u64,
    /// The log index of the last of them.
    pub log_index: u64,
}

/// Makes the state again from the log, to its end or to a point before.
///
/// # Errors
/// The first [`Fault`] on the way; a state that rests on less than everything is not returned.
pub fn replay(log: &EventLog, until: Option<Until>) -> Result<Replayed, Fault> {
    replay_with(log, until, |_, _| {})
}

/// Makes the state again and shows each record with the state that it led to.
///
/// # Errors
/// As [`replay`].
pub fn replay_with(
    log: &EventLog,
    until: Option<Until>,
    mut show: impl FnMut(&Record, &Replica),
) -> Result<Replayed, Fault> {
    let mut replayed = Replayed { replica: Replica::default(), records: 0, log_index: 0 };
    for record in merged(log)? {
        let record = record?;
        let header = &record.header;
        let beyond = match until {
            Some(Until::LogIndex(index)) => header.log_index > index,
            Some(Until::Instant(instant)) => header.at > instant,
            Some(Until::Record { .. }) | None => false,
        };
        if beyond {
            break;
        }
        replayed.replica.evolve(&record);
        replayed.records += 1;
        replayed.log_index = header.log_index;
        show(&record, &replayed.replica);
        if until == Some(Until::Record { tenant: header.tenant, sequence: header.sequence }) {
            break;
        }
    }
    Ok(replayed)
}

/// The records of every tenant in the order in which they were made.
///
/// # Errors
/// [`Fault`] when the first record of a chain is not sound; later faults come in the place of the record.
pub fn merged(log: &EventLog) -> Result<Merged<'_>, Fault> {
    merged_from(log, log.heads().into_keys().map(|tenant| (tenant, 1)))
}

/// The records of some tenants, of each from a sequence on, in the order in which they were made.
///
/// # Errors
/// As [`merged`].
pub fn merged_from(
    log: &EventLog,
    chains: impl IntoIterator<Item = (TenantId, u64)>,
) -> Result<Merged<'_>, Fault> {
    let mut merged = Merged { chains: BTreeMap::new(), heads: BTreeMap::new(), fault: None };
    for (tenant, first) in chains {
        merged.chains.insert(tenant, log.walk_from(tenant, first));
        merged.pull(tenant)?;
    }
    Ok(merged)
}

/// The records of every tenant, merged.
#[derive(Debug)]
pub struct Merged<'a> {
    chains: BTreeMap<TenantId, Records<'a>>,
    heads: BTreeMap<(u64, u32, TenantId), Record>,
    fault: Option<Fault>,
}

impl Merged<'_> {
    fn pull(&mut self, tenant: TenantId) -> Result<(), Fault> {
        if let Some(record) = self.chains.get_mut(&tenant).and_then(Iterator::next).transpose()? {
            self.heads.insert((record.header.log_index, record.header.ordinal, tenant), record);
        }
        Ok(())
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<Record, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(fault) = self.fault.take() {
            self.heads.clear();
            return Some(Err(fault));
        }
        let ((_, _, tenant), record) = self.heads.pop_first()?;
        self.fault = self.pull(tenant).err();
        Some(Ok(record))
    }
}
