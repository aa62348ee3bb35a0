//! An API's refusal (RFC 9457) as a person reads it: what was refused, which fields, and what to do next.
//!
//! Invariant: whatever answers, even a proxy's page, becomes a problem; nothing here fails.

use serde::Deserialize;

use super::table::visible;

/// Characters of an answer that is not a problem, such as a proxy's page, that are shown.
const FOREIGN_CHARS_MAX: usize = 200;

/// What the API answers instead of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) title: String,
    pub(crate) detail: String,
    pub(crate) code: String,
    pub(crate) correlation_id: String,
    pub(crate) errors: Vec<FieldFault>,
    /// The HTTP status of the answer that carried it.
    #[serde(skip)]
    pub(crate) answered: u16,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FieldFault {
    pub(crate) pointer: String,
    pub(crate) detail: String,
}

impl Problem {
    /// Reads what came with an HTTP status that is not a success.
    pub(crate) fn read(status: u16, body: &str) -> Self {
        let mut problem: Self = serde_json::from_str(body).unwrap_or_else(|_| Self {
            detail: visible(&body.trim().chars().take(FOREIGN_CHARS_MAX).collect::<String>()),
            ..Self::default()
        });
        problem.answered = status;
        problem
    }

    /// Returns the reason, with a line for each field, for standard error.
    pub(crate) fn reason(&self) -> String {
        let title = if self.title.is_empty() {
            format!("the node answered {}", self.answered)
        } else {
            self.title.clone()
        };
        let mut text = if self.detail.is_empty() { title } else { format!("{title}: {}", self.detail) };
        for fault in &self.errors {
            text.push_str(&format!("\n  {}: {}", fault.pointer, fault.detail));
        }
        if self.answered >= 500 && !self.correlation_id.is_empty() {
            text.push_str(&format!("\n  correlation id {}", self.correlation_id));
        }
        text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
    }

    /// Returns what to do next, if there is something.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        Some(match self.answered {
            400 | 422 if self.errors.is_empty() => "correct it and send it again",
            400 | 422 => "correct the fields named above and send it again",
            401 => {
                "pass a token with --token-file or ESCAPEMENT_TOKEN; a development node writes one to ./data/admin.token, \
                 and `escapement token mint` makes one with the cluster's key"
            }
            403 => "use a token with that role: `escapement token mint --role …`",
            404 => "see what there is with `task list`, `execution list` or `cluster status`",
            409 if self.code == "task_awaited" => {
                "delete those tasks first, or let them run after others: `task update`"
            }
            409 => "look at its present state first, with `show` or `cluster status`",
            412 => {
                "it changed in between: `show` it, take over what changed, and update with its new version"
            }
            413 => "send less at once",
            429 | 503 => "try again in a moment; `escapement cluster status` says whether there is a leader",
            500..=599 => {
                "the node's log says more under the correlation id; `escapement cluster status` shows the nodes"
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_named_with_its_pointer() {
        let body = r#"{"type":"about:blank","title":"Invalid task","status":422,"detail":"2 fields are wrong","code":"invalid",
            "correlation_id":"c","errors":[{"pointer":"/trigger/expression","detail":"minute 61"},{"pointer":"/name","detail":"empty"}]}"#;
        let problem = Problem::read(422, body);
        assert_eq!(
            problem.reason(),
            "Invalid task: 2 fields are wrong\n  /trigger/expression: minute 61\n  /name: empty"
        );
        assert_eq!(problem.advice(), Some("correct the fields named above and send it again"));
    }

    #[test]
    fn a_fault_of_the_node_comes_with_the_id_to_look_for() {
        let problem = Problem::read(500, r#"{"title":"Internal error","correlation_id":"abc"}"#);
        assert_eq!(problem.reason(), "Internal error\n  correlation id abc");
    }

    #[test]
    fn an_answer_from_something_else_is_shown_in_part() {
        let problem = Problem::read(502, &format!("<html>\u{1b}[2J{}", "x".repeat(1_000)));
        assert!(
            problem.reason().starts_with("the node answered 502: <html>\\u{1b}[2Jxxx"),
            "{}",
            problem.reason()
        );
        assert!(problem.reason().len() < 300);
        assert_eq!(Problem::read(404, "").reason(), "the node answered 404");
    }
}
