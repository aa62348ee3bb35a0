//! The same claims, kept once: a million tasks with the same labels share them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::task::claims::Claims;
use crate::task::rules::Rules;

/// Claims that tasks have.
#[derive(Clone, Debug, Default)]
pub struct Interned(BTreeSet<Arc<Claims>>);

impl Interned {
    /// Lets rules share their claims with others that have the same.
    pub fn share(&mut self, rules: &mut Rules) {
        let Some(claims) = &mut rules.claims else { return };
        match self.0.get(claims) {
            Some(kept) => *claims = kept.clone(),
            None => drop(self.0.insert(claims.clone())),
        }
    }

    /// Forgets claims that nobody but `rules` has any more.
    pub fn forget(&mut self, rules: &Rules) {
        let Some(claims) = &rules.claims else { return };
        if self.0.get(claims).is_some_and(|kept| Arc::strong_count(kept) <= 2) {
            self.0.remove(claims);
        }
    }
}
