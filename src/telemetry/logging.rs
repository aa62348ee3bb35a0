//! Log lines on standard error: for people, or one JSON object a line.
//!
//! `ESCAPEMENT_LOG` overrides the configured level; both take a level (`info`) or directives
//! (`info,escapement::http=debug`).

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The variable that overrides the configured level.
const LEVEL_VARIABLE: &str = "ESCAPEMENT_LOG";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Why there are no log lines.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level or directives are not understood.
    #[error(
        "{name}: `{found}` is neither a level (error, warn, info, debug, trace) nor directives such as info,escapement=debug"
    )]
    Filter {
        /// The key or variable that holds it.
        name: &'static str,
        /// What it holds.
        found: String,
    },
    /// Something else in this process took the log first.
    #[error("logging was started twice")]
    Started,
}

/// What a bare level leaves out: libraries that tell of every step, and openraft's warnings, of which a peer that is gone
/// leads to dozens a second. Directives of one's own bring it back.
const QUIET: &str =
    "openraft=error,chunked_wal=warn,raft_log=warn,actix_server=warn,sled=warn,h2=warn,hyper=warn";

/// Says whether `text` is a level or directives.
#[must_use]
pub fn check_filter(text: &str) -> bool {
    parse_filter("", text).is_ok()
}

/// A bare word is a directive that names a target to the parser; here it must be a level.
fn parse_filter(name: &'static str, text: &str) -> Result<EnvFilter, LoggingError> {
    let fault = || LoggingError::Filter { name, found: text.to_owned() };
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let bare_words_are_levels = text.split(',').all(|directive| {
        let directive = directive.trim();
        let bare = directive.bytes().all(|byte| byte.is_ascii_alphanumeric());
        !directive.is_empty() && (!bare || levels.contains(&directive.to_ascii_lowercase().as_str()))
    });
    if !bare_words_are_levels {
        return Err(fault());
    }
    let directives = if text.contains('=') { text.to_owned() } else { format!("{text},{QUIET}") };
    EnvFilter::builder().parse(directives).map_err(|_| fault())
}

/// Starts logging to standard error for this process.
///
/// # Errors
/// [`LoggingError`] when the level is not understood, or logging was started before.
pub fn start_logging(format: LogFormat, level: &str) -> Result<(), LoggingError> {
    let filter = match std::env::var(LEVEL_VARIABLE) {
        Ok(text) if !text.is_empty() => parse_filter(LEVEL_VARIABLE, &text)?,
        _ => parse_filter("telemetry.level", level)?,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|_| LoggingError::Started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_directives_are_understood_and_nothing_else() {
        for good in ["info", "WARN", "off", "info,escapement::http=debug", "escapement=trace"] {
            assert!(check_filter(good), "{good}");
        }
        for bad in ["", "loud", "info,", "escapement=loud", "info,verbose"] {
            assert!(!check_filter(bad), "{bad}");
        }
    }

    #[test]
    fn a_fault_names_the_key_that_holds_it() {
        let message = start_logging(LogFormat::Human, "loud").expect_err("no level").to_string();
        assert!(message.starts_with("telemetry.level: `loud` is neither a level"), "{message}");
    }
}
