//! The replicated state on this node, and everyone who wants to hear what became of it.
//!
//! The log hands committed entries in, one after the other; readers look at the state between them, and subscribers get
//! the records of each entry, in order. Nothing is carried out here.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use escapement_domain::answer::Answer;
use escapement_domain::codec::CodecError;
use escapement_domain::command::Command;
use escapement_domain::record::Record;
use escapement_domain::replica::Replica;
use escapement_domain::replica::snapshot::{Snapshot, SnapshotError};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

/// The records of one applied entry.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The entry's index in the log.
    pub index: u64,
    /// Its records, in order; empty when it changed nothing.
    pub records: Arc<[Record]>,
    /// Whether the state was replaced by a snapshot at `index`: what was derived from earlier records may have a gap.
    pub restored: bool,
}

/// The replicated state on this node.
#[derive(Debug)]
pub struct Machine {
    state: RwLock<Replica>,
    applied: watch::Sender<u64>,
    /// At which index the state was replaced last.
    restored: AtomicU64,
    subscribers: Mutex<BTreeMap<u64, mpsc::UnboundedSender<Applied>>>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: RwLock::new(Replica::default()),
            applied: watch::Sender::new(0),
            restored: AtomicU64::new(0),
            subscribers: Mutex::new(BTreeMap::new()),
        }
    }
}

/// An entry that another program wrote: one that reads it goes on otherwise than this one could.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "entry {index} of the log cannot be applied: {error}. Run the version of the program that wrote it, and upgrade every \
     node before one of them writes the new format"
)]
pub struct ForeignEntry {
    /// The entry's index in the log.
    pub index: u64,
    /// Which version it has.
    pub error: CodecError,
}

impl Machine {
    /// Applies the commands of one committed entry, in order, and answers each.
    ///
    /// A command that is damaged in itself is refused, on every replica alike.
    ///
    /// # Errors
    /// [`ForeignEntry`] when a command has another format version: it may mean something to other replicas. Nothing of the entry
    /// is applied.
    pub fn apply(&self, index: u64, commands: &[Bytes]) -> Result<Vec<Bytes>, ForeignEntry> {
        let commands: Vec<_> = commands.iter().map(|bytes| Command::decode(bytes)).collect();
        if let Some(error) = commands.iter().find_map(|read| match read {
            Err(error @ CodecError::UnknownVersion { .. }) => Some(error.clone()),
            _ => None,
        }) {
            return Err(ForeignEntry { index, error });
        }
        let mut records = Vec::new();
        let mut state = self.state.write();
        let answers = commands
            .into_iter()
            .map(|command| match command {
                Ok(command) => state.apply(index, &command, &mut records),
                Err(error) => {
                    tracing::error!(index, %error, "a command of the log cannot be read; it is refused");
                    Replica::refuse_unreadable(index, &error)
                }
            })
            .map(|answer: Answer| Bytes::from(answer.encode()))
            .collect();
        // Published before the lock is given back, so that whoever looks at the state sees an index that fits it.
        self.publish(Applied { index, records: records.into(), restored: false });
        drop(state);
        Ok(answers)
    }

    /// Notes an entry without commands.
    pub fn advance(&self, index: u64) {
        let state = self.state.write();
        self.publish(Applied { index, records: Arc::default(), restored: false });
        drop(state);
    }

    /// Looks at the state. Entries wait meanwhile: be quick, or look at a [`Machine::freeze`].
    pub fn read<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.state.read())
    }

    /// The index of the last applied entry.
    #[must_use]
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// The index at which the state was replaced by a snapshot last; 0 if it never was.
    #[must_use]
    pub fn restored(&self) -> u64 {
        self.restored.load(Ordering::SeqCst)
    }

    /// Tells the index of the last applied entry as it grows.
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Hears the records of every entry from now on. Give `look` the state as it is before the first of them.
    pub fn subscribe<T>(
        &self,
        look: impl FnOnce(&Replica, u64) -> T,
    ) -> (T, mpsc::UnboundedReceiver<Applied>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let state = self.state.read();
        let mut subscribers = self.subscribers.lock();
        let key = subscribers.last_key_value().map_or(0, |(key, _)| key + 1);
        subscribers.insert(key, sender);
        let seen = look(&state, self.applied());
        (seen, receiver)
    }

    /// Takes a consistent copy, and the index that it stands at.
    #[must_use]
    pub fn freeze(&self) -> (u64, Snapshot) {
        let state = self.state.read();
        (self.applied(), state.freeze())
    }

    /// Replaces the state by a snapshot taken at `index`.
    ///
    /// # Errors
    /// [`SnapshotError`]; the state is as it was.
    pub fn restore(&self, index: u64, reader: &mut dyn Read) -> Result<(), SnapshotError> {
        let restored = Replica::restore(reader)?;
        let mut state = self.state.write();
        *state = restored;
        self.restored.store(index, Ordering::SeqCst);
        self.publish(Applied { index, records: Arc::default(), restored: true });
        drop(state);
        Ok(())
    }

    fn publish(&self, applied: Applied) {
        let index = applied.index;
        self.subscribers.lock().retain(|_, subscriber| subscriber.send(applied.clone()).is_ok());
        self.applied.send_replace(index);
    }
}

#[cfg(test)]
mod tests {
    use escapement_domain::answer::Rejection;
    use escapement_domain::codec::VERSION;
    use escapement_domain::command::{Command, Offers, Origin, Programs, Request};
    use escapement_domain::identifier::{Incarnation, NodeId};
    use escapement_domain::timestamp::Timestamp;

    use super::*;

    fn join() -> Bytes {
        let offers = Offers { http: true, builtin: true, programs: Programs::Any };
        let (node, incarnation) = (NodeId(1), Incarnation(1));
        let request = Request::JoinWorker { node, incarnation, slots: 4, offers };
        Bytes::from(Command { stamp: Timestamp(1_000).into(), origin: Origin::Scheduler, request }.encode())
    }

    /// A command that is cut off, that is changed, and none at all: each is answered, on every replica alike, and the next one
    /// is carried out.
    #[test]
    fn a_poison_command_is_refused_and_the_log_goes_on() {
        let good = join();
        let mut poison: Vec<Bytes> = (0..good.len()).map(|length| good.slice(..length)).collect();
        for byte in 1..good.len() {
            let mut changed = good.to_vec();
            changed[byte] = 0xff;
            poison.push(changed.into());
        }
        poison.push([vec![VERSION], vec![0xff; 256 * 1024]].concat().into());
        let (machine, replica) = (Machine::default(), Machine::default());
        let answers = machine.apply(1, &poison).expect("applied");
        assert_eq!(Ok(&answers), replica.apply(1, &poison).as_ref());
        let refused = |bytes: &Bytes| {
            let answer = Answer::decode(bytes).expect("an answer");
            matches!(answer.outcome, Err(Rejection::Unreadable { .. }))
        };
        assert_eq!(answers.len(), poison.len());
        assert!(answers[..good.len()].iter().all(refused), "whatever is cut off is refused");
        assert!(answers.last().is_some_and(refused));
        let answers = machine.apply(2, &[good]).expect("applied");
        let carried_out = Answer::decode(&answers[0]).expect("an answer");
        assert!(carried_out.outcome.is_ok(), "{carried_out:?}");
    }

    /// Another program may understand it: to refuse it would be to part from the replicas that do.
    #[test]
    fn a_command_of_another_version_stops_the_replica_before_anything_of_its_entry_is_applied() {
        let machine = Machine::default();
        let mut foreign = join().to_vec();
        foreign[0] = VERSION + 1;
        let error = machine.apply(7, &[join(), foreign.into()]).expect_err("not of this program");
        let told = error.to_string();
        assert!(
            told.starts_with("entry 7 of the log cannot be applied: the command has format version"),
            "{told}"
        );
        assert_eq!(machine.applied(), 0);
        assert!(machine.read(|replica| replica.workers().is_empty()));
    }
}
