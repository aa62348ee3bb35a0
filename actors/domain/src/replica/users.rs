//! How many tasks name each thing of a tenant; made again from the tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::identifier::TenantId;

/// Counts of tasks by what they name.
#[derive(Clone, Debug, Default)]
pub(super) struct Users(BTreeMap<(TenantId, Arc<str>), u64>);

impl Users {
    /// How many tasks name it.
    pub(super) fn of(&self, tenant: TenantId, name: &str) -> u64 {
        self.0.get(&(tenant, name.into())).copied().unwrap_or(0)
    }

    /// A task names these.
    pub(super) fn name<'a>(&mut self, tenant: TenantId, names: impl IntoIterator<Item = &'a Arc<str>>) {
        for name in names {
            *self.0.entry((tenant, name.clone())).or_default() += 1;
        }
    }

    /// A task names these no more.
    pub(super) fn unname<'a>(&mut self, tenant: TenantId, names: impl IntoIterator<Item = &'a Arc<str>>) {
        for name in names {
            let key = (tenant, name.clone());
            if let Some(users) = self.0.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.0.remove(&key);
                }
            }
        }
    }
}
