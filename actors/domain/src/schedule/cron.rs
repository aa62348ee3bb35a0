//! A compiled cron expression: bit masks, and the next local time that they meet.
//!
//! Local time here is a plain count of seconds since 1970-01-01T00:00:00 on the clock's face, without a zone.
//! Invariant: [`Cron::at_or_after`] costs a few bit operations a month at most, never a walk over minutes.
//!
//! Absent on purpose: text, see [`super::expression`], and changes of clocks, see [`super::evaluation`].

use super::civil::{DAY_SECONDS, date_of, day_number, days_in_month, weekday_of};
use super::field::Field;

/// Local times after the end of this year are not looked for.
const YEAR_MAX: i64 = 9_999;
/// Bits 1, 8, 15, 22 and 29: the days that share the first day's weekday.
const WEEKLY: u32 = 1 << 1 | 1 << 8 | 1 << 15 | 1 << 22 | 1 << 29;

/// The days that an expression names within a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Days {
    month_days: u32,
    last: u32,
    nearest: u32,
    nearest_last: u32,
    weekdays: u8,
    last_weekdays: u8,
    nth_weekdays: [u8; 5],
    /// Whether day of month and day of week must both hold; otherwise either.
    both: bool,
}

/// A compiled cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u32,
    months: u16,
    days: Days,
}

impl Days {
    fn new(month_day: &Field, weekday: &Field) -> Self {
        Self {
            month_days: month_day.bits as u32,
            last: month_day.last,
            nearest: month_day.nearest,
            nearest_last: month_day.nearest_last,
            weekdays: weekday.bits as u8,
            last_weekdays: weekday.last_weekdays,
            nth_weekdays: weekday.nth_weekdays,
            both: month_day.starred || weekday.starred,
        }
    }

    /// Returns the days of a month, bit `d` for day `d`, that begins on weekday `first` and has `length` days.
    fn within(&self, first: u32, length: u32) -> u32 {
        let valid = (2_u32 << length).wrapping_sub(2);
        let by_weekday = self.by_weekday(first, length);
        let by_month_day = self.by_month_day(first, length);
        valid & if self.both { by_month_day & by_weekday } else { by_month_day | by_weekday }
    }

    fn by_weekday(&self, first: u32, length: u32) -> u32 {
        const EVERY: u8 = 0x7f;
        if self.weekdays == EVERY {
            return u32::MAX;
        }
        let first_day = |weekday: u32| 1 + (weekday + 7 - first) % 7;
        let mut days = 0;
        for weekday in bits(self.weekdays.into()) {
            days |= WEEKLY << (first_day(weekday) - 1);
        }
        for weekday in bits(self.last_weekdays.into()) {
            let day = first_day(weekday);
            days |= 1 << (day + (length - day) / 7 * 7);
        }
        for (week, weekdays) in (0..).zip(self.nth_weekdays) {
            for weekday in bits(weekdays.into()) {
                // At most 35; a fifth week that the month does not have lies beyond its length.
                let day = first_day(weekday) + 7 * week;
                days |= 1_u32.checked_shl(day).unwrap_or(0);
            }
        }
        days
    }

    fn by_month_day(&self, first: u32, length: u32) -> u32 {
        let mut days = self.month_days;
        for before in bits(self.last).filter(|&before| before < length) {
            days |= 1 << (length - before);
        }
        for day in bits(self.nearest).filter(|&day| day <= length) {
            days |= 1 << nearest_weekday(day, first, length);
        }
        for before in bits(self.nearest_last).filter(|&before| before < length) {
            days |= 1 << nearest_weekday(length - before, first, length);
        }
        days
    }
}

/// Returns the day from Monday to Friday that is nearest to `day` in the same month.
fn nearest_weekday(day: u32, first: u32, length: u32) -> u32 {
    match (first + day - 1) % 7 {
        6 if day == 1 => 3,
        6 => day - 1,
        0 if day == length => day - 2,
        0 => day + 1,
        _ => day,
    }
}

/// Yields the numbers of the bits that are set.
fn bits(mut mask: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros())?;
        mask &= mask - 1;
        Some(bit)
    })
}

/// Returns the lowest bit that is set at `from` or above it.
fn bit_from(mask: u64, from: u32) -> Option<u32> {
    let rest = mask & u64::MAX.checked_shl(from).unwrap_or(0);
    (rest != 0).then(|| rest.trailing_zeros())
}

impl Cron {
    pub(super) fn new(clock: [&Field; 3], month_day: &Field, month: &Field, weekday: &Field) -> Self {
        let [second, minute, hour] = clock;
        Self {
            seconds: second.bits,
            minutes: minute.bits,
            hours: hour.bits as u32,
            months: month.bits as u16,
            days: Days::new(month_day, weekday),
        }
    }

    /// Says whether any year has a day that the expression names. There are fourteen kinds of years.
    pub(super) fn can_fire(&self) -> bool {
        // 2024 is a leap year; 28 years in a row without a skipped leap day hold every kind.
        (2024..2052).any(|year| {
            bits(self.months.into()).any(|month| {
                self.days.within(weekday_of(day_number(year, month, 1)), days_in_month(year, month)) != 0
            })
        })
    }

    /// Returns the first local time at or after `local` that the expression names; `None` past the year 9999.
    pub(super) fn at_or_after(&self, local: i64) -> Option<i64> {
        let day = local.div_euclid(DAY_SECONDS);
        let (year, month, day_of_month) = date_of(day);
        let days = self.days_of(year, month);
        if days & (1 << day_of_month) != 0
            && let Some(time) = self.time_from(local.rem_euclid(DAY_SECONDS) as u32)
        {
            return Some(day * DAY_SECONDS + i64::from(time));
        }
        let day = match bit_from(days.into(), day_of_month + 1) {
            Some(next) => day + i64::from(next - day_of_month),
            None => self.first_day_after(year, month)?,
        };
        Some(day * DAY_SECONDS + i64::from(self.first_time()))
    }

    fn days_of(&self, year: i64, month: u32) -> u32 {
        if self.months & (1 << month) == 0 {
            return 0;
        }
        self.days.within(weekday_of(day_number(year, month, 1)), days_in_month(year, month))
    }

    fn first_day_after(&self, mut year: i64, mut month: u32) -> Option<i64> {
        loop {
            month = match bit_from(self.months.into(), month + 1) {
                Some(next) => next,
                None => {
                    year += 1;
                    self.months.trailing_zeros()
                }
            };
            if year > YEAR_MAX {
                return None;
            }
            let days = self.days_of(year, month);
            if days != 0 {
                return Some(day_number(year, month, days.trailing_zeros()));
            }
        }
    }

    /// Returns the first second of a day at or after `from` that the expression names.
    fn time_from(&self, from: u32) -> Option<u32> {
        let (hour, minute, second) = (from / 3_600, from / 60 % 60, from % 60);
        if self.hours & (1 << hour) != 0 {
            if self.minutes & (1 << minute) != 0
                && let Some(second) = bit_from(self.seconds, second)
            {
                return Some(hour * 3_600 + minute * 60 + second);
            }
            if let Some(minute) = bit_from(self.minutes, minute + 1) {
                return Some(hour * 3_600 + minute * 60 + self.seconds.trailing_zeros());
            }
        }
        let hour = bit_from(self.hours.into(), hour + 1)?;
        Some(hour * 3_600 + self.minutes.trailing_zeros() * 60 + self.seconds.trailing_zeros())
    }

    fn first_time(&self) -> u32 {
        self.hours.trailing_zeros() * 3_600
            + self.minutes.trailing_zeros() * 60
            + self.seconds.trailing_zeros()
    }
}
