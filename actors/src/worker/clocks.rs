//! Whether the leader's clock may be trusted: only while a majority of the voters agrees with it.
//!
//! A leader stamps commands only while most of the voters, itself among them, were heard lately and show a wall clock within
//! a second of its own. So one wild clock poisons nothing, whoever leads: a leader that stands alone with its clock
//! stamps nothing, and [`ClockWatch::trouble`] tells the node's assembly to let another one lead. When the wall clock
//! jumps against the monotonic clock, everything that was heard no longer counts and is asked for anew. Absent on
//! purpose: asking, which the node's assembly does, and mending clocks.

use std::collections::{BTreeMap, BTreeSet};
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

/// No majority can agree with this node's clock: so many of so many voters show another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockTrouble {
    /// Voters that show another time.
    pub elsewhere: usize,
    /// Voters that there are.
    pub voters: usize,
}

impl fmt::Display for ClockTrouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { elsewhere, voters } = self;
        write!(formatter, "the clocks of {elsewhere} of {voters} voters are more than a second from this one")
    }
}

/// Watches clocks; one for each node, shared by everything that stamps.
pub struct ClockWatch {
    own: NodeId,
    clock: Arc<dyn Clock>,
    heard: Mutex<Heard>,
    trouble: watch::Sender<Option<ClockTrouble>>,
    jumps: watch::Sender<u64>,
}

#[derive(Default)]
struct Heard {
    /// Wall time less monotonic time at the last look.
    baseline: Option<i64>,
    voters: BTreeSet<NodeId>,
    /// How far each peer's wall clock is ahead of this one, and when that was heard.
    offsets: BTreeMap<NodeId, (i64, Duration)>,
}

impl fmt::Debug for ClockWatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClockWatch").field("own", &self.own).finish_non_exhaustive()
    }
}

impl ClockWatch {
    /// Watches the clock of node `own`. It stamps nothing until it knows the voters and has heard most of them.
    #[must_use]
    pub fn new(own: NodeId, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (trouble, jumps) = (watch::Sender::new(None), watch::Sender::new(0));
        Arc::new(Self { own, clock, heard: Mutex::default(), trouble, jumps })
    }

    /// The instant to stamp on a command: this node's, never before what was logged.
    ///
    /// # Errors
    /// [`SubmitError::NotLeader`] while no majority is known to agree with this node's clock.
    pub fn stamp(&self, logged: Timestamp) -> Result<Timestamp, SubmitError> {
        let (now, agreed) = self.look();
        if agreed { Ok(now.max(logged)) } else { Err(SubmitError::NotLeader { leader: None }) }
    }

    /// Says whose clocks count.
    pub fn count(&self, voters: BTreeSet<NodeId>) {
        self.heard.lock().voters = voters;
        self.look();
    }

    /// Notes what a peer's wall clock showed, `ago` before now.
    pub fn heard(&self, node: NodeId, wall_clock: Timestamp, ago: Duration) {
        if node == self.own {
            return;
        }
        // A jump of this node's clock since the question was asked is noticed first.
        self.look();
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        let offset = wall_clock.0.saturating_add(ago).saturating_sub(self.clock.now().0);
        self.heard.lock().offsets.insert(node, (offset, self.clock.monotonic()));
        self.look();
    }

    /// How far each node's wall clock was ahead of this one, in milliseconds, when it was last heard.
    #[must_use]
    pub fn offsets(&self) -> BTreeMap<NodeId, i64> {
        self.heard.lock().offsets.iter().map(|(node, (offset, _))| (*node, *offset)).collect()
    }

    /// Whether a majority is known to agree with this node's clock.
    pub fn is_agreed(&self) -> bool {
        self.look().1
    }

    /// Tells when no majority can agree with this node's clock: whoever hears it lets another node lead.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<ClockTrouble>> {
        self.trouble.subscribe()
    }

    /// Tells that this node's wall clock jumped: whoever hears it asks the voters for theirs.
    #[must_use]
    pub fn jumps(&self) -> watch::Receiver<u64> {
        self.jumps.subscribe()
    }

    /// Reads the clock, and says whether a majority agrees with it.
    fn look(&self) -> (Timestamp, bool) {
        let mut heard = self.heard.lock();
        let before = self.clock.monotonic();
        let now = self.clock.now();
        let monotonic = self.clock.monotonic();
        let ahead = now.0.saturating_sub(i64::try_from(monotonic.as_millis()).unwrap_or(i64::MAX));
        // Two readings that the thread was stopped between say nothing of a jump.
        let together = monotonic.saturating_sub(before) < READING_MAX;
        let baseline = if together { heard.baseline.replace(ahead) } else { None };
        let jump = baseline.map_or(0, |before| ahead.saturating_sub(before));
        let jumped = jump.abs() > TOLERANCE_MS && !planted::has(Bug::WildClock);
        if jumped {
            heard.offsets.clear();
        }
        let (agreeing, elsewhere) = heard.voices(self.own, monotonic);
        let voters = heard.voters.len();
        drop(heard);
        if jumped {
            tracing::warn!(
                by_ms = jump,
                "this node's wall clock jumped; it stamps nothing until most voters agree"
            );
            self.jumps.send_modify(|jumps| *jumps += 1);
        }
        let majority = voters / 2 + 1;
        let alone = elsewhere > 0 && voters - elsewhere < majority;
        self.trouble.send_if_modified(|trouble| {
            let found = alone.then_some(ClockTrouble { elsewhere, voters });
            let news = found.is_some() != trouble.is_some();
            if let Some(found) = found.filter(|_| news) {
                tracing::error!(trouble = %found, "this node must not stamp commands and should let another one lead");
            }
            *trouble = found;
            news
        });
        (now, agreeing >= majority || planted::has(Bug::WildClock))
    }
}

impl Heard {
    /// How many voters were heard lately, this node included, that agree with its clock, and how many that do not.
    fn voices(&self, own: NodeId, now: Duration) -> (usize, usize) {
        let mut voices = (0, 0);
        for voter in &self.voters {
            let offset = match self.offsets.get(voter) {
                _ if *voter == own => Some(0),
                Some((offset, at)) if now.saturating_sub(*at) <= MEMORY => Some(*offset),
                _ => None,
            };
            match offset {
                Some(offset) if offset.abs() <= TOLERANCE_MS => voices.0 += 1,
                Some(_) => voices.1 += 1,
                None => {}
            }
        }
        voices
    }
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

    /// The clock of node 1 among so many voters.
    fn watch(voters: u64) -> (Arc<Hands>, Arc<ClockWatch>) {
        let hands = Arc::new(Hands::default());
        hands.wall.store(1_000_000, Ordering::Relaxed);
        let clocks = ClockWatch::new(NodeId(1), hands.clone());
        clocks.count((1..=voters).map(NodeId).collect());
        (hands, clocks)
    }

    #[test]
    fn a_leader_stamps_only_when_it_has_heard_that_most_agree() {
        let (_hands, clocks) = watch(3);
        assert!(clocks.stamp(Timestamp(0)).is_err(), "nobody was heard yet");
        clocks.heard(NodeId(2), Timestamp(9_000_000), Duration::ZERO);
        assert!(clocks.stamp(Timestamp(0)).is_err(), "one against one");
        assert_eq!(*clocks.trouble().borrow(), None, "the third may agree");
        clocks.heard(NodeId(3), Timestamp(999_400), Duration::from_millis(500));
        assert!(clocks.stamp(Timestamp(0)).is_ok(), "two against one");
        assert_eq!(clocks.offsets(), BTreeMap::from([(NodeId(2), 8_000_000), (NodeId(3), -100)]));
        clocks.heard(NodeId(3), Timestamp(1_005_000), Duration::ZERO);
        assert!(clocks.stamp(Timestamp(0)).is_err());
        assert_eq!(*clocks.trouble().borrow(), Some(ClockTrouble { elsewhere: 2, voters: 3 }));
        clocks.heard(NodeId(3), Timestamp(1_000_000), Duration::ZERO);
        assert_eq!(*clocks.trouble().borrow(), None, "whoever is right again is trusted again");
    }

    #[test]
    fn what_was_heard_before_a_jump_or_long_ago_counts_no_more() {
        let (hands, clocks) = watch(2);
        clocks.heard(NodeId(2), Timestamp(1_000_000), Duration::ZERO);
        assert!(clocks.is_agreed());
        hands.wall.fetch_add(500, Ordering::Relaxed);
        hands.monotonic.fetch_add(400, Ordering::Relaxed);
        assert!(clocks.is_agreed(), "a small step is none");
        hands.wall.fetch_sub(2_000, Ordering::Relaxed);
        assert!(!clocks.is_agreed());
        assert_eq!(*clocks.jumps().borrow(), 1);
        clocks.heard(NodeId(2), Timestamp(998_500), Duration::ZERO);
        assert!(clocks.is_agreed(), "it was set right");
        hands.wall.fetch_add(10_001, Ordering::Relaxed);
        hands.monotonic.fetch_add(10_001, Ordering::Relaxed);
        assert!(!clocks.is_agreed());
    }

    #[test]
    fn a_stamp_is_never_before_what_was_logged_and_a_lone_voter_agrees_with_itself() {
        let (_hands, clocks) = watch(1);
        assert_eq!(clocks.stamp(Timestamp(2_000_000)), Ok(Timestamp(2_000_000)));
    }
}
