//! Executions that failed for good: listed with their reasons, and tried again by the same filter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use escapement_actors::intent::Intent;
use escapement_domain::answer::Accepted;
use escapement_domain::command::{Choice, Idempotency};
use escapement_domain::execution::state::Status;
use escapement_domain::identifier::ExecutionId;
use futures::{StreamExt as _, stream};

use super::Service;
use super::caller::Caller;
use super::failure::ServiceError;
use super::history::{ExecutionPage, ExecutionQuery, ExecutionRow};
use crate::security::Permission;

/// Retries of one request that are under way at once.
const AT_ONCE: usize = 16;

/// What became of dead letters that were to be tried again.
#[derive(Debug, Default)]
pub struct Retried {
    /// They get another attempt.
    pub retried: Vec<ExecutionId>,
    /// They do not, for a reason.
    pub refused: Vec<(ExecutionId, ServiceError)>,
    /// Where to go on; none when these were all.
    pub next: Option<ExecutionId>,
}

impl Service {
    /// Lists the executions that failed for good, newest first.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn dead_letters(
        &self,
        caller: &Caller,
        query: &ExecutionQuery,
    ) -> Result<ExecutionPage, ServiceError> {
        caller.may(Permission::Read)?;
        self.settle_history(caller.consistency).await?;
        let Some(tenant) = self.tenant_number(caller.tenant()) else { return Ok(ExecutionPage::default()) };
        let mut found = BTreeMap::new();
        let mut end = None;
        for status in
            Status::FAILURES.into_iter().filter(|status| query.status.is_none_or(|only| only == *status))
        {
            let query = ExecutionQuery { status: Some(status), ..*query };
            let page = self.parts.read_models.executions(tenant, &query)?;
            found.extend(page.items.into_iter().map(|row| (row.id, row)));
            end = end.max(page.next);
        }
        // Below the end of a page there may be more of its status.
        let whole = match end {
            Some(end) => found.split_off(&end),
            None => found,
        };
        let more = whole.len() > query.limit;
        let items: Vec<_> = whole.into_values().rev().take(query.limit).collect();
        let next = if more { items.last().map(|row| row.id) } else { end };
        Ok(ExecutionPage { items, next })
    }

    /// Gives every execution of a page of dead letters another attempt. Repeated under its key it is about the same ones, and
    /// gives none of them a further attempt.
    ///
    /// # Errors
    /// [`ServiceError`]; what is wrong with one of them is told with it and does not hold up the others.
    pub async fn retry_dead_letters(
        &self,
        caller: &Caller,
        query: &ExecutionQuery,
    ) -> Result<Retried, ServiceError> {
        // Who may do it with no task at all need not ask for each.
        caller.may(Permission::OperateTask { owner: &caller.principal.subject })?;
        let page = self.dead_letters(caller, query).await?;
        let executions = page.items.iter().map(|row| row.id).collect();
        let Choice { executions, next } =
            self.meant_by_key(caller, Choice { executions, next: page.next }).await?;
        let runs = stream::iter(self.by_run(caller, &executions).into_values());
        let retried = runs.map(|of_run| self.retry_in_turn(caller, of_run)).buffer_unordered(AT_ONCE);
        let mut outcomes: BTreeMap<ExecutionId, _> = retried.concat().await.into_iter().collect();
        let mut told = Retried { next, ..Retried::default() };
        for id in executions {
            match outcomes.remove(&id) {
                Some(Ok(_)) => told.retried.push(id),
                Some(Err(error)) => told.refused.push((id, error)),
                None => {}
            }
        }
        Ok(told)
    }

    /// Executions by the runs of chains that they belong to, in each the earlier ones first: what follows another comes in a later
    /// entry of the log.
    fn by_run(
        &self,
        caller: &Caller,
        executions: &[ExecutionId],
    ) -> BTreeMap<ExecutionId, BTreeSet<(u64, ExecutionId)>> {
        let mut by_run: BTreeMap<ExecutionId, BTreeSet<(u64, ExecutionId)>> = BTreeMap::new();
        for id in executions {
            // Of one that is gone the retry says so.
            let (run, index) =
                self.find_execution(caller, *id).map_or((*id, 0), |row| (row.run(), row.log_index));
            by_run.entry(run).or_default().insert((index, *id));
        }
        by_run
    }

    /// Retries executions of one run, one after the other: with the first the run is taken up, which decides anew what came after
    /// it, and refuses that of before.
    async fn retry_in_turn(
        &self,
        caller: &Caller,
        executions: BTreeSet<(u64, ExecutionId)>,
    ) -> Vec<(ExecutionId, Result<Arc<ExecutionRow>, ServiceError>)> {
        let mut outcomes = Vec::with_capacity(executions.len());
        for (_, id) in executions {
            let caller = Caller { idempotency: key_for(caller, id), ..caller.clone() };
            outcomes.push((id, self.retry_execution(&caller, id).await));
        }
        outcomes
    }

    /// The executions that the caller's key stands for, and where to go on after them: those that were found when it was first
    /// used. What was retried then is in no list any more, and a list that is read anew names others.
    async fn meant_by_key(&self, caller: &Caller, choice: Choice) -> Result<Choice, ServiceError> {
        if caller.idempotency.is_none() {
            return Ok(choice);
        }
        match self.carry_out(caller, Intent::ChooseExecutions(choice)).await?.accepted {
            Accepted::Chosen(choice) => Ok(choice),
            other => Err(ServiceError::broken(format!("a choice was answered with {other:?}"))),
        }
    }
}

/// The caller's key for one execution: repeated under it, a request tries none of them twice.
fn key_for(caller: &Caller, execution: ExecutionId) -> Option<Idempotency> {
    let of_all = caller.idempotency.as_ref()?;
    Some(Idempotency { key: format!("{}/{execution}", of_all.key).into(), digest: of_all.digest })
}
