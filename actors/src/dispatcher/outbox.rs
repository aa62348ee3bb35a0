//! Ends of attempts on their way to the log: in numbered reports, one on its way at a time.
//!
//! Invariant: a report keeps its number and its content until it is answered. Absent on purpose: sending.

use std::collections::VecDeque;

use escapement_domain::command::{AttemptOutcome, AttemptResult, Report};
use escapement_domain::execution::failure::Failure;
use escapement_domain::identifier::{Incarnation, NodeId};
use escapement_domain::limits::{
    COMMAND_BYTES_MAX, ERROR_BYTES_MAX, FAILED_ITEMS_BYTES_MAX, RESULT_BYTES_MAX, RESULTS_PER_COMMAND_MAX,
};
use escapement_domain::task::sealed::Sealed;

use crate::ports::AttemptEnd;

/// Bytes of results in one report: room is left for its header.
const REPORT_BYTES_MAX: usize = COMMAND_BYTES_MAX - 16 * 1024;
/// What a result takes beside its texts, at most.
const RESULT_BYTES: usize = 128;

const _: () = assert!(
    RESULTS_PER_COMMAND_MAX * RESULT_BYTES <= REPORT_BYTES_MAX,
    "a full report of short results fits"
);
const _: () = assert!(
    RESULT_BYTES_MAX + ERROR_BYTES_MAX + FAILED_ITEMS_BYTES_MAX + RESULT_BYTES <= REPORT_BYTES_MAX,
    "the longest result fits"
);

/// What is to be reported.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    ended: VecDeque<AttemptResult>,
    in_flight: Option<Report>,
    sequence: u64,
}

impl Outbox {
    /// Adds an end.
    pub(super) fn push(&mut self, result: AttemptResult) {
        self.ended.push_back(result);
    }

    /// Ends that were not answered for.
    pub(super) fn len(&self) -> usize {
        self.ended.len() + self.in_flight.as_ref().map_or(0, |report| report.results.len())
    }

    /// The report to send: the one that was not answered, or else the next.
    pub(super) fn next(&mut self, node: NodeId, incarnation: Incarnation) -> Option<Report> {
        if self.in_flight.is_none() && !self.ended.is_empty() {
            let mut results = Vec::with_capacity(self.ended.len().min(RESULTS_PER_COMMAND_MAX));
            let mut filled = 0;
            while results.len() < RESULTS_PER_COMMAND_MAX
                && let Some(result) = self.ended.pop_front()
            {
                filled += bytes_of(&result);
                if filled > REPORT_BYTES_MAX {
                    self.ended.push_front(result);
                    break;
                }
                results.push(result);
            }
            self.sequence += 1;
            self.in_flight = Some(Report { node, incarnation, sequence: self.sequence, results });
        }
        self.in_flight.clone()
    }

    /// The report on its way was answered.
    pub(super) fn answered(&mut self) {
        self.in_flight = None;
    }
}

fn bytes_of(result: &AttemptResult) -> usize {
    let length = |sealed: &Option<Sealed>| {
        sealed.as_ref().and_then(|sealed| sealed.open().ok()).map_or(0, <[u8]>::len)
    };
    let texts = match &result.outcome {
        AttemptOutcome::Succeeded(value) => length(value),
        AttemptOutcome::Failed(failure) => {
            failure.error.len() + length(&failure.result) + length(&failure.failed_items)
        }
        AttemptOutcome::TimedOut
        | AttemptOutcome::Cancelled
        | AttemptOutcome::HandedBack
        | AttemptOutcome::NotStarted => 0,
    };
    texts + RESULT_BYTES
}

/// Makes an outcome of an end, within the limits. A result that is too long fails no attempt: it is cut.
pub(super) fn outcome_of(end: AttemptEnd) -> AttemptOutcome {
    match end {
        AttemptEnd::Succeeded { result } => AttemptOutcome::Succeeded(bounded(result)),
        AttemptEnd::Failed(failure) => AttemptOutcome::Failed(Failure {
            error: cut(&failure.error, ERROR_BYTES_MAX).into(),
            result: bounded(failure.result),
            class: failure.class,
            retry_after: failure.retry_after,
            // A part of the list would let the next attempt leave out what failed.
            failed_items: failure
                .failed_items
                .filter(|items| items.len() <= FAILED_ITEMS_BYTES_MAX)
                .map(|items| Sealed::in_clear(items.into_bytes())),
        }),
        AttemptEnd::TimedOut => AttemptOutcome::TimedOut,
        AttemptEnd::Cancelled => AttemptOutcome::Cancelled,
        AttemptEnd::NotStarted => AttemptOutcome::NotStarted,
    }
}

fn bounded(result: Option<String>) -> Option<Sealed> {
    let text = result?;
    let text = if text.len() <= RESULT_BYTES_MAX { text } else { shortened(&text) };
    Some(Sealed::in_clear(text.into_bytes()))
}

/// The beginning of a result that is too long, as a JSON string, since the beginning of a JSON text is none.
fn shortened(text: &str) -> String {
    let mut string = String::with_capacity(RESULT_BYTES_MAX);
    string.push('"');
    for character in text.chars() {
        let room = RESULT_BYTES_MAX - 1 - string.len();
        let escaped = match character {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            control if control.is_control() => format!("\\u{:04x}", u32::from(control)),
            other => other.to_string(),
        };
        if escaped.len() > room {
            break;
        }
        string.push_str(&escaped);
    }
    string.push('"');
    string
}

/// The beginning of a text, cut between two characters.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }

    #[test]
    fn a_result_that_is_too_long_becomes_a_string_of_its_beginning() {
        let long = format!("[\"{}\"]", "é".repeat(RESULT_BYTES_MAX));
        let AttemptOutcome::Succeeded(Some(kept)) = outcome_of(AttemptEnd::Succeeded { result: Some(long) })
        else {
            panic!("it succeeded with a result");
        };
        let kept = std::str::from_utf8(kept.open().expect("in clear")).expect("UTF-8").to_owned();
        assert!(
            kept.len() <= RESULT_BYTES_MAX && kept.starts_with("\"[\\\"é") && kept.ends_with("é\""),
            "{}",
            kept.len()
        );
    }
}
