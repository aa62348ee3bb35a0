//! Whether the leader's clock may be trusted: only while a majority of the voters agrees with it.
//!
//! A leader stamps commands only while most of the voters, itself among them, were heard lately and show a wall clock within
//! a second of its own. So one wild clock poisons nothing, whoever leads: a leader that stands alone with its clock
//! stamps nothing, and [`ClockWatch::trouble`] tells the node's assembly to let another one lead. When the wall clock
//! jumps against the monotonic clock, everything that was heard no longer counts and is asked for anew. Absent on
//! purpose: asking, which the node's assembly does, and mending clocks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use escapement_domain::identifier::NodeId;
use escapement_domain::planted::{self, Bug};
use escapement_domain::timestamp::{Stamp, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::intent::SubmitError;
use crate::ports::Clock;

/// How far a clock may be off, in milliseconds.
pub const TOLERANCE_MS: i64 = 1_000;
/// How far a clock must be off for a stamp to tell it, in milliseconds.
const TOLD_MS: i64 = 50;
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
    others: BTreeMap<NodeId, Shown>,
}

/// What a peer's wall clock showed.
struct Shown {
    /// Its wall time less this node's monotonic time, in milliseconds: what this node's wall clock does since changes nothing
    /// of it.
    wall_less_monotonic: i64,
    /// How far that may be wrong, in milliseconds.
    error: i64,
    /// When it was heard.
    at: Duration,
}

impl Shown {
    /// How far it is ahead of a clock that shows `own` more than the monotonic time.
    fn ahead_of(&self, own: i64) -> i64 {
        self.wall_less_monotonic.saturating_sub(own)
    }
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

    /// The stamp of a command: this node's clock, never before what was logged.
    ///
    /// # Errors
    /// [`SubmitError::NotLeader`] while no majority is known to agree with this node's clock.
    pub fn stamp(&self, logged: Timestamp) -> Result<Stamp, SubmitError> {
        let Look { now, agreed, ahead_ms } = self.look();
        let stamp = Stamp { at: now.max(logged), ahead_ms };
        if agreed { Ok(stamp) } else { Err(SubmitError::NotLeader { leader: None }) }
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
        let at = self.clock.monotonic();
        let error = millis(ago);
        let wall_less_monotonic = wall_clock.0.saturating_add(error).saturating_sub(millis(at));
        self.heard.lock().others.insert(node, Shown { wall_less_monotonic, error, at });
        self.look();
    }

    /// How far each node's wall clock is ahead of this one, in milliseconds, by what was last heard of it.
    #[must_use]
    pub fn offsets(&self) -> BTreeMap<NodeId, i64> {
        let own = self.clock.now().0.saturating_sub(millis(self.clock.monotonic()));
        self.heard.lock().others.iter().map(|(node, shown)| (*node, shown.ahead_of(own))).collect()
    }

    /// Whether a majority is known to agree with this node's clock.
    pub fn is_agreed(&self) -> bool {
        self.look().agreed
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
    fn look(&self) -> Look {
        let mut heard = self.heard.lock();
        let before = self.clock.monotonic();
        let now = self.clock.now();
        let monotonic = self.clock.monotonic();
        let own = now.0.saturating_sub(millis(monotonic));
        // Two readings that the thread was stopped between say nothing of a jump.
        let together = monotonic.saturating_sub(before) < READING_MAX;
        let baseline = if together { heard.baseline.replace(own) } else { None };
        let jump = baseline.map_or(0, |before| own.saturating_sub(before));
        let jumped = jump.abs() > TOLERANCE_MS && !planted::has(Bug::WildClock);
        if jumped {
            heard.others.clear();
        }
        let voices = heard.voices(self.own, own, monotonic);
        let (agreeing, elsewhere) = voices.counted();
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
        let ahead_ms = if together { voices.ahead(majority) } else { 0 };
        Look { now, agreed: agreeing >= majority || planted::has(Bug::WildClock), ahead_ms }
    }
}

/// What a look at the clocks found.
struct Look {
    now: Timestamp,
    agreed: bool,
    /// As in a [`Stamp`].
    ahead_ms: i32,
}

impl Heard {
    /// The voters that were heard lately, this node included. `own` is its wall time less its monotonic time `now`.
    fn voices(&self, node: NodeId, own: i64, now: Duration) -> Voices {
        let lately = |shown: &&Shown| now.saturating_sub(shown.at) <= MEMORY;
        let voice = |voter: &NodeId| match self.others.get(voter).filter(lately) {
            _ if *voter == node => Some((0, 0)),
            shown => shown.map(|shown| (shown.ahead_of(own), shown.error)),
        };
        Voices(self.voters.iter().filter_map(voice).collect())
    }
}

/// How far voters' clocks are ahead of this node's, in milliseconds, and how far that may be wrong.
struct Voices(Vec<(i64, i64)>);

impl Voices {
    /// How many agree with this node's clock, and how many do not.
    fn counted(&self) -> (usize, usize) {
        let agreeing = self.0.iter().filter(|(offset, _)| offset.abs() <= TOLERANCE_MS).count();
        (agreeing, self.0.len() - agreeing)
    }

    /// The milliseconds by which at least `majority` clocks are behind this node's for sure, or ahead of it (below zero); zero
    /// where that is too little to tell.
    fn ahead(&self, majority: usize) -> i32 {
        // The nearest bounds that a majority keeps: what it may be wrong by is taken off each.
        let shared = |mut sure: Vec<i64>| {
            sure.sort_unstable_by_key(|sure| Reverse(*sure));
            sure.get(majority.saturating_sub(1)).copied().unwrap_or(0)
        };
        let behind = shared(self.0.iter().map(|(offset, error)| -offset - error).collect());
        let ahead = shared(self.0.iter().map(|(offset, error)| offset - error).collect());
        let told = if behind >= TOLD_MS {
            behind
        } else if ahead >= TOLD_MS {
            -ahead
        } else {
            0
        };
        i32::try_from(told).unwrap_or(0)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
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
        assert_eq!(clocks.stamp(Timestamp(2_000_000)), Ok(Timestamp(2_000_000).into()));
    }

    #[test]
    fn a_stamp_tells_how_far_most_clocks_are_behind_this_one_or_ahead_of_it() {
        let (hands, clocks) = watch(3);
        let ahead_ms = || clocks.stamp(Timestamp(0)).map(|stamp| stamp.ahead_ms);
        clocks.heard(NodeId(2), Timestamp(999_380), Duration::from_millis(10));
        assert_eq!(ahead_ms(), Ok(0), "one of three says so, and nobody else");
        clocks.heard(NodeId(3), Timestamp(999_300), Duration::from_millis(10));
        assert_eq!(
            ahead_ms(),
            Ok(600),
            "at least so much, by two of three, whatever the way of the answers was"
        );
        hands.wall.fetch_sub(1_000, Ordering::Relaxed);
        assert_eq!(ahead_ms(), Ok(-300), "a small step is known at once, before anybody is asked again");
        hands.wall.fetch_add(400, Ordering::Relaxed);
        assert_eq!(ahead_ms(), Ok(0), "too little to tell");
        clocks.heard(NodeId(2), Timestamp(998_700), Duration::from_millis(400));
        clocks.heard(NodeId(3), Timestamp(998_700), Duration::from_millis(400));
        assert_eq!(ahead_ms(), Ok(0), "an answer that was long under way says nothing of it");
    }
}
