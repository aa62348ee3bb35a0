//! The five fields of crontab(5): written, drawn at random, and held against local times one by one.

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use escapement_domain::task::trigger::{Dst, Fold, Gap};
use proptest::prelude::*;

/// A field's text and the values that it names.
#[derive(Clone, Debug)]
pub(super) struct Field {
    text: String,
    values: Vec<u32>,
}

impl Field {
    fn starred(&self) -> bool {
        self.text.starts_with('*')
    }

    pub(super) fn holds(&self, value: u32) -> bool {
        self.values.contains(&value)
    }

    /// Reads numbers, ranges and steps, in lists.
    fn read(text: &str, low: u32, high: u32) -> Self {
        let number = |text: &str| text.parse::<u32>().expect("a number");
        let items = text.split(',').flat_map(|item| {
            let (range, step) = item.split_once('/').unwrap_or((item, "1"));
            let (from, to) = match range.split_once('-') {
                None if range == "*" => (low, high),
                None => (number(range), number(range)),
                Some((from, to)) => (number(from), number(to)),
            };
            (from..=to).step_by(number(step) as usize)
        });
        Self { text: text.into(), values: items.collect() }
    }
}

fn field(low: u32, high: u32) -> impl Strategy<Value = Field> {
    let list = prop::collection::vec(low..=high, 1..4).prop_map(|values| Field {
        text: values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        values,
    });
    let range = (low..=high, low..=high, 1..4_u32).prop_map(|(one, other, step)| {
        let (from, to) = (one.min(other), one.max(other));
        Field { text: format!("{from}-{to}/{step}"), values: (from..=to).step_by(step as usize).collect() }
    });
    let stars = (1..=(high - low).min(20)).prop_map(move |step| Field {
        text: format!("*/{step}"),
        values: (low..=high).step_by(step as usize).collect(),
    });
    let star = Just(Field { text: "*".into(), values: (low..=high).collect() });
    prop_oneof![2 => list, 1 => range, 1 => stars, 3 => star]
}

/// The fields of an expression.
#[derive(Clone, Debug)]
pub(super) struct Fields([Field; 5]);

impl Fields {
    /// Reads an expression of numbers.
    pub(super) fn read(text: &str) -> Self {
        let mut bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)].into_iter();
        let fields = text.split(' ').map(|text| {
            let (low, high) = bounds.next().expect("five fields");
            Field::read(text, low, high)
        });
        Self(fields.collect::<Vec<_>>().try_into().expect("five fields"))
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Says whether Debian's cron would call it a wildcard job.
    pub(super) fn wildcard(&self) -> bool {
        self.0[0].starred() || self.0[1].starred()
    }

    pub(super) fn minute(&self) -> &Field {
        &self.0[0]
    }

    pub(super) fn hour(&self) -> &Field {
        &self.0[1]
    }

    pub(super) fn on(&self, date: NaiveDate) -> bool {
        let [_, _, day, month, weekday] = &self.0;
        let sunday = date.weekday().num_days_from_sunday();
        let on_weekday = weekday.holds(sunday) || (sunday == 0 && weekday.holds(7));
        let on_day = day.holds(date.day());
        let both = day.starred() || weekday.starred();
        month.holds(date.month()) && if both { on_day && on_weekday } else { on_day || on_weekday }
    }

    pub(super) fn holds(&self, local: NaiveDateTime) -> bool {
        self.minute().holds(local.minute()) && self.hour().holds(local.hour()) && self.on(local.date())
    }
}

pub(super) fn fields() -> impl Strategy<Value = Fields> {
    // Hours near midnight and three are where clocks change.
    let hour =
        prop_oneof![field(0, 23), field(0, 3).prop_filter("`*` means all hours", |hour| !hour.starred())];
    (field(0, 59), hour, field(1, 31), field(1, 12), field(0, 7))
        .prop_map(|(minute, hour, day, month, weekday)| Fields([minute, hour, day, month, weekday]))
}

pub(super) fn dst() -> impl Strategy<Value = Dst> {
    let gap = prop_oneof![3 => Just(Gap::Cron), 1 => Just(Gap::Skip), 1 => Just(Gap::Shift)];
    let fold = prop_oneof![3 => Just(Fold::Cron), 1 => Just(Fold::First), 1 => Just(Fold::Second), 1 => Just(Fold::Both)];
    (gap, fold).prop_map(|(gap, fold)| Dst { gap, fold })
}
