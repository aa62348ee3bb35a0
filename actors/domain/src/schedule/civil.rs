//! The proleptic Gregorian calendar in whole days, with nothing but integers.
//!
//! Days are counted from 1970-01-01. Absent on purpose: zones, clocks, and any type that could panic on a date.

/// Seconds in a day of local time.
pub(super) const DAY_SECONDS: i64 = 86_400;

/// Days in 400 years, after which dates and weekdays repeat.
pub(super) const CYCLE_DAYS: i64 = 146_097;

/// Returns the day number of a date; `month` counts from 1, `day` from 1.
pub(super) const fn day_number(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month as i64 + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day as i64 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * CYCLE_DAYS + day_of_era - 719_468
}

/// Returns year, month and day of a day number.
pub(super) const fn date_of(day_number: i64) -> (i64, u32, u32) {
    let shifted = day_number + 719_468;
    let era = shifted.div_euclid(CYCLE_DAYS);
    let day_of_era = shifted.rem_euclid(CYCLE_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Returns the weekday of a day number as crontab counts it: Sunday is 0.
pub(super) const fn weekday_of(day_number: i64) -> u32 {
    (day_number + 4).rem_euclid(7) as u32
}

/// Says whether a year has a 29 February.
pub(super) const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Returns how many days a month has.
pub(super) const fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 => 28 + is_leap(year) as u32,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_survives_the_way_to_its_number_and_back() {
        let mut expected = day_number(1890, 1, 1);
        for year in 1890..2510 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    assert_eq!(day_number(year, month, day), expected);
                    assert_eq!(date_of(expected), (year, month, day));
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn the_epoch_was_a_thursday() {
        assert_eq!(day_number(1970, 1, 1), 0);
        assert_eq!(weekday_of(0), 4);
        assert_eq!(weekday_of(day_number(2026, 11, 23)), 1);
    }
}
