//! One field of a cron expression: its text, what it may hold, and the bits it stands for.
//!
//! The grammar is crontab(5)'s (lists, ranges, steps, names) with what Quartz adds for days (`L`, `W`, `#`, `?`) and
//! Jenkins's `H`. Numbers are crontab's throughout: Sunday is 0 and 7, also in `5L` and `5#3`.
//!
//! Two readings are our own. Names may wrap (`FRI-SUN`, `NOV-FEB`), while numbers in reverse are refused, since
//! there they are mistakes. `a/n` means from `a` to the field's end, as Quartz has it and crontab(5) does not.
//!
//! Absent on purpose: how fields combine, see [`super::expression`].

use super::special;

/// What kind of field it is, where kinds differ in their grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    DayOfMonth,
    DayOfWeek,
}

/// What a field may hold.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) low: u32,
    pub(super) high: u32,
    /// The last value of `*`, of `a/n` and of names that wrap: 6 for weekdays, whose 7 is another 0.
    last: u32,
    /// The last value that `H` may choose: 28 for days, so that no month is left out.
    spread_last: u32,
    names: &'static [&'static str],
    pub(super) role: Role,
    /// Sets the choice of one field's `H` apart from the others'.
    salt: u64,
}

const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

const fn plain(name: &'static str, high: u32, salt: u64) -> Spec {
    Spec { name, low: 0, high, last: high, spread_last: high, names: &[], role: Role::Plain, salt }
}

pub(super) static SECOND: Spec = plain("second", 59, 1);
pub(super) static MINUTE: Spec = plain("minute", 59, 2);
pub(super) static HOUR: Spec = plain("hour", 23, 3);
pub(super) static DAY_OF_MONTH: Spec =
    Spec { low: 1, spread_last: 28, role: Role::DayOfMonth, ..plain("day of month", 31, 4) };
pub(super) static MONTH: Spec = Spec { low: 1, names: &MONTHS, ..plain("month", 12, 5) };
pub(super) static DAY_OF_WEEK: Spec =
    Spec { last: 6, spread_last: 6, names: &WEEKDAYS, role: Role::DayOfWeek, ..plain("day of week", 7, 6) };

impl Spec {
    /// Says what the field may hold, for people.
    pub(super) fn allowed(&self) -> String {
        let names = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(" or {first} to {last}"),
            _ => String::new(),
        };
        let special = match self.role {
            Role::Plain => "",
            Role::DayOfMonth => ", `L`, `L-3`, `15W`, `LW`, `?`",
            Role::DayOfWeek => ", `5L`, `5#3`, `?`",
        };
        let (low, high) = (self.low, self.high);
        format!(
            "it may hold {low} to {high}{names}, `*`, lists `a,b`, ranges `a-b`, steps `*/n` and `a-b/n`, `H`{special}"
        )
    }

    fn count(&self) -> u32 {
        self.last - self.low + 1
    }

    /// Reads one value; the second part says whether it was a name.
    pub(super) fn value(&self, text: &str) -> Result<(u32, bool), Wrong> {
        if let Some(index) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok((self.low + u32::try_from(index).unwrap_or(0), true));
        }
        let number = number(text).ok_or_else(|| Wrong::at(0, format!("`{text}` is not a {}", self.name)))?;
        if (self.low..=self.high).contains(&number) {
            Ok((number, false))
        } else {
            Err(Wrong::at(0, format!("`{text}` is out of range")))
        }
    }
}

/// Reads digits; a number too big for 32 bits becomes the biggest, which is out of every range.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// What is wrong with a field, and how many bytes into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) offset: usize,
    pub(super) what: String,
}

impl Wrong {
    pub(super) fn at(offset: usize, what: String) -> Self {
        Self { offset, what }
    }

    pub(super) fn moved(mut self, by: usize) -> Self {
        self.offset += by;
        self
    }
}

/// The values that a field names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// Bit `v` stands for the value `v`; Sunday is bit 0 only.
    pub(super) bits: u64,
    /// Whether its text begins with `*` or is `?`: crontab's rules turn on that, not on the bits.
    pub(super) starred: bool,
    /// Whether it begins with `H/n`: a `*/n` that starts elsewhere.
    pub(super) spread_step: bool,
    /// Whether it holds any `H`.
    pub(super) spread: bool,
    /// Bit `n` stands for the day `n` days before the month's last.
    pub(super) last: u32,
    /// Bit `d` stands for the weekday nearest to day `d`.
    pub(super) nearest: u32,
    /// Bit `n` stands for the weekday nearest to the day `n` days before the month's last.
    pub(super) nearest_last: u32,
    /// Bit `w` stands for the last weekday `w` of the month.
    pub(super) last_weekdays: u8,
    /// Bit `w` of entry `k - 1` stands for the `k`th weekday `w` of the month.
    pub(super) nth_weekdays: [u8; 5],
}

impl Field {
    /// A field that holds one value, for what an expression leaves out.
    pub(super) fn only(value: u32) -> Self {
        Self { bits: 1 << value, ..Self::default() }
    }

    /// Reads a field. `spread(salt, choices)` chooses for `H`.
    pub(super) fn parse(spec: &Spec, text: &str, spread: &dyn Fn(u64, u64) -> u64) -> Result<Self, Wrong> {
        let mut field = Self { starred: text.starts_with(['*', '?']), ..Self::default() };
        if text == "?" {
            if spec.role == Role::Plain {
                return Err(Wrong::at(0, "`?` stands for days only".into()));
            }
            field.insert_steps(spec, spec.low, spec.last, 1);
            return Ok(field);
        }
        let mut offset = 0;
        for item in text.split(',') {
            field.parse_item(spec, item, spread).map_err(|wrong| wrong.moved(offset))?;
            offset += item.len() + 1;
        }
        let first = text.split(',').next().unwrap_or("").as_bytes();
        field.spread_step =
            first.first().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'H')) && first.contains(&b'/');
        Ok(field)
    }

    fn parse_item(&mut self, spec: &Spec, item: &str, spread: &dyn Fn(u64, u64) -> u64) -> Result<(), Wrong> {
        if item.is_empty() {
            return Err(Wrong::at(0, "an item of the list is empty".into()));
        }
        if special::parse(self, spec, item)? {
            return Ok(());
        }
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => {
                let step = parse_step(spec, step).map_err(|wrong| wrong.moved(range.len() + 1))?;
                (range, Some(step))
            }
        };
        if range == "*" {
            self.insert_steps(spec, spec.low, spec.last, step.unwrap_or(1));
        } else if range.starts_with(['H', 'h']) {
            self.parse_spread(spec, range, step, spread)?;
        } else {
            let (from, to) = parse_range(spec, range, step.is_some())?;
            self.insert_steps(spec, from, to, step.unwrap_or(1));
        }
        Ok(())
    }

    fn parse_spread(
        &mut self,
        spec: &Spec,
        range: &str,
        step: Option<u32>,
        spread: &dyn Fn(u64, u64) -> u64,
    ) -> Result<(), Wrong> {
        let (low, high) = if range.len() == 1 {
            (spec.low, spec.spread_last)
        } else {
            let bounds = range[1..].strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            let bounds =
                bounds.ok_or_else(|| Wrong::at(0, format!("`{range}` is neither `H` nor like `H(0-29)`")))?;
            parse_range(spec, bounds, false).map_err(|wrong| wrong.moved(2))?
        };
        let choices = step.map_or(high - low + 1, |step| step.min(high - low + 1));
        // Below `choices`, which is at most 60.
        let chosen = low + u32::try_from(spread(spec.salt, choices.into())).unwrap_or(0);
        self.spread = true;
        self.insert_steps(spec, chosen, if step.is_some() { high } else { chosen }, step.unwrap_or(1));
        Ok(())
    }

    /// Sets the bits from `from` to `to`; values past the field's end wrap to its beginning.
    fn insert_steps(&mut self, spec: &Spec, from: u32, to: u32, step: u32) {
        let mut value = from;
        while value <= to {
            let wrapped = if value > spec.last { value - spec.count() } else { value };
            self.bits |= 1 << wrapped;
            value += step;
        }
    }
}

fn parse_step(spec: &Spec, text: &str) -> Result<u32, Wrong> {
    let count = spec.count();
    match number(text) {
        Some(step) if (1..=count).contains(&step) => Ok(step),
        _ => Err(Wrong::at(0, format!("`{text}` is not a step of 1 to {count}"))),
    }
}

/// Reads `a` or `a-b`; the end may lie past the field's last value where names wrap.
fn parse_range(spec: &Spec, text: &str, open: bool) -> Result<(u32, u32), Wrong> {
    let Some((from_text, to_text)) = text.split_once('-') else {
        let (value, _) = spec.value(text)?;
        return Ok((value, if open { spec.last.max(value) } else { value }));
    };
    let (from, from_named) = spec.value(from_text)?;
    let (to, to_named) = spec.value(to_text).map_err(|wrong| wrong.moved(from_text.len() + 1))?;
    if from <= to {
        Ok((from, to))
    } else if from_named || to_named {
        Ok((from, to + spec.count()))
    } else {
        Err(Wrong::at(0, format!("the range `{text}` is reversed, its smaller number comes first")))
    }
}
