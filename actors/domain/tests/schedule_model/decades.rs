//! Ten years of forty zones, minute by minute, under every choice of gap and fold.
//!
//! The model walks over the minutes of UTC, asks chrono-tz what the clock on the wall shows, and remembers when each face of it
//! was shown: a face that never is lies in a gap, one that is shown twice in a fold. Every answer of a schedule is then held
//! against the minutes that are due: it is the first of them after the question, so it is later, it matches, and nothing
//! between does. Days on which clocks change are asked through instant by instant, and so are whole years of schedules that
//! are due a few times a day; of the others each day is asked about once.

use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use escapement_domain::schedule::Schedule;
use escapement_domain::task::trigger::{Dst, Fold, Gap};
use escapement_domain::timestamp::Timestamp;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::fields::{Fields, fields};
use super::schedule;

const YEARS: i32 = 10;
const DAY: i64 = 1_440;
/// Minutes before and after a year whose faces are known too, so that a fold on its border is seen: a day can be skipped whole.
const MARGIN: i64 = 2 * DAY;
/// Minutes around a change of clocks, beyond its own length, that are asked through.
const NIGHT: i64 = 150;
/// Fires of a year up to which it is asked through.
const SPARSE: usize = 1_500;
/// Distance of questions otherwise: not a whole day, so that they wander over it.
const STRIDE: i64 = DAY + 7;

/// What people write, and what meets the hours at which clocks change.
const TELLING: [&str; 16] = [
    "* * * * *",
    "*/15 * * * *",
    "7 * * * *",
    "0 */2 * * *",
    "*/20 0-3 * * *",
    "0 0 * * *",
    "59 23 * * *",
    "30 0 * * 1-5",
    "15,45 1,2 * * *",
    "30 2 * * *",
    "0 3 * * 0",
    "30 2 25-31 3 */7",
    "0 12 13 * 5",
    "0 0 1 1 *",
    "10 4 29 2 *",
    "1-59/7 0-23/5 */2 1-12/3 *",
];
/// Expressions that nobody thought of, for each zone.
const RANDOM: usize = 8;

fn choices() -> impl Iterator<Item = Dst> {
    let folds = [Fold::Cron, Fold::First, Fold::Second, Fold::Both];
    [Gap::Cron, Gap::Skip, Gap::Shift].into_iter().flat_map(move |gap| folds.map(|fold| Dst { gap, fold }))
}

/// What one zone's clock shows through one year, and some days before and after: minutes since 1970 by UTC and on its face.
struct Year {
    begin: i64,
    end: i64,
    /// The face of each minute from the first on.
    faces: Vec<i64>,
    first: i64,
    /// When each face from the lowest on was shown first and last.
    shown: Vec<Option<(i64, i64)>>,
    lowest: i64,
    /// The minutes at which the clock does not show one more than a minute before, and how far it is off.
    changes: Vec<(i64, i64)>,
}

impl Year {
    fn of(tz: Tz, year: i32) -> Self {
        let new_year = |year| Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap().timestamp() / 60;
        let (begin, end) = (new_year(year), new_year(year + 1));
        let first = begin - MARGIN;
        let faces: Vec<i64> = (first..end + MARGIN).map(|minute| face(tz, minute)).collect();
        let lowest = *faces.iter().min().expect("many minutes");
        let highest = *faces.iter().max().expect("many minutes");
        let mut shown =
            vec![None; usize::try_from(highest - lowest + 1).expect("some days more than a year")];
        let steps = (first + 1..).zip(faces.windows(2)).map(|(minute, pair)| (minute, pair[1] - pair[0] - 1));
        let changes = steps.filter(|(_, by)| *by != 0).map(|(at, by)| (at, by.abs())).collect();
        for (minute, face) in (first..).zip(&faces) {
            let place: &mut Option<(i64, i64)> =
                &mut shown[usize::try_from(face - lowest).expect("the lowest")];
            *place = Some((place.map_or(minute, |(first, _)| first), minute));
        }
        Self { begin, end, faces, first, shown, lowest, changes }
    }

    fn face(&self, minute: i64) -> i64 {
        self.faces[usize::try_from(minute - self.first).expect("within the year")]
    }

    /// When a face was shown first and last; `None` for one that never was.
    fn shown(&self, face: i64) -> Option<(i64, i64)> {
        self.shown[usize::try_from(face - self.lowest).expect("between two faces")]
    }

    /// Says whether clocks change near these minutes, or in between.
    fn changes_between(&self, from: i64, to: i64) -> bool {
        self.changes.iter().any(|(at, by)| at - by - NIGHT < to && from < at + by + NIGHT)
    }
}

fn face(tz: Tz, minute: i64) -> i64 {
    let utc = DateTime::from_timestamp(minute * 60, 0).expect("within the calendar");
    let local =
        minute * 60 + i64::from(tz.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc());
    assert_eq!(local % 60, 0, "no clock is off by odd seconds in these years");
    local / 60
}

/// Expressions side by side: bit `e` speaks for the expression `e`.
struct Sheet<'a> {
    expressions: &'a [Fields],
    minutes: Vec<u32>,
    hours: Vec<u32>,
    day: i64,
    days: u32,
}

impl<'a> Sheet<'a> {
    fn of(expressions: &'a [Fields]) -> Self {
        let minutes = (0..60).map(|minute| bits(expressions, |fields| fields.minute().holds(minute)));
        let hours = (0..24).map(|hour| bits(expressions, |fields| fields.hour().holds(hour)));
        Self { expressions, minutes: minutes.collect(), hours: hours.collect(), day: i64::MIN, days: 0 }
    }

    /// The expressions that name a face of the clock.
    fn naming(&mut self, face: i64) -> u32 {
        let (day, minute) = (face.div_euclid(DAY), face.rem_euclid(DAY));
        if day != self.day {
            let date = DateTime::from_timestamp(day * DAY * 60, 0).expect("a day").date_naive();
            self.days = bits(self.expressions, |fields| fields.on(date));
            self.day = day;
        }
        let (hour, minute) = ((minute / 60) as usize, (minute % 60) as usize);
        self.days & self.hours[hour] & self.minutes[minute]
    }
}

fn bits(expressions: &[Fields], holds: impl Fn(&Fields) -> bool) -> u32 {
    expressions.iter().enumerate().fold(0, |bits, (index, fields)| bits | u32::from(holds(fields)) << index)
}

/// What an expression names in a year.
#[derive(Default)]
struct Named {
    /// The minutes whose face is shown once.
    plain: Vec<i64>,
    /// The others.
    odd: Vec<Odd>,
}

enum Odd {
    /// A face that is shown more than once, and whether this is the first and the last time.
    Repeated { minute: i64, first: bool, last: bool },
    /// A face that is not shown: the first minute after the gap, and the one as long after it as the gap is.
    Missing { resumed: i64, shifted: i64 },
}

impl Named {
    /// The minutes at which the expression is due, by the rules of Debian's cron or those that were chosen.
    fn due(&self, dst: Dst, wildcard: bool) -> Due<'_> {
        let odd = self.odd.iter().filter_map(|odd| match *odd {
            Odd::Repeated { minute, first, last } => match dst.fold {
                Fold::Cron if wildcard => true,
                Fold::Cron | Fold::First => first,
                Fold::Second => last,
                Fold::Both => true,
            }
            .then_some(minute),
            Odd::Missing { resumed, shifted } => match dst.gap {
                Gap::Cron if wildcard => None,
                Gap::Cron => Some(resumed),
                Gap::Skip => None,
                Gap::Shift => Some(shifted),
            },
        });
        let mut odd: Vec<i64> = odd.collect();
        odd.sort();
        Due { plain: &self.plain, odd }
    }
}

/// The minutes at which an expression is due, in two rows.
struct Due<'a> {
    plain: &'a [i64],
    odd: Vec<i64>,
}

impl Due<'_> {
    fn after(&self, minute: i64) -> Option<i64> {
        let next = |row: &[i64]| row.get(row.partition_point(|&due| due <= minute)).copied();
        next(self.plain).into_iter().chain(next(&self.odd)).min()
    }
}

/// Walks over a year and notes what each expression names.
fn walk(year: &Year, expressions: &[Fields]) -> Vec<Named> {
    let mut sheet = Sheet::of(expressions);
    let mut named: Vec<Named> = expressions.iter().map(|_| Named::default()).collect();
    for minute in year.first + 1..year.end + MARGIN {
        let (before, here) = (year.face(minute - 1), year.face(minute));
        for gone in (before + 1..here).filter(|&gone| year.shown(gone).is_none()) {
            let shifted = minute - 1 + (gone - before);
            note(&mut named, sheet.naming(gone), |of| of.odd.push(Odd::Missing { resumed: minute, shifted }));
        }
        let naming = sheet.naming(here);
        match year.shown(here).expect("it is shown now") {
            (first, last) if first == last => note(&mut named, naming, |of| of.plain.push(minute)),
            (first, last) => note(&mut named, naming, |of| {
                of.odd.push(Odd::Repeated { minute, first: first == minute, last: last == minute })
            }),
        }
    }
    named
}

fn note(named: &mut [Named], mut naming: u32, mut what: impl FnMut(&mut Named)) {
    while naming != 0 {
        what(&mut named[naming.trailing_zeros() as usize]);
        naming &= naming - 1;
    }
}

/// Asks a schedule its way through a year; returns how often.
fn ask(schedule: &Schedule, due: &Due<'_>, year: &Year, of: &dyn Fn() -> String) -> u64 {
    let (mut asked, mut questions) = (year.begin - 1, 0);
    loop {
        questions += 1;
        let found = schedule.next_after(Timestamp(asked * 60_000));
        let expected = due.after(asked).filter(|&minute| minute < year.end);
        let within = found.filter(|found| found.0 < year.end * 60_000);
        let instant = expected.map(|minute| Timestamp(minute * 60_000));
        assert_eq!(within, instant, "{} after {}", of(), Timestamp(asked * 60_000));
        let Some(next) = expected else { return questions };
        let leap = due.plain.len() > SPARSE && !year.changes_between(next, next + STRIDE);
        asked = if leap { next + STRIDE } else { next };
    }
}

/// Holds every expression to the model through the ten years from `from` on.
fn hold(zones: [(Tz, i32); 8], seed: u8) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut questions = 0;
    for (tz, from) in zones {
        let mut expressions: Vec<Fields> = TELLING.map(Fields::read).into();
        while expressions.len() < TELLING.len() + RANDOM {
            let drawn = fields().new_tree(&mut runner).expect("it draws").current();
            expressions.extend(schedule(&drawn.text(), tz, Dst::default()).map(|_| drawn));
        }
        let schedules: Vec<Vec<(Dst, Option<Schedule>)>> = expressions
            .iter()
            .map(|fields| choices().map(|dst| (dst, schedule(&fields.text(), tz, dst))).collect())
            .collect();
        for year in (from..from + YEARS).map(|year| Year::of(tz, year)) {
            for ((fields, schedules), named) in
                expressions.iter().zip(&schedules).zip(walk(&year, &expressions))
            {
                for (dst, schedule) in schedules {
                    let due = named.due(*dst, fields.wildcard());
                    let of = || format!("`{}` in {tz} under {dst:?}", fields.text());
                    match schedule {
                        Some(schedule) => questions += ask(schedule, &due, &year, &of),
                        None => assert_eq!(due.after(year.begin - 1), None, "{} was refused", of()),
                    }
                }
            }
        }
    }
    assert!(questions > 1_000_000, "{questions} questions");
}

#[test]
fn schedules_in_europe_are_due_when_a_walk_over_ten_years_of_minutes_finds_them() {
    let zones = [
        (Tz::Europe__Berlin, 2020),
        (Tz::Europe__London, 1990),
        // Winter is its summer time, of minus one hour.
        (Tz::Europe__Dublin, 2021),
        // Changed to Berlin's time and back.
        (Tz::Europe__Lisbon, 1990),
        (Tz::Europe__Moscow, 2008),
        (Tz::Europe__Istanbul, 2010),
        (Tz::Europe__Chisinau, 2025),
        (Tz::UTC, 2020),
    ];
    hold(zones, 1);
}

#[test]
fn schedules_in_africa_are_due_when_a_walk_over_ten_years_of_minutes_finds_them() {
    let zones = [
        // Summer time is suspended for Ramadan; since 2018 winter time is kept for Ramadan alone.
        (Tz::Africa__Casablanca, 2012),
        (Tz::Africa__El_Aaiun, 2026),
        (Tz::Africa__Cairo, 2014),
        (Tz::Africa__Tripoli, 2009),
        (Tz::Africa__Tunis, 2003),
        // Winter is its summer time, of minus one hour.
        (Tz::Africa__Windhoek, 1993),
        (Tz::Africa__Sao_Tome, 2014),
        (Tz::Africa__Juba, 2016),
    ];
    hold(zones, 2);
}

#[test]
fn schedules_in_america_are_due_when_a_walk_over_ten_years_of_minutes_finds_them() {
    let zones = [
        (Tz::America__New_York, 2003),
        // At one minute past midnight.
        (Tz::America__St_Johns, 2003),
        // At midnight.
        (Tz::America__Santiago, 2014),
        (Tz::America__Asuncion, 2017),
        (Tz::America__Havana, 2020),
        (Tz::America__Sao_Paulo, 2012),
        // By half an hour, twice.
        (Tz::America__Caracas, 2007),
        (Tz::America__Nuuk, 2018),
    ];
    hold(zones, 3);
}

#[test]
fn schedules_in_asia_are_due_when_a_walk_over_ten_years_of_minutes_finds_them() {
    let zones = [
        // At midnight.
        (Tz::Asia__Beirut, 2020),
        (Tz::Asia__Amman, 2014),
        (Tz::Asia__Tehran, 2015),
        // Suspended for Ramadan.
        (Tz::Asia__Gaza, 2020),
        (Tz::Asia__Jerusalem, 2004),
        // From half an hour to three quarters.
        (Tz::Asia__Kathmandu, 1980),
        (Tz::Asia__Pyongyang, 2012),
        (Tz::Asia__Colombo, 1995),
    ];
    hold(zones, 4);
}

#[test]
fn schedules_in_the_south_seas_are_due_when_a_walk_over_ten_years_of_minutes_finds_them() {
    let zones = [
        // By half an hour.
        (Tz::Australia__Lord_Howe, 2020),
        (Tz::Australia__Eucla, 2003),
        (Tz::Pacific__Chatham, 2018),
        // Skipped a whole day each.
        (Tz::Pacific__Apia, 2006),
        (Tz::Pacific__Kwajalein, 1988),
        (Tz::Pacific__Kiritimati, 1990),
        (Tz::Pacific__Norfolk, 2014),
        // By two hours.
        (Tz::Antarctica__Troll, 2016),
    ];
    hold(zones, 5);
}
