//! Who calls, and how they want to be answered.

use std::sync::Arc;

use escapement_domain::command::Idempotency;
use sha2::{Digest as _, Sha256};

use super::failure::ServiceError;
use crate::security::{Permission, Principal};

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who, by a token that was checked.
    pub principal: Principal,
    /// The request that everything which follows goes back to.
    pub correlation_id: Arc<str>,
    /// The client's own key for the request.
    pub idempotency: Option<Idempotency>,
    /// How fresh what is read must be.
    pub consistency: Consistency,
}

/// How fresh what is read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Everything that was acknowledged anywhere before the call is seen.
    #[default]
    Linearizable,
    /// What this node has, without asking anybody.
    Local,
}

impl Caller {
    /// The tenant for whom they act.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.principal.tenant
    }

    /// Demands a permission.
    ///
    /// # Errors
    /// [`ServiceError::Denied`], which names the role that it takes.
    pub fn may(&self, permission: Permission<'_>) -> Result<(), ServiceError> {
        Ok(self.principal.may(permission)?)
    }
}

/// Digests what is asked under an idempotency key: by whom, what, and with which content.
#[must_use]
pub fn fingerprint(subject: &str, parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(&subject).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}
