//! The smallest application: it remembers every command in order and answers with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use escapement_raft::{ApplyError, CommittedEntry, Frozen, Member, NodeId, Replicated, RestoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

#[derive(Default, Clone)]
struct State {
    commands: Vec<Bytes>,
    entries: u64,
}

/// See the module.
pub(crate) struct Ledger {
    state: Mutex<State>,
    voters: Mutex<BTreeSet<NodeId>>,
    restored: Mutex<u64>,
    synced: watch::Sender<u64>,
}

impl Ledger {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            voters: Mutex::default(),
            restored: Mutex::default(),
            synced: watch::channel(u64::MAX).0,
        })
    }

    pub(crate) fn commands(&self) -> Vec<Bytes> {
        self.state.lock().unwrap().commands.clone()
    }

    pub(crate) fn contains(&self, command: &str) -> bool {
        self.state.lock().unwrap().commands.iter().any(|held| held == command.as_bytes())
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().unwrap().commands.len()
    }

    /// Entries applied since the start or the last restored snapshot.
    pub(crate) fn entries(&self) -> u64 {
        self.state.lock().unwrap().entries
    }

    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.voters.lock().unwrap().clone()
    }

    /// How many snapshots became the state.
    pub(crate) fn restored(&self) -> u64 {
        *self.restored.lock().unwrap()
    }

    /// Everything derived from entries beyond `index` is not synced for now.
    pub(crate) fn hold_sync(&self, index: u64) {
        self.synced.send_replace(index);
    }
}

impl Replicated for Ledger {
    fn apply(&self, entry: &CommittedEntry<'_>) -> Result<Vec<Bytes>, ApplyError> {
        let mut state = self.state.lock().unwrap();
        state.entries += 1;
        let answer = |command: &Bytes| {
            assert_ne!(&command[..], b"panic");
            if &command[..] == b"unknown" {
                return Err(ApplyError::new("it is of another version"));
            }
            state.commands.push(command.clone());
            Ok(Bytes::from(state.commands.len().to_string()))
        };
        entry.commands.iter().map(answer).collect()
    }

    fn membership_changed(&self, _: u64, members: &BTreeMap<NodeId, Member>, voters: &BTreeSet<NodeId>) {
        assert!(voters.iter().all(|voter| members.contains_key(voter)));
        *self.voters.lock().unwrap() = voters.clone();
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }

    fn freeze(&self) -> Box<dyn Frozen> {
        Box::new(self.state.lock().unwrap().clone())
    }

    fn restore(&self, snapshot: &mut dyn Read) -> Result<(), RestoreError> {
        let mut commands = Vec::new();
        loop {
            let mut length = [0; 4];
            match snapshot.read_exact(&mut length) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error.into()),
            }
            let mut command = vec![0; u32::from_le_bytes(length) as usize];
            snapshot.read_exact(&mut command)?;
            commands.push(Bytes::from(command));
        }
        *self.state.lock().unwrap() = State { commands, entries: 0 };
        *self.restored.lock().unwrap() += 1;
        Ok(())
    }

    fn derived_synced(&self, index: u64) -> BoxFuture<'static, io::Result<()>> {
        let mut synced = self.synced.subscribe();
        async move { synced.wait_for(|synced| *synced >= index).await.map(drop).map_err(io::Error::other) }
            .boxed()
    }
}

impl Frozen for State {
    fn write_to(&self, to: &mut dyn Write) -> io::Result<()> {
        for command in &self.commands {
            to.write_all(&(command.len() as u32).to_le_bytes())?;
            to.write_all(command)?;
        }
        Ok(())
    }
}
