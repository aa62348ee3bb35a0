//! What carries out attempts: HTTP calls, programs, and the scheduler's own operations.
//!
//! Invariants: an attempt ends by its timeout; nothing that it started outlives it, not even when the node is killed; it
//! reaches only what this node's configuration allows, whatever a name resolves to at the moment of the call.
//! Absent on purpose: whether and when an attempt is made (the replicated state decides), and retries.

mod builtin;
mod callbacks;
mod descriptors;
mod egress;
mod http;
mod items;
mod launcher;
mod lease_token;
mod output;
mod process;
mod removal;
mod user;

use std::path::PathBuf;
use std::sync::Arc;

use escapement_actors::ports::{AttemptEnd, AttemptFailure, Clock, Executors};
use escapement_domain::execution::failure::FailureClass;
use escapement_domain::limits::ERROR_BYTES_MAX;

pub use builtin::{BuiltinExecutor, Housekeeping};
pub use callbacks::{Callbacks, Hearing, Said, Told};
pub use descriptors::take_all as take_all_descriptors;
pub use egress::{Cidr, EgressRefused, EgressRule};
pub use http::HttpExecutor;
pub use launcher::{LAUNCH_PROCESS, launch_process};
pub use lease_token::LeaseToken;
pub use process::{LauncherCommand, ProcessExecutor, ProcessPolicy};
pub use user::{ProgramUser, UserError};

/// What the executors of a node may do, and where they work.
#[derive(Clone, Debug)]
pub struct ExecutorOptions {
    /// Which programs may run.
    pub process: ProcessPolicy,
    /// The user that they run as, if not the node's own.
    pub process_user: Option<ProgramUser>,
    /// Which addresses may be called.
    pub egress: EgressRule,
    /// Bytes of output that are kept of one attempt.
    pub output_bytes: usize,
    /// The directory under which programs get their working directories; emptied at the start.
    pub work: PathBuf,
    /// Who hears of targets that report later.
    pub callbacks: Callbacks,
}

/// Why a node has no executors.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// The directory for working directories cannot be made or read.
    #[error("the working directory {} cannot be prepared", path.display())]
    Work {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Programs cannot run as the user that the configuration names.
    #[error("execution.process_user: {0}")]
    User(#[from] UserError),
}

/// Makes the executors of a node.
///
/// # Errors
/// [`ExecutorError`] when the HTTP client or the working directory cannot be made, or programs cannot run as their user.
pub fn executors(
    options: ExecutorOptions,
    clock: &Arc<dyn Clock>,
    housekeeping: Housekeeping,
) -> Result<Executors, ExecutorError> {
    let http = HttpExecutor::new(options.egress, options.callbacks, Arc::clone(clock))?;
    let process = ProcessExecutor::new(
        options.process,
        options.process_user.as_ref(),
        options.work,
        options.output_bytes,
        LauncherCommand::default(),
        Arc::clone(clock),
    )?;
    Ok(Executors {
        http: Arc::new(http),
        process: Arc::new(process),
        builtin: Arc::new(BuiltinExecutor::new(housekeeping, Arc::clone(clock))),
    })
}

/// Returns the end of an attempt that failed for no reason that a task can tell from others.
fn failed(error: impl Into<String>) -> AttemptEnd {
    failure(FailureClass::Other, error).into()
}

/// Returns a failure, its error cut to what is kept.
fn failure(class: FailureClass, error: impl Into<String>) -> AttemptFailure {
    let mut error = error.into();
    if error.len() > ERROR_BYTES_MAX {
        error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX - '…'.len_utf8()));
        error.push('…');
    }
    AttemptFailure { class, ..AttemptFailure::new(error) }
}

#[cfg(test)]
mod fixtures;
