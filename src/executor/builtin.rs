//! What the scheduler itself can do.

use std::sync::Arc;

use escapement_actors::ports::{AttemptEnd, AttemptOrder, Clock, Executor, Finished, OutputSink};
use escapement_actors::projection::OUTPUT_BYTES_MAX;
use escapement_domain::task::action::{Action, Operation};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::failed;
use super::output::Transcript;

/// Removes what is older than the retention from this node; returns JSON text of what it did, or a sentence of why not.
pub type Housekeeping = Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Runs [`Action::Builtin`].
pub struct BuiltinExecutor {
    housekeeping: Housekeeping,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for BuiltinExecutor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("BuiltinExecutor")
    }
}

impl BuiltinExecutor {
    /// Makes the executor of a node.
    #[must_use]
    pub fn new(housekeeping: Housekeeping, clock: Arc<dyn Clock>) -> Self {
        Self { housekeeping, clock }
    }
}

impl Executor for BuiltinExecutor {
    fn run(
        &self,
        order: AttemptOrder,
        output: Arc<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Finished> {
        let operation = match &order.action {
            Action::Builtin { operation, .. } => *operation,
            _ => return Box::pin(async { failed("this executor runs builtin operations only").into() }),
        };
        if operation == Operation::Noop {
            return Box::pin(async { AttemptEnd::Succeeded { result: None }.into() });
        }
        let transcript = Transcript::new(output, Arc::clone(&self.clock), OUTPUT_BYTES_MAX);
        let housekeeping = Arc::clone(&self.housekeeping);
        Box::pin(async move {
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => return AttemptEnd::Cancelled.into(),
                () = tokio::time::sleep(order.timeout.into()) => return AttemptEnd::TimedOut.into(),
                outcome = housekeeping() => outcome,
            };
            let end = match outcome {
                Ok(result) => {
                    transcript.system(format!("housekeeping: {result}"));
                    AttemptEnd::Succeeded { result: Some(result) }
                }
                Err(error) => failed(error),
            };
            end.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use escapement_domain::timestamp::Span;

    use super::super::fixtures::{Lines, clock, order};
    use super::*;

    async fn run(operation: Operation, housekeeping: Housekeeping) -> AttemptEnd {
        let executor = BuiltinExecutor::new(housekeeping, clock());
        let order =
            AttemptOrder { timeout: Span(50), ..order(Action::Builtin { operation, parameters: None }) };
        executor.run(order, Lines::new(), CancellationToken::new()).await.end
    }

    #[tokio::test]
    async fn a_noop_succeeds_at_once() {
        let never: Housekeeping = Arc::new(|| Box::pin(std::future::pending()));
        assert_eq!(run(Operation::Noop, never).await, AttemptEnd::Succeeded { result: None });
    }

    #[tokio::test]
    async fn housekeeping_reports_what_it_did_and_ends_by_its_timeout() {
        let done: Housekeeping = Arc::new(|| Box::pin(async { Ok(r#"{"removed":3}"#.to_owned()) }));
        let expected = AttemptEnd::Succeeded { result: Some(r#"{"removed":3}"#.into()) };
        assert_eq!(run(Operation::Housekeeping, done).await, expected);
        let refused: Housekeeping = Arc::new(|| Box::pin(async { Err("the disk failed".to_owned()) }));
        assert_eq!(run(Operation::Housekeeping, refused).await, failed("the disk failed"));
        let never: Housekeeping = Arc::new(|| Box::pin(std::future::pending()));
        assert_eq!(run(Operation::Housekeeping, never).await, AttemptEnd::TimedOut);
    }
}
