//! The case for the checker: what was seen from outside, and the event logs of the stopped nodes.
//!
//! The verdict is the simulator's own ([`escapement_simulation::invariants`]); added to it is only what the simulator cannot
//! see: that the nodes' files verify and replay to one state, and that the target saw tokens grow. A stamp in the
//! log is not believed where the target saw better: nothing was committed later than it was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use escapement::audit::{Archive, ReplayOptions, ReplayUntil, replay};
use escapement_actors::projection::merged;
use escapement_domain::event::Event;
use escapement_domain::execution::state::Holder;
use escapement_domain::identifier::{ExecutionId, NodeId, TaskId};
use escapement_domain::record::Record;
use escapement_domain::replica::Replica;
use escapement_domain::task::trigger::Trigger;
use escapement_domain::timestamp::Timestamp;
use escapement_simulation::evidence::{Attempt, Counts, Done, Ended, Evidence, Knowledge, Operation};
use escapement_simulation::invariants;
use escapement_simulation::profile::{Profile, Settings};

use crate::harness::notice::notice;
use crate::harness::program::escapement;
use crate::harness::target::Call;
use crate::harness::wait::{millis, now_ms};

/// Violations of each kind that a failing test shows.
const VIOLATIONS_SHOWN: usize = 5;

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The beginning, in ms since 1970: the zero of the world.
    pub(crate) epoch: i64,
    /// When the tasks began to be paused, in ms since 1970.
    pub(crate) quiesced: i64,
    /// Everything had ended, in ms since 1970.
    pub(crate) drained: i64,
    /// The directories of the nodes that hold all of it.
    pub(crate) data: Vec<PathBuf>,
    /// What clients did, by the clock of the world.
    pub(crate) operations: Vec<Operation>,
    /// What the target saw.
    pub(crate) calls: Vec<Call>,
    /// Spans in which something was broken, in ms since 1970.
    pub(crate) disturbances: Vec<(i64, i64)>,
    /// Spans in which no majority of the nodes was well and connected, in ms since 1970.
    pub(crate) without_quorum: Vec<(i64, i64)>,
    /// Spans in which a node was frozen, or its process was no more, in ms since 1970.
    pub(crate) frozen: Vec<(u64, i64, i64)>,
}

/// What the checker said.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Tasks whose occurrences were judged.
    pub(crate) tasks: usize,
    /// Fires that were judged.
    pub(crate) fires: usize,
    /// Attempts that were made again.
    pub(crate) again: usize,
    /// Workers that were given up because their leases ran out.
    pub(crate) leases_lost: usize,
    /// Everything that must not be.
    pub(crate) violations: Vec<String>,
}

impl Verdict {
    /// Writes its line of the table, and demands that nothing is wrong and enough was seen.
    #[track_caller]
    pub(crate) fn tell(&self, fault: &str, began: Instant, tasks_min: usize) {
        let Self { tasks, fires, again, leases_lost, violations } = self;
        let (count, seconds) = (violations.len(), began.elapsed().as_secs());
        notice(&format!(
            "| {fault} | {tasks} tasks | {fires} fires | {again} made again | {leases_lost} leases lost | \
             {count} violations | {seconds} s |"
        ));
        let mut shown = String::new();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for violation in violations {
            let seen = kinds.entry(violation.split(':').next().unwrap_or_default()).or_default();
            *seen += 1;
            if *seen <= VIOLATIONS_SHOWN {
                shown += &format!("{violation}\n");
            }
        }
        assert!(violations.is_empty(), "{fault}: {kinds:?}\n{shown}");
        assert!(*tasks >= tasks_min, "too little happened: {tasks} tasks");
        assert!(*fires > 0, "nothing fired");
    }
}

impl Case {
    /// Judges it.
    #[track_caller]
    pub(crate) fn judge(self) -> Verdict {
        let mut logs: Vec<Vec<Record>> = self.data.iter().map(|data| records(data)).collect();
        let until = common_end(&logs);
        assert!(until.0 >= self.drained, "the nodes have nothing in common: {until}");
        let mut violations = self.same_state(until);
        violations.extend(self.tokens_grow());
        violations.extend(self.due_once(&logs[0]));
        let mut records = logs.swap_remove(0);
        records.retain(|record| record.header.at <= until);
        let last = folded(self.data.last().expect("a node"), until);
        let count =
            |matches: &dyn Fn(&Event) -> bool| records.iter().filter(|record| matches(&record.event)).count();
        let tasks = count(&|event| matches!(event, Event::TaskCreated { .. }));
        let fires = count(&|event| matches!(event, Event::TaskScheduled { .. }));
        let again = count(&|event| matches!(event, Event::TaskStarted { attempt, .. } if *attempt > 1));
        let leases_lost = count(&|event| matches!(event, Event::WorkerLost { .. }));
        let evidence = self.evidence(records, last);
        violations.extend(invariants::judge(&evidence).violations.iter().map(ToString::to_string));
        Verdict { tasks, fires, again, leases_lost, violations }
    }

    /// Every chain verifies, and every node's event log replays to the same state.
    fn same_state(&self, until: Timestamp) -> Vec<String> {
        let until = until.to_string();
        let mut found = Vec::new();
        let mut states = BTreeMap::new();
        for data in &self.data {
            let place = data.display().to_string();
            let verified = escapement(&["audit", "verify", "--data", &place]);
            if verified.code != 0 {
                found.push(format!("chain: {place}: {}{}", verified.out, verified.err));
            }
            let replayed =
                escapement(&["audit", "replay", "--data", &place, "--until", &until, "--output", "json"]);
            let hash = if replayed.code == 0 {
                replayed.json()["state_hash"].to_string()
            } else {
                format!("{}{}", replayed.out, replayed.err)
            };
            states.entry(hash).or_insert_with(Vec::new).push(place);
        }
        if states.len() != 1 {
            found.push(format!("agreement: the nodes replay to {states:?}"));
        }
        found
    }

    /// What the target saw of one execution are attempts whose tokens grow with their numbers, each of them once.
    ///
    /// Not in the order of arrival: the bytes that a process sent before it was killed arrive when they like.
    fn tokens_grow(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, Vec<(u32, u64)>> = BTreeMap::new();
        for call in &self.calls {
            seen.entry(call.key()).or_default().push((call.attempt(), call.fencing()));
        }
        seen.values_mut().for_each(|attempts| attempts.sort_unstable());
        let grows = |attempts: &[(u32, u64)]| {
            attempts.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
        };
        seen.into_iter()
            .filter(|(_, attempts)| !grows(attempts))
            .map(|(key, attempts)| format!("witness: execution {key} came as {attempts:?}"))
            .collect()
    }

    /// Every acknowledged task that was due once has fired once, and its target was called.
    fn due_once(&self, records: &[Record]) -> Vec<String> {
        let called: BTreeSet<&str> =
            self.calls.iter().map(|call| call.header("Escapement-Task-Id")).collect();
        let (mut due, mut fires) = (BTreeSet::new(), BTreeMap::<TaskId, usize>::new());
        for record in records {
            match &record.event {
                Event::TaskCreated { task, definition, .. } => {
                    let definition = definition.open_definition().expect("not sealed");
                    due.extend(matches!(definition.trigger, Trigger::Once { .. }).then_some(*task));
                }
                Event::TaskScheduled { task, .. } => *fires.entry(*task).or_default() += 1,
                _ => {}
            }
        }
        let acknowledged = self.operations.iter().filter_map(|operation| match &operation.knowledge {
            Knowledge::Done(Done::Tasks(tasks)) => Some(tasks),
            _ => None,
        });
        acknowledged
            .flatten()
            .filter(|task| due.contains(task))
            .map(|task| (task, fires.get(task).copied().unwrap_or(0), called.contains(&*task.to_string())))
            .filter(|(_, fires, called)| *fires != 1 || !called)
            .map(|(task, fires, called)| {
                format!("once: task {task} fired {fires} times, and was called: {called}")
            })
            .collect()
    }

    fn world(&self, ms: i64) -> u64 {
        u64::try_from(ms - self.epoch).unwrap_or(0)
    }

    fn evidence(&self, records: Vec<Record>, last: Replica) -> Evidence {
        let attempts = self.attempts(&records);
        let committed = self.committed(&records, &attempts);
        let span = |(from, to): &(i64, i64)| (self.world(*from), self.world(*to));
        let frozen = |(node, from, to): &(u64, i64, i64)| (NodeId(*node), self.world(*from), self.world(*to));
        Evidence {
            // How much must have been seen, each test says itself.
            settings: Settings { active_ms: 0, ..Profile::Storm.settings() },
            epoch: self.epoch,
            healed: self.world(self.quiesced),
            quiesced: self.world(self.quiesced),
            operations: self.operations(&records, &attempts, &committed),
            committed,
            records,
            last,
            attempts,
            disturbances: self.disturbances.iter().map(span).collect(),
            without_quorum: self.without_quorum.iter().map(span).collect(),
            frozen: self.frozen.iter().map(frozen).collect(),
            seen: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// When each entry was committed, at the earliest: when a leader stamped it, and not later than what followed was seen.
    fn committed(&self, records: &[Record], attempts: &[Attempt]) -> BTreeMap<u64, u64> {
        let seen: BTreeMap<_, _> =
            attempts.iter().map(|attempt| ((attempt.execution, attempt.token), attempt.started)).collect();
        let mut committed = BTreeMap::new();
        // Stamps may have been made in another order than that of the log.
        let mut latest = 0;
        for Record { header, .. } in records {
            latest = latest.max(self.world(header.at.0));
            committed.insert(header.log_index, latest);
        }
        let mut bound = u64::MAX;
        for Record { header, event, .. } in records.iter().rev() {
            if let Event::TaskStarted { execution, .. } = event
                && let Some(started) = seen.get(&(*execution, header.sequence))
            {
                bound = bound.min(*started);
            }
            committed.entry(header.log_index).and_modify(|at| *at = bound.min(*at));
        }
        committed
    }

    /// What the target saw; whose it was, only the log can tell.
    fn attempts(&self, records: &[Record]) -> Vec<Attempt> {
        let grants: BTreeMap<(ExecutionId, u64), NodeId> = records
            .iter()
            .filter_map(|record| match record.event {
                Event::TaskStarted { execution, holder: Holder::Node { node, .. }, .. } => {
                    Some(((execution, record.header.sequence), node))
                }
                _ => None,
            })
            .collect();
        let attempt = |call: &Call| {
            let execution: ExecutionId = call.key().parse().expect("an identifier");
            let node = grants.get(&(execution, call.fencing())).copied().unwrap_or(NodeId(0));
            let scheduled = serde_json::Value::from(call.header("Escapement-Scheduled-At"));
            // It took at least so long; when the answer had gone out, the log may have it already.
            let takes: i64 = call.path.rsplit('/').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
            Attempt {
                task: call.header("Escapement-Task-Id").parse().expect("an identifier"),
                execution,
                scheduled_at: Timestamp(millis(&scheduled)),
                number: call.attempt(),
                token: call.fencing(),
                node,
                started: self.world(call.at_ms),
                ended: self.world(call.at_ms + takes),
                how: if call.answered { Ended::Succeeded } else { Ended::Died },
            }
        };
        self.calls.iter().map(attempt).collect()
    }

    /// What clients did, as the checker takes it.
    ///
    /// A stamp says when a leader took an entry up, not when it was committed. So a read is held to what was known to be
    /// committed when it was asked for: what had been acknowledged until then, and what the target had seen begin.
    fn operations(
        &self,
        records: &[Record],
        attempts: &[Attempt],
        committed: &BTreeMap<u64, u64>,
    ) -> Vec<Operation> {
        let known = known(&self.operations, records, attempts);
        let mut operations = self.operations.clone();
        for operation in operations.iter_mut().filter(|operation| !operation.wish.writes()) {
            let last = known.range(..operation.issued).next_back();
            let stamped = |index: &u64| committed.get(index).copied();
            let at = last.and_then(|(_, index)| stamped(index)).unwrap_or(0);
            // Of several entries of one instant the last ones may not be known.
            let next = last.and_then(|(_, index)| committed.range(index + 1..).next());
            let is_last = next.is_none_or(|(_, next_at)| *next_at > at);
            operation.issued = operation.issued.min(at + u64::from(is_last));
        }
        operations
    }
}

/// The last entry that somebody outside knew to be committed, by the ms of the world from when on.
fn known(operations: &[Operation], records: &[Record], attempts: &[Attempt]) -> BTreeMap<u64, u64> {
    let done = operations.iter().filter(|operation| matches!(operation.knowledge, Knowledge::Done(_)));
    let answered: BTreeMap<String, u64> =
        done.map(|operation| (operation.number.to_string(), operation.answered)).collect();
    let begun: BTreeMap<_, _> =
        attempts.iter().map(|attempt| ((attempt.execution, attempt.token), attempt.started)).collect();
    let mut known = BTreeMap::new();
    for Record { header, event, .. } in records {
        let seen = match event {
            Event::TaskStarted { execution, .. } => begun.get(&(*execution, header.sequence)),
            _ if header.command.is_some() => answered.get(&*header.correlation_id),
            _ => None,
        };
        if let Some(seen) = seen {
            let index: &mut u64 = known.entry(*seen).or_default();
            *index = header.log_index.max(*index);
        }
    }
    let mut last = 0;
    for index in known.values_mut() {
        last = last.max(*index);
        *index = last;
    }
    known
}

/// The records of a stopped node.
fn records(data: &Path) -> Vec<Record> {
    let node = Archive::open(data).expect("it opens");
    let all = merged(node.log()).expect("it is read");
    all.map(|record| record.expect("it is sound")).collect()
}

/// The last instant up to which all logs tell everything: they ended one after the other.
fn common_end(logs: &[Vec<Record>]) -> Timestamp {
    let end = |log: &Vec<Record>| log.last().map_or(0, |record| record.header.log_index);
    let common = logs.iter().map(end).min().unwrap_or(0);
    let beyond = logs.iter().filter_map(|log| log.iter().find(|record| record.header.log_index > common));
    let until = beyond.map(|record| record.header.at.0 - 1).min();
    Timestamp(until.unwrap_or_else(now_ms))
}

/// The state to which a stopped node's records fold.
fn folded(data: &Path, until: Timestamp) -> Replica {
    let node = Archive::open(data).expect("it opens");
    let options = ReplayOptions { until: Some(ReplayUntil::Instant(until)), ..ReplayOptions::default() };
    replay(&node, &options, &mut Vec::new(), &mut |_, _| ()).expect("it replays").replica
}
