//! Where clients' commands meet: on the leader, one actor for each task in motion.
//!
//! A [`Front`] takes submissions from any thread. What is about one task goes to that task's actor, which is activated on
//! demand and carries one command at a time; what waits behind it is bounded. What is about many tasks is
//! prepared beside the actors. The proposer's part is done here: stamping, compiling schedules, computing the first
//! instant, settling what is overdue under the old definition before a new one.
//!
//! Invariants: a command id, or a key, that has an answer gets that answer, also if this leader had taken it up and it was on
//! its way when it was asked for; a refusal that is not in the log is one that the log would give for ever. Absent on
//! purpose: truth. An actor that is idle is dropped, and one that panicked is built again.

mod actor;
mod bulk;
mod drafting;
mod front;
mod occurrences;
pub mod parts;
mod proposing;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use escapement_domain::answer::Answer;
use escapement_domain::command::{Origin, Report, Request};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use self::front::{FrontActor, Submit};
use self::proposing::Proposer;
use crate::intent::{Submission, SubmitError};
use crate::keeper::Kept;
use crate::machine::Machine;
use crate::ports::{Clock, Log, Observer};
use crate::worker::clocks::ClockWatch;

/// How long a task's actor outlives its last command.
pub const IDLE: Duration = Duration::from_secs(30);

/// What the front needs.
#[derive(Clone)]
pub struct FrontParts {
    /// The log of this node.
    pub log: Arc<dyn Log>,
    /// The replicated state.
    pub machine: Arc<Machine>,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// Whether this node may stamp.
    pub clocks: Arc<ClockWatch>,
    /// Hears how many tasks are in motion.
    pub observer: Arc<dyn Observer>,
    /// How long a task's actor outlives its last command, such as [`IDLE`].
    pub idle: Duration,
}

/// Takes what clients want to the leader's task actors. Cheap to clone; used from any thread.
#[derive(Clone)]
pub struct Front {
    kept: Kept<FrontActor>,
    proposer: Proposer,
    in_motion: Arc<AtomicUsize>,
}

impl fmt::Debug for Front {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Front").field("in_motion", &self.in_motion()).finish_non_exhaustive()
    }
}

impl Front {
    /// Starts the front in the `LocalSet` around the caller.
    #[must_use]
    pub fn start(parts: FrontParts) -> Self {
        let in_motion = Arc::new(AtomicUsize::new(0));
        let shared = in_motion.clone();
        let proposer = Proposer::new(parts.log.clone(), parts.machine.clone(), parts.clocks.clone());
        let kept =
            Kept::start("front", move |lifeline| FrontActor::new(parts.clone(), shared.clone(), lifeline));
        Self { kept, proposer, in_motion }
    }

    /// Carries a client's request out, if this node leads.
    ///
    /// # Errors
    /// [`SubmitError`], which says what the caller should do.
    pub fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.kept.address().try_send(Submit { submission, reply });
        async move {
            match sent {
                Ok(()) => answer.await.unwrap_or(Err(SubmitError::Unknown)),
                Err(_) => Err(SubmitError::Busy),
            }
        }
        .boxed()
    }

    /// Proposes a worker's report, if this node leads. Repeated with the same content, it changes nothing.
    ///
    /// # Errors
    /// [`SubmitError`], which says what the worker should do.
    pub fn report(&self, report: Report) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        let proposer = self.proposer.clone();
        async move { proposer.propose(Origin::Scheduler, Request::Report(report)).await }.boxed()
    }

    /// How many tasks have an actor now.
    #[must_use]
    pub fn in_motion(&self) -> usize {
        self.in_motion.load(Ordering::Relaxed)
    }
}
