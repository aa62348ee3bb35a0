//! One node: its replica, which applies the log at its own pace, its clocks, and what runs on it.

use std::collections::BTreeMap;

use escapement_domain::codec;
use escapement_domain::command::{Command, Origin};
use escapement_domain::identifier::{CommandId, NodeId};
use escapement_domain::replica::Replica;

use super::clock::Clock;
use super::leader::Leader;
use super::ledger::Ledger;
use super::worker::Worker;
use crate::plants::{Plant, Planted};

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    /// Its name.
    pub(super) id: NodeId,
    /// Its clocks.
    pub(super) clock: Clock,
    /// Whether its process runs.
    pub(super) up: bool,
    /// Until when it is frozen, in ms of the world.
    pub(super) frozen_until: u64,
    /// Whether it reaches nobody.
    pub(super) cut: bool,
    /// Its state.
    pub(super) replica: Replica,
    /// How far it has applied the log.
    pub(super) applied: u64,
    /// Entries that it applies in one tick.
    pub(super) pace: u64,
    /// Its last snapshot, and the entry it was taken after.
    pub(super) snapshot: (u64, Vec<u8>),
    /// Entries between two snapshots.
    pub(super) snapshot_every: u64,
    /// What it does as a leader, while it believes that it is one.
    pub(super) leader: Option<Leader>,
    /// Its dispatcher.
    pub(super) worker: Worker,
    /// Client commands that it proposed, and the operations that wait for them.
    pub(super) pending: BTreeMap<CommandId, usize>,
}

/// What a node's applying led to.
#[derive(Default)]
pub(super) struct Applied {
    /// Answers for operations that waited.
    pub(super) answers: Vec<(usize, escapement_domain::answer::Answer)>,
    /// How the node differs from the others.
    pub(super) difference: Option<String>,
}

impl Node {
    /// Whether it does anything now.
    #[must_use]
    pub(super) fn is_awake(&self, now: u64) -> bool {
        self.up && self.frozen_until <= now
    }

    /// Whether it takes part in a majority.
    #[must_use]
    pub(super) fn is_connected(&self, now: u64) -> bool {
        self.is_awake(now) && !self.cut
    }

    /// Applies what was committed, as far as its pace goes.
    pub(super) fn apply(&mut self, ledger: &Ledger) -> Applied {
        let mut applied = Applied::default();
        let end = ledger.end().min(self.applied + self.pace);
        let mut records = Vec::new();
        while self.applied < end {
            let index = self.applied + 1;
            let Some(command) = ledger.entry(index).and_then(|bytes| Command::decode(bytes).ok()) else {
                break;
            };
            records.clear();
            let answer = self.replica.apply(index, &command, &mut records);
            self.applied = index;
            if let Some(leader) = &mut self.leader {
                leader.observe(&records, &self.replica);
            }
            if let Origin::Client(client) = &command.origin
                && let Some(operation) = self.pending.remove(&client.command)
            {
                applied.answers.push((operation, answer));
            }
            applied.difference = ledger.difference(index, &self.replica);
            if applied.difference.is_some() {
                break;
            }
        }
        if self.applied >= self.snapshot.0 + self.snapshot_every {
            self.snapshot = (self.applied, snapshot(&self.replica));
        }
        applied
    }

    /// Comes back from its last snapshot, through its bytes. The error says how it cannot.
    pub(super) fn restore(&mut self, ledger: &Ledger, planted: Planted) -> Result<(), String> {
        self.pending.clear();
        self.leader = None;
        self.applied = self.snapshot.0;
        self.replica = Replica::default();
        if self.applied > 0 {
            let bytes = if planted.has(Plant::SnapshotForgets) {
                without_executions(&self.snapshot.1)
            } else {
                self.snapshot.1.clone()
            };
            self.replica = Replica::restore(&mut bytes.as_slice()).map_err(|error| error.to_string())?;
        }
        let again = snapshot(&self.replica);
        if self.applied > 0 && again != self.snapshot.1 && !planted.has(Plant::SnapshotForgets) {
            return Err("a restored snapshot is written differently".into());
        }
        ledger.difference(self.applied, &self.replica).map_or(Ok(()), Err)
    }
}

fn snapshot(replica: &Replica) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = replica.freeze().write_to(&mut bytes);
    debug_assert!(written.is_ok(), "writing to memory cannot fail");
    bytes
}

/// The parts of a snapshot: each a length of eight bytes and so many bytes.
fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some((length, body)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX).min(body.len());
        let (part, after) = body.split_at(length);
        parts.push(part);
        rest = after;
    }
    parts
}

/// A snapshot whose executions were left out: a planted bug.
fn without_executions(bytes: &[u8]) -> Vec<u8> {
    type Header = (i64, u64, u64, u64, u64);
    let parts = parts(bytes);
    let Some((header, rest)) = parts.split_first() else { return bytes.to_vec() };
    let Ok((logged, turns, revisions, chunks, executions)) = codec::decode::<Header, 1024>("header", header)
    else {
        return bytes.to_vec();
    };
    let header = codec::encode(&(logged, turns, revisions, chunks, 0_u64));
    let tasks_end = usize::try_from(chunks).unwrap_or(0) + 1;
    let executions = tasks_end..tasks_end + usize::try_from(executions).unwrap_or(0);
    let kept =
        rest.iter().enumerate().filter(|(place, _)| !executions.contains(place)).map(|(_, part)| *part);
    let mut out = Vec::new();
    for part in std::iter::once(header.as_slice()).chain(kept) {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}
