//! What a target shows with its reports: the token of its attempt.
//!
//! A token names the node that waits, and holds a secret for one attempt, so that nobody can guess one. Secrets are made of
//! one that the nodes share, so that any of them knows a token again, also when the node that waited is gone. Where they share
//! none they are drawn, and known to their node alone.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use escapement_actors::ports::Entropy;
use escapement_domain::identifier::{ExecutionId, NodeId};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// What a lease token begins with: the fencing tokens of workers outside the cluster are mere numbers.
const PREFIX: &str = "cb";

/// Shows that whoever has it is the target of an attempt: `cb-NODE-FENCING-SECRET`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseToken {
    /// The node that waits.
    pub node: NodeId,
    /// The fencing token of the attempt.
    pub fencing: u64,
    pub(super) secret: u128,
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}-{}-{}-{:032x}", self.node.0, self.fencing, self.secret)
    }
}

impl fmt::Debug for LeaseToken {
    /// Shows all but the secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}-{}-{}-…", self.node.0, self.fencing)
    }
}

impl FromStr for LeaseToken {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.strip_prefix(PREFIX).ok_or(())?.strip_prefix('-').ok_or(())?.split('-');
        let mut next = || parts.next().ok_or(());
        let (node, fencing, secret) = (next()?, next()?, next()?);
        let token = Self {
            node: NodeId(node.parse().map_err(drop)?),
            fencing: fencing.parse().map_err(drop)?,
            secret: u128::from_str_radix(secret, 16).map_err(drop)?,
        };
        // There is one way to write each.
        if token.to_string() == text { Ok(token) } else { Err(()) }
    }
}

/// Where the secrets of lease tokens come from.
#[derive(Clone)]
pub(super) enum Secrets {
    /// From a secret that the nodes share: the beginning of an HMAC (RFC 2104) of all that a token is good for.
    Made(Hmac<Sha256>),
    /// Each for itself.
    Drawn(Arc<dyn Entropy>),
}

impl Secrets {
    /// The token of an attempt that a node makes.
    pub(super) fn token(&self, node: NodeId, execution: ExecutionId, fencing: u64) -> LeaseToken {
        let secret = match self {
            Self::Made(root) => {
                let made = of_attempt(root, node, execution, fencing).finalize().into_bytes();
                made.iter().take(16).fold(0, |secret, byte| secret << 8 | u128::from(*byte))
            }
            Self::Drawn(entropy) => entropy.bits(),
        };
        LeaseToken { node, fencing, secret }
    }

    /// Whether a token is one that a node of the cluster made for an attempt of an execution.
    pub(super) fn made(&self, execution: ExecutionId, token: LeaseToken) -> bool {
        let Self::Made(root) = self else { return false };
        let made = of_attempt(root, token.node, execution, token.fencing);
        made.verify_truncated_left(&token.secret.to_be_bytes()).is_ok()
    }
}

fn of_attempt(root: &Hmac<Sha256>, node: NodeId, execution: ExecutionId, fencing: u64) -> Hmac<Sha256> {
    root.clone()
        .chain_update(node.0.to_be_bytes())
        .chain_update(execution.0.to_be_bytes())
        .chain_update(fencing.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_in_no_other_way() {
        let token = LeaseToken { node: NodeId(3), fencing: 77, secret: 0xabc };
        let text = token.to_string();
        assert_eq!(text, "cb-3-77-00000000000000000000000000000abc");
        assert_eq!(text.parse(), Ok(token));
        for other in ["77", "", "cb", "cb-3-77", "cb-3-77-abc", "cb-03-77-00000000000000000000000000000abc"] {
            assert!(other.parse::<LeaseToken>().is_err(), "{other}");
        }
        assert!(format!("{text}-").parse::<LeaseToken>().is_err());
        assert!(text.replace("abc", "ABC").parse::<LeaseToken>().is_err());
        assert!(!format!("{token:?}").contains("abc"), "a secret is not logged");
    }
}
