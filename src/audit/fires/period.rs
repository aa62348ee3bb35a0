//! One definition while it held: the instants that it named, and those of them that its calendars forbid.

use std::collections::BTreeMap;
use std::sync::Arc;

use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::calendar::Calendar;
use escapement_domain::schedule::{Schedule, jitter_of};
use escapement_domain::task::definition::{Definition, Misfire};
use escapement_domain::timestamp::{Span, Timestamp};

use super::Range;

/// A tenant's calendars by their names, as they are now.
pub(super) type Calendars = BTreeMap<Arc<str>, Arc<Calendar>>;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Period {
    schedule: Schedule,
    /// When it was defined: nobody could fire before.
    pub(super) since: Timestamp,
    /// Only instants after this one.
    after: Timestamp,
    /// Only instants up to this one, if it holds no more: all of them were to be settled before it ended.
    pub(super) until: Option<Timestamp>,
    /// An instant that only older zone data named.
    replaced: Option<Timestamp>,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    calendars: Vec<Arc<str>>,
    pub(super) misfire: Misfire,
    jitter: Span,
}

impl Period {
    /// A definition that holds since an instant; a `first` instant of it that had passed by then is one all the same.
    pub(super) fn new(
        schedule: Schedule,
        definition: &Definition,
        since: Timestamp,
        first: Option<Timestamp>,
    ) -> Self {
        Self {
            schedule,
            since,
            after: first.map_or(since, |first| since.min(Timestamp(first.0 - 1))),
            until: None,
            replaced: None,
            start_at: definition.start_at,
            end_at: definition.end_at,
            calendars: definition.calendars.iter().map(|name| name.as_str().into()).collect(),
            misfire: definition.misfire,
            jitter: definition.jitter,
        }
    }

    /// The same definition by newer zone data: what was to come was `before` and is `next`.
    pub(super) fn by_newer_zone_data(&self, before: Timestamp, next: Timestamp) -> Self {
        let after = Timestamp(next.0 - 1);
        // This program may have the older data itself.
        let replaced = (self.schedule.next_after(after) != Some(next)).then_some(before);
        Self { after, until: None, replaced, ..self.clone() }
    }

    /// The first instant after `before` that lies in the range and was named while the definition held.
    pub(super) fn next(&self, before: Timestamp, range: Range) -> Option<Timestamp> {
        let start = self.start_at.map_or(before, |start| before.max(Timestamp(start.0 - 1)));
        let mut next = self.schedule.next_after(start.max(self.after))?;
        if self.replaced == Some(next) {
            next = self.schedule.next_after(next)?;
        }
        let held = self.until.is_none_or(|until| next <= until);
        (held && self.end_at.is_none_or(|end| next <= end) && next < range.to).then_some(next)
    }

    /// When an instant of a task was due.
    pub(super) fn due(&self, task: TaskId, instant: Timestamp) -> Timestamp {
        instant.plus(jitter_of(task, instant, self.jitter)).max(self.since)
    }

    /// When an instant was due at the latest, were its jitter the longest: it may have had to wait for the one before.
    pub(super) fn latest(&self, instant: Timestamp) -> Timestamp {
        instant.plus(self.jitter).max(self.since)
    }

    /// The calendar of this name, if the definition names it and it is there.
    pub(super) fn calendar(&self, name: &Arc<str>, calendars: &Calendars) -> Option<Arc<Calendar>> {
        calendars.get(name).filter(|_| self.calendars.contains(name)).cloned()
    }

    /// Whether a calendar lets an instant run.
    pub(super) fn is_permitted(&self, instant: Timestamp, calendar: &Calendar) -> bool {
        calendar.permits(instant, self.schedule.zone())
    }

    /// The first of the definition's calendars that forbids an instant.
    pub(super) fn forbidden_by(&self, instant: Timestamp, calendars: &Calendars) -> Option<Arc<str>> {
        let forbids = |name: &&Arc<str>| {
            calendars.get(*name).is_some_and(|calendar| !self.is_permitted(instant, calendar))
        };
        self.calendars.iter().find(forbids).cloned()
    }
}
