//! The answers of clients' commands, remembered for a while, so that a command that is repeated returns its first outcome.
//!
//! A command older than what was forgotten is refused: it can no longer be told from one that was carried out. Nothing
//! here expires by itself; a command of the scheduler moves the floors.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::answer::{Accepted, Answer, Rejection};
use crate::command::{Client, Idempotency};
use crate::identifier::{CommandId, TenantId};
use crate::planted::{self, Bug};
use crate::timestamp::Timestamp;

/// Remembered answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    answers: BTreeMap<CommandId, Arc<Answer>>,
    answered: BTreeMap<(Timestamp, CommandId), ()>,
    keys: BTreeMap<(TenantId, Arc<str>), Keyed>,
    keyed: BTreeMap<(Timestamp, TenantId, Arc<str>), ()>,
    commands_floor: Timestamp,
    keys_floor: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Keyed {
    digest: [u8; 32],
    answer: Arc<Answer>,
}

impl Window {
    /// What is known of a command before it is carried out: its first answer, or that it must not be carried out.
    #[must_use]
    pub fn recall(&self, client: &Client, tenant: Option<TenantId>) -> Option<Recalled> {
        let forgotten = planted::has(Bug::ForgottenCommand);
        if let Some(answer) = self.answers.get(&client.command).filter(|_| !forgotten) {
            return Some(Recalled::First(answer.clone()));
        }
        if client.issued_at < self.commands_floor {
            return Some(Recalled::Refused(Rejection::Expired { floor: self.commands_floor }));
        }
        let (key, tenant) = (client.idempotency.as_ref()?, tenant?);
        let keyed = self.keys.get(&(tenant, key.key.clone()))?;
        if keyed.digest == key.digest {
            Some(Recalled::First(keyed.answer.clone()))
        } else {
            // What was refused can be mended and sent again under the same key.
            keyed.answer.outcome.is_ok().then_some(Recalled::Refused(Rejection::KeyReused))
        }
    }

    /// Remembers an answer, under an idempotency key too: of whatever was accepted, but for a lease of nothing, which is asked again
    /// and again; and of whatever was refused, so that an earlier try of the same request that comes later is refused with it, but
    /// for what there was no room for.
    pub fn remember(
        &mut self,
        moments: Moments,
        tenant: TenantId,
        command: CommandId,
        idempotency: Option<&Idempotency>,
        answer: &Answer,
    ) {
        let answer = Arc::new(answer.clone());
        let is_kept = match &answer.outcome {
            Ok(accepted) => *accepted != Accepted::Leased(Vec::new()),
            Err(rejection) => !matches!(rejection, Rejection::TooMany { .. }),
        };
        if let Some(Idempotency { key, digest }) = idempotency.filter(|_| is_kept) {
            self.keyed.insert((moments.at, tenant, key.clone()), ());
            self.keys.insert((tenant, key.clone()), Keyed { digest: *digest, answer: answer.clone() });
        }
        // Not forgotten before it would be refused as expired: the client's clock may be ahead.
        self.answered.insert((moments.at.max(moments.issued_at), command), ());
        self.answers.insert(command, answer);
    }

    /// Forgets answers given before these instants.
    pub fn advance(&mut self, commands: Timestamp, keys: Timestamp) {
        self.commands_floor = self.commands_floor.max(commands);
        self.keys_floor = self.keys_floor.max(keys);
        while let Some(((at, command), ())) = self.answered.first_key_value() {
            if *at >= self.commands_floor {
                break;
            }
            self.answers.remove(command);
            self.answered.pop_first();
        }
        while let Some(((at, tenant, key), ())) = self.keyed.first_key_value() {
            if *at >= self.keys_floor {
                break;
            }
            self.keys.remove(&(*tenant, key.clone()));
            self.keyed.pop_first();
        }
    }

    /// Whether something is remembered that was answered before this instant.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        let command = self.answered.first_key_value().map(|((at, _), ())| *at);
        let key = self.keyed.first_key_value().map(|((at, ..), ())| *at);
        command.into_iter().chain(key).min()
    }
}

/// The moments of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// When it was logged.
    pub at: Timestamp,
    /// When the client issued it, by its own clock.
    pub issued_at: Timestamp,
}

/// What is known of a command that was heard before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// Its first answer.
    First(Arc<Answer>),
    /// It must not be carried out.
    Refused(Rejection),
}
