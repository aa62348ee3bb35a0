//! Verifying a tenant's whole chain, block by block, so that a caller can pause in between.

use escapement_domain::identifier::TenantId;
use escapement_domain::record::{ChainHead, Record};

use super::super::block::first_sequence;
use super::super::failure::{Fault, FaultKind};
use super::EventLog;

/// A verification on its way: each record of one tenant, read as it is stored.
#[derive(Debug)]
pub struct Verification<'a> {
    log: &'a EventLog,
    tenant: TenantId,
    expected: Option<ChainHead>,
    verified: ChainHead,
    last_block: u64,
    /// The end of the chain when the verification began: what comes meanwhile is not waited for.
    end: u64,
    finished: bool,
}

impl EventLog {
    /// Verifies a tenant's chain from its first record to its end, and that it contains `expected`, the head that the
    /// replicated state knows. Returns the end of the chain.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn verify(&self, tenant: TenantId, expected: Option<ChainHead>) -> Result<ChainHead, Fault> {
        let mut verification = self.verification(tenant, expected);
        while verification.step()? {}
        Ok(verification.verified())
    }

    /// Begins a verification that a caller carries on step by step.
    #[must_use]
    pub fn verification(&self, tenant: TenantId, expected: Option<ChainHead>) -> Verification<'_> {
        Verification {
            log: self,
            tenant,
            expected,
            verified: ChainHead::default(),
            last_block: 0,
            end: self.head(tenant).sequence,
            finished: false,
        }
    }
}

impl Verification<'_> {
    /// The end of what was verified so far.
    #[must_use]
    pub fn verified(&self) -> ChainHead {
        self.verified
    }

    /// Verifies the next block; `false` when there was none and the chain ends as it should.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn step(&mut self) -> Result<bool, Fault> {
        self.step_with(|_| {})
    }

    /// Verifies the next block and shows each of its records.
    ///
    /// # Errors
    /// As [`Verification::step`].
    pub fn step_with(&mut self, mut show: impl FnMut(&Record)) -> Result<bool, Fault> {
        if self.finished || (self.end > 0 && self.verified.sequence >= self.end) {
            self.finished = true;
            return self.holds_all_that_is_known().map(|()| false);
        }
        let next = self.verified.sequence + 1;
        let Some(block) = self.log.block_after(self.tenant, self.last_block)? else {
            self.finished = true;
            return self.holds_all_that_is_known().map(|()| false);
        };
        self.last_block = block.first;
        if block.first > next {
            return Err(self.fault(next, FaultKind::Missing));
        }
        if block.first < next {
            return Err(self.fault(next, FaultKind::OutOfOrder { found: block.first }));
        }
        // A block under another's key is told from one whose beginning was changed.
        if let Some(found) = first_sequence(&block.bytes).filter(|found| *found != next) {
            return Err(self.fault(next, FaultKind::OutOfOrder { found }));
        }
        let walk = block.walk()?;
        if walk.previous() != self.verified.hash {
            return Err(self.fault(next, FaultKind::Unchained));
        }
        // A block may have grown since; what came meanwhile is not looked at.
        let wanted = if self.end > 0 { self.end - self.verified.sequence } else { u64::MAX };
        for record in walk.take(usize::try_from(wanted).unwrap_or(usize::MAX)) {
            let record = record?;
            self.verified = ChainHead { sequence: record.header.sequence, hash: record.hash };
            self.hold_against_the_state()?;
            show(&record);
        }
        Ok(true)
    }

    fn hold_against_the_state(&self) -> Result<(), Fault> {
        match self.expected {
            Some(expected)
                if expected.sequence == self.verified.sequence && expected.hash != self.verified.hash =>
            {
                let kind = FaultKind::OtherHistory { expected: expected.hash, found: self.verified.hash };
                Err(self.fault(expected.sequence, kind))
            }
            _ => Ok(()),
        }
    }

    fn holds_all_that_is_known(&self) -> Result<(), Fault> {
        let known = self.expected.map_or(0, |expected| expected.sequence).max(self.end);
        if self.verified.sequence < known {
            return Err(self.fault(self.verified.sequence + 1, FaultKind::Missing));
        }
        Ok(())
    }

    fn fault(&self, sequence: u64, kind: FaultKind) -> Fault {
        Fault::new(self.tenant, sequence, kind)
    }
}
