//! How many files and connections this process may have open.
//!
//! A node has thousands of calls, programs and clients at once; the limit that shells and service managers set is often 1,024,
//! for the sake of programs that use select(2). So a node takes as many as the system lets it have, and its programs begin
//! with what the node was given.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What this process was given; none if nothing limits it, or it has taken nothing.
static GIVEN: OnceLock<Option<u64>> = OnceLock::new();

/// Takes as many as the system lets this process have (getrlimit(2)).
pub fn take_all() {
    let limit = getrlimit(Resource::Nofile);
    if *GIVEN.get_or_init(|| limit.current) == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit on open files stays as it was given; `ulimit -n` raises it");
    }
}

/// What this process was given before it took all.
pub(super) fn given() -> Option<u64> {
    GIVEN.get().copied().flatten()
}

/// Takes no more than this from now on, here and in whatever is started from here, which may raise it again.
pub(super) fn begin_with(given: u64) -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.maximum.map_or(given, |maximum| given.min(maximum)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}
