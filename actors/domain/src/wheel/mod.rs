//! A hierarchical timer wheel: millions of deadlines at a millisecond's resolution, and `now` as an argument.
//!
//! Eight levels of 64 slots cover 48 bits of milliseconds, which is every instant up to the year 9999. A timer lies
//! on the level of the highest six bits in which its deadline differs from the wheel's own time, and moves down when
//! its slot's time comes. A timer is 16 bytes with an eight-byte key, and there is no index of them: to cancel one,
//! let its key carry a generation and ignore it when it expires (or drop many at once by [`Wheel::retain`]).
//!
//! Invariants: no timer is handed out at a `now` before its deadline; every timer is handed out exactly once;
//! within one [`Wheel::advance`] deadlines never decrease, and equal ones keep the order of their insertion.
//! Absent on purpose: clocks, threads, identity of timers, and any meaning of keys.

mod bucket;

use std::collections::VecDeque;

use self::bucket::Bucket;
use crate::planted::{self, Bug};
use crate::timestamp::Timestamp;

const LEVELS: usize = 8;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();

const _: () = assert!(SLOTS == u64::BITS as usize, "a level's occupancy is one word");
const _: () =
    assert!((Timestamp::MAX.0 as u64) < 1 << (SLOT_BITS as usize * LEVELS), "every deadline has a slot");

/// A deadline in milliseconds since the epoch, and whose it is.
#[derive(Clone, Copy, Debug)]
struct Timer<K> {
    tick: u64,
    key: K,
}

const _: () = assert!(size_of::<Timer<u64>>() == 16);

/// What one call of [`Wheel::advance`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Advance {
    /// How many timers were handed out.
    pub expired: usize,
    /// Whether the batch was full while more timers may be due: advance again.
    pub more: bool,
}

#[derive(Debug)]
struct Level<K> {
    /// Bit `s` says that slot `s` holds timers.
    occupied: u64,
    slots: [Bucket<K>; SLOTS],
}

/// Timers by deadline; see the [module](self).
#[derive(Debug)]
pub struct Wheel<K> {
    /// Every timer with this deadline or an earlier one is in `due`; all others are in `levels`.
    time: u64,
    levels: Box<[Level<K>; LEVELS]>,
    /// Timers whose tick has come, or lay behind `time` when they were inserted.
    due: VecDeque<Timer<K>>,
    due_sorted: bool,
    /// The earliest deadline in `due`; meaningless if that is empty.
    due_earliest: u64,
    len: usize,
}

impl<K: Copy> Wheel<K> {
    /// Makes an empty wheel whose time is `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let levels =
            std::array::from_fn(|_| Level { occupied: 0, slots: std::array::from_fn(|_| Bucket::new()) });
        Self {
            time: tick_of(now),
            levels: Box::new(levels),
            due: VecDeque::new(),
            due_sorted: true,
            due_earliest: 0,
            len: 0,
        }
    }

    /// Returns how many timers it holds, those included that their owner no longer wants.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says whether it holds no timer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a timer. A deadline that has passed expires at the next [`Wheel::advance`]; one outside
    /// [`Timestamp::MIN`]..=[`Timestamp::MAX`] counts as the nearer of these.
    pub fn insert(&mut self, deadline: Timestamp, key: K) {
        self.len += 1;
        self.place(Timer { tick: tick_of(deadline), key });
    }

    /// Hands timers whose deadline is at or before `now` to `expire`, earliest first and at most `max` of them.
    ///
    /// A `now` before that of an earlier call is no harm: what lies between the two waits until `now` reaches it
    /// again. The work is bounded by `max`, the timers that move down a level, and 64 slots a level; it does not grow
    /// with the time that passed.
    pub fn advance(&mut self, now: Timestamp, max: usize, expire: &mut impl FnMut(Timestamp, K)) -> Advance {
        let mut expired = 0;
        let Ok(now) = u64::try_from(now.0) else {
            return Advance { expired, more: false };
        };
        loop {
            expired += self.hand_out(now, max - expired, expire);
            if !self.due.is_empty() || expired == max {
                return Advance { expired, more: self.is_due(now) };
            }
            let Some((level, slot, start)) = self.first_slot().filter(|&(.., start)| start <= now) else {
                break;
            };
            self.time = start;
            self.empty_slot(level, slot);
        }
        self.time = self.time.max(now.min(tick_of(Timestamp::MAX)));
        Advance { expired, more: false }
    }

    /// Returns an instant at or before which no timer is due, except one at that very instant; `None` if empty.
    ///
    /// A lower bound: exact when the earliest timer is within its lowest level, else the start of its slot. Whoever
    /// sleeps until then and calls [`Wheel::advance`] finds the next bound closer to the deadline, and the
    /// deadline itself after at most eight rounds.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let due = (!self.due.is_empty()).then_some(self.due_earliest);
        let tick = due.or_else(|| self.first_slot().map(|(.., start)| start))?;
        Some(deadline_of(tick))
    }

    /// Drops every timer.
    pub fn clear(&mut self) {
        *self = Self::new(deadline_of(self.time));
    }

    /// Drops the timers that `wanted` denies, and gives their memory back. Visits every timer: worth it when most of
    /// them are cancelled.
    pub fn retain(&mut self, mut wanted: impl FnMut(Timestamp, K) -> bool) {
        let mut keep = |timer: &Timer<K>| wanted(deadline_of(timer.tick), timer.key);
        self.due.retain(&mut keep);
        self.due.shrink_to_fit();
        self.due_earliest = self.due.iter().map(|timer| timer.tick).min().unwrap_or(0);
        self.len = self.due.len();
        for level in self.levels.iter_mut() {
            for (slot, bucket) in level.slots.iter_mut().enumerate() {
                bucket.retain(&mut keep);
                self.len += bucket.len();
                if bucket.is_empty() {
                    level.occupied &= !(1 << slot);
                }
            }
        }
    }

    /// Returns how many bytes its timers take, with what is reserved for more.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let buckets = self.levels.iter().flat_map(|level| &level.slots).map(Bucket::capacity);
        (buckets.sum::<usize>() + self.due.capacity()) * size_of::<Timer<K>>() + size_of_val(&*self.levels)
    }

    fn place(&mut self, timer: Timer<K>) {
        if timer.tick <= self.time {
            self.push_due(timer);
            return;
        }
        let level = level_of(self.time, timer.tick);
        let slot = (timer.tick >> (SLOT_BITS as usize * level)) as usize % SLOTS;
        let level = &mut self.levels[level];
        level.occupied |= 1 << slot;
        level.slots[slot].push(timer);
    }

    fn push_due(&mut self, timer: Timer<K>) {
        match self.due.back() {
            None => (self.due_earliest, self.due_sorted) = (timer.tick, true),
            Some(last) => {
                self.due_sorted &= last.tick <= timer.tick;
                self.due_earliest = self.due_earliest.min(timer.tick);
            }
        }
        self.due.push_back(timer);
    }

    fn is_due(&self, now: u64) -> bool {
        let due = !self.due.is_empty() && self.due_earliest <= now;
        // A higher slot that has begun may hold nothing that is due; another call finds out.
        due || self.first_slot().is_some_and(|(.., start)| start <= now)
    }

    /// Hands out what is in `due`, as far as `now` and `max` allow.
    fn hand_out(&mut self, now: u64, max: usize, expire: &mut impl FnMut(Timestamp, K)) -> usize {
        if !self.due_sorted {
            // Stable, and near linear on what was mostly sorted before.
            self.due.make_contiguous().sort_by_key(|timer| timer.tick);
            self.due_sorted = true;
        }
        let mut expired = 0;
        while expired < max
            && self.due.front().is_some_and(|timer| timer.tick <= now)
            && let Some(timer) = self.due.pop_front()
        {
            self.len -= 1;
            expired += 1;
            expire(deadline_of(timer.tick), timer.key);
        }
        match self.due.front() {
            Some(first) => self.due_earliest = first.tick,
            None if self.due.capacity() > bucket::KEPT_CAPACITY => self.due = VecDeque::new(),
            None => {}
        }
        expired
    }

    /// Finds the occupied slot that begins first. Lower levels begin first: their slots lie within the present slot
    /// of the level above, and each level holds only slots after the present one.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let (level, occupied) = self
            .levels
            .iter()
            .map(|level| level.occupied)
            .enumerate()
            .find(|&(_, occupied)| occupied != 0)?;
        let slot = occupied.trailing_zeros() as usize;
        let shift = SLOT_BITS as usize * level;
        let above = self.time >> shift >> SLOT_BITS << SLOT_BITS;
        Some((level, slot, (above | slot as u64) << shift))
    }

    /// Moves a slot's timers to where they belong now that the wheel's time is the slot's start.
    fn empty_slot(&mut self, level: usize, slot: usize) {
        self.levels[level].occupied &= !(1 << slot);
        let mut bucket = std::mem::replace(&mut self.levels[level].slots[slot], Bucket::new());
        let lost = usize::from(level > 1 && planted::has(Bug::DroppedTimer));
        for timer in bucket.drain().skip(lost) {
            self.place(timer);
        }
        // Each of them went to a lower level or to `due`, so the slot is still empty.
        if bucket.capacity() <= bucket::KEPT_CAPACITY {
            self.levels[level].slots[slot] = bucket;
        }
    }
}

/// Returns the level on which a deadline after `time` lies.
fn level_of(time: u64, tick: u64) -> usize {
    let highest = u64::BITS - 1 - (time ^ tick | 1).leading_zeros();
    (highest / SLOT_BITS) as usize
}

fn tick_of(instant: Timestamp) -> u64 {
    instant.0.clamp(Timestamp::MIN.0, Timestamp::MAX.0).cast_unsigned()
}

fn deadline_of(tick: u64) -> Timestamp {
    Timestamp(tick.cast_signed())
}
