//! Which failures of an attempt are worth another one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::execution::failure::FailureClass;

/// The classes of failures that are retried; a failure of any other class is final.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RetryOn {
    /// Answers with these statuses.
    pub http_status: Vec<Numbers>,
    /// Ends with these exit codes.
    pub exit_codes: Vec<Numbers>,
    /// Ends by a signal.
    pub signal: bool,
    /// Attempts that took too long.
    pub timeout: bool,
    /// Connections that could not be made, or broke.
    pub connection: bool,
    /// Anything else.
    pub other: bool,
}

/// A number, or all from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Numbers {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Numbers {
    fn contain(self, number: i32) -> bool {
        (i32::from(self.first)..=i32::from(self.last)).contains(&number)
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}", self.first)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

impl RetryOn {
    /// Whether a failure of this class is retried.
    #[must_use]
    pub fn covers(&self, class: FailureClass) -> bool {
        let any = |listed: &[Numbers], number| listed.iter().any(|numbers| numbers.contain(number));
        match class {
            FailureClass::HttpStatus(status) => any(&self.http_status, i32::from(status)),
            FailureClass::ExitCode(code) => any(&self.exit_codes, code),
            FailureClass::Signal(_) => self.signal,
            FailureClass::TimedOut => self.timeout,
            FailureClass::Connection | FailureClass::Unconnected => self.connection,
            FailureClass::Other | FailureClass::Died | FailureClass::NotAllowed => self.other,
            FailureClass::Inputs => false,
        }
    }

    /// Whether no failure at all is retried.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_covered_only_if_it_is_listed() {
        let listed = RetryOn {
            http_status: vec![Numbers { first: 429, last: 429 }, Numbers { first: 500, last: 599 }],
            exit_codes: vec![Numbers { first: 1, last: 5 }],
            timeout: true,
            ..RetryOn::default()
        };
        let covered = [
            FailureClass::HttpStatus(429),
            FailureClass::HttpStatus(500),
            FailureClass::HttpStatus(599),
            FailureClass::ExitCode(5),
            FailureClass::TimedOut,
        ];
        let not = [
            FailureClass::HttpStatus(404),
            FailureClass::HttpStatus(600),
            FailureClass::ExitCode(6),
            FailureClass::ExitCode(-1),
            FailureClass::Signal(9),
            FailureClass::Connection,
            FailureClass::Other,
        ];
        assert!(covered.iter().all(|class| listed.covers(*class)));
        assert!(not.iter().all(|class| !listed.covers(*class)));
        assert!(!listed.is_empty() && RetryOn::default().is_empty());
    }
}
