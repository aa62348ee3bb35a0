//! What a node counts and measures, in the form that Prometheus reads.
//!
//! Names carry their unit (`_seconds`); counters get `_total` from the encoder. Labels have few values, all known
//! beforehand: never an id, a name or a path that a client chose. Cloning a [`Metrics`] is cheap, and every clone counts
//! into the same numbers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The content type of [`Metrics::encode`].
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did what it was asked.
    Succeeded,
    /// It failed for good.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// It took too long, for good.
    TimedOut,
    /// Its worker was lost and it may not be made again.
    Lost,
    /// It did not start, with a reason.
    Skipped,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let name = match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

/// The first digit of an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusClass(u8);

impl StatusClass {
    /// Returns the class of a status such as 404.
    #[must_use]
    pub fn of(status: u16) -> Self {
        Self(u8::try_from(status / 100).unwrap_or(0).min(5))
    }
}

impl EncodeLabelValue for StatusClass {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let name = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"][usize::from(self.0)];
        EncodeLabelValue::encode(&name, encoder)
    }
}

/// The labels of the executions' counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// How it ended.
    pub outcome: Outcome,
}

/// The labels of the breakers' gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabels {
    /// Whether their targets are called.
    state: &'static str,
}

/// The labels of the HTTP requests' counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HttpLabels {
    /// The method, as the router knows it.
    pub method: &'static str,
    /// The route's pattern, such as `/api/scheduled-tasks/{id}`; never the path itself.
    pub route: &'static str,
    /// The class of the answer's status.
    pub status: StatusClass,
}

/// The labels of the HTTP latency histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

/// What a node counts and measures.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Occurrences that became executions, counted by the node that led.
    pub fires: Counter,
    /// From an occurrence's instant to its committed fire, in seconds.
    pub lateness: Histogram,
    /// Executions that wait for a slot.
    pub queue_depth: Gauge,
    breakers: Family<BreakerLabels, Gauge>,
    /// Attempts that run on this node.
    pub attempts_running: Gauge,
    /// Timers on this node's wheel; zero unless it leads.
    pub wheel_timers: Gauge,
    /// From a proposal to its being applied, in seconds.
    pub commit_latency: Histogram,
    /// How often this node saw the leader change.
    pub leader_changes: Counter,
    /// The current term.
    pub term: Gauge<u64, AtomicU64>,
    /// 1 if this node leads, else 0.
    pub is_leader: Gauge,
    /// The last index that is in this node's log.
    pub log_last_index: Gauge<u64, AtomicU64>,
    /// The last index that this node applied.
    pub applied_index: Gauge<u64, AtomicU64>,
    /// How many applied entries the read models have yet to take in.
    pub read_model_lag: Gauge<u64, AtomicU64>,
    executions: Family<OutcomeLabels, Counter>,
    http_requests: Family<HttpLabels, Counter>,
    http_latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics")
    }
}

/// From 0.1 ms to 26 s.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 19))
}

/// From 1 ms to 35 minutes.
fn lateness_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 22))
}

impl Metrics {
    /// Makes a set of metrics for the node `node`.
    #[must_use]
    pub fn new(node: u64) -> Self {
        let mut registry = Registry::with_prefix("escapement");
        let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("node", node.to_string())];
        registry.register("build", "The program and its node", Info::new(build));
        let mut metrics = Self {
            registry: Arc::default(),
            fires: Counter::default(),
            lateness: lateness_histogram(),
            queue_depth: Gauge::default(),
            breakers: Family::default(),
            attempts_running: Gauge::default(),
            wheel_timers: Gauge::default(),
            commit_latency: latency_histogram(),
            leader_changes: Counter::default(),
            term: Gauge::default(),
            is_leader: Gauge::default(),
            log_last_index: Gauge::default(),
            applied_index: Gauge::default(),
            read_model_lag: Gauge::default(),
            executions: Family::default(),
            http_requests: Family::default(),
            http_latency: Family::new_with_constructor(latency_histogram),
        };
        metrics.register(&mut registry);
        metrics.registry = Arc::new(registry);
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("fires", "Occurrences fired", self.fires.clone());
        let lateness = self.lateness.clone();
        registry.register("lateness_seconds", "From an occurrence's instant to its committed fire", lateness);
        registry.register("queue_depth", "Executions that wait for a slot", self.queue_depth.clone());
        registry.register("breakers", "Circuit breakers by state", self.breakers.clone());
        registry.register("executions", "Executions that ended, by outcome", self.executions.clone());
        registry.register(
            "attempts_running",
            "Attempts that run on this node",
            self.attempts_running.clone(),
        );
        registry.register("wheel_timers", "Timers on the leader's wheel", self.wheel_timers.clone());
        let latency = self.commit_latency.clone();
        registry.register("commit_latency_seconds", "From a proposal to its being applied", latency);
        registry.register("leader_changes", "Changes of the leader", self.leader_changes.clone());
        registry.register("raft_term", "The current term", self.term.clone());
        registry.register("raft_is_leader", "Whether this node leads", self.is_leader.clone());
        registry.register("raft_log_last_index", "The last index in the log", self.log_last_index.clone());
        registry.register("raft_applied_index", "The last index applied", self.applied_index.clone());
        let lag = self.read_model_lag.clone();
        registry.register("read_model_lag_entries", "Applied entries that the read models lack", lag);
        registry.register("http_requests", "HTTP requests by route and status", self.http_requests.clone());
        registry.register("http_request_seconds", "How long HTTP requests took", self.http_latency.clone());
    }

    /// Sets how many breakers of all tenants stand how.
    pub fn breakers_are(&self, states: impl Iterator<Item = &'static str>) {
        let mut counts = [("closed", 0), ("open", 0), ("half_open", 0)];
        for state in states {
            counts.iter_mut().filter(|(name, _)| *name == state).for_each(|(_, count)| *count += 1);
        }
        for (state, count) in counts {
            self.breakers.get_or_create(&BreakerLabels { state }).set(count);
        }
    }

    /// Counts an execution that ended.
    pub fn execution_ended(&self, outcome: Outcome) {
        self.executions.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a committed fire so long after its instant.
    pub fn late(&self, lateness: Duration) {
        self.lateness.observe(lateness.as_secs_f64());
    }

    /// Counts a command that was applied so long after it was proposed.
    pub fn committed(&self, latency: Duration) {
        self.commit_latency.observe(latency.as_secs_f64());
    }

    /// Counts an HTTP request that was answered after so long.
    pub fn http_answered(&self, labels: HttpLabels, latency: Duration) {
        self.http_requests.get_or_create(&labels).inc();
        self.http_latency.get_or_create(&RouteLabels { route: labels.route }).observe(latency.as_secs_f64());
    }

    /// Returns the content type of what [`Metrics::encode`] returns.
    #[must_use]
    pub fn content_type() -> &'static str {
        CONTENT_TYPE
    }

    /// Returns everything as text, for `GET /metrics`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing into a `String` does not fail, and every label of ours encodes.
            tracing::error!("the metrics could not be encoded");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(metrics: &Metrics, line: &str) {
        let text = metrics.encode();
        assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
    }

    #[test]
    fn a_clone_counts_into_the_same_numbers() {
        let metrics = Metrics::new(2);
        let clone = metrics.clone();
        clone.fires.inc();
        clone.late(Duration::from_millis(3));
        clone.execution_ended(Outcome::TimedOut);
        clone.is_leader.set(1);
        clone.applied_index.set(42);
        check(&metrics, "escapement_fires_total 1");
        check(&metrics, "escapement_lateness_seconds_bucket{le=\"0.002\"} 0");
        check(&metrics, "escapement_lateness_seconds_bucket{le=\"0.004\"} 1");
        check(&metrics, "escapement_executions_total{outcome=\"timed_out\"} 1");
        check(&metrics, "escapement_raft_is_leader 1");
        check(&metrics, "escapement_raft_applied_index 42");
        let build =
            format!("escapement_build_info{{version=\"{}\",node=\"2\"}} 1", env!("CARGO_PKG_VERSION"));
        check(&metrics, &build);
        check(&metrics, "# EOF");
    }

    #[test]
    fn requests_are_counted_by_route_and_class() {
        let metrics = Metrics::new(1);
        let labels =
            HttpLabels { method: "GET", route: "/api/scheduled-tasks/{id}", status: StatusClass::of(404) };
        metrics.http_answered(labels, Duration::from_millis(1));
        check(
            &metrics,
            "escapement_http_requests_total{method=\"GET\",route=\"/api/scheduled-tasks/{id}\",status=\"4xx\"} 1",
        );
        check(&metrics, "escapement_http_request_seconds_count{route=\"/api/scheduled-tasks/{id}\"} 1");
    }
}
