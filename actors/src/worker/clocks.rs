//! Whether the leader's clock may be trusted: held against its own monotonic clock and against its peers.
//!
//! A leader whose wall clock jumps against its monotonic clock, or stands away from the median of the cluster, by more
//! than a second must not stamp commands: [`ClockWatch::stamp`] refuses, and [`ClockWatch::trouble`] tells the node's
//! assembly to step down. A node's own clock counts as one voice of the median, so that one wild peer never
//! deposes a leader. Absent on purpose: mending clocks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use escapement_domain::identifier::NodeId;
use escapement_domain::planted::{self, Bug};
use escapement_domain::timestamp::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::intent::SubmitError;
use crate::ports::Clock;

/// How far a clock may be off, in milliseconds.
pub const TOLERANCE_MS: i64 = 1_000;
/// The longest that reading both clocks may take to count as one moment.
const READING_MAX: Duration = Duration::from_millis(100);
/// How long what a peer said of its clock counts.
const MEMORY: Duration = Duration::from_secs(10);

/// What is wrong with this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockTrouble {
    /// Wall time moved against monotonic time.
    Jumped {
        /// By so many milliseconds.
        by_ms: i64,
    },
    /// The median of the cluster's clocks is elsewhere.
    OffMedian {
        /// So many milliseconds ahead of this one.
        by_ms: i64,
    },
}

impl fmt::Display for ClockTrouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jumped { by_ms } => write!(formatter, "the wall clock jumped by {by_ms} ms"),
            Self::OffMedian { by_ms } => {
                write!(formatter, "the median of the cluster's clocks is {by_ms} ms away")
            }
        }
    }
}

/// Watches clocks; one for each node, shared by everything that stamps.
pub struct ClockWatch {
    own: NodeId,
    clock: Arc<dyn Clock>,
    heard: Mutex<Heard>,
    trouble: watch::Sender<Option<ClockTrouble>>,
}

#[derive(Default)]
struct Heard {
    /// Wall time less monotonic time at the last look.
    baseline: Option<i64>,
    /// How far each peer's wall clock is ahead of this one, and when that was heard.
    offsets: BTreeMap<NodeId, (i64, Duration)>,
}

impl fmt::Debug for ClockWatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClockWatch").field("own", &self.own).finish_non_exhaustive()
    }
}

impl ClockWatch {
    /// Watches the clock of node `own`.
    #[must_use]
    pub fn new(own: NodeId, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { own, clock, heard: Mutex::default(), trouble: watch::Sender::new(None) })
    }

    /// The instant to stamp on a command: this node's, never before what was logged.
    ///
    /// # Errors
    /// [`SubmitError::NotLeader`] while this node's clock is off: it is about to step down.
    pub fn stamp(&self, logged: Timestamp) -> Result<Timestamp, SubmitError> {
        match self.look() {
            (_, Some(_)) => Err(SubmitError::NotLeader { leader: None }),
            (now, None) => Ok(now.max(logged)),
        }
    }

    /// Notes what a worker's wall clock showed just now.
    pub fn heard(&self, node: NodeId, wall_clock: Timestamp) {
        if node == self.own {
            return;
        }
        let offset = wall_clock.0.saturating_sub(self.clock.now().0);
        self.heard.lock().offsets.insert(node, (offset, self.clock.monotonic()));
    }

    /// How far each node's wall clock was ahead of this one, in milliseconds, when it was last heard.
    #[must_use]
    pub fn offsets(&self) -> BTreeMap<NodeId, i64> {
        self.heard.lock().offsets.iter().map(|(node, (offset, _))| (*node, *offset)).collect()
    }

    /// Whether this node must not stamp, and why; remembered until [`ClockWatch::begin`].
    pub fn leader_clock_is_off(&self) -> Option<ClockTrouble> {
        self.look().1
    }

    /// Tells when this node's clock turns out to be off: whoever hears it lets another node lead.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<ClockTrouble>> {
        self.trouble.subscribe()
    }

    /// Begins anew: this node takes the lead, and what its clock did before no longer matters.
    pub fn begin(&self) {
        *self.heard.lock() = Heard::default();
        self.trouble.send_if_modified(|trouble| trouble.take().is_some());
    }

    /// Reads the clock and says what is wrong with it.
    fn look(&self) -> (Timestamp, Option<ClockTrouble>) {
        let mut heard = self.heard.lock();
        let before = self.clock.monotonic();
        let now = self.clock.now();
        let monotonic = self.clock.monotonic();
        if let Some(known) = *self.trouble.borrow() {
            return (now, Some(known));
        }
        let ahead = now.0.saturating_sub(i64::try_from(monotonic.as_millis()).unwrap_or(i64::MAX));
        // Two readings that the thread was stopped between say nothing of a jump.
        let together = monotonic.saturating_sub(before) < READING_MAX;
        let baseline = if together { heard.baseline.replace(ahead) } else { None };
        let jump = baseline.map_or(0, |before| ahead.saturating_sub(before));
        let away = median(&heard.offsets, monotonic);
        let found = if planted::has(Bug::WildClock) {
            None
        } else if jump.abs() > TOLERANCE_MS {
            Some(ClockTrouble::Jumped { by_ms: jump })
        } else {
            (away.abs() > TOLERANCE_MS).then_some(ClockTrouble::OffMedian { by_ms: away })
        };
        drop(heard);
        if let Some(trouble) = found {
            tracing::error!(%trouble, "this node must not stamp commands and should let another one lead");
            self.trouble.send_replace(Some(trouble));
        }
        (now, found)
    }
}

/// The median of what was heard lately and this node itself; of two in the middle, the one that is nearer.
fn median(offsets: &BTreeMap<NodeId, (i64, Duration)>, now: Duration) -> i64 {
    let recent =
        offsets.values().filter(|(_, at)| now.saturating_sub(*at) <= MEMORY).map(|(offset, _)| *offset);
    let mut voices: Vec<i64> = recent.chain([0]).collect();
    voices.sort_unstable();
    let (lower, upper) = (voices[(voices.len() - 1) / 2], voices[voices.len() / 2]);
    if lower.abs() <= upper.abs() { lower } else { upper }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Hands {
        wall: AtomicI64,
        monotonic: AtomicI64,
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp(self.wall.load(Ordering::Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.monotonic.load(Ordering::Relaxed).unsigned_abs())
        }
    }

    fn watch() -> (Arc<Hands>, Arc<ClockWatch>) {
        let hands = Arc::new(Hands::default());
        hands.wall.store(1_000_000, Ordering::Relaxed);
        (hands.clone(), ClockWatch::new(NodeId(1), hands))
    }

    #[test]
    fn a_clock_that_jumps_stamps_no_more_until_the_node_leads_anew() {
        let (hands, clocks) = watch();
        assert!(clocks.stamp(Timestamp(0)).is_ok());
        hands.wall.fetch_add(500, Ordering::Relaxed);
        hands.monotonic.fetch_add(400, Ordering::Relaxed);
        assert!(clocks.stamp(Timestamp(0)).is_ok());
        hands.wall.fetch_sub(2_000, Ordering::Relaxed);
        assert!(clocks.stamp(Timestamp(0)).is_err());
        assert_eq!(*clocks.trouble().borrow(), Some(ClockTrouble::Jumped { by_ms: -2_000 }));
        assert!(clocks.stamp(Timestamp(0)).is_err());
        clocks.begin();
        assert!(clocks.stamp(Timestamp(0)).is_ok());
    }

    #[test]
    fn one_wild_peer_deposes_nobody_and_a_majority_does() {
        let (_hands, clocks) = watch();
        clocks.heard(NodeId(2), Timestamp(9_000_000));
        assert_eq!(clocks.leader_clock_is_off(), None, "one against one");
        clocks.heard(NodeId(3), Timestamp(1_000_010));
        assert_eq!(clocks.leader_clock_is_off(), None, "two against one");
        clocks.heard(NodeId(3), Timestamp(1_005_000));
        assert_eq!(clocks.leader_clock_is_off(), Some(ClockTrouble::OffMedian { by_ms: 5_000 }));
        assert_eq!(clocks.offsets().get(&NodeId(2)), Some(&8_000_000));
    }

    #[test]
    fn a_stamp_is_never_before_what_was_logged() {
        let (_hands, clocks) = watch();
        assert_eq!(clocks.stamp(Timestamp(2_000_000)), Ok(Timestamp(2_000_000)));
    }
}
