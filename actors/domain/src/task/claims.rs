//! What a definition asks of others while it runs: shares of pools, a place under limits, a target that answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::definition::{CircuitBreaker, Definition};

/// What an execution takes up, and what can hold it up.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claims {
    /// Shares of named pools, by name.
    pub resources: BTreeMap<Arc<str>, u32>,
    /// Its labels, each as `name=value`: there may be limits on them.
    pub labels: Vec<Arc<str>>,
    /// How many executions of the task may run at once.
    pub max_concurrent: Option<u32>,
    /// The target that it stops calling, and when.
    pub guard: Option<Guard>,
}

/// A target behind a circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Guard {
    /// The target: `http:host`, `process:program`, `queue:name` or `builtin`.
    pub target: Arc<str>,
    /// When to stop calling it.
    pub breaker: CircuitBreaker,
}

impl Claims {
    /// Returns the claims of a definition; `None` if it makes none.
    #[must_use]
    pub fn of(definition: &Definition) -> Option<Self> {
        let claims = Self {
            resources: definition
                .resources
                .iter()
                .map(|(name, share)| (name.as_str().into(), *share))
                .collect(),
            labels: definition.labels.iter().map(|(name, value)| label(name, value)).collect(),
            max_concurrent: definition.max_concurrent,
            guard: definition
                .circuit_breaker
                .map(|breaker| Guard { target: target(&definition.action), breaker }),
        };
        (claims != Self::default()).then_some(claims)
    }
}

/// A label as limits name it.
#[must_use]
pub fn label(name: &str, value: &str) -> Arc<str> {
    format!("{name}={value}").into()
}

/// What an action calls, as breakers name it: tasks with the same target share its breaker.
#[must_use]
pub fn target(action: &Action) -> Arc<str> {
    match action {
        Action::Http(call) => format!("http:{}", host(&call.url)).into(),
        Action::Process(process) => format!("process:{}", process.program).into(),
        Action::Queue { queue, .. } => format!("queue:{queue}").into(),
        Action::Builtin { .. } => "builtin".into(),
    }
}

/// The host of a URL as breakers name it: with its port, unless that is the one which the scheme stands for, since both are
/// the same target.
#[must_use]
pub fn host(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let usual = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.to_ascii_lowercase();
    let Some((name, port)) = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
        return host;
    };
    match port.parse::<u16>() {
        Ok(port) if port != usual => format!("{name}:{port}"),
        // A colon without a number behind it means the scheme's own port, too.
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_without_what_surrounds_it() {
        for (url, expected) in [
            ("https://Runner.example/suites/7", "runner.example"),
            ("http://ann:secret@127.0.0.1:8080?x", "127.0.0.1:8080"),
            ("http://[::1]:9/#top", "[::1]:9"),
            ("http://[::1]/", "[::1]"),
            ("HTTP://runner.example:80/x", "runner.example"),
            ("http://runner.example:", "runner.example"),
            ("https://runner.example:0443", "runner.example"),
            ("https://runner.example:80", "runner.example:80"),
        ] {
            assert_eq!(host(url), expected);
        }
    }
}
