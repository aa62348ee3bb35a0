//! What an execution writes, told as it is written: across its attempts, on whichever nodes they are made, until it has ended.
//!
//! A follower sleeps until its execution has written more on this node. What is written on another one, and the end, are looked
//! for twice a second. Invariant: each line is told once, in order, with its place; whoever comes back with the place of the
//! last line that it has seen misses nothing.

use std::sync::Arc;
use std::time::Duration;

use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{ExecutionId, TenantId};
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::Service;
use super::caller::Caller;
use super::executions::{behind, is_behind};
use super::failure::ServiceError;
use super::history::{
    AttemptRow, AttemptWorker, ExecutionRow, HistoryError, LineStream, OutputCursor, OutputLine, OutputQuery,
};

/// How long what is not on this node may take to be seen.
const TICK: Duration = Duration::from_millis(500);
/// How long lines are gathered, so that a program that writes without end does not wake its followers for each.
const GATHER: Duration = Duration::from_millis(20);
/// How long a follower hears nothing before it is told that there is nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Lines that are told at once.
const LINES_AT_ONCE: usize = 1_000;

/// Something that a follower is told.
#[derive(Clone, Debug)]
pub enum Followed {
    /// Lines, each with its place.
    Lines(Vec<(OutputLine, OutputCursor)>),
    /// There was nothing for a while.
    Quiet,
    /// The execution, or the attempt that was asked for, has ended; the execution stands so.
    Ended(Status),
}

/// A follower. Dropping it is the end of it.
pub struct Following {
    service: Service,
    tenant: TenantId,
    row: Arc<ExecutionRow>,
    /// Only this attempt.
    only: Option<u32>,
    /// Everything up to this place was told.
    after: Option<OutputCursor>,
    /// Wakes when an attempt has written more here.
    growth: Option<(u32, BoxStream<'static, ()>)>,
    /// The attempt of which it was told that its node does not answer.
    unreachable: Option<u32>,
    over: bool,
}

impl Service {
    /// Follows what an execution's attempts write, or one of them, from after a place on.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn follow_execution(
        &self,
        caller: &Caller,
        id: ExecutionId,
        only: Option<u32>,
        after: Option<OutputCursor>,
    ) -> Result<Following, ServiceError> {
        let row = self.execution(caller, id).await?;
        let (service, tenant) = (self.clone(), row.tenant);
        Ok(Following { service, tenant, row, only, after, growth: None, unreachable: None, over: false })
    }
}

impl Following {
    /// Waits for what there is to tell; `None` after the end.
    ///
    /// # Errors
    /// [`ServiceError`], when this node cannot say more: another one may.
    pub async fn next(&mut self) -> Result<Option<Followed>, ServiceError> {
        let mut quiet = Box::pin(tokio::time::sleep(KEEP_ALIVE));
        while !self.over {
            let lines = self.read().await?;
            if !lines.is_empty() {
                return Ok(Some(Followed::Lines(lines)));
            }
            if self.has_ended() {
                self.over = true;
                return Ok(Some(Followed::Ended(self.row.status)));
            }
            tokio::select! {
                biased;
                () = &mut quiet => return Ok(Some(Followed::Quiet)),
                () = self.grown() => {}
            }
            self.look()?;
        }
        Ok(None)
    }

    fn wanted(&self) -> impl DoubleEndedIterator<Item = &AttemptRow> {
        self.row.attempts.iter().filter(|attempt| self.only.is_none_or(|only| only == attempt.number))
    }

    fn has_ended(&self) -> bool {
        let is_over = |attempt: &AttemptRow| attempt.outcome.is_some();
        self.row.status.is_final() || self.only.is_some() && self.wanted().any(is_over)
    }

    /// What was written since.
    async fn read(&mut self) -> Result<Vec<(OutputLine, OutputCursor)>, ServiceError> {
        let begin = self.after.map_or(0, |after| after.attempt + u32::from(is_behind(after)));
        let attempts: Vec<AttemptRow> =
            self.wanted().filter(|attempt| attempt.number >= begin).cloned().collect();
        for attempt in attempts {
            // What a worker outside writes is its own.
            let AttemptWorker::Node(node) = attempt.worker else { continue };
            let (number, ended) = (attempt.number, attempt.outcome.is_some());
            let after = self.after.filter(|after| after.attempt == number);
            let query =
                OutputQuery { execution: self.row.id, attempt: number, node, after, limit: LINES_AT_ONCE };
            match self.service.parts.outputs.read(query).await {
                Ok(page) if !page.lines.is_empty() => {
                    self.after = page.places.last().copied().or(self.after);
                    return Ok(page.lines.into_iter().zip(page.places).collect());
                }
                Ok(_) if ended => self.after = Some(behind(number)),
                Ok(_) => break,
                Err(HistoryError::Elsewhere) if ended => {
                    self.after = Some(behind(number));
                    return Ok(vec![(no_answer(&attempt), behind(number))]);
                }
                Err(HistoryError::Elsewhere) if self.unreachable != Some(number) => {
                    self.unreachable = Some(number);
                    let place = after.unwrap_or_else(|| behind(number.saturating_sub(1)));
                    return Ok(vec![(no_answer(&attempt), place)]);
                }
                Err(HistoryError::Elsewhere) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Vec::new())
    }

    /// Resolves when there may be more.
    async fn grown(&mut self) {
        let runs = |attempt: &&AttemptRow| attempt.outcome.is_none();
        let running = self.wanted().rfind(runs).map(|attempt| (attempt.number, attempt.worker.clone()));
        if let Some((number, AttemptWorker::Node(node))) = running
            && self.growth.as_ref().is_none_or(|(known, _)| *known != number)
        {
            self.growth = Some((number, self.service.parts.outputs.growth(self.row.id, node)));
        }
        let told = async {
            match &mut self.growth {
                Some((_, growth)) => drop(growth.next().await),
                None => std::future::pending().await,
            }
            tokio::time::sleep(GATHER).await;
        };
        // Late is as good as never here: it is looked at either way.
        let _ = tokio::time::timeout(TICK, told).await;
    }

    /// Looks how the execution stands.
    fn look(&mut self) -> Result<(), ServiceError> {
        let parts = &self.service.parts;
        if parts.log.leadership().has_changed().is_err() {
            return Err(ServiceError::Stopped { reason: "its log ended".into() });
        }
        let found = parts.read_models.execution(self.tenant, self.row.id)?;
        self.row = found.ok_or(ServiceError::NoSuchExecution)?;
        Ok(())
    }
}

/// The line in the place of those that cannot be read.
pub(super) fn no_answer(attempt: &AttemptRow) -> OutputLine {
    let (number, worker) = (attempt.number, &attempt.worker);
    let node = match worker {
        AttemptWorker::Node(node) => node.to_string(),
        AttemptWorker::Outside(worker) => worker.to_string(),
    };
    OutputLine {
        attempt: number,
        at: attempt.started_at,
        stream: LineStream::System,
        text: format!("what attempt {number} wrote is on node {node}, which does not answer"),
    }
}
