//! Reads what is to become of single occurrences: one to come, or those of a range of the past.

use escapement_domain::command::Change;
use escapement_domain::limits::BACKFILL_CONCURRENCY_MAX;
use escapement_domain::timestamp::Timestamp;

use super::fields::{Fault, Faults, Field};
use crate::json::Node;

/// What is to be done with an occurrence.
#[derive(Clone, Copy)]
enum Deed {
    Skip,
    Move,
    Restore,
}

/// A range of the past to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillRange {
    /// It begins with this instant.
    pub from: Timestamp,
    /// And ends with this one.
    pub to: Timestamp,
    /// How many run at once.
    pub concurrency: u32,
}

/// Reads which occurrence is to be changed, and how.
///
/// # Errors
/// Every fault, at least one.
pub fn occurrence_change(node: Node<'_>) -> Result<(Timestamp, Change), Vec<Fault>> {
    let mut faults = Faults::default();
    let found = change(&Field::new(node, ""), &mut faults);
    found.filter(|_| faults.is_empty()).ok_or_else(|| faults.into_vec())
}

fn change(field: &Field<'_>, faults: &mut Faults) -> Option<(Timestamp, Change)> {
    let deeds = [("skip", Deed::Skip), ("move", Deed::Move), ("restore", Deed::Restore)];
    let mut fields = field.object(faults)?;
    let at = fields.required_instant("at", faults);
    let deed = fields.required("do", faults).and_then(|field| field.choice(&deeds, faults));
    let to = match deed {
        Some(Deed::Move) => fields.required("to", faults),
        Some(Deed::Skip | Deed::Restore) | None => fields.take("to"),
    };
    fields.finish("this call", faults);
    let moved = to.as_ref().and_then(|field| field.instant(faults));
    match (&to, deed?) {
        (Some(field), Deed::Move) if moved.is_some() && moved == at => {
            faults.add(&field.pointer, "another instant than `at` is allowed; `restore` undoes a move");
            None
        }
        (_, Deed::Move) => Some((at?, Change::Move { to: moved? })),
        (Some(field), Deed::Skip | Deed::Restore) => {
            faults.add(&field.pointer, "`to` goes with `move` only");
            None
        }
        (None, Deed::Skip) => Some((at?, Change::Skip)),
        (None, Deed::Restore) => Some((at?, Change::Restore)),
    }
}

/// Reads which range of the past is to be run.
///
/// # Errors
/// Every fault, at least one.
pub fn backfill_range(node: Node<'_>, now: Timestamp) -> Result<BackfillRange, Vec<Fault>> {
    let mut faults = Faults::default();
    let found = Field::new(node, "").object(&mut faults).and_then(|mut fields| {
        let from = fields.required_instant("from", &mut faults);
        let to = fields.required_instant("to", &mut faults);
        for (pointer, instant) in [("/from", from), ("/to", to)] {
            if let Some(instant) = instant.filter(|instant| *instant > now) {
                let detail = format!(
                    "an instant up to now, {now}, is allowed, not {instant}: what is to come runs by itself"
                );
                faults.add(pointer, detail);
            }
        }
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            faults.add("/from", format!("an instant up to `to`, {to}, is allowed, not {from}"));
        }
        let most = u64::from(BACKFILL_CONCURRENCY_MAX);
        let concurrency =
            fields.read("concurrency", &mut faults, |field, faults| field.integer(1..=most, faults));
        fields.finish("a backfill", &mut faults);
        let concurrency = concurrency.and_then(|found| u32::try_from(found).ok()).unwrap_or(1);
        Some(BackfillRange { from: from?, to: to?, concurrency })
    });
    found.filter(|_| faults.is_empty()).ok_or_else(|| faults.into_vec())
}
