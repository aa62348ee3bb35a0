//! What a node says about itself: log lines, metrics, and the ids that tie a request to all that it led to.
//!
//! Invariant: nothing here changes what the node does; a failure to tell is never a failure to work.

mod correlation;
mod logging;
mod metrics;

pub use correlation::{CorrelationId, traceparent};
pub use logging::{LogFormat, LoggingError, check_filter, start_logging};
pub use metrics::{HttpLabels, Metrics, Outcome, OutcomeLabels, StatusClass};
