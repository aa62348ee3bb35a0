//! The network: it delays always, and at times drops, repeats, reorders and cuts, one way or both.
//!
//! Invariant: what is cut in one direction is cut for every lane of it. A lost message is never heard of; only its
//! sender's patience tells. Absent on purpose: which weather comes when, see `faults`.

use std::collections::BTreeMap;
use std::time::Duration;

use escapement_raft::{Lane, Message, NodeId, Passage, Weather};
use parking_lot::Mutex;

use super::nature::Nature;

/// How rough the network is. Shares are in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Roughness {
    /// How long a message takes, in microseconds: at least, and at most.
    pub(super) delay_us: (u64, u64),
    /// How many are lost.
    pub(super) lost: u64,
    /// How many arrive twice.
    pub(super) twice: u64,
    /// How many take ten times as long, and so come after those sent later.
    pub(super) slow: u64,
}

impl Roughness {
    /// A good network within one building.
    pub(super) const FAIR: Self = Self { delay_us: (100, 900), lost: 0, twice: 0, slow: 0 };
}

/// The network of one run.
pub(super) struct Network {
    nature: Nature,
    state: Mutex<State>,
}

struct State {
    roughness: Roughness,
    /// How many cuts each direction is under.
    cut: BTreeMap<(NodeId, NodeId), u32>,
    /// When the last message of each direction and lane arrives, since the beginning of the world.
    last: BTreeMap<(NodeId, NodeId, Lane), Duration>,
    counts: MessageCounts,
}

/// How many messages did not come as they should.
#[derive(Clone, Copy, Default)]
pub(super) struct MessageCounts {
    /// Never came.
    pub(super) lost: u64,
    /// Came later than any does in good weather.
    pub(super) late: u64,
    /// Came in bad weather before one that was sent earlier the same way, where nothing keeps their order.
    pub(super) overtaking: u64,
    /// Came twice.
    pub(super) repeated: u64,
}

impl Network {
    pub(super) fn new(nature: &Nature) -> Self {
        let state = State {
            roughness: Roughness::FAIR,
            cut: BTreeMap::new(),
            last: BTreeMap::new(),
            counts: MessageCounts::default(),
        };
        Self { nature: nature.clone(), state: Mutex::new(state) }
    }

    pub(super) fn set(&self, roughness: Roughness) {
        self.state.lock().roughness = roughness;
    }

    /// Cuts these directions.
    pub(super) fn cut(&self, links: &[(NodeId, NodeId)]) {
        let mut state = self.state.lock();
        links.iter().for_each(|link| *state.cut.entry(*link).or_default() += 1);
    }

    /// Ends one cut of these directions; what is under another one stays cut.
    pub(super) fn mend(&self, links: &[(NodeId, NodeId)]) {
        let mut state = self.state.lock();
        for link in links {
            if let Some(cuts) = state.cut.get_mut(link) {
                *cuts = cuts.saturating_sub(1);
            }
        }
        state.cut.retain(|_, cuts| *cuts > 0);
    }

    /// Ends every cut.
    pub(super) fn mend_all(&self) {
        self.state.lock().cut.clear();
    }

    /// Whether no cut lies between two machines.
    pub(super) fn connects(&self, one: NodeId, other: NodeId) -> bool {
        let state = self.state.lock();
        !state.cut.contains_key(&(one, other)) && !state.cut.contains_key(&(other, one))
    }

    /// Whether messages come soon, and all of them.
    pub(super) fn is_fair(&self) -> bool {
        self.state.lock().roughness == Roughness::FAIR
    }

    /// How many messages did not come as they should.
    pub(super) fn counts(&self) -> MessageCounts {
        self.state.lock().counts
    }
}

impl State {
    fn count(&mut self, link: (NodeId, NodeId, Lane), sent: Duration, passage: Passage) {
        let after = match passage {
            Passage::Refused => return,
            Passage::Lost => {
                self.counts.lost += 1;
                return;
            }
            Passage::After(after) => after,
            Passage::Twice(after, _) => {
                self.counts.repeated += 1;
                after
            }
        };
        self.counts.late += u64::from(after > Duration::from_micros(Roughness::FAIR.delay_us.1));
        let (arrives, last) = (sent + after, self.last.entry(link).or_default());
        let keeps_order = matches!(link.2, Lane::Append | Lane::Snapshot);
        let overtakes = arrives < *last && !keeps_order && self.roughness != Roughness::FAIR;
        self.counts.overtaking += u64::from(overtakes);
        *last = arrives.max(*last);
    }
}

impl Weather for Network {
    fn passage(&self, from: NodeId, to: NodeId, lane: Lane, message: Message) -> Passage {
        let mut state = self.state.lock();
        let Roughness { delay_us: (least, most), lost, twice, slow } = state.roughness;
        if state.cut.contains_key(&(from, to)) {
            state.counts.lost += 1;
            return Passage::Lost;
        }
        let passage = self.nature.draw(|chance| {
            let mut delay = || {
                let micros = chance.between(least, most);
                Duration::from_micros(if chance.per_mille(slow) { micros * 10 } else { micros })
            };
            let (first, second) = (delay(), delay());
            if chance.per_mille(lost) {
                Passage::Lost
            } else if chance.per_mille(twice) && message == Message::Request {
                Passage::Twice(first, second)
            } else {
                Passage::After(first)
            }
        });
        state.count((from, to, lane), self.nature.elapsed(), passage);
        let told = match passage {
            Passage::Refused | Passage::Lost => u64::MAX,
            Passage::After(after) | Passage::Twice(after, _) => {
                u64::try_from(after.as_micros()).unwrap_or(u64::MAX)
            }
        };
        self.nature
            .note(&[1, from, to, lane as u64, told], || format!("{from} → {to} {lane:?}: {passage:?}"));
        passage
    }
}
