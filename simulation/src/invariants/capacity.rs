//! What is held of a pool never grows beyond its capacity, no task runs more often at once than it may, and a target whose
//! breaker is open is called by nobody, one that is half open by one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::event::Event;
use escapement_domain::identifier::{ExecutionId, TaskId, TenantId};
use escapement_domain::replica::placement::Gate;
use escapement_domain::task::claims::Claims;

use super::story::Lives;
use crate::evidence::Evidence;

/// Whose it is, of which task, and what it claims.
type Claimant = (TenantId, TaskId, Option<Arc<Claims>>);

/// What the records say so far.
#[derive(Default)]
struct Books {
    tasks: BTreeMap<(TenantId, TaskId), Option<Arc<Claims>>>,
    open: BTreeMap<ExecutionId, Claimant>,
    running: BTreeMap<ExecutionId, Claimant>,
    pools: BTreeMap<(TenantId, Arc<str>), u32>,
    /// By target: whether it is half open, and who tries it; one that is not here is called.
    closed_to: BTreeMap<(TenantId, Arc<str>), (bool, Option<ExecutionId>)>,
}

pub(super) fn check(evidence: &Evidence, _: &Lives) -> Vec<String> {
    let (mut books, mut found) = (Books::default(), Vec::new());
    for record in &evidence.records {
        books.read(record.header.tenant, &record.event, &mut found);
    }
    found
}

impl Books {
    fn read(&mut self, tenant: TenantId, event: &Event, found: &mut Vec<String>) {
        match event {
            Event::TaskCreated { task, rules, .. } | Event::TaskUpdated { task, rules, .. } => {
                self.tasks.insert((tenant, *task), rules.claims.clone());
            }
            Event::TaskScheduled { task, execution, .. } | Event::TaskReopened { task, execution, .. } => {
                let claims = self.tasks.get(&(tenant, *task)).cloned().flatten();
                self.open.insert(*execution, (tenant, *task, claims));
            }
            Event::GatePut { gate: Gate::Pool(name), capacity, .. } => {
                self.pools.insert((tenant, name.clone()), *capacity);
            }
            Event::BreakerOpened { target, .. } => {
                self.closed_to.insert((tenant, target.clone()), (false, None));
            }
            Event::BreakerHalfOpened { target } => {
                self.closed_to.insert((tenant, target.clone()), (true, None));
            }
            Event::BreakerClosed { target, .. } => drop(self.closed_to.remove(&(tenant, target.clone()))),
            Event::TaskStarted { execution, .. } => {
                let Some(claimant) = self.open.get(execution).cloned() else { return };
                self.running.insert(*execution, claimant.clone());
                self.judge(*execution, &claimant, found);
            }
            Event::TaskRetry { execution, .. }
            | Event::TaskRequeued { execution, .. }
            | Event::TaskCompleted { execution, .. }
            | Event::TaskFailed { execution, .. }
            | Event::TaskTimedOut { execution, .. }
            | Event::TaskCancelled { execution, .. }
            | Event::TaskLost { execution, .. } => {
                self.running.remove(execution);
                for (_, probe) in self.closed_to.values_mut().filter(|(_, probe)| *probe == Some(*execution))
                {
                    *probe = None;
                }
            }
            _ => {}
        }
    }

    fn judge(&mut self, execution: ExecutionId, (tenant, task, claims): &Claimant, found: &mut Vec<String>) {
        let Some(claims) = claims else { return };
        for name in claims.resources.keys() {
            let of_pool = self.running.values().filter(|(owner, ..)| owner == tenant);
            let shares = of_pool.filter_map(|(_, _, claims)| claims.as_ref()?.resources.get(name));
            let (held, capacity) = (shares.sum::<u32>(), self.pools.get(&(*tenant, name.clone())));
            if capacity.is_some_and(|capacity| held > *capacity) {
                found.push(format!(
                    "with execution {execution}, {held} of pool {name} are held: {capacity:?}"
                ));
            }
        }
        if let Some(most) = claims.max_concurrent {
            let beside = self.running.values().filter(|(owner, other, _)| (owner, other) == (tenant, task));
            let running = beside.count();
            if running > most as usize {
                found.push(format!("with execution {execution}, {running} of task {task} run: {most}"));
            }
        }
        let Some(guard) = &claims.guard else { return };
        match self.closed_to.get_mut(&(*tenant, guard.target.clone())) {
            None => {}
            Some((true, probe @ None)) => *probe = Some(execution),
            Some(state) => {
                found.push(format!(
                    "execution {execution} calls {}, whose breaker is {state:?}",
                    guard.target
                ));
            }
        }
    }
}
