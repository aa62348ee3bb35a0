//! Lengths of time as clients write them: `90s`, `1h30m`, `250ms`.
//!
//! humantime reads the numbers; years and months, whose lengths differ and whose `M` is one key beside a minute's `m`,
//! are not among the units, nor is anything below a millisecond.

use escapement_domain::timestamp::Span;

const UNITS: &[&str] = &[
    "ms", "msec", "millis", "s", "sec", "secs", "second", "seconds", "m", "min", "mins", "minute", "minutes",
    "h", "hr", "hrs", "hour", "hours", "d", "day", "days", "w", "week", "weeks",
];
/// Bytes of the longest text that is looked at.
const TEXT_BYTES_MAX: usize = 64;

/// Reads a length of time.
///
/// # Errors
/// A sentence that says what is allowed.
pub(crate) fn parse(text: &str) -> Result<Span, String> {
    let refused = || {
        let shown = super::nearest::shown(text);
        format!(
            "`{shown}` is not a duration; write whole numbers with the units ms, s, m, h, d or w, such as `90s` or `1h30m`"
        )
    };
    let text_is_sane = (1..=TEXT_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ')
        && text
            .split(|letter: char| !letter.is_ascii_alphabetic())
            .filter(|unit| !unit.is_empty())
            .all(|unit| UNITS.contains(&unit));
    if !text_is_sane {
        return Err(refused());
    }
    let duration = humantime::parse_duration(text).map_err(|_| refused())?;
    u64::try_from(duration.as_millis()).map(Span).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, millis) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
            ("2d", 172_800_000),
        ] {
            assert_eq!(parse(text), Ok(Span(millis)), "{text}");
        }
    }

    #[test]
    fn what_a_span_writes_is_read_back() {
        for millis in [1, 999, 61_001, 5_400_000, 86_400_000 * 3 + 1] {
            assert_eq!(parse(&Span(millis).to_string()), Ok(Span(millis)));
        }
    }

    #[test]
    fn what_is_ambiguous_or_no_duration_is_refused() {
        let long = "9".repeat(40) + "d";
        for text in [
            "",
            "90",
            "s",
            "-1s",
            "1.5h",
            "1M",
            "1y",
            "1month",
            "5us",
            "1e3s",
            "PT1H",
            "99999999999999999999d",
            &long,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
