//! A whole expression: prefix, nickname or fields, with every fault that it has.
//!
//! Five fields as in crontab(5), six with leading seconds; `@yearly @annually @monthly @weekly @daily @midnight
//! @hourly`; `@every 10m` and `@at 2026-03-01T02:00:00Z`; `CRON_TZ=` or `TZ=` in front names the zone.
//!
//! Absent on purpose: Quartz's seventh field (years) and `@reboot`: a replicated scheduler has no boot.

use chrono_tz::Tz;

use super::cron::Cron;
use super::error::{ScheduleError, ScheduleFault};
use super::field::{DAY_OF_MONTH, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH, SECOND, Spec, Wrong};
use super::timezone;
use crate::limits::INTERVAL_MIN;
use crate::timestamp::{Span, Timestamp};

/// Longer expressions are refused unread.
pub const EXPRESSION_BYTES_MAX: usize = 1_024;

const POINTER: &str = "/expression";

/// An expression that was read.
#[derive(Debug)]
pub(super) struct Expression {
    /// The zone that its prefix names.
    pub(super) zone: Option<Tz>,
    pub(super) body: Body,
}

/// What an expression says after its prefix.
#[derive(Debug)]
pub(super) enum Body {
    Fields(Box<Fields>),
    Every(Span),
    At(Timestamp),
}

/// The six fields of a cron expression.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) second: Field,
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) month_day: Field,
    pub(super) month: Field,
    pub(super) weekday: Field,
}

impl Fields {
    pub(super) fn compile(&self) -> Cron {
        Cron::new([&self.second, &self.minute, &self.hour], &self.month_day, &self.month, &self.weekday)
    }

    /// Says whether Debian's cron would call it a wildcard job: minute or hour begins with `*`, or with the `H/n`
    /// that is a `*/n` begun elsewhere.
    pub(super) fn is_wildcard(&self) -> bool {
        [&self.minute, &self.hour].iter().any(|field| field.starred || field.spread_step)
    }
}

/// A part of the text, and where it begins.
#[derive(Clone, Copy)]
struct Token<'text> {
    offset: usize,
    text: &'text str,
}

/// Reads an expression. `spread(salt, choices)` chooses for `H`.
///
/// # Errors
/// Every fault with its column: each wrong field has one, and an expression that can never fire has one.
pub(super) fn parse(text: &str, spread: &dyn Fn(u64, u64) -> u64) -> Result<Expression, ScheduleError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let detail =
            format!("an expression may have {EXPRESSION_BYTES_MAX} bytes, this one has {}", text.len());
        return Err(ScheduleFault::new(POINTER, detail).into());
    }
    let tokens = tokens(text);
    let (zone, tokens) = parse_prefix(text, &tokens)?;
    let Some(first) = tokens.first() else {
        let detail = "it is empty; it may hold five fields, such as `0 2 * * 1-5`, six with \
                      leading seconds, or a nickname such as `@daily`";
        return Err(fault_at(text, text.len(), detail.into()).into());
    };
    let body = if first.text.starts_with('@') {
        parse_nickname(text, *first, &tokens[1..])?
    } else {
        parse_fields(text, tokens, spread)?
    };
    Ok(Expression { zone, body })
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut offset = 0;
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        if !word.is_empty() {
            tokens.push(Token { offset, text: word });
        }
        offset += piece.len();
    }
    tokens
}

fn fault_at(text: &str, offset: usize, detail: String) -> ScheduleFault {
    let before = text.char_indices().take_while(|(index, _)| *index < offset).count();
    ScheduleFault { pointer: POINTER, column: u32::try_from(before + 1).ok(), detail }
}

fn parse_prefix<'tokens, 'text>(
    text: &str,
    tokens: &'tokens [Token<'text>],
) -> Result<(Option<Tz>, &'tokens [Token<'text>]), ScheduleFault> {
    let Some((first, rest)) = tokens.split_first() else {
        return Ok((None, tokens));
    };
    let Some((prefix @ ("CRON_TZ" | "TZ"), name)) = first.text.split_once('=') else {
        return Ok((None, tokens));
    };
    match timezone::parse(name) {
        Ok(zone) => Ok((Some(zone), rest)),
        Err(detail) => Err(fault_at(text, first.offset + prefix.len() + 1, detail)),
    }
}

fn parse_nickname(text: &str, nickname: Token<'_>, arguments: &[Token<'_>]) -> Result<Body, ScheduleFault> {
    let fields = match nickname.text.to_ascii_lowercase().as_str() {
        "@every" => return parse_argument(text, nickname, arguments, parse_every),
        "@at" => return parse_argument(text, nickname, arguments, |at| Timestamp::parse(at).map(Body::At)),
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        "@reboot" => {
            return Err(fault_at(
                text,
                nickname.offset,
                "`@reboot` means nothing to a cluster, which has no boot".into(),
            ));
        }
        _ => {
            let detail = "an `@` may begin `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, \
                          `@midnight`, `@hourly`, `@every 10m` or `@at 2026-03-01T02:00:00Z`";
            return Err(fault_at(text, nickname.offset, detail.into()));
        }
    };
    if let Some(extra) = arguments.first() {
        return Err(fault_at(text, extra.offset, format!("nothing may follow `{}`", nickname.text)));
    }
    // Written above, without a fault and without `H`.
    parse_fields(fields, &tokens(fields), &|_, _| 0).map_err(|mut error| error.faults.remove(0))
}

fn parse_argument(
    text: &str,
    nickname: Token<'_>,
    arguments: &[Token<'_>],
    parse: impl Fn(&str) -> Result<Body, String>,
) -> Result<Body, ScheduleFault> {
    match arguments {
        [argument] => parse(argument.text).map_err(|detail| fault_at(text, argument.offset, detail)),
        [] => Err(fault_at(
            text,
            text.len(),
            format!(
                "`{}` wants an argument, as in `@every 10m` or `@at 2026-03-01T02:00:00Z`",
                nickname.text
            ),
        )),
        [_, extra, ..] => Err(fault_at(
            text,
            extra.offset,
            format!("`{}` takes one argument, without spaces", nickname.text),
        )),
    }
}

fn parse_every(text: &str) -> Result<Body, String> {
    match parse_span(text) {
        Some(every) if every < INTERVAL_MIN => {
            Err(format!("an interval is at least {INTERVAL_MIN} long, such as 10m"))
        }
        Some(every) => Ok(Body::Every(every)),
        None => Err(format!(
            "`{text}` is not a duration such as `10m`, `1h30m` or `90s` (units w, d, h, m, s, ms)"
        )),
    }
}

/// Reads whole numbers with units, largest or not first: `1h30m`, `90s`.
fn parse_span(text: &str) -> Option<Span> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, unit_on) = rest.split_at(digits);
        let unit = unit_on.split(|letter: char| letter.is_ascii_digit()).next()?;
        let millis = match unit {
            "w" => 604_800_000,
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        rest = &unit_on[unit.len()..];
    }
    (!text.is_empty()).then_some(Span(total))
}

fn parse_fields(
    text: &str,
    tokens: &[Token<'_>],
    spread: &dyn Fn(u64, u64) -> u64,
) -> Result<Body, ScheduleError> {
    let (second, rest) = match tokens {
        [_, _, _, _, _] => (None, tokens),
        [second, rest @ ..] if rest.len() == 5 => (Some(second), rest),
        _ => return Err(wrong_count(text, tokens).into()),
    };
    let mut faults = Vec::new();
    let mut read = |spec: &Spec, token: &Token<'_>| {
        Field::parse(spec, token.text, spread).unwrap_or_else(|wrong| {
            faults.push(field_fault(text, spec, token, &wrong));
            Field::default()
        })
    };
    let fields = Fields {
        second: second.map_or_else(|| Field::only(0), |token| read(&SECOND, token)),
        minute: read(&MINUTE, &rest[0]),
        hour: read(&HOUR, &rest[1]),
        month_day: read(&DAY_OF_MONTH, &rest[2]),
        month: read(&MONTH, &rest[3]),
        weekday: read(&DAY_OF_WEEK, &rest[4]),
    };
    if faults.is_empty() && !fields.compile().can_fire() {
        let detail = "it can never fire: no month that it names has a day that it names";
        faults.push(fault_at(text, rest[2].offset, detail.into()));
    }
    if faults.is_empty() { Ok(Body::Fields(Box::new(fields))) } else { Err(ScheduleError { faults }) }
}

fn field_fault(text: &str, spec: &Spec, token: &Token<'_>, wrong: &Wrong) -> ScheduleFault {
    let detail = format!("{}: {}; {}", spec.name, wrong.what, spec.allowed());
    fault_at(text, token.offset + wrong.offset, detail)
}

fn wrong_count(text: &str, tokens: &[Token<'_>]) -> ScheduleFault {
    let offset = tokens.get(6).map_or(text.trim_end().len(), |extra| extra.offset);
    let plural = if tokens.len() == 1 { "field" } else { "fields" };
    let detail = format!(
        "it has {} {plural}; it may have five (minute, hour, day of month, month, day of week) or six (second first)",
        tokens.len()
    );
    fault_at(text, offset, detail)
}
