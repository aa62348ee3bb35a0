//! Catching up in a row: what is made good after its grace is over, as after an outage, is fired so many a second, so that
//! making good is no herd.
//!
//! Counted on the monotonic clock: a wall clock that jumps neither stops nor opens the row. Absent on purpose: which
//! tasks catch up.

use std::time::Duration;

/// How far apart the places in the row are: a thousand a second.
const APART: Duration = Duration::from_millis(1);
/// Places that may be taken at once after a pause.
const AT_ONCE: u32 = 50;

/// The row.
#[derive(Debug)]
pub(super) struct Pace {
    /// The next place that nobody has taken, on the monotonic clock.
    free: Duration,
}

impl Pace {
    pub(super) fn new(monotonic: Duration) -> Self {
        Self { free: monotonic }
    }

    /// Takes a place, if one has come.
    pub(super) fn take(&mut self, monotonic: Duration) -> bool {
        self.free = self.free.max(monotonic.saturating_sub(APART * AT_ONCE));
        let has_come = self.free <= monotonic;
        if has_come {
            self.free += APART;
        }
        has_come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pace: &mut Pace, at_ms: u64) -> usize {
        std::iter::repeat_with(|| pace.take(Duration::from_millis(at_ms))).take_while(|taken| *taken).count()
    }

    #[test]
    fn places_come_one_by_one_and_do_not_pile_up() {
        let mut pace = Pace::new(Duration::from_millis(1_000));
        assert_eq!(taken(&mut pace, 1_000), 1);
        assert_eq!(taken(&mut pace, 1_000), 0);
        assert_eq!(taken(&mut pace, 1_010), 10);
        assert_eq!(taken(&mut pace, 60_000), 51);
    }
}
