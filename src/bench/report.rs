//! What a bench prints: one JSON object, the same members for every bench; what it does not measure is null.

use serde::Serialize;

use super::limit::Limit;
use super::statistics::rounded;

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) bench: String,
    pub(super) nodes: u64,
    pub(super) tasks: Option<u64>,
    pub(super) clients: Option<u64>,
    pub(super) rate: Option<u64>,
    /// How long the measured part took.
    pub(super) seconds: f64,
    pub(super) per_second: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) lost: Option<u64>,
    pub(super) doubled: Option<u64>,
    pub(super) early: Option<u64>,
    /// Requests that a node was too busy for.
    pub(super) refused: Option<u64>,
    /// Tasks a second, created in bulk before the measured part.
    pub(super) bulk_per_second: Option<f64>,
    /// Executions brought to their end a second, from the instant to the last end.
    pub(super) completed_per_second: Option<f64>,
    pub(super) bytes_per_task: Option<f64>,
    /// From the start of the processes until every node is ready.
    pub(super) ready_ms: Option<f64>,
    /// From the start of the processes until a linearizable read is answered.
    pub(super) first_answer_ms: Option<f64>,
    /// Attempts that ran at once, at most.
    pub(super) at_once: Option<u64>,
    /// Processes that were still there when all had ended.
    pub(super) left_over: Option<u64>,
    pub(super) bytes_per_client: Option<f64>,
    /// Processor time of all nodes, in percent of one core.
    pub(super) cpu_percent: Option<f64>,
    /// Resident memory of all nodes: at the end, or while everything ran or waited at once.
    pub(super) memory_mib: Option<f64>,
    pub(super) limit: Option<Limit>,
    /// `per_second` divided by the syncs a second that the disk allows one after the other.
    pub(super) ratio: Option<f64>,
}

impl Report {
    /// Fills in what follows from the rest, and rounds.
    pub(super) fn settle(&mut self) {
        self.ratio = match (&self.limit, self.per_second) {
            (Some(limit), Some(per_second)) if limit.fsync_p50_ms > 0.0 => {
                Some(per_second * limit.fsync_p50_ms / 1_000.0)
            }
            _ => None,
        };
        let figures = [
            &mut self.per_second,
            &mut self.p50_ms,
            &mut self.p99_ms,
            &mut self.bulk_per_second,
            &mut self.completed_per_second,
            &mut self.bytes_per_task,
            &mut self.bytes_per_client,
            &mut self.cpu_percent,
            &mut self.ready_ms,
            &mut self.first_answer_ms,
            &mut self.memory_mib,
            &mut self.ratio,
        ];
        for figure in figures {
            *figure = figure.map(rounded);
        }
        self.seconds = rounded(self.seconds);
    }

    /// Says what a scheduler must not do and these nodes did.
    pub(super) fn fault(&self) -> Option<String> {
        let [lost, doubled, early] = [self.lost, self.doubled, self.early].map(Option::unwrap_or_default);
        let left_over = self.left_over.unwrap_or_default();
        let left_over_told =
            if left_over > 0 { format!(", {left_over} processes left over") } else { String::new() };
        (lost + doubled + early + left_over > 0)
            .then(|| format!("{lost} lost, {doubled} doubled, {early} early{left_over_told}"))
    }

    /// Returns the object that is printed.
    pub(super) fn to_json(&self) -> String {
        // Strings, numbers and nothing else: there is no way to fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_the_contract_is_there() {
        let limit = Limit { fsync_p50_ms: 0.5, fsync_p99_ms: 2.0, loopback_round_trip_us: 30.0 };
        let mut report = Report {
            bench: "fires".into(),
            nodes: 3,
            per_second: Some(10_000.123_4),
            limit: Some(limit),
            ..Report::default()
        };
        report.settle();
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
        for member in [
            "bench",
            "nodes",
            "tasks",
            "clients",
            "seconds",
            "per_second",
            "p50_ms",
            "p99_ms",
            "lost",
            "doubled",
            "memory_mib",
            "limit",
            "ratio",
        ] {
            assert!(json.get(member).is_some(), "{member}");
        }
        assert_eq!((json["ratio"].as_f64(), json["per_second"].as_f64()), (Some(5.0), Some(10_000.123)));
        assert_eq!(json["limit"]["fsync_p99_ms"].as_f64(), Some(2.0));
    }

    #[test]
    fn a_lost_a_doubled_or_an_early_fire_is_a_fault() {
        assert_eq!(Report { lost: Some(0), doubled: Some(0), ..Report::default() }.fault(), None);
        let report = Report { lost: Some(1), doubled: Some(2), ..Report::default() };
        assert_eq!(report.fault().as_deref(), Some("1 lost, 2 doubled, 0 early"));
        let report = Report { lost: Some(0), left_over: Some(3), ..Report::default() };
        assert_eq!(report.fault().as_deref(), Some("0 lost, 0 doubled, 0 early, 3 processes left over"));
    }
}
