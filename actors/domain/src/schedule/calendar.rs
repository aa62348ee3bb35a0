//! Calendars: named sets of days and of windows of the week that narrow the schedules of the tasks that name them.
//!
//! A calendar either forbids what it covers or allows nothing else. Days are local days: in the calendar's zone if it has
//! one, else in the task's. A window is a stretch of local wall-clock time of the week or of every day, its end excluded;
//! it may have a zone of its own. Absent on purpose: names, tenants, and what becomes of an instant that is forbidden.

use std::fmt;
use std::str::FromStr;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::civil::{date_of, day_number, days_in_month, weekday_of};
use super::error::{ScheduleError, ScheduleFault};
use super::timezone;
use super::zone::Zone;
use crate::limits::{CALENDAR_DAYS_MAX, CALENDAR_WINDOWS_MAX};
use crate::timestamp::Timestamp;

const DAY_SECONDS: i64 = 86_400;
const DAY_MINUTES: u16 = 24 * 60;
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A set of days and windows, as a client wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// A text for people.
    pub description: String,
    /// Whether it forbids what it covers, or everything else.
    pub mode: CalendarMode,
    /// The IANA zone of its days, and of windows that name none; the task's if absent.
    pub timezone: Option<String>,
    /// Its days.
    pub days: Vec<Days>,
    /// Its windows.
    pub windows: Vec<Window>,
}

/// What a calendar does with what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CalendarMode {
    /// Nothing is run then.
    #[default]
    Exclude,
    /// Nothing is run at any other time.
    Only,
}

/// A day or a range of days, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Days {
    /// From a date to a date.
    Dates {
        /// The first: year, month, day.
        from: (u16, u8, u8),
        /// The last.
        to: (u16, u8, u8),
    },
    /// The same days of every year; a range may go over New Year's.
    Yearly {
        /// The first: month, day.
        from: (u8, u8),
        /// The last.
        to: (u8, u8),
    },
}

/// A stretch of wall-clock time that comes back every week, or every day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Whether the minutes count from Monday's midnight or from each day's.
    pub weekly: bool,
    /// Its first minute.
    pub from: u16,
    /// The minute that is no longer in it; at or before `from` it goes over the end of the week or day.
    pub to: u16,
    /// The IANA zone of its wall clock; the calendar's if absent, or else the task's.
    pub timezone: Option<String>,
}

impl Calendar {
    /// Checks everything about it that can be wrong.
    ///
    /// # Errors
    /// [`ScheduleError`] with every fault, each at its field.
    pub fn check(&self) -> Result<(), ScheduleError> {
        let mut faults = Vec::new();
        let mut zone = |pointer, name: &Option<String>| {
            if let Some(Err(detail)) = name.as_deref().map(timezone::parse) {
                faults.push(ScheduleFault::new(pointer, detail));
            }
        };
        zone("/timezone", &self.timezone);
        self.windows.iter().for_each(|window| zone("/windows", &window.timezone));
        if self.days.is_empty() && self.windows.is_empty() {
            faults.push(ScheduleFault::new("/days", "a calendar covers at least one day or window"));
        }
        let mut bounded = |pointer, what, found: usize, limit: usize| {
            if found > limit {
                let detail = format!("{found} {what}; at most {limit} are allowed");
                faults.push(ScheduleFault::new(pointer, detail));
            }
        };
        bounded("/days", "days and ranges", self.days.len(), CALENDAR_DAYS_MAX);
        bounded("/windows", "windows", self.windows.len(), CALENDAR_WINDOWS_MAX);
        if faults.is_empty() { Ok(()) } else { Err(ScheduleError { faults }) }
    }

    /// Whether it lets an instant of a task run whose own zone is `zone`.
    ///
    /// A zone that this program does not know counts as the task's: [`Calendar::check`] found it known once.
    #[must_use]
    pub fn permits(&self, instant: Timestamp, zone: Tz) -> bool {
        let named = |name: &Option<String>| name.as_deref().and_then(|name| timezone::parse(name).ok());
        let own = named(&self.timezone).unwrap_or(zone);
        let second = instant.0.div_euclid(1_000);
        let covered = self.covers_day(local(second, own).div_euclid(DAY_SECONDS))
            || self.windows.iter().any(|window| {
                let zone = named(&window.timezone).unwrap_or(own);
                window.covers(local(second, zone))
            });
        match self.mode {
            CalendarMode::Exclude => !covered,
            CalendarMode::Only => covered,
        }
    }

    fn covers_day(&self, day: i64) -> bool {
        if self.days.is_empty() {
            return false;
        }
        let (_, month, day_of_month) = date_of(day);
        self.days.iter().any(|days| match days {
            Days::Dates { from, to } => {
                let number = |(year, month, day): (u16, u8, u8)| {
                    day_number(i64::from(year), u32::from(month), u32::from(day))
                };
                (number(*from)..=number(*to)).contains(&day)
            }
            Days::Yearly { from, to } => {
                let pair = |(month, day): (u8, u8)| (u32::from(month), u32::from(day));
                let (from, to, today) = (pair(*from), pair(*to), (month, day_of_month));
                if from <= to { (from..=to).contains(&today) } else { today >= from || today <= to }
            }
        })
    }
}

/// The wall clock of a zone, as seconds since the epoch's midnight there.
fn local(second: i64, zone: Tz) -> i64 {
    second + Zone::of(zone).segment(second).offset
}

impl Window {
    fn covers(&self, local: i64) -> bool {
        let day = local.div_euclid(DAY_SECONDS);
        let minute_of_day = u16::try_from(local.rem_euclid(DAY_SECONDS) / 60).unwrap_or(0);
        let minute = if self.weekly {
            // Sunday is 0 there, and Monday begins the week here.
            let weekday = u16::try_from((weekday_of(day) + 6) % 7).unwrap_or(0);
            weekday * DAY_MINUTES + minute_of_day
        } else {
            minute_of_day
        };
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl FromStr for Days {
    type Err = String;

    /// Reads `2026-12-25`, `2026-12-24/2027-01-01`, `12-25` or `12-24/01-01`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from, to) = text.split_once('/').unwrap_or((text, text));
        let wrong = || {
            format!(
                "`{text}` is not a day such as `2026-12-25`, a day of every year such as `12-25`, or a range such as \
                 `2026-12-24/2027-01-01`"
            )
        };
        match (parts(from).ok_or_else(wrong)?, parts(to).ok_or_else(wrong)?) {
            ((Some(first), month, day), (Some(last), to_month, to_day)) => {
                let (from, to) = ((first, month, day), (last, to_month, to_day));
                if from > to {
                    return Err(format!("`{text}` ends before it begins"));
                }
                Ok(Self::Dates { from, to })
            }
            ((None, month, day), (None, to_month, to_day)) => {
                Ok(Self::Yearly { from: (month, day), to: (to_month, to_day) })
            }
            _ => Err(wrong()),
        }
    }
}

/// Reads `2026-12-25` or `12-25`.
fn parts(text: &str) -> Option<(Option<u16>, u8, u8)> {
    let number = |text: &str, digits: usize| {
        (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u16>().ok())
            .flatten()
    };
    let mut fields = text.trim().split('-');
    let (first, second, third) = (fields.next()?, fields.next()?, fields.next());
    if fields.next().is_some() {
        return None;
    }
    let (year, month, day) = match third {
        Some(day) => (Some(number(first, 4).filter(|year| *year >= 1970)?), second, day),
        None => (None, first, second),
    };
    let month = u8::try_from(number(month, 2)?).ok().filter(|month| (1..=12).contains(month))?;
    let day = u8::try_from(number(day, 2)?).ok()?;
    // A day of every year may be the 29th of February.
    let longest = days_in_month(year.map_or(2_000, i64::from), u32::from(month));
    (1..=longest).contains(&u32::from(day)).then_some((year, month, day))
}

impl fmt::Display for Days {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dates { from, to } => {
                let date = |(year, month, day): &(u16, u8, u8)| format!("{year:04}-{month:02}-{day:02}");
                formatter.write_str(&date(from))?;
                if from == to { Ok(()) } else { write!(formatter, "/{}", date(to)) }
            }
            Self::Yearly { from, to } => {
                write!(formatter, "{:02}-{:02}", from.0, from.1)?;
                if from == to { Ok(()) } else { write!(formatter, "/{:02}-{:02}", to.0, to.1) }
            }
        }
    }
}

impl FromStr for Window {
    type Err = String;

    /// Reads `Sat 22:00-Sun 04:00 Europe/Paris`, or `22:00-04:00` for every day; the zone may be left out, and the hyphen
    /// may be a dash with spaces around it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "`{text}` is not a window such as `Sat 22:00-Sun 04:00 Europe/Paris`, or `22:00-04:00` for every day"
            )
        };
        // The zone comes last, and may hold a hyphen itself: it is what follows the second time of day.
        let plain = text.replace(['–', '—'], "-");
        let (from, rest) = plain.split_once('-').ok_or_else(wrong)?;
        let rest = rest.trim();
        let end_of_time =
            rest.find(':').map(|colon| colon + 3).filter(|end| *end <= rest.len()).ok_or_else(wrong)?;
        let (to, zone) = rest.split_at_checked(end_of_time).ok_or_else(wrong)?;
        let zone = zone.trim();
        let (from, to) = (moment(from).ok_or_else(wrong)?, moment(to).ok_or_else(wrong)?);
        let (weekly, from, to) = match (from, to) {
            ((Some(first), from), (Some(last), to)) => {
                (true, first * DAY_MINUTES + from, (last * DAY_MINUTES + to) % WEEK_MINUTES)
            }
            ((None, from), (None, to)) => (false, from, to % DAY_MINUTES),
            _ => return Err(format!("`{text}` names a day of the week at one end only")),
        };
        if from == to {
            return Err(format!("`{text}` has no length"));
        }
        Ok(Self { weekly, from, to, timezone: (!zone.is_empty()).then(|| zone.to_owned()) })
    }
}

/// Reads `Sat 22:00` or `22:00`: the day of the week, counted from Monday, and the minute of the day.
fn moment(text: &str) -> Option<(Option<u16>, u16)> {
    let text = text.trim();
    let (weekday, time) = match text.rsplit_once(char::is_whitespace) {
        Some((weekday, time)) => {
            let weekday = weekday.trim();
            let known = WEEKDAYS.iter().position(|name| {
                weekday.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(name))
                    && (weekday.len() == 3 || weekday.to_ascii_lowercase().ends_with("day"))
            });
            (Some(u16::try_from(known?).ok()?), time)
        }
        None => (None, text),
    };
    let (hour, minute) = time.split_once(':')?;
    let two_digits = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u16>().ok())
            .flatten()
    };
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    let midnight_at_the_end = hour == 24 && minute == 0;
    ((hour < 24 && minute < 60) || midnight_at_the_end).then_some((weekday, hour * 60 + minute))
}

impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = |minute: u16| {
            let (day, minute) = (minute / DAY_MINUTES, minute % DAY_MINUTES);
            let time = format!("{:02}:{:02}", minute / 60, minute % 60);
            match WEEKDAYS.get(usize::from(day)).filter(|_| self.weekly) {
                Some(weekday) => format!("{weekday} {time}"),
                None => time,
            }
        };
        write!(formatter, "{}-{}", moment(self.from), moment(self.to))?;
        match &self.timezone {
            Some(zone) => write!(formatter, " {zone}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(mode: CalendarMode, days: &[&str], windows: &[&str]) -> Calendar {
        Calendar {
            description: String::new(),
            mode,
            timezone: None,
            days: days.iter().map(|days| days.parse().expect("days")).collect(),
            windows: windows.iter().map(|window| window.parse().expect("a window")).collect(),
        }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("an instant")
    }

    #[test]
    fn a_day_is_a_local_day_of_the_task() {
        let christmas = calendar(CalendarMode::Exclude, &["2026-12-25"], &[]);
        let berlin = Tz::Europe__Berlin;
        for (instant, permitted) in [
            ("2026-12-24T22:59:59Z", true),
            ("2026-12-24T23:00:00Z", false),
            ("2026-12-25T22:59:59Z", false),
            ("2026-12-25T23:00:00Z", true),
        ] {
            assert_eq!(christmas.permits(at(instant), berlin), permitted, "{instant}");
        }
        assert!(christmas.permits(at("2026-12-24T23:30:00Z"), Tz::UTC));
        let elsewhere = Calendar { timezone: Some("Asia/Tokyo".into()), ..christmas };
        assert!(!elsewhere.permits(at("2026-12-24T15:00:00Z"), berlin));
    }

    #[test]
    fn days_of_every_year_may_go_over_new_year() {
        let holidays = calendar(CalendarMode::Exclude, &["12-24/01-01", "02-29"], &[]);
        for (instant, permitted) in [
            ("2026-12-23T12:00:00Z", true),
            ("2026-12-24T12:00:00Z", false),
            ("2031-01-01T12:00:00Z", false),
            ("2031-01-02T12:00:00Z", true),
            ("2028-02-29T12:00:00Z", false),
            ("2027-02-28T12:00:00Z", true),
        ] {
            assert_eq!(holidays.permits(at(instant), Tz::UTC), permitted, "{instant}");
        }
    }

    #[test]
    fn a_window_goes_over_the_end_of_the_week_by_its_own_clock() {
        let blackout = calendar(CalendarMode::Exclude, &[], &["Sat 22:00–Mon 04:00 Europe/Paris"]);
        for (instant, permitted) in [
            // Summer time: 22:00 in Paris is 20:00 in UTC.
            ("2026-07-04T19:59:00Z", true),
            ("2026-07-04T20:00:00Z", false),
            ("2026-07-06T01:59:00Z", false),
            ("2026-07-06T02:00:00Z", true),
            // Winter time.
            ("2026-12-05T20:30:00Z", true),
            ("2026-12-05T21:00:00Z", false),
        ] {
            assert_eq!(blackout.permits(at(instant), Tz::Asia__Tokyo), permitted, "{instant}");
        }
    }

    #[test]
    fn what_is_allowed_only_is_forbidden_at_any_other_time() {
        let office = calendar(CalendarMode::Only, &[], &["Mon 09:00-Fri 17:00"]);
        assert!(office.permits(at("2026-11-25T10:00:00Z"), Tz::UTC));
        assert!(!office.permits(at("2026-11-28T10:00:00Z"), Tz::UTC));
        let nights = calendar(CalendarMode::Only, &[], &["22:00-04:00"]);
        assert!(nights.permits(at("2026-11-25T23:00:00Z"), Tz::UTC));
        assert!(nights.permits(at("2026-11-25T03:59:00Z"), Tz::UTC));
        assert!(!nights.permits(at("2026-11-25T04:00:00Z"), Tz::UTC));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["2026-12-25", "2026-12-24/2027-01-01", "12-25", "12-24/01-01"] {
            assert_eq!(text.parse::<Days>().expect(text).to_string(), text);
        }
        for text in
            ["Sat 22:00-Sun 04:00 Europe/Paris", "22:00-04:00", "Mon 00:00-Tue 00:00 America/Port-au-Prince"]
        {
            assert_eq!(text.parse::<Window>().expect(text).to_string(), text);
        }
        assert_eq!(
            "Sun 20:00 – Sun 24:00".parse::<Window>().expect("a window").to_string(),
            "Sun 20:00-Mon 00:00"
        );
        assert_eq!(
            "saturday 22:00 - SUNDAY 04:00".parse::<Window>().expect("a window").to_string(),
            "Sat 22:00-Sun 04:00"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_allowed() {
        for text in
            ["2026-02-29", "13-01", "25.12.2026", "2026-12-25/01-01", "", "2026-12-25/2026-12-26/2026-12-27"]
        {
            assert!(text.parse::<Days>().expect_err(text).contains("such as `2026-12-25`"), "{text}");
        }
        assert!("2026-12-26/2026-12-25".parse::<Days>().expect_err("backwards").contains("ends before"));
        for text in ["Sat 22-Sun 04", "Sat 22:00", "Sat 25:00-Sun 04:00", "", "Sat 22:00-Sun 04:6", "Sat-Sun"]
        {
            assert!(text.parse::<Window>().expect_err(text).contains("Sat 22:00-Sun 04:00"), "{text}");
        }
        assert!("Sat 22:00-04:00".parse::<Window>().expect_err("half").contains("one end only"));
        assert!("Sat 22:00-Sat 22:00".parse::<Window>().expect_err("empty").contains("no length"));
        let unknown =
            Calendar { timezone: Some("Europe/Berln".into()), ..calendar(CalendarMode::Only, &[], &[]) };
        let pointers: Vec<_> =
            unknown.check().expect_err("two faults").faults.iter().map(|fault| fault.pointer).collect();
        assert_eq!(pointers, ["/timezone", "/days"]);
    }
}
