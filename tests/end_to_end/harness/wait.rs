//! Waiting on conditions, and the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a condition may take on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(25);

/// Waits until there is something, and returns it.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, found)
}

/// Waits until there is something, at most so long, and returns it.
#[track_caller]
pub(crate) fn within<T>(patience: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(PERIOD);
    }
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// Milliseconds since 1970 by the wall clock.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}

/// The instant so many milliseconds from now, as the API writes instants.
pub(crate) fn instant_in(ms: i64) -> String {
    escapement_domain::timestamp::Timestamp(now_ms() + ms).to_string()
}

/// An instant of an answer in milliseconds since 1970.
#[track_caller]
pub(crate) fn millis(instant: &serde_json::Value) -> i64 {
    let text = instant.as_str().unwrap_or_else(|| panic!("an instant, not {instant}"));
    escapement_domain::timestamp::Timestamp::parse(text).expect("RFC 3339").0
}
