//! The id that ties a request to everything that it led to, on every node and in every target.
//!
//! A correlation id is text of a harmless alphabet and bounded length: it goes into log lines, headers and records as it
//! is. Absent on purpose: where random bits come from.

use std::fmt;

use escapement_actors::ports::Entropy;
use escapement_domain::identifier::ExecutionId;
use sha2::{Digest as _, Sha256};

/// Bytes of the longest id that is taken over from a client.
const CORRELATION_BYTES_MAX: usize = 128;

/// Ties a request to everything that it led to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CorrelationId(String);

impl CorrelationId {
    /// Takes over an id that a client chose: up to 128 letters, digits, `-`, `_`, `.` and `:`. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let taken = (1..=CORRELATION_BYTES_MAX).contains(&text.len()) && text.bytes().all(harmless);
        taken.then(|| Self(text.to_owned()))
    }

    /// Takes the trace id out of a W3C `traceparent` header. `None` if it is not one.
    #[must_use]
    pub fn from_traceparent(header: &str) -> Option<Self> {
        let mut fields = header.trim().split('-');
        let (version, trace, parent, flags) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let rest = fields.next();
        let shaped =
            is_hex(version, 2) && version != "ff" && is_hex(flags, 2) && (version != "00" || rest.is_none());
        let named = is_hex(parent, 16) && !is_zero(parent) && is_hex(trace, 32) && !is_zero(trace);
        (shaped && named).then(|| Self(trace.to_owned()))
    }

    /// Makes a fresh id of 128 random bits.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(format!("{:032x}", entropy.bits().max(1)))
    }

    /// Returns the id of a request: its `traceparent`'s trace id, else its `X-Correlation-Id`, else a fresh one.
    ///
    /// A header that is not well formed counts as absent: a client's typing error must not cost it its answer.
    #[must_use]
    pub fn of_request(
        traceparent: Option<&str>,
        correlation_id: Option<&str>,
        entropy: &dyn Entropy,
    ) -> Self {
        traceparent
            .and_then(Self::from_traceparent)
            .or_else(|| correlation_id.and_then(Self::parse))
            .unwrap_or_else(|| Self::generate(entropy))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<CorrelationId> for String {
    fn from(id: CorrelationId) -> Self {
        id.0
    }
}

/// Returns the W3C `traceparent` under which an attempt calls its target.
///
/// Nothing is random: the trace id is the correlation id if that is one (32 lower-case hexadecimal digits), else a hash of
/// it; the span id is a hash of execution and attempt. The same attempt always says the same.
#[must_use]
pub fn traceparent(correlation: &str, execution: ExecutionId, attempt: u32) -> String {
    let trace = if is_hex(correlation, 32) && !is_zero(correlation) {
        correlation.to_owned()
    } else {
        hex_of_hash(&[b"trace", correlation.as_bytes()], 16)
    };
    let span = hex_of_hash(&[b"span", &execution.0.to_be_bytes(), &attempt.to_be_bytes()], 8);
    format!("00-{trace}-{span}-01")
}

fn hex_of_hash(parts: &[&[u8]], bytes: usize) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    struct Fixed(u128);

    impl Entropy for Fixed {
        fn bits(&self) -> u128 {
            self.0
        }
    }

    /// Which id a request with these headers gets.
    #[track_caller]
    fn check(traceparent: Option<&str>, correlation_id: Option<&str>, expected: &str) {
        let id = CorrelationId::of_request(traceparent, correlation_id, &Fixed(0xabc));
        assert_eq!(id.as_str(), expected);
    }

    #[test]
    fn a_trace_wins_over_a_correlation_id_and_that_over_a_fresh_one() {
        let fresh = "00000000000000000000000000000abc";
        let header = format!("00-{TRACE}-00f067aa0ba902b7-01");
        check(Some(&header), Some("mine"), TRACE);
        check(None, Some("mine-7.a:b_c"), "mine-7.a:b_c");
        check(None, None, fresh);
        check(Some("nonsense"), Some("mine"), "mine");
        check(Some("nonsense"), Some("two\nlines"), fresh);
        check(None, Some(&"x".repeat(129)), fresh);
        check(None, Some(""), fresh);
    }

    #[test]
    fn a_traceparent_must_be_well_formed() {
        for header in [
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("00-{TRACE}-00f067aa0ba902b7"),
        ] {
            assert_eq!(CorrelationId::from_traceparent(&header), None, "{header}");
        }
        let later_version = format!("01-{TRACE}-00f067aa0ba902b7-01-more");
        assert!(CorrelationId::from_traceparent(&later_version).is_some());
    }

    #[test]
    fn the_traceparent_of_an_attempt_is_always_the_same_and_its_own() {
        let first = traceparent(TRACE, ExecutionId(7), 1);
        assert_eq!(first, traceparent(TRACE, ExecutionId(7), 1));
        assert!(first.starts_with(&format!("00-{TRACE}-")) && first.ends_with("-01"), "{first}");
        assert_ne!(first, traceparent(TRACE, ExecutionId(7), 2));
        assert_ne!(first, traceparent(TRACE, ExecutionId(8), 1));
        let of_text = traceparent("mine", ExecutionId(7), 1);
        assert!(CorrelationId::from_traceparent(&of_text).is_some(), "{of_text}");
        assert_ne!(of_text, traceparent("yours", ExecutionId(7), 1));
    }
}
