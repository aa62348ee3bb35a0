//! How an attempt failed, as whoever made it saw it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::task::sealed::Sealed;
use crate::timestamp::Span;

/// What sort of failure it was: what [`RetryOn`](crate::task::retry_on::RetryOn) tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureClass {
    /// The target answered with this status.
    HttpStatus(u16),
    /// The program ended with this exit code.
    ExitCode(i32),
    /// This signal ended the program.
    Signal(i32),
    /// It took too long.
    TimedOut,
    /// The connection to the target broke, and with it what was heard of the attempt.
    Connection,
    /// Anything else, such as a program that cannot be started.
    Other,
    /// The values of its cause cannot be put into its action: no attempt would fare better.
    Inputs,
    /// The target could not be connected to: it was told nothing.
    Unconnected,
    /// The attempt died on its worker, by a fault of the program: nobody knows how far it came.
    Died,
    /// The worker's configuration does not allow it: nothing was sent or started.
    NotAllowed,
}

impl FailureClass {
    /// Whether an attempt that failed so never came to its target.
    #[must_use]
    pub fn is_unsent(self) -> bool {
        matches!(self, Self::Inputs | Self::NotAllowed)
    }

    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpStatus(_) => "http_status",
            Self::ExitCode(_) => "exit_code",
            Self::Signal(_) => "signal",
            Self::TimedOut => "timeout",
            Self::Connection | Self::Unconnected => "connection",
            Self::Other | Self::Died | Self::NotAllowed => "other",
            Self::Inputs => "inputs",
        }
    }

    /// The status, the exit code or the signal.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Self::HttpStatus(status) => Some(i32::from(status)),
            Self::ExitCode(code) | Self::Signal(code) => Some(code),
            Self::TimedOut
            | Self::Connection
            | Self::Unconnected
            | Self::Other
            | Self::Inputs
            | Self::Died
            | Self::NotAllowed => None,
        }
    }
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A sentence for people.
    pub error: Arc<str>,
    /// JSON text of what it returned.
    pub result: Option<Sealed>,
    /// What sort of failure it was.
    pub class: FailureClass,
    /// How long the target asks to be left alone.
    pub retry_after: Option<Span>,
    /// JSON text of a list: the items that failed, for the next attempt.
    pub failed_items: Option<Sealed>,
}

impl Failure {
    /// A failure of no particular class of which nothing but a sentence is known.
    #[must_use]
    pub fn new(error: impl Into<Arc<str>>) -> Self {
        Self {
            error: error.into(),
            result: None,
            class: FailureClass::Other,
            retry_after: None,
            failed_items: None,
        }
    }
}
