//! When breakers that are open let a target be tried.
//!
//! An entry stays until the state says something else, so that a proposal without an answer is made again.

use std::collections::BTreeSet;
use std::sync::Arc;

use escapement_domain::event::{Event, Placing};
use escapement_domain::identifier::TenantId;
use escapement_domain::limits::BREAKERS_PER_COMMAND_MAX;
use escapement_domain::record::Record;
use escapement_domain::replica::Replica;
use escapement_domain::replica::placement::BreakerState;
use escapement_domain::timestamp::Timestamp;

/// The ends of what is open.
#[derive(Debug, Default)]
pub(super) struct Breakers(BTreeSet<(Timestamp, TenantId, Arc<str>)>);

impl Breakers {
    /// What is open now.
    pub(super) fn of(replica: &Replica) -> Self {
        let open = replica.queue().breakers().filter_map(|(tenant, target, known)| match known.state {
            BreakerState::Open { until: Some(until) } => Some((until, tenant, target.clone())),
            _ => None,
        });
        Self(open.collect())
    }

    /// Waits for the end of what was opened.
    pub(super) fn hear(&mut self, record: &Record) {
        if let Event::Placement(Placing::BreakerOpened { target, until: Some(until), .. }) = &record.event {
            self.0.insert((*until, record.header.tenant, target.clone()));
        }
    }

    /// What has been open for long enough.
    pub(super) fn due(&mut self, replica: &Replica, now: Timestamp) -> Vec<(TenantId, Arc<str>, Timestamp)> {
        let mut due = Vec::new();
        let past: Vec<_> = self.0.iter().take_while(|(until, ..)| *until <= now).cloned().collect();
        for entry in past {
            let (until, tenant, target) = &entry;
            let state = replica.queue().breaker(*tenant, target).map(|known| known.state);
            if state != Some(BreakerState::Open { until: Some(*until) }) {
                self.0.remove(&entry);
            } else if due.len() < BREAKERS_PER_COMMAND_MAX {
                due.push((*tenant, target.clone(), *until));
            }
        }
        due
    }

    /// When the next one is.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(until, ..)| *until)
    }
}
