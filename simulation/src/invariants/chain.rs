//! Every chain verifies: without gaps, each record hashed over the one before; else the audit log proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use escapement_domain::event::Event;
use escapement_domain::record::{ChainHead, link};

use super::story::Lives;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let mut found = Vec::new();
    let mut heads: BTreeMap<_, ChainHead> = BTreeMap::new();
    let (mut streams, mut gone) = (BTreeMap::new(), BTreeSet::new());
    for record in &evidence.records {
        let header = &record.header;
        let head = heads.entry(header.tenant).or_default();
        let hash = link(header, &record.body, head.hash);
        if header.sequence != head.sequence + 1 || record.previous_hash != head.hash || record.hash != hash {
            found.push(format!("record {} of tenant {:?} does not follow", header.sequence, header.tenant));
        }
        *head = ChainHead { sequence: header.sequence, hash: record.hash };
        if let (Some(stream), Some(task)) = (header.stream, record.event.task()) {
            // Of a task that is gone nobody knows the stream any more: what still happens to its executions begins one.
            let before = streams.get(&(header.tenant, task)).copied();
            let expected = before.map_or((1, 0), |(position, sequence)| (position + 1, sequence));
            if (stream.position, stream.previous) != expected {
                found.push(format!("the stream of task {task} breaks at record {}", header.sequence));
            }
            if matches!(record.event, Event::TaskDeleted { .. }) {
                gone.insert(task);
            }
            if gone.contains(&task) {
                streams.remove(&(header.tenant, task));
            } else {
                streams.insert((header.tenant, task), (stream.position, header.sequence));
            }
        }
    }
    for (number, tenant) in (0..).zip(evidence.last.tenants()) {
        let head = heads.get(&escapement_domain::identifier::TenantId(number)).copied().unwrap_or_default();
        if head != tenant.head {
            found.push(format!(
                "the chain of {} ends at {} and not where the state says",
                tenant.name, head.sequence
            ));
        }
    }
    found
}
