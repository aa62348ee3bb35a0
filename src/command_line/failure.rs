//! Why a command did not do what it was asked, with what to do next and the exit status.
//!
//! Exit status: 0 done, 1 refused or failed, 2 wrong usage. A reader that went away (`| head`) is no failure.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use super::problem::Problem;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing listens there. Nothing was done.
    #[error("cannot reach {address}: {reason}")]
    Unreachable { address: String, reason: String },
    /// The connection broke or the time ran out. What was asked may have been done.
    #[error("no answer from {address}: {reason}")]
    NoAnswer { address: String, reason: String },
    /// The node refused.
    #[error("{}", .0.reason())]
    Refused(Box<Problem>),
    /// Something else stands in the way.
    #[error("{message}")]
    Stopped { message: String, advice: Option<String> },
    /// The arguments do not go together.
    #[error("{0}")]
    Usage(String),
    /// The command has said everything; only the exit status is left.
    #[error("failed")]
    Told,
    /// What was to be printed could not be.
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

impl Failure {
    /// A failure that a sentence explains.
    pub(crate) fn stopped(message: impl Display) -> Self {
        Self::Stopped { message: message.to_string(), advice: None }
    }

    /// A failure that an error explains, with what caused it, since that is what a person can mend.
    pub(crate) fn caused_by(error: &dyn std::error::Error) -> Self {
        Self::stopped(with_causes(error))
    }

    /// Says what to do next.
    pub(crate) fn advise(self, advice: impl Into<String>) -> Self {
        match self {
            Self::Stopped { message, .. } => Self::Stopped { message, advice: Some(advice.into()) },
            other => other,
        }
    }

    /// A file or directory that could not be used.
    pub(crate) fn file(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::stopped(format!("cannot {what} {}: {error}", path.display()))
    }

    /// Says whether what was asked may have been done all the same.
    pub(crate) fn leaves_open(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Refused(problem) => problem.answered >= 500,
            _ => false,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => {
                Some("is the node up? start one with `escapement dev`, or name another with --address".into())
            }
            Self::NoAnswer { .. } => {
                Some("what was asked may have been done: look before asking again".into())
            }
            Self::Refused(problem) => problem.advice().map(Into::into),
            Self::Stopped { advice, .. } => advice.clone(),
            Self::Usage(_) => Some("see --help".into()),
            Self::Told | Self::Output(_) => None,
        }
    }

    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns what to write to standard error; `None` if there is nothing left to say.
    pub(crate) fn told(&self) -> Option<String> {
        if matches!(self, Self::Told) || self.is_closed_pipe() {
            return None;
        }
        let mut text = format!("error: {self}\n");
        if let Self::Output(error) = self {
            text = format!("error: {self}: {error}\n");
        }
        if let Some(advice) = self.advice() {
            text.push_str(&format!("  next: {advice}\n"));
        }
        Some(text)
    }

    /// Returns the exit status.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            _ if self.is_closed_pipe() => ExitCode::SUCCESS,
            _ => ExitCode::from(1),
        }
    }
}

/// Returns an error with its causes; a cause that its error quotes is not repeated.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(&format!(": {inner_text}"));
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_what_next() {
        let failure =
            Failure::Refused(Box::new(Problem::read(404, r#"{"title":"Not found","detail":"no task 7"}"#)));
        assert_eq!(
            failure.told().as_deref(),
            Some(
                "error: Not found: no task 7\n  next: see what there is with `task list`, `execution list` or `cluster status`\n"
            )
        );
        assert_eq!(failure.exit_code(), ExitCode::from(1));
    }

    #[test]
    fn an_unreachable_node_is_named_with_two_ways_on() {
        let failure = Failure::Unreachable {
            address: "http://127.0.0.1:7070".into(),
            reason: "connection refused".into(),
        };
        let text = failure.told().expect("something to say");
        assert!(
            text.starts_with("error: cannot reach http://127.0.0.1:7070: connection refused\n"),
            "{text}"
        );
        assert!(text.contains("`escapement dev`") && text.contains("--address"), "{text}");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.told(), failure.exit_code()), (None, ExitCode::SUCCESS));
        let failure = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(failure.told().is_some());
        assert_eq!(failure.exit_code(), ExitCode::from(1));
    }

    #[test]
    fn wrong_usage_is_told_apart() {
        assert_eq!(Failure::Usage("either or".into()).exit_code(), ExitCode::from(2));
    }
}
