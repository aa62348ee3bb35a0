//! When a peer that says nothing is taken to be gone, for HTTP clients.
//!
//! A call may wait for minutes, and a single packet that is lost on the way must not end it. With `TCP_USER_TIMEOUT`, Linux gives a
//! connection up at the first look after that time in which a probe is without an answer (tcp(7)): it has to leave room for
//! several probes.

use std::time::Duration;

use reqwest::ClientBuilder;

/// How long nothing is heard of a peer until it is asked whether it is there.
const PROBED_AFTER: Duration = Duration::from_secs(15);
/// How often it is asked again.
const PROBED_EVERY: Duration = Duration::from_secs(10);
/// How long it may be silent, which is for several questions, or take nothing in.
const GONE_AFTER: Duration = Duration::from_secs(60);

/// Has a client give up a peer that is gone, and none for one packet that was lost.
pub(crate) fn patient(builder: ClientBuilder) -> ClientBuilder {
    builder.tcp_keepalive(PROBED_AFTER).tcp_keepalive_interval(PROBED_EVERY).tcp_user_timeout(GONE_AFTER)
}
