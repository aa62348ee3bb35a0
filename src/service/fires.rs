//! Proof of schedule from a running node: every instant that tasks should have fired, by the tenant's event log alone.
//!
//! The whole log of the tenant is read for it, or the task's own events where no calendar has a say, in turns between which
//! others are served. Absent on purpose: the replicated state, whose word is what is to be proved.

use std::ops::ControlFlow;

use escapement_domain::identifier::{TaskId, TenantId};
use escapement_domain::record::Record;
use escapement_domain::task::state::Stream;
use escapement_domain::timestamp::Timestamp;

use super::Service;
use super::audit::may_audit;
use super::caller::Caller;
use super::failure::ServiceError;
use super::history::EventQuery;
use super::validation::Fault;
use crate::audit::fires::{Fire, Ledger, Range, Totals, Unaccountable};

/// Events that are read at once.
const PAGE: usize = 1_000;
/// Instants of one range.
const FIRES_MAX: usize = 100_000;

/// Which instants are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiresQuery {
    /// Those within this range.
    pub range: Range,
    /// Only those of this task.
    pub task: Option<TaskId>,
    /// Only those after this place.
    pub after: Option<(Timestamp, TaskId)>,
    /// At most so many.
    pub limit: usize,
}

/// Some instants, and what became of all in the range.
#[derive(Clone, Debug)]
pub struct FiresPage {
    /// The moment for which the account is given.
    pub as_of: Timestamp,
    /// The instants of the page, in order.
    pub fires: Vec<Fire>,
    /// How many in the whole range became what.
    pub totals: Totals,
    /// Where the next page begins: after this place; none when there is no more.
    pub next: Option<(Timestamp, TaskId)>,
}

/// Where events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// All of the tenant's.
    Tenant,
    /// Those of one task, whose stream ends there.
    Task(TaskId, Option<Stream>),
}

impl Service {
    /// Says of every instant in a range that tasks should have fired what became of it: of the caller's own tenant unless
    /// another one is named, which takes a cluster-admin.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn audit_fires(
        &self,
        caller: &Caller,
        tenant: Option<&str>,
        query: &FiresQuery,
    ) -> Result<FiresPage, ServiceError> {
        let name = may_audit(caller, tenant)?;
        self.settle_history(caller.consistency).await?;
        let mut ledger = Ledger::new(query.range, query.task, FIRES_MAX);
        match (self.tenant_number(name), query.task) {
            (Some(number), None) => self.enter_tenant(&mut ledger, number).await?,
            (Some(number), Some(task)) => self.enter_task(&mut ledger, number, task).await?,
            (None, _) if tenant.is_some() => return Err(ServiceError::NoSuchTenant),
            (None, _) => {}
        }
        let as_of = self.now().max(ledger.last());
        let all = ledger.close(as_of).map_err(refused)?;
        let begin = query.after.map_or(0, |after| all.partition_point(|fire| (fire.at, fire.task) <= after));
        let place = |fire: &Fire| (fire.at, fire.task);
        let end = begin.saturating_add(query.limit).min(all.len());
        let last = all[begin..end].last().map(place);
        // An instant and what was moved to it have one place, and are on one page.
        let fires: Vec<Fire> =
            all[begin..].iter().take_while(|fire| Some(place(fire)) <= last).cloned().collect();
        let more = begin + fires.len() < all.len();
        let next = fires.last().map(|last| (last.at, last.task)).filter(|_| more);
        Ok(FiresPage { as_of, fires, totals: Totals::of(&all), next })
    }

    /// Enters the events of one task: its own, or all of its tenant's where a definition of it names calendars.
    async fn enter_task(
        &self,
        ledger: &mut Ledger,
        tenant: TenantId,
        task: TaskId,
    ) -> Result<(), ServiceError> {
        let fresh = ledger.clone();
        let source = Source::Task(task, self.stream_head(tenant, task).await?);
        let mut known = false;
        let take = |record: &Record| {
            known = true;
            ledger.take(record).map_err(refused).map(ControlFlow::Continue)
        };
        self.read(tenant, source, 0, take).await?;
        if !known {
            return Err(ServiceError::NoSuchTask);
        }
        if ledger.names_calendars() {
            *ledger = fresh;
            self.enter_tenant(ledger, tenant).await?;
        }
        Ok(())
    }

    async fn enter_tenant(&self, ledger: &mut Ledger, tenant: TenantId) -> Result<(), ServiceError> {
        let take = |record: &Record| ledger.take(record).map_err(refused).map(ControlFlow::Continue);
        self.read(tenant, Source::Tenant, 0, take).await
    }

    /// Reads events after a place, in turns between which others are served, until `take` wants no more.
    pub(super) async fn read(
        &self,
        tenant: TenantId,
        source: Source,
        mut after: u64,
        mut take: impl FnMut(&Record) -> Result<ControlFlow<()>, ServiceError>,
    ) -> Result<(), ServiceError> {
        let models = &self.parts.read_models;
        loop {
            let (records, next) = match source {
                Source::Tenant => {
                    let query = EventQuery { after, limit: PAGE, from: None, to: None };
                    let page = models.events(tenant, &query)?;
                    (page.records, page.next)
                }
                Source::Task(task, head) => {
                    let page = models.stream(tenant, task, head, after, PAGE)?;
                    (page.records, page.next)
                }
            };
            for record in &records {
                if take(record)?.is_break() {
                    return Ok(());
                }
            }
            match next {
                Some(next) => after = next,
                None => return Ok(()),
            }
            tokio::task::yield_now().await;
        }
    }
}

fn refused(error: Unaccountable) -> ServiceError {
    match error {
        Unaccountable::TooMany { .. } => {
            ServiceError::Invalid { faults: vec![Fault { pointer: "?to".into(), detail: error.to_string() }] }
        }
        Unaccountable::Sealed { .. } => ServiceError::broken(error.to_string()),
    }
}
